"""The bare client, tuned, as `consume`; JSON by the same decoder, but to dicts."""

from __future__ import annotations

import msgspec
from confluent_kafka import Consumer

from bench.loops.report import Stopwatch, task


def main() -> None:
    asked, watch, decode = task(), Stopwatch(), msgspec.json.Decoder().decode
    consumer = Consumer(
        {
            "bootstrap.servers": asked.bootstrap,
            "group.id": asked.group,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 10,
        }
    )
    consumer.subscribe([asked.topic])
    count = total = 0
    while count < asked.records:
        messages = consumer.consume(500, 0.2)
        if messages and not count:
            watch.start()
        for message in messages:
            if error := message.error():
                raise SystemExit(str(error))
            value = message.value()
            assert value is not None
            total += decode(value)["id"]
        count += len(messages)
    watch.report(count, total)
    consumer.close()


main()
