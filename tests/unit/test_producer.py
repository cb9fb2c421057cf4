"""Sending: each message ends delivered or failed, never neither, and nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from karafka import delivery
from karafka import producer as producing
from karafka.clock import ManualClock
from karafka.delivery import Delivery, DeliveryError, Handle
from karafka.errors import BrokerError, ConfigError, Error
from karafka.messages import Header
from karafka.producer import Producer, QueueFullError
from tests.unit.house import Letter

Report = Callable[[str | None, int, int], None]


@dataclass
class Sent:
    topic: str
    value: bytes | None
    key: bytes | None
    headers: list[Header]
    partition: int | None
    timestamp: float | None
    report: Report


class Post:
    """A `client.Sender` in memory: what it took waits until `serve`, which delivers, or fails what `refusing` says."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.queue: list[Sent] = []
        self.room = 1_000
        self.refusing: dict[str, str] = {}
        #: Whether the broker answers.
        self.open = True
        self.error: Exception | None = None

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Iterable[Header],
        partition: int | None,
        timestamp: float | None,
        report: Report,
    ) -> None:
        if self.error is not None:
            raise self.error
        if len(self.queue) >= self.room:
            raise BufferError
        one = Sent(topic, value, key, list(headers), partition, timestamp, report)
        self.sent.append(one)
        self.queue.append(one)

    def serve(self, timeout: float) -> int:
        served = 0
        while self.open and self.queue:
            one = self.queue.pop(0)
            one.report(self.refusing.get(one.topic), one.partition or 0, len(self.sent) - len(self.queue) - 1)
            served += 1
        return served

    def flush(self, timeout: float) -> int:
        if not self.serve(timeout):
            CLOCK.advance(timeout)
        return len(self.queue)

    def waiting(self) -> int:
        return len(self.queue)


