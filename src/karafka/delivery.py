"""What becomes of a message that was sent: a `Handle` while it is on its way, a `Delivery` once it is confirmed."""

# ruff: noqa: SLF001 - what several handles do at once they do to their own fields

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, Protocol, overload

import msgspec

from karafka.checks import refuse_in_loop
from karafka.clock import NEVER
from karafka.errors import (
    ClientFailedError,
    DeliveryError,
    DeliveryTimeoutError,
    InvalidMessageError,
    NotAuthorizedError,
    PartlyDeliveredError,
    ProducerClosedError,
    TooLargeError,
    UnknownTopicError,
)
from karafka.events import Acknowledged, Events, Produced


class Fault(Enum):
    """Who has to act where a message is not delivered; see the kinds of `DeliveryError`."""

    INVALID = "the message cannot be"
    TOO_LARGE = "larger than is taken"
    UNKNOWN_TOPIC = "the topic or partition is not there"
    NOT_AUTHORIZED = "this user may not"
    TIMED_OUT = "not confirmed in time"
    CLIENT_FAILED = "the client is of no more use"
    PURGED = "given up by this process"
    ABORTED = "its transaction was aborted"
    OTHER = "the brokers' word, passed on"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message was not delivered. `code` is Kafka's name for it."""

    fault: Fault
    code: str
    text: str
    retriable: bool


KINDS: dict[Fault, type[DeliveryError]] = {
    Fault.INVALID: InvalidMessageError,
    Fault.TOO_LARGE: TooLargeError,
    Fault.UNKNOWN_TOPIC: UnknownTopicError,
    Fault.NOT_AUTHORIZED: NotAuthorizedError,
    Fault.TIMED_OUT: DeliveryTimeoutError,
    Fault.CLIENT_FAILED: ClientFailedError,
    Fault.PURGED: ProducerClosedError,
    Fault.ABORTED: DeliveryError,
    Fault.OTHER: DeliveryError,
}
# Of one that is waited for after others: a failure of it is heard.
NOBODY_YET: tuple[()] = ()
# Guards the making of a handle's list of watchers, which few have: one lock for all.
_MAKING = Lock()


class Delivery(msgspec.Struct, frozen=True):
    """Where a message went, confirmed by the broker.

    `offset` is -1 where the broker acknowledges none (`acks=0`). `latency`: seconds from the client's queue to the
    confirmation.
    """

    topic: str
    partition: int
    offset: int
    latency: float


class Receipt(Protocol):
    """What the client says of a message that has ended: confluent-kafka's `Message` is one."""

    def partition(self) -> int | None: ...

    def offset(self) -> int | None: ...

    def latency(self) -> float | None: ...


