"""A message as users see it, and a run of them as the engine hands it to a handler."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import length_hint, methodcaller
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, overload

from karafka.assignment import Assignment
from karafka.errors import ParseError, words

T = TypeVar("T")
Parse = Callable[[bytes | None], Any]
Header: TypeAlias = tuple[str, bytes | None]
# What the engine knows of an application: it is given a run, and keeps `run.finished`.
Handler: TypeAlias = Callable[["Run"], None] | Callable[["Run"], Awaitable[None]]
_UNREAD: Any = object()
# Stands for headers that this client cannot read, also in a dead letter.
UNREADABLE: Header = ("karafka-headers", b"unreadable")


@dataclass(frozen=True, slots=True)
class PartitionHooks:
    """What a controller wants called for each partition: with a run that has no messages, for its assignment."""

    assigned: Handler | None = None
    revoked: Handler | None = None
    shutdown: Handler | None = None


NO_HOOKS = PartitionHooks()


class Place(NamedTuple):
    """One partition of one topic: a key for maps, equal to the pair `(topic, partition)`."""

    topic: str
    partition: int


offset_of = methodcaller("offset")
_headers = methodcaller("headers")


class Record(Protocol):
    """What the client hands out: confluent-kafka's `Message` is one, tests have their own. Immutable."""

    def topic(self) -> str | None: ...

    def partition(self) -> int | None: ...

    def offset(self) -> int | None: ...

    def key(self) -> bytes | None: ...

    def value(self) -> bytes | None: ...

    def headers(self) -> list[Header] | None: ...

    def set_headers(self, value: list[Header], /) -> None: ...

    def timestamp(self) -> tuple[int, int]: ...

    def __len__(self) -> int: ...


def headers_of(record: Record) -> list[Header]:
    """The headers of `record`. Raises `ParseError` where a name is no UTF-8: this client cannot show it."""
    try:
        # Not `record.headers()`: where Python has specialised that call it does not see that it failed.
        headers = _headers(record) or []
    except SystemError:
        # The client would hand out a broken list the next time, and the process would die of reading it.
        headers = [UNREADABLE]
        record.set_headers(headers)
    if headers == [UNREADABLE]:
        raise ParseError(f"the headers of {_where(record)} cannot be read: the name of one is no UTF-8")
    return headers


class Message(Generic[T]):
    """One message. `payload` is parsed at first touch, once; everything else is as it came.

    Belongs to the controller that holds it, on one worker.
    """

    __slots__ = ("_error", "_group", "_parse", "_payload", "_record", "_spoil", "assignment", "attempt")

    def __init__(
        self, record: Record, parse: Parse, group: str, attempt: int = 1, assignment: Assignment | None = None
    ) -> None:
        self._record = record
        self._parse = parse
        self._group = group
        self._payload: Any = _UNREAD
        self._error: ParseError | None = None
        # Who else is to know that it cannot be read.
        self._spoil: Callable[[ParseError], None] | None = None
        #: Which try this is, from 1.
        self.attempt = attempt
        #: By which it came; None outside of a server.
        self.assignment = assignment

    @property
    def topic(self) -> str:
        topic = self._record.topic()
        assert topic is not None  # noqa: S101 - librdkafka leaves it out of errors only, and those never get here
        return topic

    @property
    def partition(self) -> int:
        return self._record.partition() or 0

    @property
    def offset(self) -> int:
        return self._record.offset() or 0

    @property
    def key(self) -> bytes | None:
        return self._record.key()

    @property
    def headers(self) -> dict[str, bytes | None]:
        """Headers by name; of a name that stands several times the last, as Kafka's own clients answer it.

        Raises `ParseError` where a name is no UTF-8.
        """
        try:
            return dict(headers_of(self._record))
        except ParseError as error:
            self._error = self._error or error
            if self._spoil is not None:
                self._spoil(error)
            raise

    @property
    def timestamp(self) -> float:
        """Seconds since 1970, UTC: when it was produced, or appended where the topic says so; -1.0 if unknown."""
        kind, milliseconds = self._record.timestamp()
        return milliseconds / 1_000 if kind else -1.0

    @property
    def raw(self) -> bytes | None:
        """The payload's bytes as they came; None for a tombstone."""
        return self._record.value()

    @property
    def tombstone(self) -> bool:
        """Whether the payload is null: in a compacted topic, that the key is deleted."""
        return self._record.value() is None

    @property
    def id(self) -> str:
        """`group/topic/partition/offset`: the same for each repetition, so the key to make work idempotent by."""
        return f"{self._group}/{self.topic}/{self.partition}/{self.offset}"

    @property
    def payload(self) -> T:
        """The parsed payload. Raises `ParseError`, the same each time; caught or not, the message is judged by it."""
        if self._payload is _UNREAD:
            if self._error is not None:
                raise self._error
            try:
                self._payload = self._parse(self._record.value())
            except Exception as error:
                self._error = refused(self._record, error)
                raise self._error from error
        payload: T = self._payload
        return payload

    @property
    def parsed(self) -> bool:
        """Whether the payload was touched, and could be parsed."""
        return self._payload is not _UNREAD

    def take(self, payload: Any) -> None:
        """The payload, parsed already: parsed once, however it is reached."""
        self._payload = payload

    @property
    def error(self) -> ParseError | None:
        """Why the payload could not be parsed, once that was tried; None otherwise."""
        return self._error

    def __repr__(self) -> str:
        return f"<Message {self.id} attempt={self.attempt}>"


