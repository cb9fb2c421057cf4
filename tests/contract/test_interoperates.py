"""What is sent is for every program on Kafka to read, and keys are where all others look for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiokafka.record._crecords.default_records as codecs
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from karafka import Producer
from karafka.messages import Place, Record
from tests.contract import console
from tests.contract.console import Shown
from tests.contract.member import Broker, Member

PARTITIONS = 4
KEYS = ["", "a", "21", "foobar", "été", "Ключ", "🗝", *(f"user-{number}" for number in range(20)), "long" * 500]
# Null, empty, text, what is no text, and a line's end, as payload and key each.
PARTS: list[tuple[bytes | None, bytes | None]] = [
    (b"payload", b"key"),
    (None, b"deleted"),
    (b"no key", None),
    (None, None),
    (b"", b""),
    ("naïve 🐘".encode(), "clé".encode()),
    (b"\xff\x00\xfe\n", b"\x80\x00\r"),
]
HEADERS: list[tuple[str, bytes | None]] = [
    ("text", b"t"),
    ("null", None),
    ("empty", b""),
    ("raw", b"\xff\xfe\x00"),
    ("twice", b"1"),
    ("twice", b"2"),
    ("été", "é".encode()),
]
# And what takes room, so that compression has something to do.
ROWS = [
    *((f"key {number}".encode(), b"the same again " * 20 + str(number).encode()) for number in range(300)),
    *((key, payload) for payload, key in PARTS),
]
# The other library sends nothing that has neither.
THEIRS = [row for row in ROWS if row != (None, None)]
COMPRESSIONS = ["none", "gzip", "snappy", "lz4", "zstd"]


def read(broker: Broker, topic: str, count: int) -> list[Record]:
    """The first `count` messages of a topic, by karafka's own consumer: by partition, in order within each."""
    with Member(broker, topic) as member:
        member.until(lambda: member.count() == count)
        return [one for partition in range(PARTITIONS) for one in member.received.get(Place(topic, partition), [])]


# ── Kafka's own programs ─────────────────────────────────────────────────────────────────────────────────────────


def test_kafkas_console_consumer_reads_what_was_sent(real: Broker) -> None:
    """Payloads, keys and headers: null, empty, no text; headers in their order, of one name twice."""
    topic = real.topic(PARTITIONS)
    with Producer({"bootstrap.servers": real.bootstrap}) as producer:
        for at, (payload, key) in enumerate(PARTS):
            producer.produce_sync(topic, payload, key=key, headers=HEADERS if at % 2 else None, partition=2)

    shown = console.consume(real.bootstrap, topic, len(PARTS))

    assert shown == [Shown(2, at, HEADERS if at % 2 else [], key, payload) for at, (payload, key) in enumerate(PARTS)]


def test_what_kafkas_console_producer_sent_is_read(real: Broker) -> None:
    topic = real.topic(PARTITIONS)
    sent = [("key", "payload"), ("deleted", None), (None, "no key"), (None, None), ("", ""), ("clé", "naïve 🐘")]
    pairs = [("text", "t"), ("null", console.NULL), ("empty", ""), ("twice", "1"), ("twice", "2"), ("été", "é")]
    headers = console.PAIR.join(f"{name}{console.NAME}{value}" for name, value in pairs)

    console.produce(real.bootstrap, topic, sent, headers)

    records = read(real, topic, len(sent))
    assert {(record.key(), record.value()) for record in records} == {
        (None if key is None else key.encode(), None if payload is None else payload.encode()) for key, payload in sent
    }
    told = [(name, None if value == console.NULL else value.encode()) for name, value in pairs]
    assert all(record.headers() == told for record in records)


def test_keys_are_where_kafkas_console_producer_puts_them(real: Broker) -> None:
    """Of two programs that send to one topic each key has one partition."""
    topic = real.topic(PARTITIONS)
    with Producer({"bootstrap.servers": real.bootstrap}) as producer:
        ours = {
            key: producer.produce_async(topic, "ours", key=key if at % 2 else key.encode())
            for at, key in enumerate(KEYS)
        }
        put = {key.encode(): handle.wait(30).partition for key, handle in ours.items()}
    console.produce(real.bootstrap, topic, [(key, "theirs") for key in KEYS])

    records = read(real, topic, 2 * len(KEYS))

    theirs = {record.key(): record.partition() for record in records if record.value() == b"theirs"}
    assert theirs == put
    assert set(put.values()) == set(range(PARTITIONS))


# ── another library ──────────────────────────────────────────────────────────────────────────────────────────────


class Coded:
    """How often the other library packed and unpacked a batch, by what it calls for that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: set[str] = set()
        for compression in COMPRESSIONS[1:]:
            for way in ("encode", "decode"):
                self._watch(monkeypatch, f"{compression}_{way}")

    def _watch(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        real: Callable[..., Any] = getattr(codecs, name)

        def watched(*arguments: Any) -> Any:
            self.done.add(name)
            return real(*arguments)

        monkeypatch.setattr(codecs, name, watched)


@pytest.fixture
def coded(monkeypatch: pytest.MonkeyPatch) -> Coded:
    return Coded(monkeypatch)


async def read_by_another(broker: Broker, topic: str, count: int) -> list[Any]:
    """The first `count` messages of a topic, by aiokafka."""
    async with (
        asyncio.timeout(60),
        AIOKafkaConsumer(topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest") as reader,
    ):
        return [await anext(reader) for _ in range(count)]


async def send_by_another(broker: Broker, topic: str, compression: str) -> None:
    packs = None if compression == "none" else compression
    async with (
        asyncio.timeout(60),
        AIOKafkaProducer(bootstrap_servers=broker.bootstrap, compression_type=packs, linger_ms=50) as producer,
    ):
        sent = [await producer.send(topic, payload, key=key, headers=HEADERS) for key, payload in THEIRS]
        await asyncio.gather(*sent)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_another_library_reads_what_was_sent(real: Broker, coded: Coded, compression: str) -> None:
    topic = real.topic()
    settings = {"bootstrap.servers": real.bootstrap, "compression.type": compression, "linger.ms": 50}
    with Producer(settings) as producer:
        producer.produce_many_sync(
            {"topic": topic, "payload": payload, "key": key, "headers": HEADERS} for key, payload in ROWS
        )

    records = asyncio.run(read_by_another(real, topic, len(ROWS)))

    assert [(one.key, one.value) for one in records] == ROWS
    assert all(list(one.headers) == HEADERS for one in records)
    assert coded.done == (set() if compression == "none" else {f"{compression}_decode"})


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_another_library_sent_is_read(real: Broker, coded: Coded, compression: str) -> None:
    topic = real.topic()
    asyncio.run(send_by_another(real, topic, compression))

    records = read(real, topic, len(THEIRS))

    assert [(one.key(), one.value()) for one in records] == THEIRS
    assert all(one.headers() == HEADERS for one in records)
    assert coded.done == (set() if compression == "none" else {f"{compression}_encode"})


def test_keys_are_where_another_library_puts_them(real: Broker) -> None:
    topic = real.topic(PARTITIONS)
    with Producer({"bootstrap.servers": real.bootstrap}) as producer:
        ours = {key: producer.produce_async(topic, "ours", key=key) for key in KEYS}
        put = {key: handle.wait(30).partition for key, handle in ours.items()}

    async def send() -> dict[str, int]:
        async with asyncio.timeout(60), AIOKafkaProducer(bootstrap_servers=real.bootstrap) as other:
            return {key: (await other.send_and_wait(topic, b"theirs", key=key.encode())).partition for key in KEYS}

    assert asyncio.run(send()) == put