class Desk(Protocol):
    """What a handle needs of who sends it: `karafka.poller.Poller` is one."""

    def wait(self, handle: Handle, timeout: float | None) -> None:
        """Return when `handle` has ended, or after `timeout` seconds. Any thread without a running loop."""

    def watch(self, handle: Handle, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """What ends when `handle` does. Called on the thread of `loop`."""

    def call(self, callback: Callable[[], object]) -> None:
        """Have user code called soon, on a thread that holds no lock."""

    def prompt(self, handle: Handle) -> None:
        """Somebody waits for `handle`: reports are to be served as they come."""

    def judge(self, error: Any) -> Failure | None:
        """What the client's `error` means, None being one; None if it was delivered, without an offset."""

    def late(self, handle: Handle) -> bool:
        """Whether nobody will tell any more how `handle` ended; it has failed then."""

    def failed(self, handle: Handle, error: DeliveryError, *, heard: bool) -> None:
        """`handle` has failed; whether somebody waits for it, who is told."""


class Handle(msgspec.Struct, gc=False, eq=False):
    """One message on its way. `wait` for its `Delivery`, or `await` it; it ends delivered or failed, never neither.

    Any thread; callbacks run on a thread of their own, or at once when it has ended. There is one for each message, so
    it is made and told of its end at what a call in C costs: the client calls it, and the collector does not look at it
    (what holds a handle lets it go when it has ended).
    """

    topic: str
    key: str | bytes | None
    #: What the sender wanted to find again; not sent.
    label: Any
    _desk: Desk
    _partition: int = -1
    # None while it is on its way.
    _offset: int | None = None
    _latency: float = 0.0
    _error: DeliveryError | None = None
    _watchers: list[Callable[[], object]] | tuple[()] | None = None

    def __repr__(self) -> str:
        where = "on its way" if not self.done else "failed" if self._error else f"at {self._partition}/{self._offset}"
        return f"<Handle of a message to {self.topic!r}, {where}>"

    def __call__(self, error: Any, receipt: Receipt) -> None:
        """The client's word: the message has ended. Called by it inside `Sender.serve`."""
        offset = receipt.offset() if error is None else None
        if offset is None:
            if (failure := self._desk.judge(error)) is not None:
                self.fail(failure)
                return
            offset = -1
        self._partition, self._latency = receipt.partition() or 0, receipt.latency() or 0.0
        self._offset = offset
        if self._watchers:
            self.tell()

    def fail(self, failure: Failure) -> None:
        """It is not delivered; what ended once has ended. The package's own."""
        if self._pending:
            self._error = error = error_of(failure, self.topic, self.key)
            if failure.fault is not Fault.ABORTED:  # which is what the sender wanted
                self._desk.failed(self, error, heard=self._watchers is not None)
        self.tell()

    @property
    def _pending(self) -> bool:
        return self._offset is None and self._error is None

    @property
    def done(self) -> bool:
        return self._offset is not None or self._error is not None or self._desk.late(self)

    @property
    def error(self) -> DeliveryError | None:
        """Why it failed; None while it is on its way, or when it was delivered."""
        return self._error

    def wait(self, timeout: float | None = None) -> Delivery:
        """The delivery. Raises `DeliveryError`; `TimeoutError` after `timeout` seconds (it is still on its way)."""
        if not self.done:
            refuse_in_loop("Handle.wait", "await the handle")
            self._desk.wait(self, timeout)
            if not self.done:
                waited = f"{round(timeout or 0.0, 3):g} s"
                raise TimeoutError(f"a message to {self.topic!r} is not confirmed after {waited}; still on its way")
        return self.result()

    def result(self) -> Delivery:
        """The delivery of a message that has ended. Raises `DeliveryError`, or `RuntimeError` while it has not."""
        if self._offset is not None:
            return Delivery(self.topic, self._partition, self._offset, self._latency)
        if self._error is not None:
            # Not itself: the frames that a traceback holds would hold this handle.
            raise copy(self._error)
        raise RuntimeError(f"the message to {self.topic!r} is still on its way: wait() for it, or await it")

    def add_done_callback(self, callback: Callable[[Handle], object]) -> None:
        """Call `callback(handle)` when it has ended; at once if it has."""
        if self.done:
            callback(self)
            return
        self.watch(partial(self._desk.call, partial(callback, self)))
        self._desk.prompt(self)

    def __await__(self) -> Generator[Any, None, Delivery]:
        if not self.done:
            yield from self._desk.watch(self, asyncio.get_running_loop())
        return self.result()

    def watch(self, watcher: Callable[[], object]) -> None:
        """Call `watcher()` when it has ended, on the thread that serves reports, or here if it has: it must be quick,
        and must not raise. The package's own.
        """
        self.attend().append(watcher)
        if self.done:  # meanwhile: who serves may not have seen the watcher
            self.tell()

    def attend(self) -> list[Callable[[], object]]:
        """Somebody waits for its end: a failure is heard. The list of watchers."""
        with _MAKING:
            if not isinstance(self._watchers, list):
                self._watchers = []
            return self._watchers

    def tell(self) -> None:
        """It has ended: each watcher once, by whoever takes it off the list first."""
        watchers = self._watchers
        while isinstance(watchers, list) and watchers:
            try:
                watcher = watchers.pop(0)
            except IndexError:
                return
            watcher()


class Labelled(Handle, gc=True, eq=False):
    """A handle whose label may know the handle: the collector is to find both."""


class Untold(Handle, gc=True, eq=False):
    """A handle whose failure its sender tells, by an event of its own."""


class ToldHandle(Handle, gc=True, eq=False):
    """A handle whose acceptance and confirmation are events too. `size`: bytes of payload, key and headers."""

    _events: Events | None = None
    _size: int = 0
    # What is not told yet: whoever takes it off tells it, so that it is told once, and in order.
    _untold: list[str] = msgspec.field(default_factory=lambda: ["accepted"])

    def accepted(self) -> None:
        """The client has it on its queue; it may have ended already."""
        try:
            self._untold.pop()
        except IndexError:
            return
        events = self._events
        if events is not None and events.wants(Produced):
            events.tell(Produced(topic=self.topic, key=self.key, size=self._size, label=self.label))

    def __call__(self, error: Any, receipt: Receipt) -> None:
        self.accepted()
        super().__call__(error, receipt)
        events, self._events = self._events, None
        if events is not None and self._offset is not None and events.wants(Acknowledged):
            events.tell(
                Acknowledged(
                    topic=self.topic,
                    partition=self._partition,
                    offset=self._offset,
                    key=self.key,
                    size=self._size,
                    latency=self._latency,
                    label=self.label,
                )
            )


NOWHERE: Any = None


def refused(topic: str, key: str | bytes | None, label: Any, error: DeliveryError) -> Handle:
    """The handle of a message that was not accepted."""
    return Handle(topic, key, label, NOWHERE, _error=error)


class Handles(Sequence[Handle]):
    """Several messages on their way, in the order in which they were given. Any thread."""

    def __init__(self, handles: Sequence[Handle]) -> None:
        self._handles = handles

    @overload
    def __getitem__(self, index: int) -> Handle: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Handle]: ...

    def __getitem__(self, index: int | slice) -> Handle | Sequence[Handle]:
        return self._handles[index]

    def __len__(self) -> int:
        return len(self._handles)

    def wait(self, timeout: float | None = None) -> list[Delivery]:
        """All deliveries, in order, once all have ended.

        Raises `PartlyDeliveredError`, which tells of each; `TimeoutError` after `timeout` seconds.
        """
        self.end(timeout)
        return self._results()

    def end(self, timeout: float | None = None) -> None:
        """Wait until all have ended, however. Raises `TimeoutError` after `timeout` seconds. The package's own."""
        by = NEVER if timeout is None else time.monotonic() + timeout
        for handle in self._unended():
            with suppress(DeliveryError):
                handle.wait(None if by == NEVER else max(0.0, by - time.monotonic()))

    async def end_async(self) -> None:
        """`end` for `async def`."""
        for handle in self._unended():
            with suppress(DeliveryError):
                await handle

    def __await__(self) -> Generator[Any, None, list[Delivery]]:
        for handle in self._unended():
            with suppress(DeliveryError):
                yield from handle.__await__()
        return self._results()

    def _unended(self) -> Iterator[Handle]:
        """Those on their way, the last one first: when that has ended most others have.

        Somebody waits for all of them, though for one after the other: a failure is heard.
        """
        with _MAKING:
            for handle in self._handles:
                if handle._watchers is None:
                    handle._watchers = NOBODY_YET
        return (one for one in reversed(self._handles) if one._offset is None and one._error is None)

    def _results(self) -> list[Delivery]:
        failed = [one._error for one in self._handles if one._error is not None]
        if not failed:
            # Of none is there an error, so each has an offset.
            return [Delivery(one.topic, one._partition, one._offset or 0, one._latency) for one in self._handles]
        results = [one.error or one.result() for one in self._handles]
        said = f"{len(failed)} of {len(results)} messages were not delivered, see `results`; the first: {failed[0]}"
        raise PartlyDeliveredError(said, results) from failed[0]


def delivered(handles: Sequence[Handle], known: int) -> int:
    """How many of `handles` are delivered, from the front; of the first `known` that is known. Any thread."""
    for handle in islice(handles, known, None):
        if handle._offset is None:
            break
        known += 1
    return known


def no_utf8(error: UnicodeEncodeError) -> Failure:
    """Text that cannot be sent."""
    return Failure(Fault.INVALID, "", f"text that is no UTF-8: {error}", retriable=False)


def error_of(failure: Failure, topic: str, key: str | bytes | None) -> DeliveryError:
    """A failure as the error that it is to the sender."""
    named = f" with key {key!r}" if key is not None else ""
    return KINDS[failure.fault](
        f"a message to {topic!r}{named} was not delivered: {failure.text}",
        topic=topic,
        key=key,
        code=failure.code,
        retriable=failure.retriable,
    )


def after_fork() -> None:
    """In a child: another thread may have held the lock, and is not here."""
    global _MAKING  # noqa: PLW0603 - a lock is not made free otherwise
    _MAKING = Lock()
