"""The bare client, tuned: `consume(500)`, and no second of waiting when its queue was full."""

from __future__ import annotations

import msgspec
from confluent_kafka import Consumer

from bench.loops.report import Stopwatch, Video, task


def main() -> None:
    asked, watch, decode = task(), Stopwatch(), msgspec.json.Decoder(Video).decode
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
            total += decode(value).id
        count += len(messages)
    watch.report(count, total)
    consumer.close()


main()