class NoThread:
    """Instead of the polling thread: the test serves."""

    def start(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...

    def is_alive(self) -> bool:
        return False


CLOCK = ManualClock()


class Sleeping:
    """The module `time` as the producer sees it: sleeping moves the clock, and something may happen meanwhile."""

    def __init__(self) -> None:
        self.slept = 0
        self.meanwhile: Callable[[], object] = bool

    def monotonic(self) -> float:
        return CLOCK.monotonic()

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        CLOCK.advance(seconds)
        self.meanwhile()


@pytest.fixture
def sleeping(monkeypatch: pytest.MonkeyPatch) -> Sleeping:
    made = Sleeping()
    for module in (producing, delivery):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def post(sleeping: Sleeping) -> Post:
    return Post()


@pytest.fixture
def producer(post: Post) -> Producer:
    made = Producer({}, sender=lambda: post)
    made._thread = NoThread()  # type: ignore[assignment]
    return made


class TestMessages:
    """What is sent is what was given."""

    @pytest.mark.parametrize(
        ("payload", "value"),
        [
            (b"raw", b"raw"),
            ("téxt", "téxt".encode()),
            (None, None),
            ({"a": [1, None]}, b'{"a":[1,null]}'),
            (7, b"7"),
            (2**70, b"1180591620717411303424"),
            (Delivery("t", 1, 2, 0.5), b'{"topic":"t","partition":1,"offset":2,"latency":0.5}'),
        ],
    )
    def test_payloads(self, producer: Producer, post: Post, payload: Any, value: bytes | None) -> None:
        """Bytes and text as they are, None is a tombstone, everything else through the parser."""
        producer.produce_async("orders", payload)

        assert post.sent[0].value == value

    def test_key_headers_partition_time(self, producer: Producer, post: Post) -> None:
        """Text is UTF-8; headers may be a mapping or pairs, doubles in order."""
        producer.produce_async("a", b"", key="ké", headers={"x": "1", "y": None}, partition=3, timestamp=1.5)
        producer.produce_async("a", b"", key=b"\xff", headers=[("x", b"1"), ("x", b"2")])

        first, second = post.sent
        assert (first.key, first.headers) == ("ké".encode(), [("x", b"1"), ("y", None)])
        assert (first.partition, first.timestamp) == (3, 1.5)
        assert (second.key, second.headers) == (b"\xff", [("x", b"1"), ("x", b"2")])

    @pytest.mark.parametrize("payload", [object(), {1, object()}, float, lambda: None])
    def test_what_cannot_be_written_is_refused_in_words(self, producer: Producer, post: Post, payload: Any) -> None:
        """With the topic; nothing is sent."""
        with pytest.raises(ConfigError, match="a payload for 'orders' cannot be written"):
            producer.produce_async("orders", payload)
        assert post.sent == []

    def test_a_broker_is_needed(self) -> None:
        """Told where it is made."""
        with pytest.raises(ConfigError, match=r"bootstrap.servers.*localhost:9092"):
            Producer({})

    def test_the_client_is_made_at_the_first_send(self) -> None:
        """And once."""
        made: list[Post] = []

        def sender() -> Post:
            made.append(Post())
            return made[-1]

        producer = Producer({}, sender=sender)
        producer._thread = NoThread()  # type: ignore[assignment]
        assert made == []
        producer.produce_async("a", b"")
        producer.produce_async("a", b"")
        assert len(made) == 1


class TestEnds:
    """Every message ends in exactly one of delivered and failed."""

    def test_delivered(self, producer: Producer, post: Post) -> None:
        """With where it is and how long it took."""
        handle = producer.produce_async("orders", b"")
        assert (handle.done, handle.error) == (False, None)
        CLOCK.advance(0.5)
        post.serve(0)

        assert handle.done
        assert handle.wait() == handle.result()
        found = handle.wait()
        assert (found.topic, found.partition, found.offset) == ("orders", 0, 0)
        assert found.latency == pytest.approx(0.5)

    def test_failed(self, producer: Producer, post: Post) -> None:
        """With the topic and the reason, each time it is asked."""
        post.refusing["orders"] = "too large (MSG_SIZE_TOO_LARGE)"
        handle = producer.produce_async("orders", b"")
        post.serve(0)

        for _ in range(2):
            with pytest.raises(DeliveryError, match="'orders' was not delivered: too large"):
                handle.wait()
        assert isinstance(handle.error, DeliveryError)

    def test_on_its_way(self, producer: Producer) -> None:
        """Waiting says so, and so does asking."""
        handle = producer.produce_async("orders", b"")

        with pytest.raises(TimeoutError, match="still on its way"):
            handle.wait(0)
        with pytest.raises(RuntimeError, match="still on its way"):
            handle.result()

    def test_callbacks_run_once_whenever_they_were_added(self, producer: Producer, post: Post) -> None:
        """Before the end: at it. After: at once."""
        heard: list[str] = []
        handle = producer.produce_async("orders", b"")
        handle.add_done_callback(lambda _handle: heard.append("before"))
        post.serve(0)
        handle.add_done_callback(lambda _handle: heard.append("after"))

        assert heard == ["before", "after"]

    def test_a_callback_that_raises_stops_nobody_else(self, producer: Producer, post: Post) -> None:
        """Neither other callbacks nor the polling thread, on which all handles wait."""
        heard: list[Handle] = []
        handle = producer.produce_async("orders", b"")
        other = producer.produce_async("orders", b"")
        handle.add_done_callback(lambda _handle: 1 / 0)
        handle.add_done_callback(heard.append)

        post.serve(0)

        assert heard == [handle]
        assert other.done

    def test_a_loop_that_is_closed_meanwhile_stops_nobody_else(self, producer: Producer, post: Post) -> None:
        """Whoever awaited has gone: the report must still come to its end."""
        handle = producer.produce_async("orders", b"")
        other = producer.produce_async("orders", b"")

        async def impatient() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_awaited(handle), 0.001)

        asyncio.run(impatient())
        post.serve(0)

        assert handle.done
        assert other.done

    def test_a_handle_can_be_awaited(self, producer: Producer, post: Post) -> None:
        """While it is on its way, and when it has ended; a failure raises."""

        async def sending() -> list[Any]:
            handle = producer.produce_async("orders", b"")
            asyncio.get_running_loop().call_soon(post.serve, 0)
            deliveries = [await handle, await handle]
            post.refusing["orders"] = "no"
            failing = producer.produce_async("orders", b"")
            asyncio.get_running_loop().call_soon(post.serve, 0)
            with pytest.raises(DeliveryError):
                await failing
            return deliveries

        first, second = asyncio.run(sending())
        assert first is second

    def test_several_may_await_one(self, producer: Producer, post: Post) -> None:
        """Each gets the delivery."""

        async def sending() -> list[Delivery]:
            handle = producer.produce_async("orders", b"")
            asyncio.get_running_loop().call_later(0, post.serve, 0)
            return await asyncio.gather(*(_awaited(handle) for _ in range(3)))

        assert len(asyncio.run(sending())) == 3


