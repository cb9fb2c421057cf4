"""The app as a controller sees it: `self.app`. Protocols, since what users declare knows nothing of what runs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from karafka.config import Config
from karafka.delivery import Delivery, Handle, Headers
from karafka.events import Events


class Producing(Protocol):
    """The producer that all share; see `Producer`."""

    def produce_async(
        self,
        topic: str,
        payload: Any,
        *,
        key: str | bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp: float | None = None,
    ) -> Handle: ...

    def produce_sync(
        self,
        topic: str,
        payload: Any,
        *,
        key: str | bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp: float | None = None,
        timeout: float | None = None,
    ) -> Delivery: ...

    def produce_many_sync(
        self, messages: Iterable[Mapping[str, Any]], timeout: float | None = None
    ) -> list[Delivery]: ...

    def flush(self, timeout: float = 60.0) -> int: ...


class Application(Protocol):
    """See the module; `App` is one."""

    #: What `on_start` hooks opened, and the app's own.
    state: Any

    @property
    def config(self) -> Config: ...

    @property
    def events(self) -> Events: ...

    @property
    def producer(self) -> Producing: ...
