"""A producer confirms what it sends, one by one or many, from threads and from asyncio, without an app."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from karafka import ConfigError, Controller, Delivery, DeliveryError, Producer
from tests.specs.run import Notes, Stage, running, until


@dataclass
class Video:
    id: int
    title: str


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
