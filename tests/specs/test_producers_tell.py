"""A producer tells of each message: accepted, confirmed or failed, how large, how long, with the sender's label."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

from karafka import DeliveryError, Producer
from karafka.events import (
    Acknowledged,
    DeliveryFailed,
    Event,
    Events,
    Produced,
    ProducerTroubled,
    QueueFull,
)
from tests.brokers import until as until_true
from tests.specs.run import Notes, Stage, until


def listening() -> tuple[Events, Notes[Event]]:
    events, told = Events(), Notes[Event]()
    events.on(Event, told.add)
    return events, told


def test_each_message_is_accepted_once_and_confirmed_once(stage: Stage) -> None:
    """Where it is, as its delivery has it."""
    topic = stage.topic(2)
    events, told = listening()
    with Producer({"bootstrap.servers": stage.bootstrap}, events=events) as producer:
        handles = [
            producer.produce_async(topic, "é" * number, key=str(number), headers={"ab": b"cd"}, label=number)
            for number in range(100)
        ]
        deliveries = [handle.wait(30) for handle in handles]

    produced = [one for one in told if isinstance(one, Produced)]
    confirmed = {one.label: one for one in told if isinstance(one, Acknowledged)}
    sizes = [2 * number + len(str(number)) + 4 for number in range(100)]
    assert [(one.topic, one.key, one.size, one.label) for one in produced] == [
        (topic, str(number), sizes[number], number) for number in range(100)
    ]
    assert Counter(type(one) for one in told) == {Produced: 100, Acknowledged: 100}
    for number, delivery in enumerate(deliveries):
        one = confirmed[number]
        assert (one.topic, one.partition, one.offset) == (topic, delivery.partition, delivery.offset)
        assert (one.key, one.size) == (str(number), sizes[number])
        assert one.latency == delivery.latency > 0


def test_what_fails_is_told_whether_somebody_waits_or_not(stage: Stage) -> None:
    """With the kind of error, Kafka's name for it, and whether to try again."""
    topic, events, told = stage.topic(max_message_bytes="1000"), *listening()
    with Producer({"bootstrap.servers": stage.bootstrap, "compression.type": "none"}, events=events) as producer:
        producer.produce_async(topic, "x" * 5_000, label="unheard")
        with pytest.raises(DeliveryError):
            producer.produce_async(topic, "x" * 5_000, label="waited for").wait(30)
        until(lambda: sum(isinstance(one, DeliveryFailed) for one in told) == 2)

    failed = [one for one in told if isinstance(one, DeliveryFailed)]
    assert {one.label for one in failed} == {"unheard", "waited for"}
    assert {(one.kind, one.code, one.retriable) for one in failed} == {("TooLargeError", "MSG_SIZE_TOO_LARGE", False)}
    assert not any(isinstance(one, Acknowledged) for one in told)


def test_what_fails_and_nobody_hears_of_is_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Not each, but how many; never what somebody waits for."""
    settings = {"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 300, "log_level": 0}
    with caplog.at_level(logging.ERROR, "karafka.producer"), Producer(settings) as producer:
        with pytest.raises(DeliveryError):
            producer.produce_sync("waited-for", "x")
        for number in range(50):
            producer.produce_async("any", str(number), key=str(number))
        until_true(lambda: producer.statistics().failed == 51)
        until_true(lambda: bool(caplog.records))

    said = [one.getMessage() for one in caplog.records if one.name == "karafka.producer"]
    assert sum(int(one.partition(" message")[0].replace("a", "1")) for one in said) == 50
    assert all(
        "to 'any' not delivered, and nobody waits to hear of it: Local: Message timed out" in one for one in said
    )
    assert len(said) < 10


def test_a_full_queue_and_a_troubled_client_are_told() -> None:
    settings = {"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 5, "log_level": 0}
    events, told = listening()
    producer = Producer(settings, events=events, max_wait_on_full=0.05)
    handles = [producer.produce_async("any", "x", label=number) for number in range(5)]
    with pytest.raises(DeliveryError):
        producer.produce_async("any", "x", label="refused")
    until(lambda: any(isinstance(one, ProducerTroubled) for one in told))
    assert producer.close(0.0) == 5

    assert [(one.topic, one.waiting >= 5) for one in told if isinstance(one, QueueFull)] == [("any", True)]
    assert [one.label for one in told if isinstance(one, Produced)] == list(range(5))
    troubles = {one.code for one in told if isinstance(one, ProducerTroubled)}
    assert troubles & {"_TRANSPORT", "_ALL_BROKERS_DOWN"}
    failed = {one.label: one for one in told if isinstance(one, DeliveryFailed)}
    assert failed.keys() == set(range(5))
    assert {one.kind for one in failed.values()} == {"ProducerClosedError"}
    assert all(handle.done for handle in handles)


def test_labels_come_back_by_every_way(stage: Stage) -> None:
    """Also what a loop awaits, what was buffered, and what a variant sent."""
    topic, events, told = stage.topic(), *listening()

    async def sending(producer: Producer) -> None:
        await producer.produce_async(topic, "x", label="awaited")
        async with Producer({"bootstrap.servers": stage.bootstrap}, events=events) as other:
            await other.produce_many_async([{"topic": topic, "payload": "x", "label": "many"}])

    with Producer({"bootstrap.servers": stage.bootstrap}, events=events) as producer:
        asyncio.run(sending(producer))
        producer.buffer(topic, "x", label="buffered")
        producer.flush_sync(30)
        producer.variant(acks=1).produce_sync(topic, "x", label="variant")

    confirmed = [one.label for one in told if isinstance(one, Acknowledged)]
    assert confirmed == ["awaited", "many", "buffered", "variant"]
