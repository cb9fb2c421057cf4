"""What sending promises: keys find their partition as in Kafka's own client, and bytes arrive as they were.

And what `karafka.sender` makes of the client: when a message has ended, how many have not, who has to act.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from karafka import ConfigError, DeliveryTimeoutError, Producer, TooLargeError, UnknownTopicError
from karafka.client import Effect, Refused, Trouble
from karafka.delivery import Failure, Fault, Receipt
from karafka.errors import InvalidMessageError
from karafka.letters import Letter
from karafka.messages import Place
from karafka.sender import ConfluentSender
from tests.brokers import new_group, until
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


def test_text_is_utf8_whatever_is_in_it(broker: Broker) -> None:
    """Null characters too; what is no text at all is refused, as it is sent."""
    topic, text = broker.topic(), "é\0\U0001f600"
    with Producer({"bootstrap.servers": broker.bootstrap}) as producer:
        producer.produce_sync(topic, text, key=text, headers={"é\U0001f600": text, "": text}, partition=0)
        for message in ({"payload": "\ud800"}, {"payload": b"", "key": "\ud800"}):
            with pytest.raises(InvalidMessageError, match="no UTF-8"):
                producer.produce_async(topic, **message)
    with Member(broker, topic) as member:
        member.until(lambda: member.count() == 1)
        (record,) = member.received[Place(topic, 0)]
    assert (record.value(), record.key()) == (text.encode(), text.encode())
    assert record.headers() == [("é\U0001f600", text.encode()), ("", text.encode())]


def test_the_largest_numbers_that_are_taken_are_no_surprise(real: Broker) -> None:
    """A partition and a time that Kafka cannot have are refused, here or by the broker, as messages that cannot be."""
    topic = real.topic()
    with Producer({"bootstrap.servers": real.bootstrap}) as producer:
        with pytest.raises(UnknownTopicError):
            producer.produce_sync(topic, b"x", partition=2**31 - 1)
        with pytest.raises(InvalidMessageError):
            producer.produce_sync(topic, b"x", timestamp=9e15)


def test_a_partition_that_is_not_there_is_reported(real: Broker) -> None:
    """At once where the client knows the topic, else by the delivery."""
    topic = real.topic()
    with Producer({"bootstrap.servers": real.bootstrap}) as producer:
        for _ in range(2):
            with pytest.raises(UnknownTopicError, match=topic) as refused:
                producer.produce_sync(topic, b"x", partition=7)
            assert not refused.value.retriable
            producer.produce_sync(topic, b"x", partition=0)


def test_what_the_topic_does_not_take_is_too_large(real: Broker) -> None:
    """The client takes it, the broker does not."""
    topic = real.topic(config={"max.message.bytes": "2000"})
    settings = {"bootstrap.servers": real.bootstrap, "compression.type": "none"}
    with Producer(settings) as producer, pytest.raises(TooLargeError, match="MSG_SIZE_TOO_LARGE"):
        producer.produce_sync(topic, b"x" * 50_000)


class Sent:
    """One message's end, as the client tells of it."""

    def __init__(self, sender: ConfluentSender, topic: str, value: bytes = b"x") -> None:
        self.ends: list[tuple[Failure | None, int | None]] = []
        self.latency: float | None = None
        self._sender = sender
        sender.send(Letter(topic, value, None, None, 0), self.told)

    def told(self, error: Any, receipt: Receipt) -> None:
        offset = receipt.offset() if error is None else None
        self.latency = receipt.latency()
        self.ends.append((None if offset is not None else self._sender.judge(error), offset))


def serve_until(sender: ConfluentSender, true: Callable[[], object]) -> None:
    def served() -> bool:
        sender.serve(0.1)
        return bool(true())

    until(served)


