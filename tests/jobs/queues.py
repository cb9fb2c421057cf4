"""The job queues that the contract is proven over, each as a person would set it up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from tests.brokers import new_topic


class Queue(ABC):
    """A job queue that runs. `declares` is the text by which an app names it: it makes `BACKEND`."""

    name: ClassVar[str]
    declares: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What its processes find set."""
        return {}

    @abstractmethod
    def ready(self, app: str) -> None:
        """Have what it needs for the app of that name."""


class ByKafka(Queue):
    name = "kafka"
    declares = 'BACKEND = "kafka"\n'

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def ready(self, app: str) -> None:
        """Its topics are made by the brokers when the first job comes; several partitions are for several workers."""
        new_topic(self._bootstrap, 3, name=f"{app}_jobs_default")
