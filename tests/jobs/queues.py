"""The job queues that the contract is proven over, each as a person would set it up."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tests.brokers import new_topic
from tests.process.servers import send
from tests.specs import visible


class Queue(ABC):
    """A job queue that runs. `declares` is the text by which an app names it: it makes `BACKEND`."""

    name: ClassVar[str]
    declares: str
    #: Seconds after which a job comes back that a worker had in hand when it was killed.
    returns: float

    @property
    def environment(self) -> Mapping[str, str]:
        """What its processes find set."""
        return {}

    @property
    def arguments(self) -> Sequence[str]:
        """What `karafka worker` is told beside the rest."""
        return ()

    @abstractmethod
    def ready(self, app: str) -> None:
        """Have what it needs for the app of that name."""

    @abstractmethod
    def put(self, app: str, job: Mapping[str, Any]) -> None:
        """Put a job into the queue `default`, as another version of the server would."""

    @abstractmethod
    def dead(self, app: str) -> list[dict[str, Any]]:
        """The jobs that were given up, in order."""


class ByKafka(Queue):
    name = "kafka"
    declares = 'BACKEND = "kafka"\n'
    returns = 3.0

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def ready(self, app: str) -> None:
        """Brokers may make its topics when the first job comes; several partitions are for several processes."""
        for name, partitions in {"default": 3, "dead": 1}.items():
            new_topic(self._bootstrap, partitions, name=f"{app}_jobs_{name}")

    def put(self, app: str, job: Mapping[str, Any]) -> None:
        send(self._bootstrap, f"{app}_jobs_default", [json.dumps(job)])

    def dead(self, app: str) -> list[dict[str, Any]]:
        return [json.loads(one) for one in visible.seen(self._bootstrap, f"{app}_jobs_dead")]