async def _awaited(handle: Handle) -> Delivery:
    return await handle


class TestFull:
    """A full queue is waited for, up to a limit; never dropped, never for ever."""

    def test_room_is_waited_for(self, producer: Producer, post: Post, sleeping: Sleeping) -> None:
        """Reports make it."""
        post.room = 1
        producer.produce_async("orders", b"1")
        sleeping.meanwhile = lambda: post.serve(0)

        handle = producer.produce_async("orders", b"2")

        assert sleeping.slept == 1
        assert [one.value for one in post.sent] == [b"1", b"2"]
        assert not handle.done

    def test_past_the_limit_it_is_refused(self, producer: Producer, post: Post) -> None:
        """With how long, how many wait, and what may help; it was not accepted."""
        post.room, post.open = 1, False
        producer.produce_async("orders", b"1")

        with pytest.raises(QueueFullError, match=r"60 s, 1 messages wait"):
            producer.produce_async("orders", b"2")
        assert len(post.sent) == 1

    def test_a_full_queue_does_not_stand_an_event_loop_still(
        self, producer: Producer, post: Post, sleeping: Sleeping
    ) -> None:
        """In `async def` a call that would block refuses at once."""
        post.room, post.open = 0, False

        async def sending() -> None:
            with pytest.raises(Error):
                producer.produce_async("orders", b"2")

        asyncio.run(sending())
        assert sleeping.slept == 0

    def test_what_can_never_be_sent_is_refused_at_once(self, producer: Producer, post: Post) -> None:
        """As one of ours."""
        post.error = BrokerError("message too large", retriable=False)

        with pytest.raises(Error, match="message too large"):
            producer.produce_async("orders", b"")


