"""Threads share a producer: each gets its own answers, and what was accepted ends, though it be closed or gone."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, Event

import pytest

from karafka import Delivery, Handle, Producer, ProducerClosedError
from karafka.events import Acknowledged
from tests.brokers import until
from tests.specs.run import Stage

THREADS = 8


def test_all_who_wait_at_once_get_an_offset_of_their_own(stage: Stage) -> None:
    """And one whose time is up does not hold up the others."""
    topic, together = stage.topic(), Barrier(THREADS + 1)
    with (
        Producer({"bootstrap.servers": stage.bootstrap}) as producer,
        ThreadPoolExecutor(THREADS + 1) as threads,
    ):
        producer.produce_sync(topic, "first", partition=0)

        def send(_number: int) -> list[Delivery]:
            together.wait(30)
            return [producer.produce_sync(topic, "x", partition=0, timeout=30) for _ in range(200)]

        def impatient() -> int:
            late = 0
            together.wait(30)
            for _ in range(50):
                try:
                    producer.produce_sync(topic, "x", partition=0, timeout=0.0)
                except TimeoutError:
                    late += 1
            return late

        hasty = threads.submit(impatient)
        deliveries = [one for some in threads.map(send, range(THREADS)) for one in some]
        assert hasty.result(30) > 0
    assert len({one.offset for one in deliveries}) == THREADS * 200
    assert stage.end(topic) == 1 + THREADS * 200 + 50


def close_while_sending(producer: Producer, topic: str, enough: int, patience: float) -> list[Handle]:
    """Four threads send as much as they can; once the first has sent `enough` it is closed."""
    begun, over = Event(), Event()

    def send() -> list[Handle]:
        handles: list[Handle] = []
        with suppress(ProducerClosedError):
            while not over.is_set():
                handles.append(producer.produce_async(topic, "x", partition=0))
                if len(handles) > enough:
                    begun.set()
        return handles

    with ThreadPoolExecutor(4) as threads:
        sending = [threads.submit(send) for _ in range(4)]
        try:
            assert begun.wait(30)
            producer.close(patience)
            return [handle for one in sending for handle in one.result(30)]
        finally:
            over.set()


def test_what_is_accepted_while_another_thread_closes_has_ended(stage: Stage) -> None:
    """Again and again; and what was said to be delivered is there."""
    topic, sent = stage.topic(), 0
    for number in range(12):
        producer = Producer({"bootstrap.servers": stage.bootstrap, "queue.buffering.max.messages": 1_000})
        handles = close_while_sending(producer, topic, number * 3, 30)
        assert all(handle.done for handle in handles)
        assert {type(handle.error) for handle in handles if handle.error} <= {ProducerClosedError}
        sent += sum(handle.error is None for handle in handles)
    assert sent > 0
    assert stage.end(topic) >= sent


@pytest.mark.parametrize("patience", [0.0, 0.05])
def test_where_no_broker_is_they_all_end_too(patience: float) -> None:
    settings = {"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 1_000, "log_level": 0}
    for number in range(8):
        handles = close_while_sending(Producer(settings), "any", number * 3, patience)
        assert {type(handle.error) for handle in handles} == {ProducerClosedError}


def test_a_producer_that_is_gone_delivers_what_it_accepted(stage: Stage) -> None:
    """Nobody closed it: its thread sees to that, and ends."""
    topic, before = stage.topic(), set(threading.enumerate())
    producer = Producer({"bootstrap.servers": stage.bootstrap, "linger.ms": 200})
    handles = [producer.produce_async(topic, str(number), partition=0) for number in range(100)]
    gone = weakref.ref(producer)
    del producer
    gc.collect()
    assert gone() is None

    assert [handle.wait(30).offset for handle in handles] == list(range(100))
    until(lambda: set(threading.enumerate()) <= before)
    assert stage.end(topic) == 100


def test_also_where_nobody_kept_a_handle(stage: Stage) -> None:
    topic = stage.topic()
    Producer({"bootstrap.servers": stage.bootstrap, "linger.ms": 50}).produce_async(topic, "x", partition=0)
    gc.collect()

    until(lambda: stage.end(topic) == 1)


def test_callbacks_are_called_on_a_thread_of_their_own_and_may_send(stage: Stage) -> None:
    """Also and wait: for another message, and for all."""
    topic, on, chain = stage.topic(), list[str](), list[Delivery]()
    done = Event()
    with Producer({"bootstrap.servers": stage.bootstrap}) as producer:

        def then(handle: Handle) -> None:
            on.append(threading.current_thread().name)
            chain.append(handle.result())
            if len(chain) < 20:
                chain.append(producer.produce_sync(topic, "x", timeout=30))
                producer.produce_async(topic, "x").add_done_callback(then)
            else:
                done.set()

        producer.produce_async(topic, "x").add_done_callback(then)
        assert done.wait(60)
    assert set(on) == {"karafka-callbacks"}
    assert [one.offset for one in chain] == list(range(len(chain)))


def test_a_closed_producer_leaves_no_thread_behind(stage: Stage) -> None:
    """Neither ours nor the client's."""
    topic, before = stage.topic(), set(threading.enumerate())
    with Producer({"bootstrap.servers": stage.bootstrap}) as producer:
        heard: list[Acknowledged] = []
        producer.events.on(Acknowledged, heard.append)
        producer.produce_sync(topic, "x")
        producer.variant(acks=1).produce_sync(topic, "x")
        assert len(set(threading.enumerate()) - before) == 2

    assert set(threading.enumerate()) <= before
    assert len(heard) == 2
