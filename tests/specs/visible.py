"""What readers see of topics that transactions write to: what is committed, and what is written at all."""

from __future__ import annotations

from time import monotonic

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from karafka.confluent import ConfluentTopics
from karafka.errors import BrokerError
from karafka.messages import Place
from tests.brokers import new_group, until

# How long a transaction that nobody ends may stay open before a test is told so.
PATIENCE = 30.0


def decided(bootstrap: str, topic: str, partitions: int = 1, timeout: float = PATIENCE) -> float:
    """Wait until each transaction that wrote to `topic` is committed or aborted: readers see all there is to see.

    A commit is answered before its markers are written. The seconds it took; raises `TimeoutError`.
    """
    began = monotonic()
    reader = _reader(bootstrap, "read_uncommitted")
    admin = ConfluentTopics({"bootstrap.servers": bootstrap, "log_level": 0})
    places = [Place(topic, number) for number in range(partitions)]

    def closed() -> bool:
        try:
            high = {one: reader.get_watermark_offsets(TopicPartition(*one), 10)[1] for one in places}
            return admin.ends(places, 10) == high
        except (KafkaException, BrokerError):
            return False  # a leader is not known yet

    try:
        until(closed, timeout)
    finally:
        reader.close()
    return monotonic() - began


def seen(bootstrap: str, topic: str, partitions: int = 1) -> list[str]:
    """The payloads that are committed, as text: each partition's in order, one after the other."""
    decided(bootstrap, topic, partitions)
    return [_text(one) for one in read(bootstrap, topic, partitions)]


def written(bootstrap: str, topic: str, partitions: int = 1) -> list[str]:
    """The payloads of all that is in the log, whatever became of its transaction."""
    return [_text(one) for one in read(bootstrap, topic, partitions, isolation="read_uncommitted")]


def read(bootstrap: str, topic: str, partitions: int = 1, *, isolation: str = "read_committed") -> list[Message]:
    """All messages that a reader sees now: each partition's in order, one after the other."""
    reader = _reader(bootstrap, isolation)
    found: dict[int, list[Message]] = {number: [] for number in range(partitions)}
    left = set(found)
    by = monotonic() + PATIENCE
    try:
        reader.assign([TopicPartition(topic, number, 0) for number in found])
        while left:
            if monotonic() > by:
                raise TimeoutError(f"{topic}: the ends of {left} were not reached within {PATIENCE:g} s")
            for one in reader.consume(10_000, 0.05):
                error, number = one.error(), one.partition() or 0
                if error is None:
                    found[number].append(one)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(number)
    finally:
        reader.close()
    return [one for messages in found.values() for one in messages]


def committed(bootstrap: str, group: str, topic: str, partitions: int = 1) -> list[int | None]:
    """The offsets that `group` has committed, by partition, once no transaction holds one of them back."""
    admin = ConfluentTopics({"bootstrap.servers": bootstrap, "log_level": 0})
    places = [Place(topic, number) for number in range(partitions)]
    found: list[int | None] = []
    refused: list[BrokerError] = []

    def answered() -> bool:
        try:
            kept = admin.committed(group, places, 10)
        except BrokerError as error:
            if not error.retriable:
                raise
            refused.append(error)
            return False
        found.extend(None if one is None else one.offset for one in map(kept.__getitem__, places))
        return True

    try:
        until(answered, PATIENCE)
    except TimeoutError:
        raise TimeoutError(f"not told within {PATIENCE:g} s what {group} has committed: {refused[-1]}") from None
    return found


def _reader(bootstrap: str, isolation: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": new_group(),
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
            "log_level": 0,
        }
    )


def _text(one: Message) -> str:
    return (one.value() or b"").decode()
