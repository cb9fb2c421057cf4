"""What is buffered is sent in order when it is flushed, and what did not go stays."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from karafka.client import Refused
from karafka.delivery import Delivery
from karafka.errors import (
    ConfigError,
    DeliveryError,
    PartlyDeliveredError,
    ProducerClosedError,
    QueueFullError,
    TooLargeError,
)
from karafka.letters import Letter
from karafka.producer import Producer
from tests.unit.post import LATE, REFUSED, TOO_LARGE, Passing, Post, without_threads


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Passing:
    return without_threads(monkeypatch)


@pytest.fixture
def post(passing: Passing) -> Post:
    return Post(passing.wait)


@pytest.fixture
def producer(post: Post) -> Producer:
    return Producer({}, sender=lambda: post)


def keep(producer: Producer, *payloads: str, topic: str = "orders") -> None:
    for payload in payloads:
        producer.buffer(topic, payload)


def values(post: Post) -> list[Any]:
    return [one.value for one in post.sent]


def left(producer: Producer) -> list[Any]:
    return [one.value for one in producer._buffer]


def test_nothing_is_sent_before_it_is_flushed(producer: Producer, post: Post) -> None:
    """No client is made for it either."""
    keep(producer, "1", "2")

    assert (producer.buffered, post.sent, producer._line) == (2, [], None)
    assert producer.flush() == 0
    assert producer.buffered == 2


def test_it_is_sent_in_order_as_it_was_given(producer: Producer, post: Post) -> None:
    producer.buffer("orders", {"a": 1}, key="k", headers={"x": "1"}, partition=2, timestamp=3.0, label="l")
    keep(producer, "2", "3")

    deliveries = producer.flush_sync()

    assert deliveries == [
        Delivery("orders", 2, 0, 0.25),
        Delivery("orders", 0, 0, 0.25),
        Delivery("orders", 0, 1, 0.25),
    ]
    assert post.sent[0] == Letter("orders", b'{"a":1}', "k", [("x", b"1")], 2, 3_000, "l")
    assert values(post)[1:] == ["2", "3"]
    assert producer.buffered == 0


def test_flushing_without_waiting_gives_handles(producer: Producer, post: Post) -> None:
    """With their labels; to be waited for, or awaited."""
    producer.buffer("orders", "1", label="one")
    producer.buffer("orders", "2", label="two")

    handles = producer.flush_async()

    assert [(handle.label, handle.done) for handle in handles] == [("one", False), ("two", False)]
    assert producer.buffered == 0

    async def waiting() -> list[Delivery]:
        asyncio.get_running_loop().call_soon(post.serve, 0)
        return await handles

    assert [one.offset for one in asyncio.run(waiting())] == [0, 1]


def test_flushing_nothing_is_nothing(producer: Producer) -> None:
    assert producer.flush_sync() == []
    assert list(producer.flush_async()) == []
    assert producer._line is None


def test_what_is_buffered_meanwhile_waits_for_the_next_flush_or_goes_along(
    producer: Producer, post: Post, passing: Passing
) -> None:
    """It is neither lost nor sent twice."""
    keep(producer, "1")
    post.open = False

    def meanwhile() -> None:
        if not post.open:
            keep(producer, "2")
        post.open = True

    passing.meanwhile = meanwhile
    producer.flush_sync()
    assert (values(post), left(producer)) == (["1"], ["2"])
    producer.flush_sync()
    assert values(post) == ["1", "2"]


class TestFailures:
    """What may succeed later is buffered again, in front and in order; what never will is not."""

    def test_what_failed_and_may_succeed_later_is_kept(self, producer: Producer, post: Post) -> None:
        keep(producer, "1", "2", topic="late")
        keep(producer, "3")
        keep(producer, "4", topic="late")
        post.refusing["late"] = LATE

        with pytest.raises(PartlyDeliveredError, match="3 of 4 messages") as found:
            producer.flush_sync()
        assert [isinstance(one, Delivery) for one in found.value.results] == [False, False, True, False]
        assert left(producer) == ["1", "2", "4"]

        keep(producer, "5")
        post.refusing.clear()
        assert [one.topic for one in producer.flush_sync()] == ["late", "late", "late", "orders"]
        assert values(post) == ["1", "2", "3", "4", "1", "2", "4", "5"]

    def test_what_can_never_succeed_is_told_and_let_go(self, producer: Producer, post: Post) -> None:
        """It would stand before all others for ever."""
        keep(producer, "1", topic="bad")
        keep(producer, "2")
        post.refusing["bad"] = REFUSED

        with pytest.raises(PartlyDeliveredError) as found:
            producer.flush_sync()
        assert [type(one) for one in found.value.results] == [DeliveryError, Delivery]
        assert producer.buffered == 0

    def test_what_is_not_accepted_for_good_stops_no_other(
        self, producer: Producer, post: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def send(letter: Letter, posted: Any) -> None:
            if letter.value == "2":
                raise Refused(TOO_LARGE)
            Post.send(post, letter, posted)

        monkeypatch.setattr(post, "send", send)
        keep(producer, "1", "2", "3")

        with pytest.raises(PartlyDeliveredError) as found:
            producer.flush_sync()
        assert [type(one) for one in found.value.results] == [Delivery, TooLargeError, Delivery]
        assert producer.buffered == 0

    @pytest.mark.parametrize("waits", [True, False])
    def test_a_full_queue_keeps_the_rest(self, producer: Producer, post: Post, *, waits: bool) -> None:
        """In order, the one that found out included."""
        post.room, post.open = 2, False
        keep(producer, "1", "2", "3", "4")

        with pytest.raises((QueueFullError, TimeoutError)):
            producer.flush_sync(timeout=1) if waits else producer.flush_async()
        assert (values(post), left(producer)) == (["1", "2"], ["3", "4"])

        post.open = True
        producer.flush_sync()
        assert values(post) == ["1", "2", "3", "4"]

    def test_a_full_queue_is_told_once_the_others_have_ended(self, producer: Producer, post: Post) -> None:
        """What was accepted of it is delivered; what failed of it is in front of what was not accepted."""
        post.room, post.open = 2, False
        producer._max_wait = 0.0
        keep(producer, "1", topic="late")
        keep(producer, "2", "3")
        post.refusing["late"] = LATE
        waited: list[float] = []

        def answer(seconds: float) -> None:
            waited.append(seconds)
            post.open = True

        post.meanwhile = answer
        with pytest.raises((QueueFullError, PartlyDeliveredError)):
            producer.flush_sync()

        assert waited
        assert left(producer) == ["1", "3"]

    def test_time_that_is_up_takes_nothing_back(self, producer: Producer, post: Post) -> None:
        """What is on its way stays so: sent again it might come twice."""
        post.open = False
        keep(producer, "1", "2")

        with pytest.raises(TimeoutError, match="still on its way"):
            producer.flush_sync(timeout=1)
        assert producer.buffered == 0
        post.open = True
        assert producer.flush() == 0
        assert values(post) == ["1", "2"]

    @pytest.mark.parametrize("error", [ConfigError("no such setting"), KeyboardInterrupt()])
    def test_whatever_else_comes_between_loses_nothing(
        self, post: Post, monkeypatch: pytest.MonkeyPatch, error: BaseException
    ) -> None:
        """A client that cannot be made, Ctrl-C while there is no room: what did not go stays."""
        broken = True

        def sender() -> Post:
            if broken:
                raise error
            return post

        producer = Producer({}, sender=sender)
        keep(producer, "1", "2")
        with pytest.raises(type(error)):
            producer.flush_sync()
        assert left(producer) == ["1", "2"]

        broken = False
        producer.flush_sync()
        assert values(post) == ["1", "2"]


class TestClosing:
    """Closing sends what is buffered."""

    def test_it_is_delivered(self, producer: Producer, post: Post) -> None:
        keep(producer, "1", "2")

        assert producer.close() == 0
        assert (values(post), post.waiting(), producer.buffered) == (["1", "2"], 0, 0)

    def test_what_could_not_be_sent_is_counted_and_told_to_the_log(
        self, producer: Producer, post: Post, passing: Passing, caplog: pytest.LogCaptureFixture
    ) -> None:
        """In the time it was given: what was accepted, and what was not."""
        post.room, post.open = 1, False
        keep(producer, "1", "2", "3")
        keep(producer, "4", topic="clicks")
        before = passing.monotonic()

        assert producer.close(5.0) == 4
        assert passing.monotonic() - before < 6
        said = [text for one in caplog.records if "buffered" in (text := one.getMessage()) and "is gone" not in text]
        assert said == ["3 buffered messages to 'clicks', 'orders' were not sent: the producer was closed"]

    def test_a_client_that_cannot_be_made_hides_none(self, caplog: pytest.LogCaptureFixture) -> None:
        def sender() -> Post:
            raise ConfigError("no such setting")

        producer = Producer({}, sender=sender)
        keep(producer, "1", "2")

        assert producer.close() == 2
        assert "2 buffered messages to 'orders' were not sent" in caplog.text

    def test_a_closed_producer_buffers_nothing(self, producer: Producer) -> None:
        producer.close()

        with pytest.raises(ProducerClosedError, match="make a new one") as refused:
            producer.buffer("orders", b"", key="k")
        assert (refused.value.topic, refused.value.key, producer.buffered) == ("orders", "k", 0)

    def test_a_producer_that_is_gone_tells_what_it_had_buffered(
        self, post: Post, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nobody will flush it."""
        producer = Producer({}, sender=lambda: post)
        keep(producer, "1")
        del producer
        gc.collect()

        assert "1 buffered messages to 'orders' were not sent: the producer is gone" in caplog.text