def refused(record: Record, error: Exception) -> ParseError:
    """A parser's exception as ours, naming the message; one that is ours already is kept."""
    if isinstance(error, ParseError):
        return error
    return ParseError(f"the payload of {_where(record)} cannot be parsed: {type(error).__name__}: {words(error)}")


def _where(record: Record) -> str:
    return f"{record.topic()}/{record.partition()}/{record.offset()}"


class Batch(Sequence[Message[T]]):
    """The messages of one `BatchController.perform`: of one partition, in order."""

    __slots__ = ("_assignment", "_attempt", "_decode", "_group", "_messages", "_parse", "_payloads", "_records")

    def __init__(
        self,
        records: Sequence[Record],
        parse: Parse,
        group: str,
        attempt: int = 1,
        assignment: Assignment | None = None,
        decode: Parse | None = None,
    ) -> None:
        """`decode`: does what `parse` does, or raises, in C."""
        self._records = records
        self._assignment = assignment
        self._parse = parse
        self._decode = decode
        self._group = group
        self._attempt = attempt
        self._messages: list[Message[T]] | None = None
        self._payloads: list[T] | None = None

    @property
    def payloads(self) -> list[T]:
        """All payloads, parsed at first touch, once. Raises `ParseError` for the first that is refused."""
        if self._payloads is None:
            if self._messages is None:
                decode = self._decode
                try:
                    if decode is not None and self._records:
                        value: Any = type(self._records[0]).value  # unbound: called by `map` without Python between
                        self._payloads = list(map(decode, map(value, self._records)))
                    else:
                        # No `map`: a StopIteration that a parser leaks must not end the list.
                        self._payloads = [self._parse(record.value()) for record in self._records]
                except Exception:  # noqa: BLE001 - parsed again below, one by one: that names the culprit
                    self._payloads = None
            if self._payloads is None:
                self._payloads = [message.payload for message in self]
        return self._payloads

    @property
    def records(self) -> Sequence[Record]:
        """As the client handed them out. The package's own."""
        return self._records

    @property
    def first(self) -> int:
        """The offset of the first of them."""
        return self._records[0].offset() or 0

    @property
    def error(self) -> ParseError | None:
        """The first parse error among them, once it was met; None otherwise."""
        met = (message.error for message in self._messages or ())
        return next((error for error in met if error is not None), None)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Message[T]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Message[T]]: ...

    def __getitem__(self, index: int | slice) -> Message[T] | Sequence[Message[T]]:
        return self._made()[index]

    def __iter__(self) -> Iterator[Message[T]]:
        return iter(self._made())

    def _made(self) -> list[Message[T]]:
        if self._messages is None:
            attempt, parse, group, ours = self._attempt, self._parse, self._group, self._assignment
            self._messages = [Message(record, parse, group, attempt, ours) for record in self._records]
            if self._payloads is not None:
                for message, payload in zip(self._messages, self._payloads, strict=True):
                    message.take(payload)
        return self._messages


class Sends(Protocol):
    """Takes what messages of a run send, which goes out when they are performed; `karafka.outbox.Outbox` is one."""

    @property
    def used(self) -> bool:
        """Whether anything was sent."""

    @property
    def unsure(self) -> int | None:
        """The offset of the first message that has sent what is not confirmed; None if there is none. Any thread."""

    def send(self, offset: int, *letter: Any) -> None:
        """What the message at `offset` sends: the arguments of `Producer.produce_async`, in their order."""

    def add(self, offset: int, letters: Iterable[tuple[Any, ...]]) -> None:
        """The same for several: all of them, or none."""

    def mark(self, at: int, offset: int, assignment: Assignment) -> bool:
        """The message `at` marks the one at `offset`: now, or once all that was sent before is confirmed."""

    def post_early(self, before: int) -> None:
        """Put on its way what messages below `before` sent. Any thread; does not wait."""


