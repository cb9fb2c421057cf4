"""A producer confirms what it sends, one by one or many, from threads and from asyncio, without an app."""

from __future__ import annotations

import asyncio
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from threading import Event, Timer
from time import monotonic, sleep
from uuid import UUID

import pytest

from karafka import (
    ConfigError,
    Controller,
    Delivery,
    DeliveryError,
    DeliveryTimeoutError,
    Handle,
    Outgoing,
    PartlyDeliveredError,
    Producer,
    ProducerClosedError,
    TooLargeError,
    UnknownTopicError,
)
from karafka.parsers import Text
from tests.specs.run import Notes, Stage, running, until


@dataclass
class Video:
    id: int
    title: str


@dataclass
class Sale:
    at: datetime
    id: UUID
    price: Decimal


@pytest.fixture
def producer(stage: Stage) -> Iterator[Producer]:
    with Producer({"bootstrap.servers": stage.bootstrap}) as made:
        yield made


def test_one_by_one_and_many(stage: Stage) -> None:
    topic = stage.topic()
    with Producer({"bootstrap.servers": stage.bootstrap}) as producer:
        first = producer.produce_sync(topic, Video(1, "One"), key="1", headers={"a": "b"})
        second = producer.produce_async(topic, {"id": 2}).wait(10)
        many = producer.produce_many_sync([{"topic": topic, "payload": str(number)} for number in range(100)], 30)
    assert (first.topic, first.partition, first.offset) == (topic, 0, 0)
    assert 0 < first.latency < 10
    assert second.offset == 1
    assert [delivery.offset for delivery in many] == list(range(2, 102))
    messages = stage.read(topic, 102)
    assert messages[0].value() == b'{"id":1,"title":"One"}'
    assert (messages[0].key(), messages[0].headers()) == (b"1", [("a", b"b")])


def test_what_people_keep_in_payloads_needs_no_help(stage: Stage, producer: Producer) -> None:
    """Times, ids and sums of money; a topic may have a parser of its own, and a key its tombstone."""
    topic, texts = stage.topic(), stage.topic()
    producer.produce_sync(topic, Sale(datetime(2024, 2, 29, tzinfo=UTC), UUID(int=7), Decimal("1.50")), key="7")
    producer.tombstone(topic, "7").wait(10)
    with Producer({"bootstrap.servers": stage.bootstrap}, parsers={texts: Text("utf-16-le")}) as other:
        other.produce_sync(texts, bytearray(b"as it is"))

    sale, tombstone = stage.read(topic, 2)
    assert sale.value() == (b'{"at":"2024-02-29T00:00:00Z","id":"00000000-0000-0000-0000-000000000007","price":"1.50"}')
    assert (tombstone.key(), tombstone.value()) == (b"7", None)
    assert stage.read(texts, 1)[0].value() == b"as it is"


def test_each_message_passes_those_that_may_change_it(stage: Stage) -> None:
    """What they refuse is not sent."""

    def sign(message: Outgoing) -> Outgoing:
        return replace(message, headers={"by": "me"})

    def guard(message: Outgoing) -> Outgoing:
        if message.payload == "secret":
            raise PermissionError("not this")
        return message

    topic = stage.topic()
    with Producer({"bootstrap.servers": stage.bootstrap}, before_send=[sign, guard]) as producer:
        producer.produce_sync(topic, "1")
        with pytest.raises(PermissionError):
            producer.produce_sync(topic, "secret")
        producer.produce_many_sync([{"topic": topic, "payload": "2"}])

    assert [(one.value(), one.headers()) for one in stage.read(topic, 2)] == [
        (b"1", [("by", b"me")]),
        (b"2", [("by", b"me")]),
    ]
    assert stage.end(topic) == 2


def test_from_threads_and_from_asyncio_at_once(stage: Stage) -> None:
    topic = stage.topic(3)
    with Producer({"bootstrap.servers": stage.bootstrap}) as producer:

        def send(number: int) -> Delivery:
            return producer.produce_sync(topic, str(number), key=str(number))

        async def send_all() -> list[Delivery]:
            return await asyncio.gather(*(_awaited(producer, topic, number) for number in range(200)))

        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(send, number) for number in range(200)]
            deliveries = asyncio.run(send_all()) + [future.result() for future in futures]
    assert len({(delivery.partition, delivery.offset) for delivery in deliveries}) == 400


async def _awaited(producer: Producer, topic: str, number: int) -> Delivery:
    return await producer.produce_async(topic, str(number))


def test_a_full_queue_loses_nothing(stage: Stage) -> None:
    """The sender waits for room, and all arrives, in order."""
    topic = stage.topic()
    with Producer({"bootstrap.servers": stage.bootstrap, "queue.buffering.max.messages": 10}) as producer:
        handles = [producer.produce_async(topic, str(number), partition=0) for number in range(500)]
        assert [handle.wait(30).offset for handle in handles] == list(range(500))
    assert [message.value() for message in stage.read(topic, 500)] == [str(number).encode() for number in range(500)]


