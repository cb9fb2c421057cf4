"""What sending promises: keys find their partition as in Kafka's own client, and bytes arrive as they were."""

from __future__ import annotations

import time

import pytest

from karafka import ConfigError, DeliveryError, Producer
from karafka.confluent import ConfluentSender
from karafka.delivery import Handle
from karafka.errors import BrokerError
from karafka.messages import Place
from tests.brokers import new_group
from tests.contract.member import Broker, Member

# Kafka's own: org.apache.kafka.common.utils.UtilsTest.testMurmur2.
MURMUR2 = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize("key", MURMUR2)
def test_keys_go_where_kafkas_own_client_puts_them(broker: Broker, key: str) -> None:
    topic = broker.topic(4)
    with Producer({"bootstrap.servers": broker.bootstrap}) as producer:
        delivery = producer.produce_sync(topic, b"x", key=key)
    assert delivery.partition == (MURMUR2[key] & 0x7FFFFFFF) % 4


def test_bytes_come_back_as_they_were(broker: Broker) -> None:
    """Payload, key and headers: null, empty and what is no text."""
    topic = broker.topic()
    headers: list[tuple[str, bytes | None]] = [
        ("text", b"t"),
        ("null", None),
        ("empty", b""),
        ("raw", b"\xff\xfe\x00"),
        ("twice", b"1"),
        ("twice", b"2"),
    ]
    cases: list[tuple[bytes | None, bytes | None]] = [
        (b"payload", b"key"),
        (None, b"key"),
        (b"payload", None),
        (None, None),
        (b"", b""),
        (b"\xff\x00", b"\x00\xff"),
    ]
    with Producer({"bootstrap.servers": broker.bootstrap}) as producer:
        for payload, key in cases:
            producer.produce_sync(topic, payload, key=key, headers=headers, partition=0)
    with Member(broker, topic) as member:
        member.until(lambda: member.count() == len(cases))
        records = member.received[Place(topic, 0)]
    assert [(record.value(), record.key()) for record in records] == cases
    assert all(record.headers() == headers for record in records)


def test_a_timestamp_is_kept_and_now_by_default(broker: Broker) -> None:
    topic = broker.topic()
    before = time.time() - 3_600  # older than retention, and the broker deletes it at its next round
    with Producer({"bootstrap.servers": broker.bootstrap}) as producer:
        producer.produce_sync(topic, b"x", partition=0, timestamp=before)
        producer.produce_sync(topic, b"x", partition=0)
    with Member(broker, topic) as member:
        member.until(lambda: member.count() == 2)
        told, now = (record.timestamp()[1] / 1_000 for record in member.received[Place(topic, 0)])
    assert told == pytest.approx(before, abs=0.001)
    assert now > before + 3_000


def test_a_partition_that_is_not_there_is_reported(real: Broker) -> None:
    topic = real.topic()
    with Producer({"bootstrap.servers": real.bootstrap}) as producer, pytest.raises(DeliveryError, match=topic):
        producer.produce_sync(topic, b"x", partition=7)


def test_a_payload_too_large_is_refused_at_once(broker: Broker) -> None:
    topic = broker.topic()
    sender = ConfluentSender({"bootstrap.servers": broker.bootstrap, "message.max.bytes": 2_000})
    with pytest.raises(BrokerError) as refused:
        sender.send(topic, b"x" * 5_000, None, (), None, None, Handle(topic).report)
    assert not refused.value.retriable


def test_a_full_queue_is_a_buffer_error_and_loses_nothing(broker: Broker) -> None:
    topic = broker.topic()
    sender = ConfluentSender(
        {"bootstrap.servers": broker.bootstrap, "queue.buffering.max.messages": 10, "linger.ms": 1_000}
    )
    handles = [Handle(topic) for _ in range(11)]
    for handle in handles[:10]:
        sender.send(topic, b"x", None, (), 0, None, handle.report)
    assert sender.waiting() == 10
    with pytest.raises(BufferError):
        sender.send(topic, b"x", None, (), 0, None, handles[10].report)
    assert sender.flush(10) == 0
    assert all(handle.done for handle in handles[:10])
    assert [handle.result().offset for handle in handles[:10]] == list(range(10))
    assert not handles[10].done


def test_a_broker_that_never_answers_is_a_failed_delivery() -> None:
    settings = {"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 300}
    with Producer(settings) as producer, pytest.raises(DeliveryError):
        producer.produce_sync(new_group(), b"x")


def test_a_setting_that_the_client_refuses_is_a_sentence() -> None:
    with pytest.raises(ConfigError) as refused, Producer({"bootstrap.servers": "x", "lingering": 5}) as producer:
        producer.produce_sync("topic", b"x")
    assert "lingering" in str(refused.value)
    assert "\n" not in str(refused.value)
