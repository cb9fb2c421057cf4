"""What becomes of a message that was sent: a `Handle` while it is on its way, a `Delivery` once it is confirmed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

from karafka.checks import refuse_in_loop
from karafka.errors import Error
from karafka.messages import Header

_log = logging.getLogger("karafka.producer")

Headers = Mapping[str, str | bytes | None] | Iterable[Header]


class DeliveryError(Error):
    """A message was accepted, and could not be delivered: nobody will read it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a message went, confirmed by the broker. `latency` is seconds from the call to the confirmation."""

    topic: str
    partition: int
    offset: int
    latency: float


class Handle:
    """One message on its way. `wait` for its `Delivery`, or `await` it; it ends delivered or failed, never neither.

    Any thread; callbacks run on the producer's polling thread, or at once when it has ended.
    """

    __slots__ = ("_callbacks", "_delivery", "_done", "_error", "_lock", "_since", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._since = time.monotonic()
        self._lock = Lock()
        self._done: Event | None = None
        self._callbacks: list[Callable[[Handle], object]] = []
        self._delivery: Delivery | None = None
        self._error: Error | None = None

    @property
    def done(self) -> bool:
        return self._delivery is not None or self._error is not None

    @property
    def error(self) -> Error | None:
        """Why it failed; None while it is on its way, or when it was delivered."""
        return self._error

    def wait(self, timeout: float | None = None) -> Delivery:
        """The delivery. Raises `DeliveryError`; `TimeoutError` after `timeout` seconds (it is still on its way)."""
        if not self.done:
            refuse_in_loop("Handle.wait", "await the handle")
            with self._lock:
                if self._done is None:
                    self._done = Event()
                ended = self._done
            if not self.done and not ended.wait(timeout):
                raise TimeoutError(
                    f"a message to {self.topic!r} is not confirmed after {timeout:g} s; still on its way"
                )
        return self.result()

    def result(self) -> Delivery:
        """The delivery of a message that has ended. Raises `DeliveryError`, or `RuntimeError` while it has not."""
        if self._error is not None:
            raise self._error
        if self._delivery is None:
            raise RuntimeError(f"the message to {self.topic!r} is still on its way: wait() for it, or await it")
        return self._delivery

    def add_done_callback(self, callback: Callable[[Handle], object]) -> None:
        """Call `callback(handle)` when it has ended; at once if it has."""
        with self._lock:
            if not self.done:
                self._callbacks.append(callback)
                return
        callback(self)

    def __await__(self) -> Generator[Any, None, Delivery]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def wake(_handle: Handle) -> None:
            with suppress(RuntimeError):  # the loop has been closed: nobody awaits any more
                loop.call_soon_threadsafe(_end, ended)

        self.add_done_callback(wake)
        yield from ended
        return self.result()

    def report(self, error: str | None, partition: int, offset: int) -> None:
        """The client's word. Called on the polling thread; what ended once has ended."""
        if self.done:
            return
        if error is None:
            self._delivery = Delivery(self.topic, partition, offset, time.monotonic() - self._since)
        else:
            self._error = DeliveryError(f"a message to {self.topic!r} was not delivered: {error}")
        with self._lock:
            ended, callbacks = self._done, self._callbacks
            self._callbacks = []
        if ended is not None:
            ended.set()
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - the user's: all other handles wait for this thread
                _log.exception("a callback of a message to %r raised", self.topic)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():  # whoever awaited may have been cancelled
        future.set_result(None)
