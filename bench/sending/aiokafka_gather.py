"""aiokafka with the same settings: `send_and_wait` in an environment of its own; see `bench.sending.account`."""

from __future__ import annotations

import asyncio
import threading

from aiokafka import AIOKafkaProducer

from bench.sending.account import PAYLOAD, WARM, Watch, task


async def main() -> None:
    asked = task()
    producer = AIOKafkaProducer(
        bootstrap_servers=asked.bootstrap,
        acks=asked.acks,
        enable_idempotence=True,
        compression_type="lz4",
        linger_ms=asked.linger,
    )
    await producer.start()
    await asyncio.gather(*(producer.send_and_wait(asked.topic, PAYLOAD) for _ in range(WARM)))
    delivered = 0
    watch = Watch()
    for count in asked.chunks:
        sent = (producer.send_and_wait(asked.topic, PAYLOAD) for _ in range(count))
        delivered += len(await asyncio.gather(*sent))
    watch.stop(delivered, threads=threading.active_count())
    await producer.stop()


asyncio.run(main())