def test_what_is_said_of_a_message_is_true(stage: Stage) -> None:
    """The broker takes nothing that large: that is said, what was said to be delivered is there, and nothing else."""
    topic = stage.topic(max_message_bytes="2000")
    payloads = [b"x" * (50_000 if number % 10 == 5 else number + 1) for number in range(100)]
    with Producer({"bootstrap.servers": stage.bootstrap, "compression.type": "none"}) as producer:
        first = producer.produce_sync(topic, b"first", partition=0)
        handles = [producer.produce_async(topic, payload, partition=0) for payload in payloads]
        assert producer.flush(30) == 0
        last = producer.produce_sync(topic, b"last", partition=0)
    delivered = {
        handle.result().offset: payload for handle, payload in zip(handles, payloads, strict=True) if not handle.error
    }
    refused = [payload for handle, payload in zip(handles, payloads, strict=True) if handle.error]
    assert {len(payload) for payload in refused} >= {50_000}
    assert all(isinstance(handle.error, DeliveryError | None) for handle in handles)
    assert not any(len(payload) == 50_000 for payload in delivered.values())
    expected = {first.offset: b"first", **delivered, last.offset: b"last"}
    assert stage.end(topic) == len(expected)
    assert {message.offset(): message.value() for message in stage.read(topic, len(expected))} == expected


def test_of_many_each_is_told(stage: Stage, producer: Producer) -> None:
    """Those that cannot be stop no other; what each became is told in its place."""
    topic, small = stage.topic(), stage.topic(max_message_bytes="1000")
    with Producer({"bootstrap.servers": stage.bootstrap, "compression.type": "none"}) as plain:
        plain.produce_sync(topic, b"before", partition=0)
        with pytest.raises(PartlyDeliveredError, match="2 of 4 messages") as found:
            plain.produce_many_sync(
                [
                    {"topic": topic, "payload": "1"},
                    {"topic": small, "payload": "x" * 5_000},
                    {"topic": topic, "payload": "2", "partition": 9},
                    {"topic": topic, "payload": "3"},
                ],
                timeout=30,
            )
    first, large, lost, last = found.value.results
    assert (first.offset, last.offset) == (1, 2)
    assert isinstance(large, TooLargeError)
    assert isinstance(lost, UnknownTopicError)
    assert not found.value.retriable
    assert stage.end(topic) == 3


def test_what_can_never_be_sent_is_refused_before_anything_is(stage: Stage, producer: Producer) -> None:
    """Larger than the client takes: at once, with its size."""
    topic = stage.topic()
    with pytest.raises(TooLargeError, match=r"2000001 bytes with key and headers, and the client takes 1000000"):
        producer.produce_async(topic, b"x" * 2_000_000, key="k")
    assert producer.flush(10) == 0
    assert stage.end(topic) == 0


async def awaited(producer: Producer, topic: str) -> Delivery:
    return await producer.produce_async(topic, "x")


def buffered(producer: Producer, topic: str) -> None:
    producer.buffer(topic, "x")
    producer.flush_sync()


class TestLingering:
    """What nobody waits for travels together; who waits for a message does not wait for that."""

    WAYS: Mapping[str, Callable[[Producer, str], object]] = {
        "produce_sync": lambda producer, topic: producer.produce_sync(topic, "x"),
        "produce_many_sync": lambda producer, topic: producer.produce_many_sync([{"topic": topic, "payload": "x"}]),
        "wait": lambda producer, topic: producer.produce_async(topic, "x").wait(),
        "await": lambda producer, topic: asyncio.run(awaited(producer, topic)),
        "flush_sync": buffered,
    }

    @pytest.fixture
    def slow(self, stage: Stage) -> Iterator[Producer]:
        with Producer({"bootstrap.servers": stage.bootstrap, "linger.ms": 60_000}) as made:
            made.produce_sync(stage.topic(), "the first")
            yield made

    @pytest.mark.parametrize("way", WAYS)
    def test_who_waits_does_not_wait_for_it(self, stage: Stage, slow: Producer, way: str) -> None:
        topic, began = stage.topic(), monotonic()
        for number in range(5):
            self.WAYS[way](slow, topic)
            assert stage.end(topic) == number + 1
        assert monotonic() - began < 20

    def test_nor_do_many_threads_while_another_sends_without_end(self, stage: Stage, slow: Producer) -> None:
        """Each is told of its own soon, though there is always something on its way."""
        topic, beside, over, took = stage.topic(), stage.topic(), Event(), list[float]()

        def stream() -> None:
            while not over.is_set():
                slow.produce_async(beside, "x")

        def send(_number: int) -> None:
            for _ in range(20):
                began = monotonic()
                slow.produce_sync(topic, "x")
                took.append(monotonic() - began)

        with ThreadPoolExecutor(9) as threads:
            streaming = threads.submit(stream)
            try:
                list(threads.map(send, range(8)))
            finally:
                over.set()
            streaming.result(30)
        assert slow.flush(30) == 0
        assert stage.end(topic) == 160
        assert max(took) < 10

    def test_what_nobody_waits_for_lingers(self, stage: Stage, slow: Producer) -> None:
        topic = stage.topic()
        handles = [slow.produce_async(topic, "x") for _ in range(3_000)]
        sleep(1)
        assert stage.end(topic) == 0
        assert handles[0].wait(10).offset == 0


