"""What becomes of a message that was sent: it ends delivered or failed, and whoever waits for it hears so."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any, TypeVar

import pytest

from karafka.delivery import Delivery, Failure, Handle
from karafka.errors import (
    DeliveryError,
    InvalidMessageError,
    PartlyDeliveredError,
    ProducerClosedError,
    QueueFullError,
)
from karafka.letters import Row
from karafka.producer import Producer
from tests.unit.post import LATE, REFUSED, Passing, Post, turn, without_threads

T = TypeVar("T")


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Passing:
    return without_threads(monkeypatch)


@pytest.fixture
def post(passing: Passing) -> Post:
    return Post(passing.wait)


@pytest.fixture
def producer(post: Post) -> Producer:
    return Producer({}, sender=lambda: post)


def rows(*topics: str) -> list[Row]:
    return [{"topic": topic, "payload": b""} for topic in topics]


class TestEnds:
    """Every message ends in exactly one of delivered and failed."""

    def test_delivered(self, producer: Producer, post: Post) -> None:
        """With where it is and how long it took."""
        handle = producer.produce_async("orders", b"", partition=2)
        assert (handle.done, handle.error) == (False, None)
        post.serve(0)

        assert handle.done
        assert handle.wait() == handle.result() == Delivery("orders", 2, 0, 0.25)
        assert handle.error is None

    def test_failed(self, producer: Producer, post: Post) -> None:
        """With the topic, the key and the reason, each time it is asked."""
        post.refusing["orders"] = REFUSED
        handle = producer.produce_async("orders", b"", key="k")
        post.serve(0)

        for _ in range(2):
            with pytest.raises(
                DeliveryError, match="'orders' with key 'k' was not delivered: the broker refused"
            ) as found:
                handle.wait()
        assert str(handle.error) == str(found.value)
        assert (found.value.topic, found.value.key) == ("orders", "k")
        assert (found.value.code, found.value.retriable) == ("POLICY_VIOLATION", False)

    def test_on_its_way(self, producer: Producer, post: Post) -> None:
        """Waiting says so, and so does asking; it is not lost by that."""
        post.open = False
        handle = producer.produce_async("orders", b"")

        with pytest.raises(TimeoutError, match=r"'orders' is not confirmed after 2 s; still on its way"):
            handle.wait(2)
        with pytest.raises(RuntimeError, match="still on its way"):
            handle.result()
        post.open = True
        assert handle.wait().offset == 0

    def test_who_waits_serves(self, producer: Producer, post: Post, passing: Passing) -> None:
        """No other thread need wake."""
        post.open = False
        passing.meanwhile = lambda: setattr(post, "open", True)

        assert producer.produce_sync("orders", b"") == Delivery("orders", 0, 0, 0.25)

    def test_callbacks_run_once_whenever_they_were_added(self, producer: Producer) -> None:
        """Before the end: at it. After: at once."""
        heard: list[str] = []
        handle = producer.produce_async("orders", b"")
        handle.add_done_callback(lambda _handle: heard.append("before"))
        turn(producer)
        handle.add_done_callback(lambda _handle: heard.append("after"))
        turn(producer)

        assert heard == ["before", "after"]

    def test_a_callback_gets_the_handle(self, producer: Producer, post: Post) -> None:
        """It has ended by then, however."""
        post.refusing["b"] = REFUSED
        heard: list[tuple[Handle, bool, DeliveryError | None]] = []
        handles = [producer.produce_async(topic, b"") for topic in "ab"]
        for handle in handles:
            handle.add_done_callback(lambda one: heard.append((one, one.done, one.error)))
        turn(producer)

        assert heard == [(handles[0], True, None), (handles[1], True, handles[1].error)]
        assert handles[1].error is not None

    @pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, asyncio.CancelledError])
    def test_a_callback_that_raises_stops_nobody_else(
        self, producer: Producer, caplog: pytest.LogCaptureFixture, error: type[BaseException]
    ) -> None:
        """Neither other callbacks nor the polling thread, on which all handles wait; it is told to the log."""

        def fail(_handle: Handle) -> None:
            raise error

        heard: list[Handle] = []
        handle = producer.produce_async("orders", b"")
        handle.add_done_callback(fail)
        handle.add_done_callback(heard.append)
        turn(producer)

        assert heard == [handle]
        (record,) = caplog.records
        assert (record.name, record.getMessage()) == ("karafka.producer", "a callback of a message raised")

    def test_a_handle_can_be_awaited(self, producer: Producer, post: Post) -> None:
        """While it is on its way, and when it has ended; a failure raises."""

        async def sending() -> list[Any]:
            handle = producer.produce_async("orders", b"")
            asyncio.get_running_loop().call_soon(post.serve, 0)
            deliveries = [await handle, await handle]
            post.refusing["orders"] = REFUSED
            failing = producer.produce_async("orders", b"")
            asyncio.get_running_loop().call_soon(post.serve, 0)
            with pytest.raises(DeliveryError):
                await failing
            return deliveries

        first, second = asyncio.run(sending())
        assert first == second == Delivery("orders", 0, 0, 0.25)

    def test_several_may_await_one(self, producer: Producer, post: Post) -> None:
        """Each gets the delivery."""

        async def sending() -> list[Delivery]:
            handle = producer.produce_async("orders", b"")
            asyncio.get_running_loop().call_soon(post.serve, 0)
            return await asyncio.gather(*(_awaited(handle) for _ in range(3)))

        assert len(asyncio.run(sending())) == 3

    def test_a_handle_shows_what_it_is(self, producer: Producer, post: Post) -> None:
        post.refusing["b"] = REFUSED
        handles = [producer.produce_async(topic, b"", partition=3) for topic in "ab"]
        assert repr(handles[0]) == "<Handle of a message to 'a', on its way>"
        post.serve(0)

        assert repr(handles[0]) == "<Handle of a message to 'a', at 3/0>"
        assert repr(handles[1]) == "<Handle of a message to 'b', failed>"

    @pytest.mark.parametrize("fails", [False, True])
    def test_what_has_ended_is_not_kept(self, producer: Producer, post: Post, *, fails: bool) -> None:
        """Neither by a failure that was raised, nor where the label knows its handle."""
        if fails:
            post.refusing["orders"] = REFUSED
        label = Label()
        gone = weakref.ref(label)
        label.handle = handle = producer.produce_async("orders", b"", label=label)
        handle.add_done_callback(lambda one: one.label)
        turn(producer)
        with suppress(DeliveryError):
            handle.wait()
        del label, handle
        post.sent.clear()
        gc.collect()

        assert gone() is None


class Label:
    """What a sender may give a message, to find it again."""

    handle: Handle


async def _awaited(handle: Handle) -> Delivery:
    return await handle


class TestInterrupted:
    """Ctrl-C comes to the main thread while it waits."""

    def test_who_waits_is_interrupted_and_the_rest_goes_on(self, producer: Producer, post: Post) -> None:
        """The turn to serve is given back."""

        def interrupted(_seconds: float) -> None:
            post.open = True
            raise KeyboardInterrupt

        post.open = False
        handle = producer.produce_async("orders", b"")
        waiting, post.meanwhile = post.meanwhile, interrupted
        with pytest.raises(KeyboardInterrupt):
            handle.wait()
        post.meanwhile = waiting

        assert handle.wait().offset == 0
        assert producer.close() == 0


class TestMany:
    """Several at once: checked before the first is sent, and told one by one."""

    def test_deliveries_are_in_order(self, producer: Producer, post: Post) -> None:
        many = producer.produce_many_sync([{"topic": topic, "payload": b"", "key": topic} for topic in "cab"])

        assert [one.topic for one in many] == ["c", "a", "b"]
        assert [one.key for one in post.sent] == ["c", "a", "b"]

    def test_any_iterable_will_do(self, producer: Producer) -> None:
        assert len(producer.produce_many_async(row for row in rows("a", "b"))) == 2
        assert producer.produce_many_sync([]) == []

    def test_all_are_checked_before_the_first_is_sent(self, producer: Producer, post: Post) -> None:
        """The one that cannot be is named by its number."""
        with pytest.raises(InvalidMessageError, match="'b'") as refused:
            producer.produce_many_async([*rows("a"), {"topic": "b", "payload": object()}, *rows("c")])

        assert post.sent == []
        assert refused.value.__notes__ == ["it is number 1, from 0, of those that were to be sent; none of them was"]

    def test_all_have_ended_before_a_failure_is_raised(self, producer: Producer, post: Post, passing: Passing) -> None:
        """It tells of each message, in order."""
        post.open = False
        passing.meanwhile = lambda: setattr(post, "open", True)
        post.refusing["b"] = REFUSED

        with pytest.raises(PartlyDeliveredError, match=r"1 of 3 messages were not delivered.*'b'") as found:
            producer.produce_many_sync(rows("a", "b", "c"))

        first, second, third = found.value.results
        assert (first, third) == (Delivery("a", 0, 0, 0.25), Delivery("c", 0, 0, 0.25))
        assert isinstance(second, DeliveryError)
        assert found.value.__cause__ is second

    @pytest.mark.parametrize(("failures", "retriable"), [((LATE, LATE), True), ((LATE, REFUSED), False)])
    def test_it_may_help_to_send_again_if_it_may_for_all(
        self, producer: Producer, post: Post, failures: tuple[Failure, Failure], *, retriable: bool
    ) -> None:
        post.refusing.update(zip("bc", failures, strict=True))

        with pytest.raises(PartlyDeliveredError) as found:
            producer.produce_many_sync(rows("a", "b", "c"))
        assert found.value.retriable is retriable

    def test_what_is_not_accepted_for_want_of_room_is_among_them(self, producer: Producer, post: Post) -> None:
        """The others are sent."""
        post.room, post.open = 2, False
        handles = producer.produce_many_async(rows("a", "b", "c"))

        assert [handle.done for handle in handles] == [False, False, True]
        assert isinstance(handles[2].error, QueueFullError)
        post.open = True
        with pytest.raises(PartlyDeliveredError) as found:
            handles.wait()
        assert [type(one) for one in found.value.results] == [Delivery, Delivery, QueueFullError]

    def test_a_producer_closed_meanwhile_hides_none_of_them(
        self, producer: Producer, post: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those before are delivered: whoever sent must hear of it."""

        def send(*arguments: Any) -> None:
            Post._send_quick(post, *arguments)
            if len(post.sent) == 2:
                producer.close()

        monkeypatch.setattr(post, "quick", send)
        handles = producer.produce_many_async(rows("a", "b", "c"))

        assert [handle.error for handle in handles[:2]] == [None, None]
        assert isinstance(handles[2].error, ProducerClosedError)

    def test_time_is_up_for_all_together(self, producer: Producer, post: Post, passing: Passing) -> None:
        """They are still on their way."""
        post.open = False
        before = passing.monotonic()

        with pytest.raises(TimeoutError, match="still on its way"):
            producer.produce_many_sync(rows("a", "b", "c"), timeout=5)
        assert passing.monotonic() - before == pytest.approx(5, abs=0.2)

    def test_they_are_a_sequence_of_handles(self, producer: Producer) -> None:
        handles = producer.produce_many_async(rows("a", "b", "c"))

        assert [one.topic for one in handles] == ["a", "b", "c"]
        assert [one.topic for one in handles[1:]] == ["b", "c"]
        assert handles[-1].topic == "c"

    def test_they_can_be_awaited(self, producer: Producer, post: Post) -> None:
        """All deliveries; or what became of each, once all have ended."""

        async def sending() -> None:
            loop = asyncio.get_running_loop()
            handles = producer.produce_many_async(rows("a", "b"))
            loop.call_soon(post.serve, 0)
            assert [one.topic for one in await handles] == ["a", "b"]
            post.refusing["a"] = REFUSED
            handles = producer.produce_many_async(rows("a", "b"))
            loop.call_soon(post.serve, 0)
            with pytest.raises(PartlyDeliveredError) as found:
                await handles
            assert [type(one) for one in found.value.results] == [DeliveryError, Delivery]

        asyncio.run(sending())

    def test_what_has_a_word_too_many_is_refused_with_its_name(self, producer: Producer, post: Post) -> None:
        """A row is the arguments of `produce_async`."""
        with pytest.raises(TypeError, match="prtition"):
            producer.produce_many_async([{"topic": "a", "payload": b"", "prtition": 1}])  # type: ignore[typeddict-unknown-key]  # the slip
        assert post.sent == []
