"""A producer tells what becomes of its messages, once each; what fails and nobody hears of is told to the log."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import pytest

from karafka.client import Effect, Refused, Trouble
from karafka.delivery import Handle
from karafka.errors import DeliveryError, InvalidMessageError, PartlyDeliveredError, QueueFullError
from karafka.events import (
    Acknowledged,
    BufferFlushed,
    DeliveryFailed,
    Event,
    Events,
    Produced,
    ProducerReplaced,
    ProducerTroubled,
    QueueFull,
)
from karafka.producer import Producer
from tests.unit import house
from tests.unit.post import LATE, REFUSED, TOO_LARGE, Passing, Post, poller_of, turn, without_threads

E = TypeVar("E", bound=Event)


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Passing:
    return without_threads(monkeypatch)


@pytest.fixture
def post(passing: Passing) -> Post:
    return Post(passing.wait)


@pytest.fixture
def producer(post: Post) -> Producer:
    return Producer({}, sender=lambda: post)


def told(producer: Producer, kind: type[E]) -> list[E]:
    """What is told of `kind` from here on."""
    heard: list[E] = []
    producer.events.on(kind, heard.append)
    return heard


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Without what producers of other tests say, when they are collected."""
    said = [one.getMessage() for one in caplog.records if one.name == "karafka.producer"]
    return [one for one in said if "the producer is gone" not in one]


class TestAccepted:
    """`Produced`: a message is on its way."""

    def test_with_its_size_and_label(self, producer: Producer) -> None:
        heard = told(producer, Produced)
        producer.produce_async("orders", "é", key="k", headers={"ab": b"cd"}, label=7)

        assert heard == [Produced(topic="orders", key="k", size=2 + 1 + 2 + 2, label=7)]

    def test_once_however_often_the_queue_was_full(self, producer: Producer, post: Post, passing: Passing) -> None:
        heard = told(producer, Produced)
        post.room, post.open = 1, False
        passing.meanwhile = lambda: setattr(post, "open", passing.monotonic() > 1_001)
        producer.produce_async("orders", b"1", label=1)
        producer.produce_async("orders", b"2", label=2)

        assert [one.label for one in heard] == [1, 2]

    @pytest.mark.parametrize("error", [Refused(TOO_LARGE), BufferError()])
    def test_never_of_what_was_not(self, producer: Producer, post: Post, error: Exception) -> None:
        """It would be waited for."""
        heard = told(producer, Produced)
        post.error = error
        with pytest.raises(DeliveryError):
            producer.produce_async("orders", b"1")
        with pytest.raises(InvalidMessageError):
            producer.produce_async("orders", object())

        assert heard == []

    def test_of_each_of_many_and_of_each_that_is_flushed(self, producer: Producer) -> None:
        heard = told(producer, Produced)
        producer.produce_many_async([{"topic": "orders", "payload": b"", "label": number} for number in range(3)])
        producer.buffer("orders", b"", label="buffered")
        assert [one.label for one in heard] == [0, 1, 2]
        producer.flush_async()

        assert [one.label for one in heard] == [0, 1, 2, "buffered"]


class TestConfirmed:
    """`Acknowledged`: the broker has it."""

    def test_with_where_it_is_and_how_long_it_took(self, producer: Producer) -> None:
        heard = told(producer, Acknowledged)
        producer.produce_async("orders", b"1", partition=3)
        producer.produce_async("orders", b"12", key=b"k", partition=3, label="l")
        assert heard == []
        turn(producer)

        assert heard == [
            Acknowledged(topic="orders", partition=3, offset=0, key=None, size=1, latency=0.25, label=None),
            Acknowledged(topic="orders", partition=3, offset=1, key=b"k", size=3, latency=0.25, label="l"),
        ]

    def test_after_it_was_accepted(self, producer: Producer) -> None:
        """Each message's events are in order."""
        heard = told(producer, Event)
        producer.produce_async("orders", b"", label="l")
        turn(producer)

        assert [type(one) for one in heard] == [Produced, Acknowledged]

    def test_whoever_waits_is_told_nothing_less(self, producer: Producer) -> None:
        heard = told(producer, Acknowledged)
        delivery = producer.produce_sync("orders", b"", label="l")

        assert [(one.offset, one.label) for one in heard] == [(delivery.offset, "l")]

    def test_never_of_what_failed(self, producer: Producer, post: Post) -> None:
        heard = told(producer, Acknowledged)
        post.refusing["orders"] = REFUSED
        producer.produce_async("orders", b"")
        turn(producer)

        assert heard == []

    def test_a_listener_that_raises_stops_nobody(self, producer: Producer) -> None:
        """The handle has ended all the same, and so have those behind it."""

        def fail(_event: Acknowledged) -> None:
            raise ZeroDivisionError

        producer.events.on(Acknowledged, fail)
        handles = [producer.produce_async("orders", b"") for _ in range(2)]
        turn(producer)

        assert [handle.result().offset for handle in handles] == [0, 1]
        assert producer.events.failures == 2

    def test_a_listener_that_comes_late_hears_of_what_is_sent_from_then_on(self, producer: Producer) -> None:
        producer.produce_async("orders", b"")
        heard = told(producer, Acknowledged)
        producer.produce_async("orders", b"", label="l")
        turn(producer)

        assert heard[-1].label == "l"