class TestBlocking:
    """What waits refuses to do so on a running loop."""

    def test_produce_sync(self, producer: Producer, post: Post) -> None:
        """With what to write instead; nothing is sent."""

        async def sending() -> None:
            for call in (
                lambda: producer.produce_sync("orders", b""),
                lambda: producer.produce_many_sync([{"topic": "orders", "payload": b""}]),
                producer.flush,
            ):
                with pytest.raises(ConfigError, match=r"would block the event loop.*await"):
                    call()

        asyncio.run(sending())
        assert post.sent == []

    def test_waiting_for_a_handle(self, producer: Producer) -> None:
        """It can be awaited instead."""
        handle = producer.produce_async("orders", b"")

        async def waiting() -> None:
            with pytest.raises(ConfigError, match="await"):
                handle.wait(0)

        asyncio.run(waiting())

    def test_outside_it_waits(self, producer: Producer, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        """Until confirmed."""
        original = post.send

        def served(*arguments: Any) -> None:
            original(*arguments)
            post.serve(0)

        monkeypatch.setattr(post, "send", served)

        assert producer.produce_sync("orders", b"").topic == "orders"

    def test_many_end_before_the_first_error_is_raised(
        self, producer: Producer, post: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All were sent, all have ended; deliveries in their order."""
        original = post.send

        def served(*arguments: Any) -> None:
            original(*arguments)
            if len(post.sent) == 3:
                post.serve(0)

        monkeypatch.setattr(post, "send", served)
        post.refusing["b"] = "no"

        with pytest.raises(DeliveryError, match="'b'"):
            producer.produce_many_sync([{"topic": topic, "payload": b""} for topic in "abc"])
        assert len(post.sent) == 3

        post.sent.clear()
        post.refusing.clear()
        found = producer.produce_many_sync([{"topic": topic, "payload": b""} for topic in "abc"])
        assert [one.topic for one in found] == ["a", "b", "c"]


class TestClosing:
    """Flush, and end."""

    def test_what_was_accepted_is_sent(self, producer: Producer, post: Post) -> None:
        """Nothing is left."""
        handles = [producer.produce_async("orders", b"") for _ in range(3)]

        assert producer.close() == 0
        assert all(handle.done for handle in handles)

    def test_what_could_not_be_sent_is_counted(self, producer: Producer, post: Post) -> None:
        """In the time it was given."""
        post.open = False
        for _ in range(3):
            producer.produce_async("orders", b"")
        before = CLOCK.monotonic()

        assert producer.close(5.0) == 3
        assert CLOCK.monotonic() - before == pytest.approx(5.0, abs=0.2)

    def test_what_could_not_be_sent_has_failed(self, producer: Producer, post: Post) -> None:
        """Whoever waits for it would wait for ever: nobody reads reports any more."""
        post.open = False
        handle = producer.produce_async("orders", b"")
        producer.close(1.0)

        assert handle.done
        with pytest.raises(DeliveryError):
            handle.result()

    @pytest.mark.parametrize("used", [True, False])
    def test_a_closed_producer_sends_nothing_more(self, producer: Producer, post: Post, used: bool) -> None:  # noqa: FBT001
        """Whether it was used before or not: nobody would ever report on it."""
        if used:
            producer.produce_async("orders", b"")
        producer.close()
        before = len(post.sent)

        with pytest.raises(ConfigError, match="closed"):
            producer.produce_async("orders", b"")
        assert len(post.sent) == before

    def test_a_closed_producer_lets_its_client_go(self, producer: Producer) -> None:
        """Its threads are to end before the interpreter does."""
        producer.produce_async("orders", b"")
        producer.close()

        assert producer._sender is None

    def test_as_a_context_it_closes(self, producer: Producer, post: Post) -> None:
        """Sent by the end of the block."""
        with producer as inside:
            handle = inside.produce_async("orders", b"")

        assert handle.done

    def test_closing_twice_and_unused_is_nothing(self, producer: Producer) -> None:
        """No client is made for it."""
        assert (producer.close(), producer.close()) == (0, 0)
        assert producer._sender is None


class TestDying:
    """A client that is of no more use: nobody waits for ever, and the next send has another."""

    def test_what_it_has_not_reported_has_failed(self, post: Post) -> None:
        """Handles and dead letters alike; a new client takes what comes next."""
        posts = [Post(), post]
        producer = Producer({}, sender=posts.pop)
        producer._thread = NoThread()  # type: ignore[assignment]
        handle = producer.produce_async("orders", b"1")
        answers: list[str | None] = []
        producer.bury("dead", Letter("orders", 0, 7, b"{}", b"k"), [], answers.append)

        def serve(_timeout: float) -> int:
            producer._ended.set()
            raise BrokerError("not allowed", retriable=False)

        post.serve = serve  # type: ignore[assignment, method-assign]
        producer._serve()

        with pytest.raises(DeliveryError, match="of no more use: not allowed"):
            handle.wait(0)
        assert "not allowed" in str(answers)
        again = producer.produce_async("orders", b"2")
        assert producer._sender is not post
        assert not again.done


class TestBurying:
    """Dead letters: as they came, answered once, never raised."""

    @pytest.mark.parametrize("refusal", [None, "no such topic"])
    def test_the_answer(self, producer: Producer, post: Post, refusal: str | None) -> None:
        """None when kept, else why not."""
        answers: list[str | None] = []
        if refusal is not None:
            post.refusing["dead"] = refusal
        producer.bury("dead", Letter("orders", 0, 7, b"{}", b"k"), [("a", None)], answers.append)
        assert answers == []
        post.serve(0)

        (answer,) = answers
        assert (answer is None) == (refusal is None)
        assert (refusal or "") in (answer or "")
        (sent,) = post.sent
        assert (sent.topic, sent.value, sent.key, sent.headers) == ("dead", b"{}", b"k", [("a", None)])

    @pytest.mark.parametrize("error", [BufferError(), BrokerError("too large", retriable=False), ConfigError("no")])
    def test_what_is_not_accepted_is_answered_too(self, producer: Producer, post: Post, error: Exception) -> None:
        """The partition waits for an answer."""
        answers: list[str | None] = []
        post.error = error
        producer.bury("dead", Letter("orders", 0, 7), [], answers.append)

        assert len(answers) == 1
        assert answers[0]

    def test_a_closed_producer_answers_too(self, producer: Producer, post: Post) -> None:
        """With why."""
        answers: list[str | None] = []
        producer.produce_async("orders", b"")
        producer.close()
        producer.bury("dead", Letter("orders", 0, 7), [], answers.append)

        assert answers
        assert "closed" in str(answers[0])
