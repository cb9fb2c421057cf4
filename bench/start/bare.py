"""The same with the client alone, as in its examples: subscribe, poll, until TERM."""

from __future__ import annotations

import os
import signal
from threading import Event

from confluent_kafka import Consumer

from bench.start.moments import tell

tell("imported")
stopped = Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
consumer = Consumer(
    {
        "bootstrap.servers": os.environ["BENCH_BOOTSTRAP"],
        "group.id": os.environ["BENCH_GROUP"],
        "auto.offset.reset": "earliest",
    }
)
consumer.subscribe([os.environ["BENCH_TOPIC"]], on_assign=lambda *_: tell("assigned"))
while not stopped.is_set():
    message = consumer.poll(1.0)
    if message is None:
        continue
    if error := message.error():
        raise SystemExit(str(error))
    tell("performed", int(message.value() or b""))
consumer.close()
