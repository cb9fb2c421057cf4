"""On an event loop sends are awaited, side by side if wished; what would block the loop is refused."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from karafka import (
    ConfigError,
    Controller,
    Delivery,
    DeliveryError,
    Handle,
    PartlyDeliveredError,
    Producer,
    QueueFullError,
    TooLargeError,
)
from karafka.events import DeliveryFailed
from tests.specs.run import Notes, Stage, running, until


def test_sends_are_awaited(stage: Stage) -> None:
    """One by one, or many at once; what is awaited is confirmed."""
    app, topic, other = stage.app(), stage.topic(), stage.topic()
    stage.send(topic, ["1", "2"])
    sent: Notes[Delivery] = Notes()

    @app.topic(topic)
    class Forwarding(Controller[int]):
        async def perform(self) -> None:
            sent.add(await self.app.producer.produce_async(other, self.params))
            for delivery in await asyncio.gather(
                *(one for one in (self.app.producer.produce_async(other, number) for number in range(50)))
            ):
                sent.add(delivery)

    with running(app):
        until(lambda: len(sent) == 102)
    assert sorted(one.offset for one in sent) == list(range(102))
    assert {one.topic for one in sent} == {other}
    assert stage.end(other) == 102


def test_calls_that_block_are_refused_with_the_way_out(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    stage.send(topic, ["1"])
    said: Notes[str] = Notes()

    @app.topic(topic)
    class Blocking(Controller[int]):
        async def perform(self) -> None:
            producer, handle = self.app.producer, self.app.producer.produce_async(topic, b"1", partition=0)
            for call in (
                lambda: producer.produce_sync(topic, 1),
                lambda: producer.produce_many_sync([]),
                handle.wait,
                producer.flush,
                self.commit,
            ):
                try:
                    call()
                except ConfigError as error:
                    said.add(str(error))
            await handle
            self.discard()

    with running(app):
        until(lambda: len(said) >= 5)
    assert [one.partition(" would block the event loop: ")[0] for one in said.all()[:5]] == [
        *("produce_sync", "produce_many_sync", "Handle.wait", "flush", "commit")
    ]


def test_a_delivery_that_fails_is_raised_where_it_is_awaited(stage: Stage) -> None:
    """And who gives up waiting leaves nothing behind."""
    app, topic, small = stage.app(), stage.topic(), stage.topic(max_message_bytes="1000")
    stage.send(topic, ["1"])
    errors: Notes[BaseException] = Notes()

    @app.topic(topic)
    class Failing(Controller[int]):
        async def perform(self) -> None:
            for timeout in (0, 30):
                try:
                    async with asyncio.timeout(timeout):
                        await self.app.producer.produce_async(small, os.urandom(5_000))
                except (DeliveryError, TimeoutError) as error:
                    errors.add(error)

    with running(app, allow=(DeliveryFailed,)):
        until(lambda: len(errors) == 2)
    assert [type(one) for one in errors] == [TimeoutError, TooLargeError]


@pytest.fixture
def producer(stage: Stage) -> Iterator[Producer]:
    with Producer({"bootstrap.servers": stage.bootstrap}) as made:
        yield made


async def awaited(handle: Handle) -> Delivery:
    return await handle


@asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """How long the loop took from one turn to the next, while the block runs."""
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            gaps.append(time.perf_counter() - began)

    ticker = asyncio.ensure_future(tick())
    try:
        yield gaps
    finally:
        ticker.cancel()


def test_a_great_many_at_once_take_no_threads(stage: Stage, producer: Producer) -> None:
    """Ten thousand, each with its own answer."""
    topic, most = stage.topic(), 0

    async def send(number: int) -> Delivery:
        nonlocal most
        handle = producer.produce_async(topic, str(number), partition=0)
        most = max(most, threading.active_count())
        return await handle

    async def send_all() -> list[Delivery]:
        return await asyncio.gather(*map(send, range(10_000)))

    producer.produce_sync(topic, "first", partition=0)
    before = threading.active_count()
    deliveries = asyncio.run(send_all())

    assert [one.offset for one in deliveries] == list(range(1, 10_001))
    assert most <= before


def test_many_are_awaited_as_one(stage: Stage, producer: Producer) -> None:
    """All deliveries in order, or what became of each."""
    topic, small = stage.topic(), stage.topic(max_message_bytes="1000")

    async def sending() -> None:
        handles = producer.produce_many_async({"topic": topic, "payload": number} for number in range(500))
        assert [one.offset for one in await handles] == list(range(500))
        large = os.urandom(5_000)
        with pytest.raises(PartlyDeliveredError) as found:
            await producer.produce_many_async([{"topic": small, "payload": large}, {"topic": topic, "payload": 1}])
        first, second = found.value.results
        assert isinstance(first, TooLargeError)
        assert second.offset == 500

    asyncio.run(sending())


def test_who_gives_up_leaves_the_others_alone(stage: Stage, producer: Producer) -> None:
    """The message is on its way all the same; a loop that was closed stops nobody."""
    topic = stage.topic()
    handles: list[Handle] = []

    async def impatient() -> None:
        for number in range(10):
            handles.append(producer.produce_async(topic, str(number), partition=0))
            waits = asyncio.ensure_future(awaited(handles[-1]))
            await asyncio.sleep(0)
            if number < 9:
                waits.cancel()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waits, 0)

    for _ in range(3):
        asyncio.run(impatient())

    async def patient() -> list[Delivery]:
        return await asyncio.gather(*map(awaited, handles))

    assert [one.offset for one in asyncio.run(patient())] == list(range(30))


def test_a_full_queue_is_told_at_once_and_the_loop_goes_on() -> None:
    """Whether the broker is there or not: what a thread would wait for, a loop is told."""
    settings = {"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 100, "log_level": 0}

    async def sending(producer: Producer) -> tuple[list[QueueFullError], list[float], list[float]]:
        refused: list[QueueFullError] = []
        took: list[float] = []
        async with ticking() as gaps:
            for number in range(1_000):
                began = time.perf_counter()
                try:
                    producer.produce_async("any", str(number))
                except QueueFullError as error:
                    refused.append(error)
                took.append(time.perf_counter() - began)
                await asyncio.sleep(0)
        await producer.aclose(0.1)
        return refused, took, gaps

    refused, took, gaps = asyncio.run(sending(Producer(settings)))
    assert len(refused) == 900
    assert "await handles of before, then send more" in str(refused[0])
    # A thread waits 60 s, and serves for 0.1 s at a time.
    assert sorted(took)[-3] < 0.05
    assert sorted(gaps)[-3] < 0.05


def test_closing_does_not_block_the_loop() -> None:
    """It may take as long as it was given."""
    settings = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}

    async def sending() -> list[float]:
        async with ticking() as gaps, Producer(settings) as producer:
            handle = producer.produce_async("any", "x")
            waiting = asyncio.ensure_future(awaited(handle))
            await producer.aclose(0.5)
            with pytest.raises(DeliveryError, match="closed"):
                await waiting
        return gaps

    gaps = asyncio.run(sending())
    assert sum(gaps) > 0.4
    assert sorted(gaps)[-3] < 0.05


def test_callbacks_may_wake_a_loop(stage: Stage, producer: Producer) -> None:
    """They run on the polling thread: what is of the loop is done on it."""
    topic = stage.topic()

    async def sending() -> int:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        handle = producer.produce_async(topic, "x")
        handle.add_done_callback(lambda _handle: loop.call_soon_threadsafe(ended.set))
        await ended.wait()
        return handle.result().offset

    assert asyncio.run(sending()) == 0