class TestSender:
    """The port, over the client itself."""

    @pytest.fixture
    def sender(self, broker: Broker) -> Iterator[ConfluentSender]:
        made = ConfluentSender(
            {"bootstrap.servers": broker.bootstrap, "queue.buffering.max.messages": 10, "linger.ms": 60_000}
        )
        yield made
        made.close()

    @pytest.fixture
    def nowhere(self) -> Iterator[ConfluentSender]:
        """Its broker is not there."""
        made = ConfluentSender({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
        yield made
        made.close()

    def test_each_is_told_of_once_and_only_while_it_is_served(self, broker: Broker, sender: ConfluentSender) -> None:
        """On the thread that serves; to hasten does not wait for those that linger."""
        topic = broker.topic()
        sent = [Sent(sender, topic) for _ in range(5)]
        sender.serve(0)
        assert [one.ends for one in sent] == [[]] * 5
        sender.hasten(30)

        assert [one.ends for one in sent] == [[(None, offset)] for offset in range(5)]
        assert all(one.latency is not None and 0 < one.latency < 30 for one in sent)
        assert sender.waiting() == 0

    def test_a_full_queue_is_a_buffer_error_and_loses_nothing(self, broker: Broker, sender: ConfluentSender) -> None:
        topic = broker.topic()
        sent = [Sent(sender, topic) for _ in range(10)]
        assert sender.waiting() == 10
        with pytest.raises(BufferError):
            Sent(sender, topic)
        sender.hasten(30)

        assert [one.ends for one in sent] == [[(None, offset)] for offset in range(10)]
        assert Sent(sender, topic).ends == []

    def test_what_is_larger_than_the_client_takes_is_refused_at_once(
        self, broker: Broker, sender: ConfluentSender
    ) -> None:
        with pytest.raises(Refused) as refused:
            Sent(sender, broker.topic(), b"x" * 1_000_001)

        assert refused.value.failure.fault is Fault.TOO_LARGE
        assert not refused.value.failure.retriable
        assert sender.waiting() == 0

    def test_what_is_given_up_fails_with_the_reason_given(self, nowhere: ConfluentSender) -> None:
        """Soon, and as many as were on their way."""
        given_up = Failure(Fault.PURGED, "", "enough", retriable=False)
        sent = [Sent(nowhere, "any") for _ in range(5)]
        nowhere.purge(given_up)
        serve_until(nowhere, lambda: not nowhere.waiting())

        assert [one.ends for one in sent] == [[(given_up, None)]] * 5

    def test_brokers_that_are_not_there_are_news(self, nowhere: ConfluentSender) -> None:
        """No end: they may come."""
        Sent(nowhere, "any")
        said: list[Trouble] = []

        def heard() -> bool:
            said.extend(nowhere.news())
            return len(said) > 1

        serve_until(nowhere, heard)
        assert {one.effect for one in said} == {Effect.NEWS}
        assert {one.code for one in said} >= {"_TRANSPORT"}

    def test_without_acknowledgements_a_message_is_delivered_without_an_offset(self, broker: Broker) -> None:
        sender = ConfluentSender({"bootstrap.servers": broker.bootstrap, "acks": 0})
        sent = Sent(sender, broker.topic())
        sender.hasten(30)

        ((failure, offset),) = sent.ends
        assert failure is None
        assert offset in {None, -1}

    def test_statistics_are_the_clients_own(self, broker: Broker) -> None:
        """Where they are asked for."""
        sender = ConfluentSender({"bootstrap.servers": broker.bootstrap, "statistics.interval.ms": 50})
        assert sender.statistics() == ""
        serve_until(sender, sender.statistics)

        assert '"msg_cnt"' in sender.statistics()

    def test_who_has_let_the_client_go_has_let_go_of_all(self, broker: Broker, sender: ConfluentSender) -> None:
        """It takes nothing more."""
        sender.close()
        with pytest.raises(Refused):
            Sent(sender, broker.topic())
        assert sender.waiting() == 0


def test_without_acknowledgements_the_offset_is_minus_one(real: Broker) -> None:
    with Producer({"bootstrap.servers": real.bootstrap, "acks": 0}) as producer:
        assert producer.produce_sync(real.topic(), b"x").offset == -1


def test_a_broker_that_never_answers_is_a_failed_delivery() -> None:
    """With the client's word for why."""
    settings = {"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 300, "log_level": 0}
    with Producer(settings) as producer, pytest.raises(DeliveryTimeoutError) as failed:
        producer.produce_sync(new_group(), b"x")
    assert "the client's last word: " in str(failed.value)
    assert "Connection refused" in str(failed.value)
    assert failed.value.retriable


def test_a_setting_that_the_client_refuses_is_a_sentence() -> None:
    with pytest.raises(ConfigError) as refused:
        Producer({"bootstrap.servers": "x", "lingering": 5})
    assert "lingering" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_clients_own_statistics_and_troubles_reach_the_user(broker: Broker) -> None:
    """Who gives callbacks of his own has them called, beside what a producer hears."""
    heard: list[str] = []
    settings = {"bootstrap.servers": broker.bootstrap, "statistics.interval.ms": 50, "stats_cb": heard.append}
    with Producer(settings) as producer:
        producer.produce_sync(broker.topic(), b"x")
        until(lambda: bool(heard))
    assert '"msg_cnt"' in heard[0]


def test_a_users_callback_that_raises_stops_nobody(broker: Broker) -> None:
    """The client passes it on to whoever serves: neither the polling thread nor who waits ends by it."""
    called: list[str] = []

    def stats_cb(text: str) -> None:
        called.append(text)
        raise ZeroDivisionError

    async def awaiting(producer: Producer) -> int:
        return (await asyncio.wait_for(producer.produce_many_async([{"topic": topic, "payload": b"x"}]), 30))[0].offset

    topic = broker.topic()
    with Producer({"bootstrap.servers": broker.bootstrap, "statistics.interval.ms": 20, "stats_cb": stats_cb}) as one:
        for _ in range(20):
            one.produce_sync(topic, b"x", timeout=30)
        until(lambda: len(called) > 3)
        assert asyncio.run(awaiting(one)) >= 0
        assert one.flush(30) == 0
