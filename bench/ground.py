"""What benches stand on: a broker, filled topics, runs in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from karafka.devbroker import Kafka


@contextmanager
def broker(given: str | None) -> Iterator[str]:
    """The address of the broker that was `given`, else of a Kafka of its own."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder, Kafka(Path(folder)) as kafka:
        yield kafka.bootstrap


def filled(bootstrap: str, partitions: int, messages: Iterable[tuple[int, bytes | None, bytes]]) -> str:
    """A new topic with `messages`: partition, key, value; in their order."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})  # it lives for as long as it is named
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "queue.buffering.max.messages": 2_000_000}
    )
    for partition, key, value in messages:
        producer.produce(topic, value, key=key, partition=partition)
    if left := producer.flush(120):
        raise SystemExit(f"filling failed: {left} are left")
    return topic


def answered(module: str, *arguments: str, timeout: float = 600, python: str = sys.executable) -> dict[str, float]:
    """What the process `python -m module arguments` says in its last line, in JSON. Ends the bench when it fails."""
    command = [python, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)} ended with status {done.returncode}:\n{done.stderr}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def uncommitted(bootstrap: str, topic: str, group: str, partitions: int) -> dict[int, int]:
    """Of each partition that `group` has not committed up to its end: how far it has."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    kept = {one.partition: max(0, one.offset) for one in consumer.committed(places, 30)}
    left = {at: kept[at] for at in kept if kept[at] != consumer.get_watermark_offsets(places[at], 10)[1]}
    consumer.close()
    return left
