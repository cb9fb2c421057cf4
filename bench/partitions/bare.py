"""The client alone: `bare BOOTSTRAP TOPIC GROUP PARTITIONS RECORDS`, the answer in JSON, as `member` gives it."""

from __future__ import annotations

import json
import sys
import time

from confluent_kafka import Consumer, TopicPartition

# Seconds for which it is watched while nothing comes.
IDLE = 5.0

bootstrap, topic, group, partitions, records = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
owned = 0


def assigned(_consumer: Consumer, places: list[TopicPartition]) -> None:
    global owned
    owned += len(places)


consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "fetch.queue.backoff.ms": 10,
        "fetch.wait.max.ms": 50,
    }
)
consumer.subscribe([topic], on_assign=assigned)
cpu, began, count, total = time.process_time(), 0.0, 0, 0
while owned < partitions or count < records:
    for message in consumer.consume(500, 0.1):
        value = message.value()
        if value is None:
            raise SystemExit(f"no value: {message.error()}")
        began = began or time.perf_counter()
        total += int(value)
        count += 1
wall, cpu = time.perf_counter() - began, time.process_time() - cpu
until = time.monotonic() + 3
while time.monotonic() < until:
    consumer.consume(500, 0.1)
until, before = time.monotonic() + IDLE, time.process_time()
while time.monotonic() < until:
    consumer.consume(500, 0.1)
idle = (time.process_time() - before) / IDLE
consumer.close()
print(json.dumps({"count": count, "total": total, "wall": wall, "cpu": cpu, "idle": idle, "memory": 0}))
