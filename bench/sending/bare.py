"""The client alone with karafka's settings: one run in a process of its own; see `bench.sending.account`.

Where nobody knows which way is best, there are several.
"""

from __future__ import annotations

import asyncio
import threading
import time
from _thread import allocate_lock
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec
import psutil
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.aio import AIOProducer

from bench.sending.account import PAYLOAD, THREADS, VIDEO, WARM, Task, Watch, percentiles, task
from karafka.sender import defaults

# How long one `poll` waits where another thread may have taken what it waits for.
MOMENT = 0.05


def main() -> None:
    asked = task()
    settings = defaults({"bootstrap.servers": asked.bootstrap, "acks": asked.acks, "linger.ms": asked.linger})
    if asked.way == "AIOProducer":
        asyncio.run(aio(asked, settings))
    else:
        WAYS[asked.way](asked, Producer(settings))


class Reports:
    """What messages have ended, by a callback that all share."""

    def __init__(self) -> None:
        self.ended = self.failed = 0

    def end(self, error: KafkaError | None, message: Message) -> None:  # noqa: ARG002 - the client's signature
        self.ended += 1
        if error is not None:
            self.failed += 1

    @property
    def delivered(self) -> int:
        return self.ended - self.failed


class Least(msgspec.Struct, gc=False, eq=False):
    """The least that a handle can be: one for each message, called with its end, which it keeps for who may ask."""

    topic: str
    key: bytes | None = None
    partition: int | None = None
    offset: int | None = None
    latency: float | None = None
    error: KafkaError | None = None

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.partition, self.latency = message.partition(), message.latency()
            self.offset = message.offset()
        else:
            self.error = error


# ── one message at a time ────────────────────────────────────────────────────────────────────────────────────────────


def by_flush(producer: Producer, topic: str) -> int:
    reports = Reports()
    producer.produce(topic, PAYLOAD, on_delivery=reports.end)
    producer.flush()
    return reports.delivered


def by_poll(producer: Producer, topic: str) -> int:
    reports = Reports()
    producer.produce(topic, PAYLOAD, on_delivery=reports.end)
    while not reports.ended:
        producer.poll(MOMENT)
    return reports.delivered


def by_event(producer: Producer, topic: str) -> int:
    """Another thread polls."""
    reports, ended = Reports(), allocate_lock()
    ended.acquire()

    def end(error: KafkaError | None, message: Message) -> None:
        reports.end(error, message)
        ended.release()

    producer.produce(topic, PAYLOAD, on_delivery=end)
    ended.acquire()
    return reports.delivered


def one_by_one(asked: Task, producer: Producer, send: Callable[[Producer, str], int]) -> None:
    warm(asked, producer)
    waits, delivered, topic, now = [], 0, asked.topic, time.perf_counter_ns
    watch = Watch()
    for _ in range(asked.count):
        began = now()
        delivered += send(producer, topic)
        waits.append(now() - began)
    watch.stop(delivered, **percentiles(waits))