class TestFailed:
    """`DeliveryFailed`: nobody will read it."""

    def test_with_the_reason_in_parts(self, producer: Producer, post: Post) -> None:
        heard = told(producer, DeliveryFailed)
        post.refusing["orders"] = LATE
        handle = producer.produce_async("orders", b"", key="k", label="l")
        turn(producer)

        assert heard == [
            DeliveryFailed(
                topic="orders",
                key="k",
                label="l",
                kind="DeliveryTimeoutError",
                code="_MSG_TIMED_OUT",
                retriable=True,
                error=str(handle.error),
            )
        ]

    @pytest.mark.parametrize("waited", [True, False])
    def test_whether_somebody_waits_or_not(
        self, producer: Producer, post: Post, caplog: pytest.LogCaptureFixture, *, waited: bool
    ) -> None:
        """Who listens is told of all; then the log is left alone."""
        heard = told(producer, DeliveryFailed)
        post.refusing["orders"] = REFUSED
        handle = producer.produce_async("orders", b"")
        if waited:
            with pytest.raises(DeliveryError):
                handle.wait()
        turn(producer)

        assert len(heard) == 1
        assert logged(caplog) == []

    def test_what_a_closed_producer_gives_up_too(self, producer: Producer, post: Post) -> None:
        heard = told(producer, DeliveryFailed)
        post.open = False
        producer.produce_async("orders", b"", label="l")
        producer.close(1.0)

        assert [(one.kind, one.label, one.retriable) for one in heard] == [("ProducerClosedError", "l", False)]


