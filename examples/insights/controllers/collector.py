"""Keeps what the perspectives found, whoever found it."""

from __future__ import annotations

from typing import Any

from karafka import BatchController

from models import Finding
from store import Store


class CollectorController(BatchController[Finding]):
    """Offenses and metrics alike: one transaction a batch."""

    store: Store

    @classmethod
    def setup(cls, app: Any) -> None:
        cls.store = Store.from_environment()

    def perform(self) -> None:
        self.store.keep(self.messages.payloads)