def by_threads(asked: Task, producer: Producer, send: Callable[[Producer, str], int]) -> None:
    def run() -> int:
        return sum(send(producer, asked.topic) for _ in range(asked.count // THREADS))

    warm(asked, producer)
    if send is by_event:
        polling(producer)
    with ThreadPoolExecutor(THREADS) as pool:
        watch = Watch()
        sent = [pool.submit(run) for _ in range(THREADS)]
        watch.stop(sum(one.result() for one in sent))


def warm(asked: Task, producer: Producer) -> None:
    for _ in range(WARM):
        by_poll(producer, asked.topic)


def polling(producer: Producer) -> None:
    """A thread that does nothing else, until the process ends."""

    def poll() -> None:
        while True:
            producer.poll(1.0)

    threading.Thread(target=poll, daemon=True).start()


# ── many on their way ────────────────────────────────────────────────────────────────────────────────────────────────


def shared(asked: Task, producer: Producer) -> None:
    warm(asked, producer)
    reports = Reports()
    watch = Watch()
    send(producer, asked.topic, asked.count, reports)
    producer.flush()
    watch.stop(reports.delivered)


def memory(asked: Task, producer: Producer) -> None:
    """Megabytes when a tenth is sent, and when all is."""
    warm(asked, producer)
    reports, process, tenth = Reports(), psutil.Process(), asked.count // 10
    watch = Watch()
    send(producer, asked.topic, tenth, reports)
    early = process.memory_info().rss
    send(producer, asked.topic, asked.count - tenth, reports)
    late = process.memory_info().rss
    producer.flush()
    watch.stop(reports.delivered, early=early / 1e6, grown=(late - early) / 1e6)


def send(producer: Producer, topic: str, count: int, reports: Reports) -> None:
    produce, poll, end = producer.produce, producer.poll, reports.end
    for number in range(count):
        while True:
            try:
                produce(topic, PAYLOAD, on_delivery=end)
                break
            except BufferError:
                poll(0.1)
        if not number % 1000:
            poll(0)


def least(asked: Task, producer: Producer) -> None:
    """`shared`, with a handle of its own for each message; what has failed is told by the last of them."""
    warm(asked, producer)
    topic, last = asked.topic, Least(asked.topic)
    produce, poll = producer.produce, producer.poll
    watch = Watch()
    for number in range(asked.count):
        last = Least(topic)
        while True:
            try:
                produce(topic, PAYLOAD, on_delivery=last)
                break
            except BufferError:
                poll(0.1)
        if not number % 1000:
            poll(0)
    producer.flush()
    watch.stop(asked.count if last.offset == WARM + asked.count else 0)


def dicts(asked: Task, producer: Producer) -> None:
    """`shared`, the payload written by the encoder that karafka's JSON has."""
    warm(asked, producer)
    topic, reports, encode = asked.topic, Reports(), msgspec.json.Encoder().encode
    produce, poll, end = producer.produce, producer.poll, reports.end
    watch = Watch()
    for number in range(asked.count):
        value = encode(VIDEO)
        while True:
            try:
                produce(topic, value, on_delivery=end)
                break
            except BufferError:
                poll(0.1)
        if not number % 1000:
            poll(0)
    producer.flush()
    watch.stop(reports.delivered)


# ── awaited ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def awaited(asked: Task, producer: Producer) -> None:
    """A thread polls and ends the futures of a loop, as in the client's example for asyncio."""
    polling(producer)

    async def run() -> None:
        loop = asyncio.get_running_loop()

        async def send() -> Message:
            future: asyncio.Future[Message] = loop.create_future()

            def end(error: KafkaError | None, message: Message) -> None:
                if error is not None:
                    loop.call_soon_threadsafe(future.set_exception, KafkaException(error))
                else:
                    loop.call_soon_threadsafe(future.set_result, message)

            producer.produce(asked.topic, PAYLOAD, on_delivery=end)
            return await future

        await asyncio.gather(*(send() for _ in range(WARM)))
        delivered = 0
        watch = Watch()
        for count in asked.chunks:
            delivered += len(await asyncio.gather(*(send() for _ in range(count))))
        watch.stop(delivered, threads=threading.active_count())

    asyncio.run(run())


async def aio(asked: Task, settings: dict[str, object]) -> None:
    """The client's own for asyncio. It sends when it has 1,000, or after a second."""
    producer = AIOProducer(settings)

    async def send() -> Message:
        message: Message = await (await producer.produce(asked.topic, PAYLOAD))
        return message

    await asyncio.gather(*(send() for _ in range(WARM)))
    delivered = 0
    watch = Watch()
    for count in asked.chunks:
        delivered += len(await asyncio.gather(*(send() for _ in range(count))))
    watch.stop(delivered, threads=threading.active_count())
    await producer.close()


WAYS: Mapping[str, Callable[[Task, Producer], None]] = {
    "flush": lambda asked, producer: one_by_one(asked, producer, by_flush),
    "poll": lambda asked, producer: one_by_one(asked, producer, by_poll),
    "threads-flush": lambda asked, producer: by_threads(asked, producer, by_flush),
    "threads-poll": lambda asked, producer: by_threads(asked, producer, by_poll),
    "threads-event": lambda asked, producer: by_threads(asked, producer, by_event),
    "shared": shared,
    "least": least,
    "dicts": dicts,
    "memory": memory,
    "asyncio": awaited,
}
main()
