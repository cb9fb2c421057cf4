"""Sends stamped messages at a steady rate: `sender BOOTSTRAP TOPIC GROUP RATE COUNT`, the answer in JSON.

It begins once `group` has a member that owns the topic. The n-th message is due n/RATE seconds after the first, however
late those before it were: a sender that falls behind does not slow down what it measures.
"""

from __future__ import annotations

import json
import sys
import time

from confluent_kafka import ConsumerGroupState, Producer
from confluent_kafka.admin import AdminClient

bootstrap, topic, group, rate, count = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5])


def owned() -> bool:
    """Whether a member of the group has partitions."""
    found = admin.describe_consumer_groups([group])[group].result()
    members = [one for one in found.members if one.assignment.topic_partitions]
    return found.state is ConsumerGroupState.STABLE and bool(members)


admin, until = AdminClient({"bootstrap.servers": bootstrap}), time.monotonic() + 30
while not owned():
    if time.monotonic() > until:
        raise SystemExit(f"nobody takes part in {group} within 30 s")
    time.sleep(0.1)

producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "acks": "all"})
began, late = time.monotonic(), 0.0
for number in range(count):
    early = began + number / rate - time.monotonic()
    if early > 0:
        time.sleep(early)
    late = max(late, -early)
    producer.produce(topic, b'{"id":%d,"sent":%d}' % (number, time.time_ns()), partition=0)
    producer.poll(0)
if left := producer.flush(30):
    raise SystemExit(f"{left} of {count} were not sent")
print(json.dumps({"count": count, "late": late}))
