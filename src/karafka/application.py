"""The app as a controller sees it: `self.app`. Protocols, since what users declare knows nothing of what runs it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from karafka.config import Config
from karafka.delivery import Delivery, Handle, Handles
from karafka.environment import Environment
from karafka.events import Events
from karafka.letters import Headers, Key, Moment, Row


class Producing(Protocol):
    """The producer that all share; see `Producer`."""

    def produce_async(
        self,
        topic: str,
        payload: Any,
        *,
        key: Key = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: Moment = None,
        label: Any = None,
    ) -> Handle: ...

    def produce_sync(
        self,
        topic: str,
        payload: Any,
        *,
        key: Key = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: Moment = None,
        label: Any = None,
        timeout: float | None = None,
    ) -> Delivery: ...

    def produce_many_async(self, messages: Iterable[Row]) -> Handles: ...

    def produce_many_sync(self, messages: Iterable[Row], timeout: float | None = None) -> list[Delivery]: ...

    def tombstone(
        self, topic: str, key: str | bytes, *, headers: Headers | None = None, partition: int | None = None
    ) -> Handle: ...

    def flush(self, timeout: float = 60.0) -> int: ...


class Application(Protocol):
    """See the module; `App` is one."""

    #: What `on_start` hooks opened, and the app's own.
    state: Any

    @property
    def config(self) -> Config: ...

    @property
    def env(self) -> Environment: ...

    @property
    def events(self) -> Events: ...

    @property
    def producer(self) -> Producing: ...
