"""The polling thread, and who else serves: all that was accepted ends, whoever waits, whatever comes between."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
import weakref
from _thread import interrupt_main
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from operator import call
from threading import Event, Thread, Timer, current_thread
from typing import Any

import pytest

from karafka import poller
from karafka.client import Posted
from karafka.delivery import Delivery, Failure, Handle
from karafka.errors import (
    ClientFailedError,
    ConfigError,
    DeliveryError,
    DeliveryTimeoutError,
    ProducerClosedError,
    QueueFullError,
)
from karafka.events import Acknowledged, ProducerReplaced
from karafka.poller import Poller
from karafka.producer import OFTEN, Producer
from tests.brokers import until
from tests.unit.post import LATE, Post, Receipt, poller_of, without_threads

PATIENCE = 10.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked for now and then is looked for often, so that tests are done soon."""
    monkeypatch.setattr(poller, "IDLE", 0.1)


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def producer(post: Post) -> Iterator[Producer]:
    made = Producer({}, sender=lambda: post)
    yield made
    made.close(0.0)


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Other threads."""
    with ThreadPoolExecutor(16, "aside") as threads:
        yield threads


def ends(call: Callable[[], object], within: float = 5.0) -> bool:
    """Whether `call` returns; on a thread that is left behind if it does not."""
    thread = Thread(target=call, daemon=True)
    thread.start()
    thread.join(within)
    return not thread.is_alive()


async def awaited(handle: Handle) -> Delivery:
    return await handle


def called_back(handle: Handle) -> None:
    called = Event()
    handle.add_done_callback(lambda _handle: called.set())
    called.wait()


class TestThread:
    """It serves what nobody waits for, and calls what users gave it."""

    def test_what_nobody_waits_for_ends_too(self, producer: Producer) -> None:
        handle = producer.produce_async("orders", b"")
        until(lambda: handle.done)

        assert handle.result().offset == 0

    def test_callbacks_run_on_a_thread_of_their_own(self, producer: Producer, post: Post) -> None:
        """Whoever serves: a thread that waits may hold locks of its own."""
        post.open = False
        on: list[str] = []
        called = Event()

        def callback(_handle: Handle) -> None:
            on.append(current_thread().name)
            called.set()

        producer.produce_async("orders", b"").add_done_callback(callback)
        post.answer()
        producer.produce_sync("orders", b"")

        assert called.wait(PATIENCE)
        assert on == ["karafka-callbacks"]

    def test_a_callback_may_send_and_wait(self, producer: Producer) -> None:
        """Whoever reacts to a delivery by another message would otherwise wait for himself."""
        deliveries: list[Delivery] = []
        sent = Event()

        def callback(_handle: Handle) -> None:
            deliveries.append(producer.produce_sync("second", b"", timeout=PATIENCE))
            deliveries.extend(producer.produce_many_sync([{"topic": "third", "payload": b""}], timeout=PATIENCE))
            producer.flush(PATIENCE)
            sent.set()

        producer.produce_async("first", b"").add_done_callback(callback)

        assert sent.wait(PATIENCE)
        assert [one.topic for one in deliveries] == ["second", "third"]

    @pytest.mark.parametrize("way", ["produce_sync", "wait", "flush", "room"])
    def test_a_callback_that_takes_long_does_not_hold_up_who_waits(self, post: Post, way: str) -> None:
        """It may itself wait for what that thread does next."""
        producer = Producer({}, sender=lambda: post, max_wait_on_full=5)
        called, go_on = Event(), Event()

        def callback(_handle: Handle) -> None:
            called.set()
            go_on.wait(PATIENCE)

        producer.produce_async("first", b"").add_done_callback(callback)
        assert called.wait(PATIENCE)
        handles = [producer.produce_async("second", b"") for _ in range(3)]
        try:
            match way:
                case "produce_sync":
                    producer.produce_sync("second", b"", timeout=5)
                case "wait":
                    handles[0].wait(5)
                case "flush":
                    assert producer.flush(5) == 0
                case "room":
                    post.room = 3
                    producer.produce_async("second", b"")
        finally:
            go_on.set()
            producer.close(0.0)

    def test_a_callback_may_close_the_producer(self, producer: Producer, post: Post) -> None:
        """And the thread that it runs on with it."""
        closed = Event()

        def callback(_handle: Handle) -> None:
            producer.close()
            closed.set()

        handle = producer.produce_async("orders", b"")
        handle.add_done_callback(callback)

        assert closed.wait(PATIENCE)
        until(lambda: post.closed)

    @pytest.mark.parametrize(
        "call",
        [
            lambda producer: producer.produce_sync("second", b""),
            lambda producer: producer.produce_many_sync([{"topic": "second", "payload": b""}]),
            lambda producer: producer.flush(),
            lambda producer: producer.close(),
        ],
        ids=["produce_sync", "produce_many_sync", "flush", "close"],
    )
    def test_a_listener_that_waits_is_refused_or_served(
        self, producer: Producer, post: Post, call: Callable[[Producer], object]
    ) -> None:
        """It is told where reports are served: for ever, if it waited for the next report there."""
        heard: list[object] = []

        def listen(event: Acknowledged) -> None:
            if event.topic == "first":
                try:
                    heard.append(call(producer))
                except ConfigError as error:
                    heard.append(error)

        producer.events.on(Acknowledged, listen)
        post.silent = {"second"}
        producer.produce_async("second", b"")
        handle = producer.produce_async("first", b"")
        serving = poller_of(producer)

        def serve() -> None:
            with suppress(RuntimeError):  # of a turn that was taken away from it
                handle.wait()

        ended = ends(serve)
        if not ended:
            serving._turn.release()  # else nothing here would ever end
        assert ended, "it waits for itself"
        assert handle.done
        assert len(heard) == 1

    def test_a_listener_that_sends_where_there_is_no_room_is_told_at_once(self, producer: Producer, post: Post) -> None:
        """Nobody makes room while it waits."""
        refused: list[str] = []

        def listen(event: Acknowledged) -> None:
            post.room = 0
            try:
                producer.produce_async("second", b"")
            except QueueFullError as error:
                refused.append(str(error))
            post.room = 10

        producer.events.on(Acknowledged, listen)
        handle = producer.produce_async("first", b"")

        assert ends(handle.wait)
        assert len(refused) == 1

    def test_what_the_users_own_callbacks_raise_stops_nobody(
        self, producer: Producer, post: Post, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The client calls them where it is served, and passes on what they raise: the thread goes on all the same."""
        served, left = post.serve, [ZeroDivisionError("of a stats_cb") for _ in range(4)]

        def serve(timeout: float) -> None:
            if left:
                raise left.pop()
            served(timeout)

        post.serve = post.hasten = serve  # type: ignore[method-assign]  # as the client would
        assert asyncio.run(asyncio.wait_for(awaited(producer.produce_async("orders", b"")), PATIENCE)).offset == 0
        left.append(ZeroDivisionError("of a stats_cb"))
        assert producer.produce_sync("orders", b"", timeout=PATIENCE).offset == 1
        left.append(ZeroDivisionError("of a stats_cb"))
        assert producer.flush(PATIENCE) == 0
        assert poller_of(producer)._thread.is_alive()
        assert producer.close() == 0
        assert "of a stats_cb" in caplog.text

    def test_an_idle_one_hardly_wakes(self, producer: Producer, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process may have many producers."""
        producer.produce_sync("orders", b"")
        turns: list[float] = []
        monkeypatch.setattr(post, "serve", turns.append)
        time.sleep(5 * poller.IDLE)  # in which nothing is to happen

        assert len(turns) <= 6

    def test_who_sends_much_looks_at_times_what_has_ended(self, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that what ended is not kept, and no other thread need wake for it."""
        monkeypatch.setattr(Poller, "start", lambda _poller: None)
        producer = Producer({}, sender=lambda: post)
        handles = [producer.produce_async("orders", b"") for _ in range(2 * OFTEN)]

        assert all(handle.done for handle in handles)


class TestLingering:
    """What nobody waits for may linger, so that messages travel together; who waits does not wait for that."""

    @pytest.mark.parametrize(
        "wait",
        [
            lambda producer: producer.produce_sync("slow", b""),
            lambda producer: producer.produce_many_sync([{"topic": "slow", "payload": b""}] * 3),
            lambda producer: asyncio.run(awaited(producer.produce_async("slow", b""))),
            lambda producer: called_back(producer.produce_async("slow", b"")),
            lambda producer: producer.produce_async("slow", b"") and producer.flush(),
            lambda producer: producer.produce_async("slow", b"") and producer.close(),
        ],
        ids=["produce_sync", "produce_many_sync", "await", "callback", "flush", "close"],
    )
    def test_who_waits_hastens(self, producer: Producer, post: Post, wait: Callable[[Producer], object]) -> None:
        post.lingering = {"slow"}
        assert ends(partial(wait, producer))
        until(lambda: post.waiting() == 0)

    def test_also_while_another_waits(
        self, producer: Producer, post: Post, aside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """For one that is long on its way: it serves, and whoever else would hasten has not the turn."""
        monkeypatch.setattr(Poller, "start", lambda _poller: None)
        post.lingering, post.silent = {"slow"}, {"silent"}
        waits = aside.submit(producer.produce_sync, "silent", b"")
        post.until(lambda: len(post.sent) == 1)
        time.sleep(3 * poller.HASTE)
        others = [aside.submit(producer.produce_sync, "slow", b"") for _ in range(3)]

        assert sorted(one.result(PATIENCE).offset for one in others) == [0, 1, 2]
        assert not waits.done()
        post.answer("silent")
        assert waits.result(PATIENCE).offset == 0

    def test_who_waits_hastens_again(self, producer: Producer, post: Post) -> None:
        """One whose leader was not known is not on its way yet: it begins to linger later."""
        post.lingering, post.open = {"slow"}, False
        Timer(0.3, post.answer).start()

        assert ends(partial(producer.produce_sync, "slow", b""))

    def test_once_nobody_waits_they_linger_again(self, producer: Producer, post: Post) -> None:
        """Though something is on its way all the time."""
        post.lingering, post.silent = {"slow"}, {"silent"}
        producer.produce_async("silent", b"")
        called_back(producer.produce_async("orders", b""))
        until(lambda: not poller_of(producer)._prompted)
        handle = producer.produce_async("slow", b"")
        time.sleep(3 * poller.POLL)

        assert not handle.done
        called_back(handle)

    def test_who_only_sends_lets_them_linger(self, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        """However often it looks what has ended, and where it waits for room."""
        without_threads(monkeypatch)
        post.meanwhile = lambda _timeout: setattr(post, "room", post.room + 1)
        post.lingering, post.room = {"slow"}, 2 * OFTEN
        producer = Producer({}, sender=lambda: post)
        handles = [producer.produce_async("slow", b"") for _ in range(3 * OFTEN)]

        assert not any(handle.done for handle in handles)

    def test_who_waits_for_one_that_is_on_its_way_does_not_wait_for_the_others(
        self, producer: Producer, post: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To hasten goes on until all have ended: who keeps at it would be late, where others send without end."""
        hastened: list[float] = []
        monkeypatch.setattr(post, "hasten", hastened.append)
        post.open = False
        Timer(0.3, post.answer).start()
        began = time.monotonic()

        assert producer.produce_sync("orders", b"").offset == 0
        assert 0 < sum(hastened) < (time.monotonic() - began) / 10


class TestWaiting:
    """Who waits serves for all; the others are woken."""

    def test_all_who_wait_at_once_get_their_own(self, producer: Producer, aside: ThreadPoolExecutor) -> None:
        def send(_number: int) -> list[int]:
            return [producer.produce_sync("orders", b"").offset for _ in range(200)]

        offsets = [offset for some in aside.map(send, range(8)) for offset in some]

        assert sorted(offsets) == list(range(1_600))

    def test_one_whose_time_is_up_holds_up_nobody(
        self, producer: Producer, post: Post, aside: ThreadPoolExecutor
    ) -> None:
        """Neither while it serves for the others, nor when it leaves."""
        post.silent = {"silent"}

        def impatient(_number: int) -> int:
            found = 0
            for _ in range(20):
                with pytest.raises(TimeoutError, match="still on its way"):
                    producer.produce_sync("silent", b"", timeout=0.005)
                found += 1
            return found

        def send(_number: int) -> list[int]:
            return [producer.produce_sync("orders", b"", timeout=PATIENCE).offset for _ in range(100)]

        late = [aside.submit(impatient, number) for number in range(3)]
        offsets = [offset for some in aside.map(send, range(8)) for offset in some]

        assert sorted(offsets) == list(range(800))
        assert [one.result(PATIENCE) for one in late] == [20, 20, 20]
        post.answer("silent")
        assert producer.flush(PATIENCE) == 0

    def test_when_the_one_who_serves_is_done_another_takes_over(
        self, producer: Producer, post: Post, aside: ThreadPoolExecutor
    ) -> None:
        """Those who wait longer are not left to themselves."""
        topics = [str(number) for number in range(5)]
        post.silent = set(topics)
        waiting: dict[str, Future[Delivery]] = {}
        for topic in topics:
            waiting[topic] = aside.submit(producer.produce_sync, topic, b"")
            post.until(lambda topic=topic: any(one.topic == topic for one in post.sent))  # type: ignore[misc]

        for topic in topics:
            post.answer(topic)
            assert waiting[topic].result(PATIENCE).topic == topic

    def test_several_wait_for_one(self, producer: Producer, post: Post, aside: ThreadPoolExecutor) -> None:
        post.open = False
        handle = producer.produce_async("orders", b"")
        waiting = [aside.submit(handle.wait, PATIENCE) for _ in range(8)]
        post.answer()

        assert {one.result(PATIENCE).offset for one in waiting} == {0}

    def test_room_is_waited_for_by_many(self, producer: Producer, post: Post, aside: ThreadPoolExecutor) -> None:
        """A small queue and many senders: all arrives."""
        post.room = 3

        def send(_number: int) -> list[Handle]:
            return [producer.produce_async("orders", b"") for _ in range(100)]

        handles = [handle for some in aside.map(send, range(8)) for handle in some]

        assert producer.flush(PATIENCE) == 0
        assert sorted(handle.result().offset for handle in handles) == list(range(800))


@pytest.mark.usefixtures("uncollected")
class TestInterrupted:
    """Ctrl-C: it comes while the client waits, and is heard where Python goes on."""

    @pytest.mark.parametrize("heard", [False, True])
    def test_what_is_told_just_then_has_ended(self, producer: Producer, post: Post, *, heard: bool) -> None:
        """That is at the first word of what the client calls: before any `try` that stands there."""
        if heard:
            producer.events.on(Acknowledged, bool)
        in_c: Any = call

        def tell(posted: Posted, error: Failure | None, receipt: Receipt) -> None:
            post.tell = lambda posted, *end: posted(*end)
            deque(map(in_c, [interrupt_main, partial(posted, error, receipt)]), maxlen=0)

        post.tell, post.open = tell, False
        handle = producer.produce_async("orders", b"")

        def waiting() -> None:
            post.answer()
            handle.wait(PATIENCE)
            time.sleep(PATIENCE)  # where it was another thread that served

        with pytest.raises(KeyboardInterrupt):
            waiting()
        assert handle.wait(PATIENCE).offset == 0
        assert producer.produce_sync("orders", b"", timeout=PATIENCE).offset == 1

    def test_who_waits_is_interrupted_soon_and_the_rest_goes_on(self, producer: Producer, post: Post) -> None:
        post.open = False
        handle = producer.produce_async("orders", b"")
        timer = Timer(0.1, interrupt_main)
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            handle.wait(PATIENCE)
        assert time.monotonic() - began < 5
        timer.join()
        post.answer()

        assert handle.wait(PATIENCE).offset == 0

    def test_wherever_it_comes_the_turn_is_free_and_the_end_is_told(
        self, post: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Python hears it where a function begins, and where one in C has returned: at each of these in turn."""
        without_threads(monkeypatch)
        producer = Producer({}, sender=lambda: post)
        left = moment = 0

        def interrupt(_frame: object, event: str, _what: object) -> None:
            nonlocal left
            if event in {"call", "c_return"}:
                left -= 1
                if not left:
                    interrupt_main()

        while left <= 0:
            handle = producer.produce_async("orders", b"")
            moment += 1
            left = moment
            with suppress(KeyboardInterrupt):
                sys.setprofile(interrupt)
                handle.wait(PATIENCE)
                sys.setprofile(None)
            sys.setprofile(None)
            turn = poller_of(producer)._turn
            if held := turn.locked():
                turn.release()  # else the end of the process would wait for it
            assert not held, f"for ever, after an interrupt at moment {moment}"
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            assert handle.wait(PATIENCE).topic == "orders"
        assert moment > 10


class TestLoops:
    """Those who await are woken on their own loop, and leave nothing behind."""

    def test_a_great_many_at_once_take_no_threads(self, producer: Producer) -> None:
        """And each gets its own."""
        before = threading.active_count()
        most = 0

        async def sending() -> list[Delivery]:
            nonlocal most
            sends = [asyncio.ensure_future(awaited(producer.produce_async("orders", b""))) for _ in range(10_000)]
            most = threading.active_count()
            return await asyncio.gather(*sends)

        deliveries = asyncio.run(sending())

        assert sorted(one.offset for one in deliveries) == list(range(10_000))
        assert most <= before + 1

    def test_several_loops_at_once(self, producer: Producer, aside: ThreadPoolExecutor) -> None:
        async def sending() -> list[int]:
            return [(await producer.produce_async("orders", b"")).offset for _ in range(100)]

        found = aside.map(lambda _number: asyncio.run(sending()), range(4))

        assert sorted(offset for some in found for offset in some) == list(range(400))

    def test_a_loop_that_sends_much_waits_for_nobody(self, producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not even a little, for the polling thread, which may be busy with a callback."""
        monkeypatch.setattr(poller, "GLANCE", 5.0)
        monkeypatch.setattr(poller, "POLL", 5.0)
        called, go_on = Event(), Event()

        def callback(_handle: Handle) -> None:
            called.set()
            go_on.wait(PATIENCE)

        async def sending() -> float:
            producer.produce_async("orders", b"").add_done_callback(callback)
            await asyncio.to_thread(called.wait, PATIENCE)
            began = time.monotonic()
            for _ in range(2 * OFTEN):
                producer.produce_async("orders", b"")
            return time.monotonic() - began

        try:
            assert asyncio.run(sending()) < 3
        finally:
            go_on.set()

    def test_room_can_be_waited_for_beside_the_loop(self, producer: Producer, post: Post) -> None:
        """Which goes on meanwhile: as the error of a full queue says."""
        post.room, post.open = 1, False
        first = producer.produce_async("orders", b"1")

        async def sending() -> list[int]:
            with pytest.raises(QueueFullError, match=r"await asyncio\.to_thread\(producer\.produce_async, …\)"):
                producer.produce_async("orders", b"2")
            waiting = asyncio.ensure_future(asyncio.to_thread(producer.produce_async, "orders", b"2"))
            await asyncio.wait([waiting], timeout=0.05)
            assert not waiting.done()
            post.answer()
            return [(await one).offset for one in (first, await waiting)]

        assert asyncio.run(sending()) == [0, 1]

    def test_a_listener_is_not_told_to_wait_for_room(self, producer: Producer, post: Post) -> None:
        """It is where room is made."""
        refused: list[str] = []

        def listen(_event: Acknowledged) -> None:
            post.room = 0
            with pytest.raises(QueueFullError) as full:
                producer.produce_async("second", b"")
            refused.append(str(full.value))
            post.room = 10

        producer.events.on(Acknowledged, listen)
        producer.produce_sync("first", b"", timeout=PATIENCE)

        assert "await" not in refused[0]
        assert "on another thread" in refused[0]

    def test_who_gives_up_leaves_nothing_behind(self, producer: Producer, post: Post) -> None:
        """The message is still on its way; its end wakes nobody."""
        post.open = False
        kept: list[weakref.ref[object]] = []

        async def sending() -> Handle:
            handle = producer.produce_async("orders", b"")
            for _ in range(3):
                task = asyncio.ensure_future(awaited(handle))
                kept.append(weakref.ref(task))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(awaited(handle), 0.001)
            assert not handle.done
            post.answer()
            assert (await handle).offset == 0
            return handle

        handle = asyncio.run(sending())
        gc.collect()

        assert handle.result().offset == 0
        assert [one() for one in kept] == [None, None, None]
        assert not handle._watchers

    def test_a_loop_that_is_closed_meanwhile_stops_nobody_else(self, producer: Producer, post: Post) -> None:
        """Whoever awaited has gone: the report must still come to its end."""
        post.open = False
        handles: list[Handle] = []

        async def impatient() -> None:
            handles.extend(producer.produce_async("orders", b"") for _ in range(2))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*map(awaited, handles)), 0.001)

        for _ in range(3):
            asyncio.run(impatient())
        post.answer()

        assert sorted(handle.wait(PATIENCE).offset for handle in handles) == list(range(6))
        assert producer.produce_sync("orders", b"").offset == 6

        async def later() -> Delivery:
            return await producer.produce_async("orders", b"")

        assert asyncio.run(later()).offset == 7

    def test_a_full_queue_is_told_at_once(self, producer: Producer, post: Post) -> None:
        """The loop has other things to do."""
        post.room, post.open = 10, False
        gaps: list[float] = []

        async def sending() -> int:
            refused = 0
            for _ in range(200):
                began = time.perf_counter()
                try:
                    producer.produce_async("orders", b"")
                except QueueFullError:
                    refused += 1
                gaps.append(time.perf_counter() - began)
                await asyncio.sleep(0)
            post.answer()
            return refused

        assert asyncio.run(sending()) == 190
        assert max(gaps) < 0.5
        assert producer.flush(PATIENCE) == 0


class TestDying:
    """A client of no more use takes what is on its way with it; the next message has another client."""

    @pytest.fixture
    def posts(self) -> list[Post]:
        return []

    @pytest.fixture
    def producer(self, posts: list[Post]) -> Iterator[Producer]:
        def sender() -> Post:
            posts.append(Post())
            posts[-1].open = len(posts) > 1
            return posts[-1]

        made = Producer({}, sender=sender)
        yield made
        made.close(0.0)

    @pytest.mark.parametrize("silently", [True, False], ids=["found by a message", "found by the client"])
    def test_what_is_on_its_way_fails_and_the_next_goes_by_another(
        self, producer: Producer, posts: list[Post], aside: ThreadPoolExecutor, *, silently: bool
    ) -> None:
        """Whoever waits, in whatever way, hears why; it may be sent again."""
        handles = [producer.produce_async("orders", b"", key=str(number)) for number in range(4)]
        failed: list[DeliveryError | None] = []
        answers: list[str | None] = []
        handles[0].add_done_callback(lambda handle: failed.append(handle.error))
        waiting = aside.submit(handles[1].wait)
        awaiting = aside.submit(asyncio.run, awaited(handles[2]))

        posts[0].die(silently=silently)
        again = producer.produce_async("orders", b"again")

        for one in (waiting, awaiting):
            with pytest.raises(ClientFailedError, match="of no more use: out of order") as found:
                one.result(PATIENCE)
            assert found.value.retriable
        until(lambda: len(failed) == 1 and handles[3].done)
        assert {type(handle.error) for handle in handles} == {ClientFailedError}
        assert [handle.error.key for handle in handles if handle.error] == ["0", "1", "2", "3"]
        assert answers == []
        assert again.wait(PATIENCE).offset == 0
        assert [one.value for one in posts[1].sent] == [b"again"]
        until(lambda: posts[0].closed)

    def test_it_is_found_out_while_nobody_sends(self, producer: Producer, posts: list[Post]) -> None:
        """Within a second or so."""
        producer.produce_async("orders", b"")
        posts[0].die()
        until(lambda: posts[0].closed, 5)

        assert producer.produce_sync("orders", b"").offset == 0

    @pytest.mark.parametrize("silently", [True, False], ids=["found by a message", "found by the client"])
    def test_many_that_find_it_so_go_by_the_next(
        self, producer: Producer, posts: list[Post], *, silently: bool
    ) -> None:
        """All of them, in order, and none is called failed."""
        producer.produce_async("orders", b"")
        posts[0].die(silently=silently)
        began = time.monotonic()
        handles = producer.produce_many_async({"topic": "orders", "payload": str(number)} for number in range(5))

        assert [one.offset for one in handles.wait(PATIENCE)] == list(range(5))
        assert [one.value for one in posts[1].sent] == [str(number) for number in range(5)]
        assert time.monotonic() - began < 5

    @pytest.mark.parametrize(("age", "clients"), [(0.0, 2), (30.0, 1)], ids=["old", "young"])
    def test_one_that_does_not_deliver_in_time_is_replaced_in_time(
        self, producer: Producer, posts: list[Post], monkeypatch: pytest.MonkeyPatch, age: float, clients: int
    ) -> None:
        """It may have lost the cluster for good, without a word; one that is young may only be slow."""
        monkeypatch.setattr(poller, "OLD", age)
        replaced: list[ProducerReplaced] = []
        producer.events.on(ProducerReplaced, replaced.append)
        handle = producer.produce_async("orders", b"")
        posts[0].refusing["orders"] = LATE
        posts[0].answer()
        with pytest.raises(DeliveryTimeoutError):
            handle.wait(PATIENCE)
        if clients == 2:
            until(lambda: posts[0].closed)
        posts[0].refusing.clear()
        time.sleep(2 * poller.IDLE)  # in which a young one is left alone

        assert producer.produce_sync("orders", b"", timeout=PATIENCE).offset == 0
        assert (len(posts), len(replaced)) == (clients, clients - 1)

    def test_who_waited_for_room_there_goes_by_the_next(
        self, producer: Producer, posts: list[Post], aside: ThreadPoolExecutor
    ) -> None:
        producer.produce_async("orders", b"1")
        posts[0].room = 1
        waiting = aside.submit(producer.produce_sync, "orders", b"2")
        posts[0].die()

        assert waiting.result(PATIENCE).offset == 0
        assert [one.value for one in posts[1].sent] == [b"2"]


class TestEnd:
    """A producer that is closed, or gone: all that it accepted has ended, and its thread too."""

    def test_a_closed_producer_lets_its_client_and_its_thread_go(self, producer: Producer, post: Post) -> None:
        """They are to end before the interpreter does."""
        producer.produce_sync("orders", b"")
        thread = poller_of(producer)._thread
        assert producer.close() == 0

        assert not thread.is_alive()
        assert post.closed

    def test_callbacks_of_what_it_gives_up_are_called(self, producer: Producer, post: Post) -> None:
        """By the time it is closed."""
        post.open = False
        failed: list[DeliveryError | None] = []
        for _ in range(3):
            producer.produce_async("orders", b"").add_done_callback(lambda handle: failed.append(handle.error))
        assert producer.close(0.0) == 3

        assert {type(one) for one in failed} == {ProducerClosedError}
        assert len(failed) == 3

    @pytest.mark.parametrize("_round", range(10))
    def test_whoever_waits_for_what_it_gives_up_is_woken(
        self, producer: Producer, post: Post, aside: ThreadPoolExecutor, _round: int
    ) -> None:
        """And all are counted, whichever thread gives them up."""
        post.open = False
        handles = [producer.produce_async("orders", b"") for _ in range(4)]
        waiting = [aside.submit(handle.wait) for handle in handles[:2]]
        waiting.append(aside.submit(asyncio.run, awaited(handles[2])))
        assert producer.close(0.1) == 4

        for one in waiting:
            with pytest.raises(ProducerClosedError):
                one.result(PATIENCE)
        with pytest.raises(ProducerClosedError):
            handles[3].wait(0)

    def test_one_that_comes_too_late_hears_so(self, producer: Producer, post: Post) -> None:
        """However it waits: nobody serves any more."""
        producer.produce_sync("orders", b"")
        serving = poller_of(producer)
        producer.close()
        called: list[Handle] = []

        one, two, three = (Handle("orders", None, None, serving) for _ in range(3))
        with pytest.raises(ProducerClosedError):
            one.wait(PATIENCE)
        with pytest.raises(ProducerClosedError):
            asyncio.run(asyncio.wait_for(awaited(two), PATIENCE))
        three.add_done_callback(called.append)
        until(lambda: called == [three], 5)
        assert isinstance(three.error, ProducerClosedError)

    def test_what_is_delivered_meanwhile_is_not_counted(self, producer: Producer, post: Post) -> None:
        """It had left when the rest was given up."""
        post.open = False
        handles = [producer.produce_async("orders", b"") for _ in range(3)]

        def purge(failure: Failure) -> None:
            post.open = True

        post.purge = purge  # type: ignore[method-assign]  # nothing is left to give up

        assert producer.close(0.0) == 0
        assert [handle.result().offset for handle in handles] == [0, 1, 2]

    def test_a_callback_that_comes_as_the_client_goes_is_called(
        self, producer: Producer, post: Post, aside: ThreadPoolExecutor
    ) -> None:
        """That may take the client a while."""
        producer.produce_sync("orders", b"")
        serving, going, go_on = poller_of(producer), Event(), Event()

        def close() -> None:
            going.set()
            go_on.wait(PATIENCE)

        post.close = close  # type: ignore[method-assign]  # as the client's own end
        closing = aside.submit(producer.close)
        assert going.wait(PATIENCE)
        called: list[Handle] = []
        handle = Handle("orders", None, None, serving)
        handle.add_done_callback(called.append)
        go_on.set()
        closing.result(PATIENCE)

        until(lambda: called == [handle], 5)

    def test_a_producer_that_is_gone_still_delivers(self, post: Post) -> None:
        """What it accepted; then its thread ends, and its client is let go."""
        post.open = False
        producer = Producer({}, sender=lambda: post)
        handles = [producer.produce_async("orders", b"") for _ in range(3)]
        thread = poller_of(producer)._thread
        gone = weakref.ref(producer)
        del producer
        gc.collect()
        assert gone() is None
        post.answer()

        assert [handle.wait(PATIENCE).offset for handle in handles] == [0, 1, 2]
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert post.closed

    def test_one_that_has_nothing_on_its_way_ends_too(self, post: Post) -> None:
        producer = Producer({}, sender=lambda: post)
        producer.produce_sync("orders", b"")
        thread = poller_of(producer)._thread
        del producer
        gc.collect()

        thread.join(PATIENCE)
        assert not thread.is_alive()

    def test_it_may_be_gone_at_any_moment(self, producer: Producer) -> None:
        """The collector runs wherever it likes: also inside what the thread waits with, which then is locked."""
        producer.produce_sync("orders", b"")
        serving = poller_of(producer)

        def collected() -> None:
            with serving._wanted._cond:  # type: ignore[attr-defined]  # what `Event` itself holds while it waits and sets
                serving.retire()

        assert ends(collected)

    @pytest.mark.parametrize("answers", [True, False])
    def test_closing_while_others_send(self, aside: ThreadPoolExecutor, *, answers: bool) -> None:
        """Again and again: each message that was accepted has ended, delivered or failed, once."""
        for number in range(30):
            post = Post()
            post.open, post.room = answers, 100
            producer = Producer({}, sender=lambda post=post: post)  # type: ignore[misc]
            patience = PATIENCE if answers else 0.01 * (number % 3)
            handles, called = close_while_sending(producer, aside, number % 20, patience)

            assert all(handle.done for handle in handles)
            assert len(called) == len(handles) == len(post.sent)
            delivered = [handle for handle in handles if handle.error is None]
            failed = {type(handle.error) for handle in handles if handle.error is not None}
            assert failed <= {ProducerClosedError}
            assert len({handle.result().offset for handle in delivered}) == len(delivered)
            assert not delivered or answers

    def test_closing_from_several_threads_is_closing_once(
        self, producer: Producer, post: Post, aside: ThreadPoolExecutor
    ) -> None:
        post.open = False
        handles = [producer.produce_async("orders", b"") for _ in range(3)]
        closing = [aside.submit(producer.close, 0.2) for _ in range(4)]

        assert sorted(one.result(PATIENCE) for one in closing) == [0, 0, 0, 3]
        assert {type(handle.error) for handle in handles} == {ProducerClosedError}


def close_while_sending(
    producer: Producer, aside: ThreadPoolExecutor, enough: int, patience: float
) -> tuple[list[Handle], list[Handle]]:
    """Four threads send as much as they can; once the first has sent `enough` it is closed. What they sent, and what
    callbacks were called with.
    """
    called: list[Handle] = []
    begun, over = Event(), Event()

    def send() -> list[Handle]:
        handles: list[Handle] = []
        with suppress(ProducerClosedError):
            while not over.is_set():
                handles.append(producer.produce_async("orders", b""))
                if len(handles) > enough:
                    begun.set()
        return handles

    sending = [aside.submit(send) for _ in range(4)]
    try:
        assert begun.wait(PATIENCE)
        producer.close(patience)
        handles = [handle for one in sending for handle in one.result(PATIENCE)]
    finally:
        over.set()
    for handle in handles:
        handle.add_done_callback(called.append)
    return handles, called
