"""The bare client as in its own examples: one `poll` for each message."""

from __future__ import annotations

import msgspec
from confluent_kafka import Consumer

from bench.loops.report import Stopwatch, Video, task


def main() -> None:
    asked, watch, decode = task(), Stopwatch(), msgspec.json.Decoder(Video).decode
    consumer = Consumer(
        {"bootstrap.servers": asked.bootstrap, "group.id": asked.group, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([asked.topic])
    count = total = 0
    while count < asked.records:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if error := message.error():
            raise SystemExit(str(error))
        if not count:
            watch.start()
        value = message.value()
        assert value is not None
        total += decode(value).id
        count += 1
    watch.report(count, total)
    consumer.close()


main()
