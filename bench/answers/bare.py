"""The client alone: a batch is consumed, each message answered, all confirmed, then committed; `bare SIZE …`.

Its producer has karafka's settings, its consumer those of `bench.loops.consume`.
"""

from __future__ import annotations

import sys

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, Producer

from bench.answers.account import ANSWERED, task
from bench.loops.report import Stopwatch, Video
from karafka.sender import defaults


def main() -> None:
    size, asked, watch = int(sys.argv[1]), task(), Stopwatch()
    decode, encode = msgspec.json.Decoder(Video).decode, msgspec.json.encode
    failed: list[KafkaError] = []

    def told(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer(defaults({"bootstrap.servers": asked.bootstrap}))
    producer.produce(asked.target, ANSWERED)
    producer.flush()
    consumer = Consumer(
        {
            "bootstrap.servers": asked.bootstrap,
            "group.id": asked.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 10,
        }
    )
    consumer.subscribe([asked.source])
    count = total = 0
    messages: list[Message] = []
    while count < asked.records:
        messages = consumer.consume(size, 0.2)
        if messages and not count:
            watch.start()
        for message in messages:
            if error := message.error():
                raise SystemExit(str(error))
            value = message.value()
            assert value is not None
            number = decode(value).id
            total += number
            producer.produce(asked.target, encode({"id": number}), on_delivery=told)
        if producer.flush() or failed:
            raise SystemExit(f"not confirmed: {failed[:3]}")
        count += len(messages)
        if messages:
            consumer.commit(message=messages[-1])
    consumer.commit(message=messages[-1], asynchronous=False)
    watch.report(count, total)
    consumer.close()


main()
