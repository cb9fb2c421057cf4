"""Sending, usable without the rest: `Producer({...}).produce_sync(topic, payload)`.

A producer may be used from any thread, from asyncio, and in a child after a fork. It makes its client at the first send
(`Poller` serves that one's delivery reports), and another one when that is of no more use.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

from karafka.checks import in_loop, number, refuse_in_loop
from karafka.client import Quick, Refused, Remedy, Sender, Transactor, Unsettled
from karafka.clock import NEVER
from karafka.config import Setting
from karafka.delivery import (
    Delivery,
    Failure,
    Fault,
    Handle,
    Handles,
    Labelled,
    ToldHandle,
    Untold,
    after_fork,
    error_of,
)
from karafka.delivery import refused as refused_handle
from karafka.errors import (
    ClientFailedError,
    ConfigError,
    DeliveryError,
    Error,
    InvalidMessageError,
    ProducerClosedError,
    QueueFullError,
    TransactionError,
)
from karafka.events import Acknowledged, BufferFlushed, Events, Produced, QueueFull
from karafka.letters import (
    Headers,
    Key,
    Letter,
    Moment,
    Outgoing,
    Row,
    Writers,
    check_key,
    check_tombstone,
    checked_headers,
    checked_partition,
    described,
    milliseconds,
    written,
)
from karafka.mapper import Names
from karafka.messages import Header, Record
from karafka.parsers import Parser
from karafka.poller import CLOSE_TIMEOUT, POLL, RUNNING, Poller, Tally
from karafka.recorder import Recorded, Recorder
from karafka.transactions import TIMEOUT, Opening, Transactions, take

_log = logging.getLogger("karafka.producer")

# How many messages are sent until the sender looks whether some have ended.
OFTEN = 1_024
# Asked for by name, these would take away what handles stand on.
OWNED: Mapping[str, str] = {
    "delivery.report.only.error": "every message that is sent is confirmed; without reports nobody would know",
    "on_delivery": "a handle takes callbacks: produce_async(…).add_done_callback(…)",
    "dr_cb": "a handle takes callbacks: produce_async(…).add_done_callback(…)",
    "dr_msg_cb": "a handle takes callbacks: produce_async(…).add_done_callback(…)",
}

# Settings whose own names have underscores.
UNDERSCORED = frozenset({"log_level", "error_cb", "stats_cb", "throttle_cb", "oauth_cb", "logger"})

BeforeSend: TypeAlias = Callable[[Outgoing], Outgoing]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """How a producer does: how many messages failed since its client was made, how many are on their way, how many
    buffered. What was delivered, `Acknowledged` events tell. `client` is librdkafka's own, in JSON, where
    `statistics.interval.ms` is set, else empty.
    """

    failed: int = 0
    waiting: int = 0
    buffered: int = 0
    client: str = ""


# Payloads and keys of exactly these types go as they are.
AS_IT_IS = frozenset({bytes, str, type(None)})
# How long one try to take over a `transactional.id` may take: how late a close may be.
TRY = 0.5
# How many clients a message is offered to that say they are of no more use.
CLIENTS = 3
# How long the end of the interpreter may wait for what is on its way.
AT_EXIT = 10.0
# This process, if it is a child of `multiprocessing` and was told of its end.
CHILDREN: set[int] = set()
# All there are, for the end of the interpreter and for forks.
ALIVE: weakref.WeakSet[Producer] = weakref.WeakSet()


class Producer:
    """Sends to Kafka. `kafka` is librdkafka's settings by their own names; `bootstrap.servers` is needed.

    Payloads: `bytes` and `str` as they are, None is a tombstone, everything else through `parser` (JSON by default:
    dataclasses, msgspec Structs, datetimes, UUIDs and Decimals without help), or the topic's own of `parsers`.
    Unless `kafka` says otherwise: `acks=all`, `enable.idempotence`, `linger.ms=0`, lz4, and keys where Java's clients
    put them.

    Any thread, and asyncio. Every message that is accepted ends delivered or failed; what has not when the process ends
    is waited for (10 s), then told to the log.
    """

    def __init__(
        self,
        kafka: Mapping[str, Any],
        *,
        parser: Parser | None = None,
        parsers: Mapping[str, Parser] | None = None,
        before_send: Sequence[BeforeSend] = (),
        max_wait_on_full: float = 60.0,
        deliver: bool = True,
        events: Events | None = None,
        sender: Callable[[], Sender] | None = None,
        names: Names | None = None,
    ) -> None:
        """`before_send`: each is given the `Outgoing` message and returns it, or another; what it raises refuses it.
        `max_wait_on_full`: seconds that sending waits for room in the client's queue. `deliver=False`: everything is
        checked and recorded, nothing is sent (see `recorded`). `sender` replaces the client, for tests. `names`: how
        topics are named in the cluster; an app's own to say.

        Raises `ConfigError` for what cannot work.
        """
        self._kafka = dict(kafka)
        self._names = names
        self._recorder: Recorder | None = None
        if not deliver:
            self._recorder = Recorder()
            sender = partial(_same, self._recorder)
        elif sender is None:
            _check(self._kafka)
            sender = partial(_connected, self._kafka) if names is None else partial(_mapped, self._kafka, names)
        self._make = sender
        self._parser, self._parsers = parser, parsers
        self._writers = Writers(parser, parsers)
        self._before_send = _chain(before_send)
        self._max_wait = number("Producer(max_wait_on_full)", max_wait_on_full, 0)
        #: Who is told what happens: see `karafka.events`.
        self.events = events or Events()
        # Whether each message is told of, and of how many listeners that holds.
        self._told, self._listened = False, 0
        self._lock, self._flushing, self._renewing = Lock(), Lock(), Lock()
        self._closed = ""
        self._line: tuple[Poller, Quick] | None = None
        self._sent = 0
        # When it is to be closed, whoever still waits for room.
        self._ends_by = NEVER
        self._buffer: deque[Letter] = deque()
        self._variants: dict[tuple[tuple[str, str], ...], Producer] = {}
        self._tally = Tally()
        #: Where there is a `transactional.id`; `pipe` is then who sends. The package's own.
        self.transactions: Transactions | None = None
        self.pipe = self
        #: Whether its client is made by `renewed` alone.
        self.made_by_hand = False
        self._forked = False
        if "transactional.id" in self._kafka:
            self.transactions = self._made_transactional(str(self._kafka["transactional.id"]))
        self._estate = Estate(self._buffer)
        weakref.finalize(self, self._estate.settle).atexit = False
        ALIVE.add(self)

    def __repr__(self) -> str:
        to = "that records" if self._recorder is not None else f"to {self._kafka.get('bootstrap.servers')}"
        return f"<Producer {to}{', closed' if self._closed else ''}>"

    @classmethod
    def recorder(
        cls,
        *,
        parser: Parser | None = None,
        parsers: Mapping[str, Parser] | None = None,
        before_send: Sequence[BeforeSend] = (),
        events: Events | None = None,
    ) -> Self:
        """A producer that sends nothing, for tests: everything is checked, and `recorded`."""
        return cls({}, parser=parser, parsers=parsers, before_send=before_send, events=events, deliver=False)

    @property
    def recorded(self) -> list[Recorded]:
        """What would have been sent, oldest first (the last 100,000), if it is not delivered. Raises `ConfigError`."""
        if self._recorder is None:
            raise ConfigError(
                "this producer delivers, and records nothing: Producer(…, deliver=False) or Producer.recorder()"
            )
        return list(self._recorder.messages)

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────

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
        _by: float = NEVER,
    ) -> Handle:
        """Put a message on its way. `timestamp`: seconds since 1970 or a datetime with a zone, now by default.

        Raises `InvalidMessageError` or `TooLargeError` for what can never be sent, `QueueFullError` when the client's
        queue stays full (on an event loop, which must not wait: at once), and what `before_send` raises. `_by`, until
        when it may wait for room, is the package's own.
        """
        if self._before_send:
            return self.post(self.letter(topic, payload, key, headers, partition, timestamp, label), _by)
        # What `letter` and `post` do, in the words that cost least: this is the path of most messages.
        poller, quick = self._line or self._open(topic, key)
        try:
            write = self._writers[topic]
        except TypeError:
            write = self._writers.of(topic)
        value = payload if payload.__class__ in AS_IT_IS else written(write, topic, key, payload)
        if key.__class__ not in AS_IT_IS:
            check_key(topic, key)
        pairs = checked_headers(topic, key, headers) if headers else None
        at = -1 if partition is None else checked_partition(topic, partition)
        moment = 0 if timestamp is None else milliseconds(topic, timestamp)
        if self._listened != self.events.count:
            self._listen()
        if self._told:
            return self.post(Letter(topic, value, key, pairs, at, moment, label), _by)
        handle = Handle(topic, key, None, poller) if label is None else Labelled(topic, key, label, poller)
        try:
            quick(topic, value, key, at, handle, None, moment, pairs)
        except Exception:  # noqa: BLE001 - it was not accepted: `post` does it again, and says why
            return self.post(Letter(topic, value, key, pairs, at, moment, label), _by)
        if poller.over:
            poller.see_through(handle)
        self._sent = sent = self._sent + 1
        if not sent % OFTEN:
            poller.glance()
        return handle

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
    ) -> Delivery:
        """Send a message and wait until the broker has confirmed it. Raises as `produce_async` and `Handle.wait` do.

        `timeout`: seconds that this may take, with the wait for room in the client's queue. A producer that has a
        `transactional.id` makes a transaction of it, whose steps take 60 s each at most where no time is given.
        """
        refuse_in_loop("produce_sync", "await producer.produce_async(…)")
        by = _until(timeout)
        if self.transactions is not None:
            with self._opening(TIMEOUT if timeout is None else timeout, by) as transaction:
                handle = transaction.produce_async(
                    topic, payload, key=key, headers=headers, partition=partition, timestamp=timestamp, label=label
                )
            return handle.result()
        handle = self.produce_async(
            topic, payload, key=key, headers=headers, partition=partition, timestamp=timestamp, label=label, _by=by
        )
        return handle.wait(_left(by))

    def produce_many_async(self, messages: Iterable[Row]) -> Handles:
        """Put messages on their way, each the arguments of `produce_async` by name; `wait` for all, or `await` them.

        All are checked before the first is sent: raises `InvalidMessageError` with the number of the one that cannot
        be, `ProducerClosedError`. What is then not accepted, for want of room say, is among the handles, as failed.
        """
        return Handles(self.post_many(self.letters(messages)))

    def letters(self, messages: Iterable[Row]) -> list[Letter]:
        """What `letter` makes of each; says which one cannot be. The package's own."""
        if self._closed:
            raise ProducerClosedError(self._closed)
        letters: list[Letter] = []
        writers, plain = self._writers, not self._before_send
        try:
            for row in messages:
                topic, payload, key = row["topic"], row["payload"], row.get("key")
                if (
                    plain
                    and len(row) == 2 + ("key" in row)
                    and payload.__class__ in AS_IT_IS
                    and key.__class__ in AS_IT_IS
                    and topic in writers
                ):
                    letters.append(Letter(topic, payload, key, None))  # which is what `letter` would make of it
                else:
                    letters.append(self.letter(**row))
        except InvalidMessageError as error:
            error.add_note(f"it is number {len(letters)}, from 0, of those that were to be sent; none of them was")
            raise
        return letters

    def post_many(
        self,
        letters: Sequence[Letter],
        by: float = NEVER,
        *,
        in_order: bool = False,
        unless: Callable[[], bool] = bool,
    ) -> list[Handle]:
        """Send what `letter` made: a handle for each, failed where it was not accepted. The package's own.

        Until `by`, or until `unless()`, it waits for room; once that was not to be had, what comes behind does not wait
        for it again. `in_order`: the first that is not accepted is the last, so that nothing overtakes it.
        """
        if self._listened != self.events.count:
            self._listen()
        handles: list[Handle] = []
        for one in letters:
            line = self._line
            if line is None or self._told:
                handle, by = self._accepted(one, by, unless)
                handles.append(handle)
                if in_order and handle.error is not None:
                    break
                continue
            poller, quick = line
            label = one.label
            handle = (Handle if label is None else Labelled)(one.topic, one.key, label, poller)
            try:
                quick(one.topic, one.value, one.key, one.partition, handle, None, one.timestamp, one.headers)
            except Exception:  # noqa: BLE001 - it was not accepted: `post` does it again, and says why
                handle, by = self._accepted(one, by, unless)
                if in_order and handle.error is not None:
                    handles.append(handle)
                    break
            else:
                if poller.over:
                    poller.see_through(handle)
            handles.append(handle)
            if not len(handles) % OFTEN:
                poller.glance()
        return handles

    def produce_many_sync(self, messages: Iterable[Row], timeout: float | None = None) -> list[Delivery]:
        """`produce_many_async`, and wait for all: deliveries in their order.

        `timeout` as in `produce_sync`. Raises `PartlyDeliveredError`, which tells of each message, once all have ended.
        """
        refuse_in_loop("produce_many_sync", "await producer.produce_many_async(…)")
        by = _until(timeout)
        if self.transactions is not None:
            with self._opening(TIMEOUT if timeout is None else timeout, by) as transaction:
                handles = Handles(transaction.post_many(self.letters(messages), by))
                handles.wait(_left(by))
            return handles.wait()
        return Handles(self.post_many(self.letters(messages), by)).wait(_left(by))

    def tombstone(
        self, topic: str, key: str | bytes, *, headers: Headers | None = None, partition: int | None = None
    ) -> Handle:
        """Say that `key` is deleted: a null payload, which compaction keeps instead of what was there."""
        check_tombstone(topic, key)
        return self.produce_async(topic, None, key=key, headers=headers, partition=partition)

    def letter(
        self,
        topic: str,
        payload: Any,
        key: Key = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: Moment = None,
        label: Any = None,
    ) -> Letter:
        """A message through `before_send`, checked, as the client takes it. The package's own."""
        for change in self._before_send:
            given = Outgoing(topic, payload, key, headers, partition, timestamp, label)
            changed: object = change(given)
            if not isinstance(changed, Outgoing):
                name = getattr(change, "__qualname__", repr(change))
                raise ConfigError(
                    f"before_send: {name} answered {changed!r} for a message to {topic!r}: it must return an Outgoing, "
                    "the one it was given or another; to refuse a message, let it raise"
                )
            topic, payload, key, headers, partition, timestamp, label = changed.fields
        try:
            write = self._writers[topic]
        except TypeError:
            write = self._writers.of(topic)
        value = payload if payload.__class__ in AS_IT_IS else written(write, topic, key, payload)
        if key.__class__ not in AS_IT_IS:
            check_key(topic, key)
        pairs = checked_headers(topic, key, headers) if headers else None
        at = -1 if partition is None else checked_partition(topic, partition)
        return Letter(topic, value, key, pairs, at, 0 if timestamp is None else milliseconds(topic, timestamp), label)

    def post(self, letter: Letter, by: float = NEVER, unless: Callable[[], bool] = bool) -> Handle:
        """Send it: waiting for room until `by`, or until `unless()`, with another client if this one is of no more use.

        Raises `DeliveryError`.
        """
        since: float | None = None
        tries = 0
        while True:
            poller, _ = self._open(letter.topic, letter.key)
            handle = self._handle(letter, poller)
            try:
                poller.client.send(letter, handle)
            except Refused as refused:
                tries += 1
                if refused.failure.fault is not Fault.CLIENT_FAILED or tries == CLIENTS:
                    raise self._refusal(letter, refused.failure) from None
                poller.end(refused.failure.text)
            except BufferError:
                since = self._await_room(letter, poller, since, by, unless)
            else:
                if isinstance(handle, ToldHandle):
                    handle.accepted()
                if poller.over:
                    poller.see_through(handle)
                return handle

    def _await_room(
        self, letter: Letter, poller: Poller, since: float | None, by: float, unless: Callable[[], bool]
    ) -> float:
        """Wait a little for room; since when that is done. Raises `QueueFullError`, `ProducerClosedError`."""
        waiting, now = poller.client.waiting(), time.monotonic()
        if since is None:
            since = now
            if by > 0:  # else it only looks
                self.events.tell(QueueFull(topic=letter.topic, waiting=waiting))
        patience = 0.0 if in_loop() or poller.serves_here else max(0.0, min(self._max_wait, by - since))
        if now >= self._ends_by:
            raise ProducerClosedError("the producer is being closed", topic=letter.topic, key=letter.key)
        if (left := since + patience - now) <= 0 or unless():
            raise self._full(letter, waiting, patience)
        poller.make_room(min(POLL, left))
        return since

    def _listen(self) -> None:
        """On hot paths an event is only made when someone listens."""
        self._listened = self.events.count
        self._told = self.events.wants(Produced) or self.events.wants(Acknowledged)

    def _handle(self, letter: Letter, poller: Poller) -> Handle:
        events, topic, key = self.events, letter.topic, letter.key
        if events.wants(Produced) or events.wants(Acknowledged):
            return ToldHandle(topic, key, letter.label, poller, _events=events, _size=letter.size)
        return (Handle if letter.label is None else Labelled)(topic, key, letter.label, poller)

    def _accepted(self, letter: Letter, by: float, unless: Callable[[], bool]) -> tuple[Handle, float]:
        """Its handle, one that has failed where it was not accepted; and until when the next may wait for room."""
        try:
            return self.post(letter, by, unless), by
        except DeliveryError as error:
            handle = refused_handle(letter.topic, letter.key, letter.label, error)
            return handle, 0.0 if isinstance(error, QueueFullError) else by

    def _refusal(self, letter: Letter, failure: Failure) -> DeliveryError:
        if failure.fault is Fault.TOO_LARGE:
            most = self._kafka.get("message.max.bytes", 1_000_000)
            said = f"{letter.size} bytes with key and headers, and the client takes {most}: message.max.bytes"
            failure = replace(failure, text=f"{said} ({failure.code})")
        return error_of(failure, letter.topic, letter.key)

    def _full(self, letter: Letter, waiting: int, patience: float) -> QueueFullError:
        if in_loop():
            said = (
                f"the queue is full, {waiting} messages wait: await handles of before, then send more; or await "
                "asyncio.to_thread(producer.produce_async, …), which waits for room"
            )
        elif self._line is not None and self._line[0].serves_here:
            said = (
                f"the queue is full, {waiting} messages wait, and room is made where this is called (a listener, or "
                "a callback of the client): send on another thread"
            )
        else:
            said = (
                f"the queue stayed full for {round(patience, 3):g} s, {waiting} messages wait; is the broker there? "
                "queue.buffering.max.messages bounds it"
            )
        return QueueFullError(f"{described(letter)} was not accepted: {said}", topic=letter.topic, key=letter.key)

    # ── buffering ────────────────────────────────────────────────────────────────────────────────────────────

    def buffer(
        self,
        topic: str,
        payload: Any,
        *,
        key: Key = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: Moment = None,
        label: Any = None,
    ) -> None:
        """Keep a message here until `flush_sync` or `flush_async`; checked now, as by `produce_async`.

        It is in this process's memory alone until then. Raises as `produce_async` does.
        """
        if self._closed:
            raise ProducerClosedError(self._closed, topic=topic, key=key)
        _end_with_child()
        self._buffer.append(self.letter(topic, payload, key, headers, partition, timestamp, label))

    @property
    def buffered(self) -> int:
        """How many messages wait for a flush."""
        return len(self._buffer)

    def flush_async(self) -> Handles:
        """Send what is buffered, in order. Raises `QueueFullError`: what was not accepted stays buffered."""
        sent, error = self._send_buffered()
        if error is not None:
            raise error
        return Handles([handle for _, handle in sent])

    def flush_sync(self, timeout: float | None = None) -> list[Delivery]:
        """Send what is buffered, in order, and wait until the broker has confirmed it: deliveries in their order.

        What failed and may succeed later is buffered again, in front. Raises `QueueFullError`, `PartlyDeliveredError`.
        """
        refuse_in_loop("flush_sync", "await producer.flush_async()")
        by = _until(timeout)
        sent, error = self._send_buffered(by)
        try:
            deliveries = Handles([handle for _, handle in sent]).wait(_left(by))
        finally:
            again = [letter for letter, handle in sent if handle.error is not None and handle.error.retriable]
            self._buffer.extendleft(reversed(again))
        if error is not None:
            raise error
        return deliveries

    def _send_buffered(self, by: float = NEVER) -> tuple[list[tuple[Letter, Handle]], DeliveryError | None]:
        """What was accepted until `by`, in order, and why no more was."""
        sent: list[tuple[Letter, Handle]] = []
        error: DeliveryError | None = None
        with self._flushing:
            while self._buffer:
                letter = self._buffer[0]
                try:
                    sent.append((letter, self.post(letter, by)))
                except DeliveryError as refused:
                    if refused.retriable or isinstance(refused, ProducerClosedError):
                        error = refused
                        break
                    sent.append((letter, refused_handle(letter.topic, letter.key, letter.label, refused)))
                self._buffer.popleft()
            left = len(self._buffer)
        if sent or error is not None:
            sizes = [letter.size for letter, handle in sent if not isinstance(handle.error, DeliveryError)]
            self.events.tell(BufferFlushed(count=len(sizes), size=sum(sizes), left=left))
        return sent, error

    # ── transactions ─────────────────────────────────────────────────────────────────────────────────────────

    def transaction(self, timeout: float = TIMEOUT) -> Opening:
        """`with producer.transaction() as transaction`, or `async with`: what is sent by it is seen by readers of
        committed messages all together, or never.

        Committed at the end of the block, aborted when that raises. One at a time: others wait. `timeout`: seconds that
        beginning and committing may take each. Raises `TransactionError`, whose `retriable` says whether the same block
        in a new transaction may succeed; `FencedError` when another producer has taken over the `transactional.id`.
        """
        return self._opening(timeout)

    def _opening(self, timeout: float, by: float = NEVER) -> Opening:
        if self._forked:
            raise ConfigError(
                f"this producer was made before the fork: its transactional.id {self._kafka['transactional.id']!r} "
                "belongs to one process; make a producer in the child, with an id of its own"
            )
        if self.transactions is None:
            raise ConfigError(
                "this producer has no transactions: give it a name that no other live producer has, such as "
                'Producer({…, "transactional.id": "videos-1"})'
            )
        if self._closed:
            raise ProducerClosedError(self._closed)
        return Opening(self.transactions, timeout, by)

    def _made_transactional(self, named: str) -> Transactions:
        """The producer by which transactions send has the client; this one refuses what is sent outside of them."""
        self.pipe = Producer(
            {name: value for name, value in self._kafka.items() if name != "transactional.id"},
            parser=self._parser,
            parsers=self._parsers,
            before_send=self._before_send,
            max_wait_on_full=self._max_wait,
            events=self.events,
            sender=self._make,
        )
        self.pipe.made_by_hand, self.pipe._tally = True, self._tally  # noqa: SLF001 - of this class
        return Transactions(named, self.pipe, self.events)

    def renewed(self, by: float) -> Poller:
        """The client by which transactions send, another one if there is none of use. The package's own."""
        line = self._line
        if line is not None and not line[0].over:
            return line[0]
        # One at a time: of two clients with one id the later one would throw the other out.
        if not self._renewing.acquire(timeout=max(0.0, by - time.monotonic())):
            raise TransactionError("the transactional.id is still being taken over", retriable=True)
        try:
            line = self._line
            if line is not None and not line[0].over:
                return line[0]
            client = _taken_over(self._make, by, lambda: self._closed)
            with self._lock:
                if self._closed:
                    client.close()
                    raise ProducerClosedError(self._closed)
                return self._begun(client)[0]
        finally:
            self._renewing.release()

    # ── others like it ───────────────────────────────────────────────────────────────────────────────────────

    def variant(self, kafka: Mapping[str, Setting] | None = None, /, **settings: Setting) -> Producer:
        """A producer with other settings, such as `variant(acks=0, linger_ms=5)` or `variant({"linger.ms": 5})`.

        It has this one's parsers, `before_send` and events, a client of its own from its first send on, and is closed
        with this one. Asked for again it is the same. It is not transactional.
        """
        named = {name if name in UNDERSCORED else name.replace("_", "."): value for name, value in settings.items()}
        changed = {**(kafka or {}), **named}
        mark = tuple(sorted((name, str(value)) for name, value in changed.items()))
        with self._lock:
            if self._closed:
                raise ProducerClosedError(self._closed)
            if mark not in self._variants:
                inherited = {name: value for name, value in self._kafka.items() if name != "transactional.id"}
                if "acks" in changed and "enable.idempotence" not in changed:
                    inherited.pop("enable.idempotence", None)  # which takes all
                self._variants[mark] = Producer(
                    {**inherited, **changed},
                    parser=self._parser,
                    parsers=self._parsers,
                    before_send=self._before_send,
                    max_wait_on_full=self._max_wait,
                    events=self.events,
                    deliver=self._recorder is None,
                    names=self._names,
                )
                if self._recorder is not None:
                    # What is recorded is in one place, however it was sent.
                    self._variants[mark]._record_to(self._recorder)  # noqa: SLF001 - of this class
            return self._variants[mark]

    def _record_to(self, recorder: Recorder) -> None:
        self._recorder, self._make = recorder, partial(_same, recorder.beside())

    # ── waiting, and its end ─────────────────────────────────────────────────────────────────────────────────

    def flush(self, timeout: float = 60.0) -> int:
        """Wait until all that was accepted, by variants too, has ended; how many have not after `timeout` seconds.

        What is buffered stays so: see `flush_sync`.
        """
        refuse_in_loop("flush", "await the handles")
        by = time.monotonic() + timeout
        line = self.pipe._line  # noqa: SLF001 - of this class
        left = line[0].flush(timeout) if line is not None else 0
        return left + sum(one.flush(max(0.0, by - time.monotonic())) for one in list(self._variants.values()))

    def close(self, timeout: float = 60.0) -> int:
        """Refuse new messages, send what is buffered, flush, and end: how many messages were not delivered.

        Those have failed when this returns. Any number of times. In `async def`: `await producer.aclose()`.
        """
        refuse_in_loop("close", "await producer.aclose()")
        return self._close(time.monotonic() + timeout, "the producer was closed")

    async def aclose(self, timeout: float = 60.0) -> int:
        """`close` for `async def`."""
        return await asyncio.to_thread(self.close, timeout)

    def _close(self, by: float, reason: str) -> int:
        if self._line is not None:
            self._line[0].refuse_here("close")
        if self.transactions is not None:
            self.pipe._closed = self.pipe._closed or reason  # noqa: SLF001 - of this class: who takes the id over stops
            self.transactions.close(f"{reason}: make a new one", max(0.0, by - time.monotonic()))
            self.pipe._close(by, reason)  # noqa: SLF001 - of this class
        variants = list(self._variants.values())
        left = sum(one._close(by, reason) for one in variants)  # noqa: SLF001 - they are of this class
        if not self._closed:
            self._ends_by = by
            with suppress(Error):
                self._send_buffered()
        with self._lock:
            self._closed = self._closed or f"{reason}: make a new one"
            line, self._line = self._line, None
        left += self._estate.take(reason)
        if line is None:
            return left
        poller = line[0]
        poller.flush(max(0.0, by - time.monotonic()))
        left += poller.give_up(f"{reason} before the broker confirmed it")
        poller.join(CLOSE_TIMEOUT)
        return left

    def hand_over(self) -> None:
        """What is buffered goes on its way, as far as there is room. The package's own."""
        self._ends_by = time.monotonic()
        if self.buffered:
            self._send_buffered()

    def end_with_process(self) -> None:
        """Close, without waiting. The package's own."""
        self._close(time.monotonic(), "the process ended")

    def statistics(self) -> Statistics:
        """What its client did so far."""
        line = self.pipe._line  # noqa: SLF001 - of this class
        if line is None:
            return Statistics(failed=self._tally.failed, buffered=self.buffered)
        line[0].glance()  # else what the client has to say of itself would count as waiting
        client = line[0].client
        return Statistics(
            failed=self._tally.failed, waiting=client.waiting(), buffered=self.buffered, client=client.statistics()
        )

    def bury(self, topic: str, record: Record, headers: Iterable[Header], done: Callable[[str | None], None]) -> None:
        """Send `record` on to `topic` with its key and payload as they came; `done(error)` when it has ended. Does not
        wait.
        """
        try:
            poller, _ = self._line or self._open()
            handle = Untold(topic, record.key(), None, poller)
            poller.client.send(Letter(topic, record.value(), record.key(), list(headers)), handle)
        except Refused as refused:
            done(refused.failure.text)
            return
        except (Error, BufferError) as error:
            done(str(error) or "the client's queue is full")
            return
        if poller.over:
            poller.see_through(handle)
        handle.watch(lambda: done(None if handle.error is None else str(handle.error)))
        poller.prompt(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # ── its client ───────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, topic: str = "", key: Key = None) -> tuple[Poller, Quick]:
        """The client that takes messages now, made if there is none. Raises `ProducerClosedError`, `ConfigError`."""
        with self._lock:
            if self._closed:
                raise ProducerClosedError(self._closed, topic=topic, key=key)
            if self.made_by_hand and self._line is None:
                raise ClientFailedError("the client of this transaction is of no more use", topic=topic, key=key)
            if self.transactions is not None:
                raise ConfigError(
                    f"this producer has the transactional.id {self._kafka['transactional.id']!r}: send by a "
                    "transaction, with producer.transaction() as t: t.produce_async(…)"
                )
            if self._line is not None:
                return self._line
            return self._begun(self._make())

    def _begun(self, client: Sender) -> tuple[Poller, Quick]:
        """With the lock: `client` takes messages from here on."""
        _end_with_child()
        poller = Poller(client, self.events, partial(_lost, weakref.ref(self)), self._tally)
        poller.start()
        self._line = line = poller, client.quick
        self._estate.poller = poller
        return line

    def lose(self, poller: Poller) -> None:
        """Its client is of no more use: the next message gets another one. The package's own; any thread."""
        with self._lock:
            if self._line is not None and self._line[0] is poller:
                self._line = None

    def after_fork(self) -> None:
        """This is a child: what is under way and what is buffered is the parent's; the next send makes a client."""
        self._lock, self._flushing, self._renewing = Lock(), Lock(), Lock()
        self._line = self._estate.poller = None
        self._buffer.clear()
        if self.transactions is not None:
            self._forked = True
            self.transactions.leave_behind()


class Estate:
    """What a producer leaves that nobody closed: seen to when it is gone."""

    def __init__(self, buffer: deque[Letter]) -> None:
        self.poller: Poller | None = None
        self._buffer = buffer

    def settle(self) -> None:
        if self.poller is not None:
            self.poller.retire()
        self.take("the producer is gone, and was not closed")

    def take(self, reason: str) -> int:
        """What is still buffered is lost: how many messages, told to the log."""
        left = len(self._buffer)
        if left:
            topics = ", ".join(sorted({repr(one.topic) for one in self._buffer}))
            _log.error("%d buffered messages to %s were not sent: %s", left, topics, reason)
            self._buffer.clear()
        return left


def _until(timeout: float | None) -> float:
    """When so many seconds have passed; never for None."""
    return NEVER if timeout is None else time.monotonic() + timeout


def _left(by: float) -> float | None:
    """The seconds until then; None for never."""
    return None if by == NEVER else max(0.0, by - time.monotonic())


def _chain(before_send: object) -> tuple[BeforeSend, ...]:
    """Raises `ConfigError` for what is no sequence of functions."""
    if not isinstance(before_send, Sequence) or not all(map(callable, before_send)):
        raise ConfigError(
            f"Producer(before_send={before_send!r}): a list of functions is expected, each of which is given the "
            "Outgoing message and returns it, or another one"
        )
    return tuple(before_send)


def _check(kafka: Mapping[str, Any]) -> None:
    """Raises `ConfigError`."""
    if not kafka.get("bootstrap.servers"):
        raise ConfigError("Producer(…) has no 'bootstrap.servers': name at least one broker, such as localhost:9092")
    for name in kafka:
        if name in OWNED:
            raise ConfigError(f"Producer(…) sets {name!r}, which belongs to the framework: {OWNED[name]}")
    from karafka.sender import check_producer  # noqa: PLC0415 - as below

    check_producer(kafka, "Producer(…)")


def _mapped(kafka: Mapping[str, Any], names: Names) -> Sender:
    from karafka.mapped import MappedSender, MappedTransactor  # noqa: PLC0415 - as below

    return MappedTransactor(kafka, names) if "transactional.id" in kafka else MappedSender(kafka, names)


def _connected(kafka: Mapping[str, Any]) -> Sender:
    # Imported when a producer is made: a recorder does without the client.
    from karafka.sender import ConfluentSender, ConfluentTransactor  # noqa: PLC0415

    return ConfluentTransactor(kafka) if "transactional.id" in kafka else ConfluentSender(kafka)


def _taken_over(connected: Callable[[], Sender], by: float, stopped: Callable[[], object]) -> Sender:
    """A client that has taken over its `transactional.id`. Raises `TransactionError`."""
    transactor = cast("Transactor", connected())
    try:
        take(transactor.ready, by, most=TRY, stopped=stopped)
    except BaseException as error:
        transactor.close()
        if not isinstance(error, Unsettled):
            raise
        said = f"the transactional.id could not be taken over: {error} ({error.code})"
        raise TransactionError(said, retriable=error.remedy is Remedy.AGAIN) from error
    return transactor


def _lost(producer: weakref.ref[Producer], poller: Poller) -> None:
    """The client that took its messages is of no more use."""
    if (there := producer()) is not None:
        there.lose(poller)


def _same(recorder: Recorder) -> Sender:
    return recorder


def _at_exit() -> None:
    """The interpreter ends: what is on its way is waited for, not for ever, and what could not be sent is told.

    All together: one whose brokers are away takes no time from the others.
    """
    by = time.monotonic() + AT_EXIT
    producers = list(ALIVE)
    _each(producers, Producer.hand_over)
    while (waiting := [one for one in RUNNING if one.client.waiting()]) and time.monotonic() < by:
        for poller in waiting:
            poller.flush(min(POLL, by - time.monotonic()))
    _each(producers, Producer.end_with_process)
    for poller in list(RUNNING):  # of producers that are gone, and were not closed
        poller.give_up("the process ended before the broker confirmed it")


def _end_with_child() -> None:
    """A process of `multiprocessing` leaves without what others do at their end: it has a list of its own."""
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process is None or util is None or process.parent_process() is None or os.getpid() in CHILDREN:
        return
    CHILDREN.add(os.getpid())
    util.Finalize(None, _at_exit, exitpriority=0)


def _each(producers: Iterable[Producer], step: Callable[[Producer], None]) -> None:
    for producer in producers:
        try:
            step(producer)
        except Exception:  # noqa: BLE001 - the others are to end too
            _log.exception("a producer could not be closed as the process ended")


def _after_fork() -> None:
    after_fork()
    for poller in list(RUNNING):
        poller.leave_behind()
    RUNNING.clear()
    for producer in list(ALIVE):
        producer.after_fork()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