class TestLogged:
    """Where nobody listens, and nobody waits, the log is told: once for what failed alike."""

    def test_once_for_each_topic_and_reason(
        self, producer: Producer, post: Post, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A thousand lines would say no more."""
        post.refusing |= {"late": LATE, "bad": REFUSED}
        for topic in ("late", "bad", "late", "orders", "late"):
            producer.produce_async(topic, b"", key=str(len(post.sent)))
        turn(producer)

        assert sorted(logged(caplog)) == [
            f"3 messages to 'late' not delivered, and nobody waits to hear of it: {LATE.text}",
            f"a message to 'bad' not delivered, and nobody waits to hear of it: {REFUSED.text}",
        ]

    def test_again_when_it_happens_again(
        self, producer: Producer, post: Post, caplog: pytest.LogCaptureFixture
    ) -> None:
        post.refusing["late"] = LATE
        for _ in range(2):
            producer.produce_async("late", b"")
            turn(producer)

        assert len(logged(caplog)) == 2

    def test_not_of_what_somebody_waits_for(
        self, producer: Producer, post: Post, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One is told already: by an exception, a callback, an answer."""
        post.refusing["late"] = LATE
        with pytest.raises(DeliveryError):
            producer.produce_sync("late", b"")
        heard: list[Handle] = []
        post.open = False  # it ends when somebody waits for it, not before
        producer.produce_async("late", b"").add_done_callback(heard.append)
        post.open = True
        answers: list[str | None] = []
        producer.bury("late", house.Letter("orders", 0, 0), [], answers.append)

        def answer() -> None:
            post.open = True
            turn(producer)

        async def awaiting() -> None:
            post.open = False
            handle = producer.produce_async("late", b"")
            asyncio.get_running_loop().call_soon(answer)
            with pytest.raises(DeliveryError):
                await handle

        asyncio.run(awaiting())
        assert len(heard) == len(answers) == 1
        assert logged(caplog) == []

    def test_not_of_several_that_somebody_waits_for_together(
        self, producer: Producer, post: Post, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whichever of them comes first."""
        post.refusing["late"] = LATE
        rows: Any = [{"topic": topic, "payload": b""} for topic in ("orders", "late", "late")]
        with pytest.raises(PartlyDeliveredError):
            producer.produce_many_sync(rows)
        for row in rows:
            producer.buffer(**row)
        with pytest.raises(PartlyDeliveredError):
            producer.flush_sync()

        async def awaiting() -> None:
            handles = producer.produce_many_async(rows)
            asyncio.get_running_loop().call_soon(turn, producer)
            with pytest.raises(PartlyDeliveredError):
                await handles

        asyncio.run(awaiting())
        assert logged(caplog) == []


class TestFull:
    """`QueueFull`: somebody waits for room, or is refused."""

    def test_once_for_each_that_finds_it_full(self, producer: Producer, post: Post, passing: Passing) -> None:
        """However long it waits then."""
        heard = told(producer, QueueFull)
        post.room, post.open = 1, False
        producer.produce_async("orders", b"1")
        passing.meanwhile = lambda: setattr(post, "open", passing.monotonic() > 1_010)
        producer.produce_async("clicks", b"2")

        assert heard == [QueueFull(topic="clicks", waiting=1)]

    def test_once_for_many_that_are_sent_at_once(self, producer: Producer, post: Post) -> None:
        """The first has waited in vain; those behind it do not wait again, and say nothing of their own."""
        heard = told(producer, QueueFull)
        post.room, post.open = 1, False
        handles = producer.produce_many_async({"topic": "orders", "payload": b"%d" % one} for one in range(5))

        assert [one.error is not None for one in handles] == [False, True, True, True, True]
        assert heard == [QueueFull(topic="orders", waiting=1)]

    def test_on_an_event_loop_too(self, producer: Producer, post: Post) -> None:
        heard = told(producer, QueueFull)
        post.room = 0

        async def sending() -> None:
            with pytest.raises(QueueFullError):
                producer.produce_async("orders", b"1")

        asyncio.run(sending())
        assert heard == [QueueFull(topic="orders", waiting=0)]


class TestFlushed:
    """`BufferFlushed`: how many went, how large they are, how many are left."""

    def test_all_went(self, producer: Producer) -> None:
        heard = told(producer, BufferFlushed)
        producer.buffer("orders", b"123", key="k")
        producer.buffer("orders", b"1")
        producer.flush_async()
        producer.flush_async()

        assert heard == [BufferFlushed(count=2, size=5, left=0)]

    def test_some_are_left(self, producer: Producer, post: Post) -> None:
        heard = told(producer, BufferFlushed)
        post.room, post.open = 1, False
        for _ in range(3):
            producer.buffer("orders", b"1")
        with pytest.raises(QueueFullError):
            producer.flush_async()

        assert heard == [BufferFlushed(count=1, size=1, left=2)]

    def test_what_was_not_accepted_is_not_among_those_that_went(self, producer: Producer, post: Post) -> None:
        heard = told(producer, BufferFlushed)
        post.error = Refused(TOO_LARGE)
        producer.buffer("orders", b"1")
        producer.flush_async()

        assert not any(one.count for one in heard)


class TestTroubles:
    """What the client says of itself."""

    @pytest.mark.parametrize("effect", [Effect.NEWS, Effect.HOLD])
    def test_a_trouble_is_told_and_all_goes_on(self, producer: Producer, post: Post, effect: Effect) -> None:
        heard = told(producer, Event)
        post.troubles.append(Trouble("_ALL_BROKERS_DOWN", "2/2 brokers are down", effect))
        handle = producer.produce_async("orders", b"")
        turn(producer)

        assert ProducerTroubled(code="_ALL_BROKERS_DOWN", error="2/2 brokers are down") in heard
        assert handle.result().offset == 0

    def test_what_lasts_is_told_once_however_many_clients_say_it(self, passing: Passing) -> None:
        """A route with exactly_once has a client for each partition: all of them miss the broker that is away."""
        posts = [Post(passing.wait) for _ in range(3)]
        left = iter(posts)
        events = Events()
        heard: list[ProducerTroubled] = []
        events.on(ProducerTroubled, heard.append)
        producers = [Producer({}, events=events, sender=lambda: next(left)) for _ in posts]

        def say(code: str, text: str) -> None:
            for producer, post in zip(producers, posts, strict=True):
                post.troubles.append(Trouble(code, text, Effect.NEWS))
                producer.produce_async("orders", b"")
                turn(producer)

        for second in range(0, 200, 30):
            say("_TRANSPORT", f"a:1: connection refused (after {second} ms)")
            passing.clock.advance(30)
        assert [one.error for one in heard] == ["a:1: connection refused (after 0 ms)"]
        say("_RESOLVE", "a: no such host")
        assert [one.code for one in heard] == ["_TRANSPORT", "_RESOLVE"]
        passing.clock.advance(60)
        say("_TRANSPORT", "a:1: connection refused")
        assert [one.code for one in heard] == ["_TRANSPORT", "_RESOLVE", "_TRANSPORT"]

    def test_whoever_listens_hears_of_it(self, passing: Passing) -> None:
        """Also where another producer, with events of its own, has told it."""
        for _ in range(2):
            post = Post(passing.wait)
            producer = Producer({}, sender=lambda post=post: post)  # type: ignore[misc]  # this turn's
            heard = told(producer, ProducerTroubled)
            post.troubles.append(Trouble("_TRANSPORT", "connection refused", Effect.NEWS))
            producer.produce_async("orders", b"")
            turn(producer)
            assert len(heard) == 1

    @pytest.mark.parametrize("found", ["by the client", "by a message"])
    def test_a_client_of_no_more_use_is_told_once(self, passing: Passing, found: str) -> None:
        """However it was found out."""
        posts = [Post(passing.wait), Post(passing.wait)]
        left = iter(posts)
        events = Events()
        heard: list[ProducerReplaced] = []
        events.on(ProducerReplaced, heard.append)
        producer = Producer({}, events=events, sender=lambda: next(left))
        producer.produce_async("orders", b"1")
        first = poller_of(producer)
        if found == "by the client":
            posts[0].die()
            turn(producer)
            producer.produce_async("orders", b"2")
        else:
            posts[0].die(silently=True)
            producer.produce_async("orders", b"2")
            posts[0].die()
        first.glance()

        assert [one.value for one in posts[1].sent] == [b"2"]
        (said,) = heard
        assert "of no more use: out of order" in said.error
