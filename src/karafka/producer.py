"""Sending, usable without the rest: `Producer({...}).produce_sync(topic, payload)`.

A producer may be used from any thread and from asyncio. Delivery reports come on one polling thread of its own, which
is started with the client at the first send and ended by `close`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self

from karafka.checks import refuse_in_loop
from karafka.client import Report, Sender
from karafka.delivery import Delivery, DeliveryError, Handle, Headers
from karafka.errors import BrokerError, ConfigError, Error
from karafka.messages import Header, Record
from karafka.parsers import JSON, Parser, check_parser

# How long `produce_*` waits for room in the client's full queue before it refuses.
MAX_WAIT_ON_FULL = 60.0
# How long one turn of the polling thread may wait for a report.
POLL = 0.1


class QueueFullError(Error):
    """The client's queue stayed full: the message was not accepted. Waiting, then sending again, may help."""


class Producer:
    """Sends to Kafka. `kafka` is librdkafka's settings by their own names; `bootstrap.servers` is needed.

    Payloads: `bytes` and `str` as they are, None is a tombstone, everything else through `parser` (JSON by default:
    dataclasses, msgspec Structs, datetimes, UUIDs and Decimals without help).
    """

    def __init__(
        self, kafka: Mapping[str, Any], *, parser: Parser | None = None, sender: Callable[[], Sender] | None = None
    ) -> None:
        """`sender` replaces the client, for tests; it is called at the first send."""
        if sender is None and not kafka.get("bootstrap.servers"):
            raise ConfigError(
                "Producer(…) has no 'bootstrap.servers': name at least one broker, such as localhost:9092"
            )
        if parser is not None:
            check_parser("Producer(parser=…)", parser)
        self._generate = (parser or JSON()).generate
        self._make = sender or (lambda: _confluent(kafka))
        self._lock = Lock()
        self._sender: Sender | None = None
        self._closed = False
        self._ended = Event()
        self._open_handles: set[Handle] = set()
        self._thread = Thread(target=self._serve, name="karafka-producer", daemon=True)

    def produce_async(
        self,
        topic: str,
        payload: Any,
        *,
        key: str | bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp: float | None = None,
    ) -> Handle:
        """Put a message on its way. `timestamp` in seconds since 1970, now by default.

        Raises `QueueFullError` when the client's queue stays full, `ConfigError` for what can never be sent.
        """
        sender = self._open()
        value = self._value(topic, payload)
        told = _headers(headers)
        raw_key = key.encode() if isinstance(key, str) else key
        handle = Handle(topic)
        report = self._reporting(handle)
        try:
            self._accept(sender, lambda: sender.send(topic, value, raw_key, told, partition, timestamp, report), topic)
        except BaseException:
            self._open_handles.discard(handle)  # never accepted: nobody waits for it
            raise
        return handle

    @staticmethod
    def _accept(sender: Sender, send: Callable[[], None], topic: str) -> None:
        """`send`, waiting for room in the client's queue: reports make it, and the polling thread runs them."""
        until: float | None = None
        while True:
            try:
                send()
            except BufferError:
                refuse_in_loop("produce_async with a full queue", "await handles of before, then send more")
                now = time.monotonic()
                until = until or now + MAX_WAIT_ON_FULL
                if now >= until:
                    raise QueueFullError(
                        f"the message to {topic!r} was not accepted: the queue stayed full for {MAX_WAIT_ON_FULL:g} s, "
                        f"{sender.waiting()} messages wait; is the broker there? queue.buffering.max.messages bounds it"
                    ) from None
                time.sleep(0.005)
            else:
                return

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
    ) -> Delivery:
        """Send a message and wait until the broker has confirmed it. Raises as `produce_async` and `Handle.wait` do."""
        refuse_in_loop("produce_sync", "await producer.produce_async(…)")
        handle = self.produce_async(topic, payload, key=key, headers=headers, partition=partition, timestamp=timestamp)
        return handle.wait(timeout)

    def produce_many_sync(self, messages: Iterable[Mapping[str, Any]], timeout: float | None = None) -> list[Delivery]:
        """Send messages, each the arguments of `produce_async`, and wait for all; deliveries in their order.

        Raises the first error met, after all have ended.
        """
        refuse_in_loop("produce_many_sync", "await each produce_async(…)")
        handles = [self.produce_async(**message) for message in messages]
        for handle in handles:
            try:
                handle.wait(timeout)
            except DeliveryError:
                continue
        return [handle.result() for handle in handles]

    def flush(self, timeout: float = 60.0) -> int:
        """Wait until all that was accepted has ended; how many messages have not after `timeout` seconds."""
        refuse_in_loop("flush", "await the handles")
        sender, until = self._sender, time.monotonic() + timeout
        if sender is None:
            return 0
        while (left := sender.waiting()) and time.monotonic() < until:
            sender.flush(min(POLL, max(0.0, until - time.monotonic())))
        return left

    def close(self, timeout: float = 60.0) -> int:
        """Refuse new messages, flush, and end; how many messages could not be sent within `timeout` seconds."""
        with self._lock:
            self._closed = True
        left = self.flush(timeout)
        self._ended.set()
        # Nobody reads reports any more: whoever waits for one must not wait for ever.
        for handle in list(self._open_handles):
            handle.report("the producer was closed before the broker confirmed it", -1, -1)
        if self._thread.is_alive():
            self._thread.join(5.0)
        with self._lock:
            self._sender = None  # the client's threads end with it, before the interpreter does
        return left

    def bury(self, topic: str, record: Record, headers: Iterable[Header], done: Callable[[str | None], None]) -> None:
        """Send `record` on to `topic` with its key and payload as they came; `done(error)` when it has ended."""
        handle = Handle(topic)
        try:
            self._open().send(topic, record.value(), record.key(), headers, None, None, self._reporting(handle))
        except (Error, BufferError) as error:
            self._open_handles.discard(handle)
            done(str(error) or "the client's queue is full")
            return
        handle.add_done_callback(lambda ended: done(None if ended.error is None else str(ended.error)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Sender:
        if self._closed:
            raise ConfigError("the producer is closed: make a new one")
        if self._sender is not None:
            return self._sender
        with self._lock:
            if self._sender is None:
                self._sender = self._make()
                if not self._thread.is_alive():
                    self._thread.start()
            return self._sender

    def _serve(self) -> None:
        """The polling thread: reports are run here."""
        while not self._ended.is_set():
            sender = self._sender
            if sender is None:
                self._ended.wait(POLL)
                continue
            try:
                sender.serve(POLL)
            except BrokerError as error:
                self._give_up(error)

    def _give_up(self, error: BrokerError) -> None:
        """The client is of no more use: what it has not reported has failed; the next send makes a new one."""
        with self._lock:
            self._sender = None
        for handle in list(self._open_handles):
            self._open_handles.discard(handle)
            handle.report(f"the client is of no more use: {error}", -1, -1)

    def _reporting(self, handle: Handle) -> Report:
        """What the client calls for `handle`; until then it is known here, so that `close` can end it."""
        self._open_handles.add(handle)

        def report(error: str | None, partition: int, offset: int) -> None:
            self._open_handles.discard(handle)
            handle.report(error, partition, offset)

        return report

    def _value(self, topic: str, payload: Any) -> bytes | None:
        if payload is None or isinstance(payload, bytes):
            return payload
        if isinstance(payload, str):
            return payload.encode()
        try:
            return self._generate(payload)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"a payload for {topic!r} cannot be written: {type(error).__name__}: {error}") from error


def _headers(headers: Headers) -> list[Header]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]


def _confluent(kafka: Mapping[str, Any]) -> Sender:
    # Imported at the first send: a web process that never sends does not pay for the client.
    from karafka.confluent import ConfluentSender  # noqa: PLC0415

    defaults: dict[str, Any] = {
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 0,
    }
    return ConfluentSender({**defaults, **kafka})
