"""aiokafka: `getmany`, the faster of its two ways; JSON by the same decoder as everybody's."""

from __future__ import annotations

import asyncio

import msgspec
from aiokafka import AIOKafkaConsumer

from bench.loops.report import Stopwatch, Video, task


async def main() -> None:
    asked, watch, decode = task(), Stopwatch(), msgspec.json.Decoder(Video).decode
    consumer = AIOKafkaConsumer(
        asked.topic, bootstrap_servers=asked.bootstrap, group_id=asked.group, auto_offset_reset="earliest"
    )
    await consumer.start()
    count = total = 0
    while count < asked.records:
        for messages in (await consumer.getmany(timeout_ms=200)).values():
            if not count:
                watch.start()
            for message in messages:
                total += decode(message.value).id
            count += len(messages)
    watch.report(count, total)
    await consumer.stop()


asyncio.run(main())
