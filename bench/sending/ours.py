"""karafka's ways of sending, one run in a process of its own; see `bench.sending.account`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import psutil

from bench.sending.account import PAYLOAD, THREADS, VIDEO, WARM, Task, Watch, percentiles, task
from karafka import Delivery, Producer


def main() -> None:
    asked = task()
    with Producer({"bootstrap.servers": asked.bootstrap, "acks": asked.acks, "linger.ms": asked.linger}) as producer:
        WAYS[asked.way](asked, producer)


def warm(asked: Task, producer: Producer) -> None:
    for _ in range(WARM):
        producer.produce_sync(asked.topic, PAYLOAD)


def one_by_one(asked: Task, producer: Producer) -> None:
    warm(asked, producer)
    waits, topic, now = [], asked.topic, time.perf_counter_ns
    watch = Watch()
    for _ in range(asked.count):
        began = now()
        producer.produce_sync(topic, PAYLOAD)
        waits.append(now() - began)
    watch.stop(len(waits), **percentiles(waits))


def threads(asked: Task, producer: Producer) -> None:
    def send() -> int:
        return len([producer.produce_sync(asked.topic, PAYLOAD) for _ in range(asked.count // THREADS)])

    warm(asked, producer)
    with ThreadPoolExecutor(THREADS) as pool:
        watch = Watch()
        sent = [pool.submit(send) for _ in range(THREADS)]
        watch.stop(sum(one.result() for one in sent))


def kept(asked: Task, producer: Producer) -> None:
    warm(asked, producer)
    topic = asked.topic
    watch = Watch()
    handles = [producer.produce_async(topic, PAYLOAD) for _ in range(asked.count)]
    for handle in handles:
        handle.wait()
    watch.stop(len(handles))


def forgotten(asked: Task, producer: Producer) -> None:
    forget(asked, producer, PAYLOAD)


def dicts(asked: Task, producer: Producer) -> None:
    forget(asked, producer, VIDEO)


def forget(asked: Task, producer: Producer, payload: object) -> None:
    warm(asked, producer)
    watch = Watch()
    send(producer, asked.topic, asked.count, payload)
    watch.stop(flushed(asked, producer))


def memory(asked: Task, producer: Producer) -> None:
    """Megabytes when a tenth is sent, and when all is."""
    warm(asked, producer)
    process, tenth = psutil.Process(), asked.count // 10
    watch = Watch()
    send(producer, asked.topic, tenth, PAYLOAD)
    early = process.memory_info().rss
    send(producer, asked.topic, asked.count - tenth, PAYLOAD)
    late = process.memory_info().rss
    watch.stop(flushed(asked, producer), early=early / 1e6, grown=(late - early) / 1e6)


def send(producer: Producer, topic: str, count: int, payload: object) -> None:
    for _ in range(count):
        producer.produce_async(topic, payload)


def flushed(asked: Task, producer: Producer) -> int:
    """How many were delivered, once all have ended."""
    left = producer.flush()
    return asked.count - left - producer.statistics().failed


def many(asked: Task, producer: Producer) -> None:
    """Two chunks are on their way, so that there is always something to send."""
    warm(asked, producer)
    topic, delivered = asked.topic, 0
    watch = Watch()
    before = producer.produce_many_async([])
    for count in asked.chunks:
        handles = producer.produce_many_async([{"topic": topic, "payload": PAYLOAD} for _ in range(count)])
        delivered += len(before.wait())
        before = handles
    delivered += len(before.wait())
    watch.stop(delivered)


def awaited(asked: Task, producer: Producer) -> None:
    async def send() -> Delivery:
        return await producer.produce_async(asked.topic, PAYLOAD)

    async def run() -> None:
        await asyncio.gather(*(send() for _ in range(WARM)))
        delivered = 0
        watch = Watch()
        for count in asked.chunks:
            delivered += len(await asyncio.gather(*(send() for _ in range(count))))
        watch.stop(delivered, threads=threading.active_count())

    asyncio.run(run())


WAYS: Mapping[str, Callable[[Task, Producer], None]] = {
    "sync": one_by_one,
    "threads": threads,
    "kept": kept,
    "forgotten": forgotten,
    "dicts": dicts,
    "many": many,
    "asyncio": awaited,
    "memory": memory,
}
main()
