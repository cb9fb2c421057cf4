"""What is buffered leaves when it is flushed, in order, and what did not go stays for the next time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from karafka import DeliveryTimeoutError, PartlyDeliveredError, Producer, QueueFullError, TooLargeError
from karafka.events import BufferFlushed
from tests.specs.run import Stage


@pytest.fixture
def producer(stage: Stage) -> Iterator[Producer]:
    with Producer({"bootstrap.servers": stage.bootstrap, "compression.type": "none"}) as made:
        yield made


def values(stage: Stage, topic: str, count: int) -> list[int]:
    return [int(one.value() or b"-1") for one in stage.read(topic, count)]


def test_nothing_leaves_before_it_is_flushed_then_all_in_order(stage: Stage, producer: Producer) -> None:
    topic = stage.topic()
    for number in range(500):
        producer.buffer(topic, number)
    assert producer.flush(10) == 0
    assert (producer.buffered, stage.end(topic)) == (500, 0)

    assert [one.offset for one in producer.flush_sync(30)] == list(range(500))
    assert values(stage, topic, 500) == list(range(500))
    assert producer.buffered == 0


def test_on_a_loop_it_is_awaited(stage: Stage, producer: Producer) -> None:
    topic = stage.topic()

    async def sending() -> list[int]:
        producer.buffer(topic, 1)
        producer.buffer(topic, 2)
        return [one.offset for one in await producer.flush_async()]

    assert asyncio.run(sending()) == [0, 1]


def test_what_can_never_go_stops_nobody(stage: Stage, producer: Producer) -> None:
    """It is told, and not kept."""
    topic, small = stage.topic(), stage.topic(max_message_bytes="1000")
    producer.buffer(topic, 1)
    producer.buffer(small, "x" * 5_000)
    producer.buffer(topic, 2)

    with pytest.raises(PartlyDeliveredError) as found:
        producer.flush_sync(30)
    assert [isinstance(one, TooLargeError) for one in found.value.results] == [False, True, False]
    assert (producer.buffered, values(stage, topic, 2)) == (0, [1, 2])


def test_what_was_not_confirmed_in_time_is_kept_in_order() -> None:
    """Until it may succeed."""
    settings = {"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 200, "log_level": 0}
    producer = Producer(settings)
    for number in range(3):
        producer.buffer("any", number, label=number)

    for _ in range(2):
        with pytest.raises(PartlyDeliveredError) as found:
            producer.flush_sync()
        assert {type(one) for one in found.value.results} == {DeliveryTimeoutError}
        assert found.value.retriable
        assert [letter.label for letter in producer._buffer] == [0, 1, 2]
    assert producer.close(0.1) == 3


def test_a_queue_that_stays_full_keeps_the_rest() -> None:
    settings = {"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 10, "log_level": 0}
    producer = Producer(settings, max_wait_on_full=0.05)
    told: list[BufferFlushed] = []
    producer.events.on(BufferFlushed, told.append)
    for number in range(25):
        producer.buffer("any", number)

    with pytest.raises(QueueFullError):
        producer.flush_async()
    assert producer.buffered == 15
    assert [letter.value for letter in producer._buffer] == [str(number).encode() for number in range(10, 25)]
    assert [(one.count, one.left) for one in told] == [(10, 15)]
    assert producer.close(0.1) == 25


def test_closing_flushes(stage: Stage) -> None:
    topic = stage.topic()
    with Producer({"bootstrap.servers": stage.bootstrap}) as producer:
        for number in range(100):
            producer.buffer(topic, number)
    assert values(stage, topic, 100) == list(range(100))


def test_threads_that_buffer_and_flush_send_each_message_once(stage: Stage, producer: Producer) -> None:
    """Each thread's own in order, whoever flushes."""
    topic, numbers = stage.topic(), count()

    def work(thread: int) -> None:
        for number in range(50):
            producer.buffer(topic, thread * 1_000 + number)
            if next(numbers) % 7 == 0:
                producer.flush_sync(30)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    producer.flush_sync(30)

    found = values(stage, topic, 400)
    assert stage.end(topic) == 400
    for thread in range(8):
        assert [one % 1_000 for one in found if one // 1_000 == thread] == list(range(50))