class TestVariants:
    """Others like it: with other settings, closed with it."""

    def test_without_acknowledgement_there_is_no_offset(self, stage: Stage) -> None:
        """It arrives all the same."""
        topic = stage.topic()
        with Producer({"bootstrap.servers": stage.bootstrap}) as producer:
            fast = producer.variant(acks=0, linger_ms=5)
            assert fast is producer.variant({"linger.ms": 5, "acks": "0"})
            assert [fast.produce_sync(topic, str(number)).offset for number in range(3)] == [-1, -1, -1]
            until(lambda: stage.end(topic) == 3)
            assert producer.produce_sync(topic, "4").offset == 3

    def test_what_it_accepted_is_sent_when_its_parent_is_closed(self, stage: Stage) -> None:
        topic = stage.topic()
        producer = Producer({"bootstrap.servers": stage.bootstrap})
        slow = producer.variant(linger_ms=60_000)
        handle = slow.produce_async(topic, "1")
        slow.buffer(topic, "2")
        assert producer.close(30) == 0

        assert handle.result().offset == 0
        assert stage.end(topic) == 2
        with pytest.raises(ProducerClosedError):
            slow.produce_async(topic, "3")


class TestNowhere:
    """Where no broker is: nobody waits for ever, and everybody hears why."""

    def test_what_is_not_confirmed_in_time_has_failed(self) -> None:
        """With the client's last word."""
        settings = {"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 300, "log_level": 0}
        with (
            Producer(settings) as producer,
            pytest.raises(DeliveryTimeoutError, match=r"last word: .*refused") as found,
        ):
            producer.produce_sync("any", "x", key="k")
        assert (found.value.topic, found.value.key, found.value.retriable) == ("any", "k", True)

    def test_closing_fails_all_that_is_on_its_way_and_counts_it(self) -> None:
        """Exactly: what else the client has to say is no message."""
        for number in range(30):
            producer = Producer({"bootstrap.servers": "127.0.0.1:1,127.0.0.1:2", "log_level": 0})
            handles = [producer.produce_async("any", "x") for _ in range(number + 1)]

            assert producer.close(0.001 * number) == number + 1
            assert {type(handle.error) for handle in handles} == {ProducerClosedError}


@pytest.mark.usefixtures("uncollected")
class TestInterrupted:
    """Ctrl-C, on the main thread."""

    def test_it_ends_a_wait_soon_and_the_producer_goes_on(self) -> None:
        settings = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
        producer = Producer(settings)
        handle = producer.produce_async("any", "x")
        with interrupted(after=0.2):
            began = monotonic()
            with pytest.raises(KeyboardInterrupt):
                handle.wait(30)
        assert monotonic() - began < 5
        assert not handle.done
        assert producer.close(0.1) == 1
        assert isinstance(handle.error, ProducerClosedError)

    def test_wherever_it_comes_all_that_was_accepted_ends(self, stage: Stage) -> None:
        """While it sends, while it is told of ends, while it waits for room."""
        topic, handles = stage.topic(), list[Handle]()
        with Producer({"bootstrap.servers": stage.bootstrap, "queue.buffering.max.messages": 50}) as producer:
            producer.produce_sync(topic, "first")
            for number in range(40):
                with suppress(KeyboardInterrupt), interrupted(after=0.001 * number):
                    while True:
                        handles.append(producer.produce_async(topic, "x"))
                        if len(handles) % 20 == 0:
                            handles[-1].wait(30)
            assert producer.flush(30) == 0
        assert all(handle.done for handle in handles)
        assert [handle.error for handle in handles if handle.error] == []
        offsets = {handle.result().offset for handle in handles}
        assert len(offsets) == len(handles)
        assert max(offsets) < stage.end(topic)


@contextmanager
def interrupted(after: float) -> Iterator[None]:
    """Ctrl-C comes `after` seconds, unless the block has ended."""
    timer = Timer(after, interrupt_main)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def test_what_would_block_the_loop_is_refused(stage: Stage) -> None:
    producer = Producer({"bootstrap.servers": stage.bootstrap})

    async def block() -> None:
        producer.produce_sync("any", "x")

    with pytest.raises(ConfigError, match="await"):
        asyncio.run(block())


def test_a_controller_sends_on(stage: Stage) -> None:
    app, source, target = stage.app(), stage.topic(), stage.topic()
    stage.send(source, map(str, range(50)))
    seen: Notes[int] = Notes()

    @app.topic(source)
    class Forward(Controller[int]):
        def perform(self) -> None:
            self.app.producer.produce_sync(target, self.params * 2)

    @app.topic(target)
    class Keep(Controller[int]):
        async def perform(self) -> None:
            seen.add(self.params)

    with running(app):
        until(lambda: len(seen) == 50)
    assert seen.all() == [2 * number for number in range(50)]
