"""A producer that delivers nothing: everything is checked and kept, for tests and for development."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from threading import Thread
from time import time
from typing import Any

import pytest

from karafka.delivery import Delivery
from karafka.errors import ConfigError, InvalidMessageError, ProducerClosedError
from karafka.events import Acknowledged, Produced
from karafka.parsers import Text
from karafka.producer import Producer
from karafka.recorder import Recorded


@pytest.fixture(params=["recorder", "deliver=False"])
def producer(request: pytest.FixtureRequest) -> Any:
    """Both ways to it."""
    made = (
        Producer.recorder()
        if request.param == "recorder"
        else Producer({"bootstrap.servers": "nowhere:1"}, deliver=False)
    )
    yield made
    made.close()


def test_what_is_sent_is_recorded_as_it_would_have_gone(producer: Producer) -> None:
    """Bytes, with their place; the label too."""
    moment = datetime(2024, 2, 29, tzinfo=UTC)
    delivery = producer.produce_sync(
        "orders", {"a": 1}, key="ké", headers={"x": "1", "y": None}, partition=2, timestamp=moment, label="l"
    )

    assert producer.recorded == [
        Recorded(
            topic="orders",
            payload=b'{"a":1}',
            key="ké".encode(),
            headers=(("x", b"1"), ("y", None)),
            partition=2,
            offset=0,
            timestamp=moment.timestamp(),
            label="l",
        )
    ]
    assert (delivery.topic, delivery.partition, delivery.offset) == ("orders", 2, 0)


def test_offsets_count_in_each_partition(producer: Producer) -> None:
    """As the broker's do."""
    for topic, partition in (("a", 0), ("a", 1), ("a", 0), ("b", None)):
        producer.produce_sync(topic, b"", partition=partition)

    found = [(one.topic, one.partition, one.offset) for one in producer.recorded]
    assert found == [("a", 0, 0), ("a", 1, 0), ("a", 0, 1), ("b", 0, 0)]


def test_without_a_time_it_is_now(producer: Producer) -> None:
    before = time()
    producer.produce_sync("orders", b"")

    assert before <= producer.recorded[0].timestamp <= time()


@pytest.mark.parametrize("heard", [False, True])
def test_however_it_is_sent(producer: Producer, *, heard: bool) -> None:
    """One, many, later, awaited, listened to: labels and all."""
    if heard:
        producer.events.on(Acknowledged, bool)
    producer.produce_async("orders", "1", label=1).wait()
    producer.produce_many_sync([{"topic": "orders", "payload": "2", "label": 2}])
    producer.buffer("orders", "3", label=3)
    producer.flush_sync()
    producer.tombstone("orders", "k").wait()

    async def sending() -> Delivery:
        return await producer.produce_async("orders", "4", label=4)

    assert asyncio.run(sending()).offset == 4
    found = [(one.payload, one.label) for one in producer.recorded]
    assert found == [(b"1", 1), (b"2", 2), (b"3", 3), (None, None), (b"4", 4)]


@pytest.mark.parametrize(
    "message",
    [
        {"topic": "two words"},
        {"payload": object()},
        {"key": 7},
        {"headers": {"a": 1}},
        {"partition": -1},
        {"timestamp": -1},
        {"payload": "\ud800"},
        {"key": "\ud800"},
    ],
)
def test_what_kafka_would_not_take_it_does_not_take(producer: Producer, message: dict[str, Any]) -> None:
    """A test that sends it must fail, as production would."""
    arguments: Any = {"topic": "orders", "payload": b"", **message}
    with pytest.raises(InvalidMessageError):
        producer.produce_async(**arguments)

    assert producer.recorded == []


def test_parsers_changes_and_listeners_are_as_ever() -> None:
    heard: list[str] = []
    producer = Producer.recorder(
        parser=Text(),
        parsers={"raw": Text("utf-16-le")},
        before_send=[lambda one: replace(one, headers={"by": "me"})],
    )
    producer.events.on(Produced, lambda one: heard.append(type(one).__name__))
    producer.events.on(Acknowledged, lambda one: heard.append(type(one).__name__))
    producer.produce_sync("orders", "a")

    assert producer.recorded[0].headers == (("by", b"me"),)
    assert heard == ["Produced", "Acknowledged"]
    producer.close()


def test_what_is_recorded_may_be_looked_at_after_the_end(producer: Producer) -> None:
    """Nothing more is taken."""
    producer.produce_async("orders", b"1")
    assert producer.close() == 0

    assert [one.payload for one in producer.recorded] == [b"1"]
    with pytest.raises(ProducerClosedError):
        producer.produce_async("orders", b"2")


def test_the_list_is_the_testers_own(producer: Producer) -> None:
    """What comes later is not in it, and to clear it changes nothing."""
    producer.produce_sync("orders", b"1")
    before = producer.recorded
    producer.produce_sync("orders", b"2")

    assert len(before) == 1
    before.clear()
    assert len(producer.recorded) == 2


def test_a_producer_that_delivers_records_nothing() -> None:
    """And says how it would."""
    with pytest.raises(ConfigError, match=r"deliver=False.*Producer.recorder\(\)"):
        _ = Producer({"bootstrap.servers": "a:1"}).recorded


def test_from_threads_at_once_all_is_recorded(producer: Producer) -> None:
    """By the producer and its variants; each has a place of its own, and each handle ends."""
    variant = producer.variant(acks=0)
    ends: list[int] = []

    def send(by: Producer) -> None:
        ends.extend(by.produce_sync("orders", b"", label=number).offset for number in range(200))

    threads = [Thread(target=send, args=(by,)) for by in (producer, variant) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ends) == list(range(1_200))
    assert sorted(one.offset for one in producer.recorded) == list(range(1_200))