class Run:
    """Messages of one lane, in order, given to a handler at once, and how far it came.

    The worker's for as long as it performs. Others may meanwhile do three things, and they cost the worker nothing:
    `halt` empties the list the worker walks, so that it ends after the message in hand; `progress` asks the iterator
    how far it is; `hasten` sends what was kept until then.
    """

    __slots__ = (
        "_cursor",
        "_live",
        "_seen",
        "assignment",
        "attempt",
        "batch",
        "finished",
        "outbox",
        "recalled",
        "records",
        "spoiled",
        "waited",
    )

    def __init__(
        self, records: list[Record], attempt: int = 1, assignment: Assignment | None = None, batch: int = 0
    ) -> None:
        #: As given out; the listener may cut off what a halted run has not taken up.
        self.records = records
        #: How many of them are a batch: all, unless it carries several.
        self.batch = batch or len(records)
        #: Which try of the first message this is, from 1; the others are tried for the first time.
        self.attempt = attempt
        #: By which its messages came; None outside of a server.
        self.assignment = assignment
        #: How many from the front are finished, by the handler's account.
        self.finished = 0
        #: Whether the runs behind it in its lane are to come back unperformed.
        self.recalled = False
        #: Why the message in hand cannot be read, where only that one knows.
        self.spoiled: ParseError | None = None
        #: Where what its messages send is kept; None where they send by themselves.
        self.outbox: Sends | None = None
        #: Seconds for which it waited, with all performed, for what they sent: no measure of how long messages take.
        self.waited = 0.0
        self._live = records.copy()
        self._cursor: Iterator[Record] | None = None
        self._seen = 0

    def within(self, outbox: Sends) -> Run:
        """The same messages for a handler whose account is not this run's yet. What halts this one halts it too."""
        inner = Run(self.records, self.attempt, self.assignment, self.batch)
        inner._live = self._live
        inner.outbox = outbox
        return inner

    def walk(self) -> Iterator[Record]:
        """The messages, for a loop that keeps `finished` itself. Call once."""
        self._cursor = cursor = iter(self._live)
        return cursor

    def live(self) -> list[Record]:
        """The list that `halt` empties: a second iterator over it runs beside `walk`'s."""
        return self._live

    def __iter__(self) -> Iterator[Record]:
        """The messages one by one; one counts as finished when the next is asked for."""
        for record in self.walk():
            yield record
            self.finished += 1

    def halt(self) -> None:
        """End after the message in hand. Any thread."""
        self._seen = max(self._seen, self._performed)
        self._live.clear()

    def spoil(self, error: ParseError) -> None:
        """The message in hand is to be judged by `error`, whatever user code makes of it. The worker's."""
        self.spoiled = error
        self.halt()

    def recall(self) -> None:
        """`halt`, and the runs behind it in its lane come back unperformed. Any thread."""
        self.recalled = True
        self.halt()

    @property
    def halted(self) -> bool:
        return not self._live and bool(self.records)

    @property
    def taken(self) -> int | None:
        """How many were taken up, of a run that is halted: it ends after the last of them. None if it is ending."""
        if self._cursor is None or not self.halted:
            return None
        state = self._cursor.__reduce__()
        return int(state[2]) if isinstance(state, tuple) and len(state) == 3 else None

    @property
    def progress(self) -> int:
        """How many from the front are finished at least, also while the worker walks. Any thread."""
        return self.sure(self._performed)

    def sure(self, count: int) -> int:
        """How many of the first `count`, which are performed, are finished: all that they sent is confirmed."""
        # Only now: what those have sent is there to be seen.
        unsure = self.outbox.unsure if self.outbox is not None else None
        return count if unsure is None else min(count, bisect_left(self.records, unsure, key=offset_of))

    def hasten(self) -> None:
        """It goes on for long: what those have sent that are performed goes on its way. Any thread but the worker's."""
        if self.outbox is not None and (count := self._performed):
            self.outbox.post_early((self.records[count - 1].offset() or 0) + 1)

    @property
    def _performed(self) -> int:
        """How many from the front are performed at least. Any thread."""
        if self._cursor is not None:
            left = length_hint(self._cursor)
            # Of a list that was emptied meanwhile the hint says nothing; of one that still is not, it does.
            if self._live:
                # The cursor has passed the message in hand, which is not finished.
                return max(self.finished, len(self.records) - left - 1)
        return max(self.finished, self._seen)
