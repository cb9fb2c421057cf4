"""Sending: each message ends delivered or failed, never neither, and nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest

from karafka.client import Refused
from karafka.delivery import Failure, Fault, Handle
from karafka.errors import (
    ClientFailedError,
    ConfigError,
    DeliveryError,
    DeliveryTimeoutError,
    Error,
    InvalidMessageError,
    PartlyDeliveredError,
    ProducerClosedError,
    QueueFullError,
    TooLargeError,
)
from karafka.events import Event
from karafka.letters import Row
from karafka.parsers import JSON, Text
from karafka.producer import Producer
from tests.unit import house
from tests.unit.post import BROKEN, LATE, REFUSED, Passing, Post, turn, without_threads


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


class Shouting(Text):
    """A parser of one's own."""

    def generate(self, payload: Any, /) -> bytes:
        return super().generate(str(payload).upper())


class TestMessages:
    """What is sent is what was given."""

    def test_payload_key_headers_partition_time(self, producer: Producer, post: Post) -> None:
        """Headers may be a mapping or pairs, doubles in order."""
        producer.produce_async("a", {"b": 1}, key="ké", headers={"x": "1", "y": None}, partition=3, timestamp=1.5)
        producer.produce_async("a", b"", key=b"\xff", headers=[("x", b"1"), ("x", b"2")])

        first, second = post.sent
        assert (first.topic, first.value, first.key, first.headers) == (
            "a",
            b'{"b":1}',
            "ké",
            [("x", b"1"), ("y", None)],
        )
        assert (first.partition, first.timestamp) == (3, 1_500)
        assert (second.value, second.key, second.headers) == (b"", b"\xff", [("x", b"1"), ("x", b"2")])
        assert (second.partition, second.timestamp) == (-1, 0)

    def test_each_topic_may_have_its_parser(self, post: Post) -> None:
        producer = Producer({}, parser=Shouting(), parsers={"quiet": JSON()}, sender=lambda: post)
        producer.produce_async("loud", ["hi"])
        producer.produce_async("quiet", ["hi"])

        assert [one.value for one in post.sent] == [b"['HI']", b'["hi"]']

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"topic": "two words"}, "no topic name"),
            ({"payload": {"a": [1, {"b": object()}]}}, r"cannot be written, at \$\.a\[1\]\.b \(object\)"),
            ({"key": 7}, r"has the key 7, of type int"),
            ({"headers": {"a": 1}}, "the header 'a' is 1"),
            ({"partition": -1}, "names partition -1"),
            ({"timestamp": -1.0}, "has the timestamp -1.0"),
        ],
    )
    @pytest.mark.parametrize("heard", [False, True])
    def test_what_kafka_has_no_such_message_for_is_refused(
        self, producer: Producer, post: Post, arguments: dict[str, Any], said: str, *, heard: bool
    ) -> None:
        """However it is sent, and whoever listens; nothing leaves."""
        if heard:
            producer.events.on(Event, bool)
        message: Any = {"topic": "orders", "payload": b"", **arguments}
        for send in (producer.produce_async, producer.produce_sync, producer.buffer):
            with pytest.raises(InvalidMessageError, match=said):
                send(**message)
        with pytest.raises(InvalidMessageError, match=said):
            producer.produce_many_sync([message])

        assert post.sent == []
        assert producer.buffered == 0

    @pytest.mark.parametrize("heard", [False, True])
    def test_text_that_is_no_utf8_is_refused(self, post: Post, *, heard: bool) -> None:
        """It is the client that finds out: it says so of payloads and keys, whoever listens."""
        producer = Producer({}, sender=lambda: post)
        post.error = Refused(Failure(Fault.INVALID, "", "text that is no UTF-8", retriable=False))
        if heard:
            producer.events.on(Event, bool)
        for message in ({"payload": "\ud800"}, {"payload": b"", "key": "\ud800"}):
            with pytest.raises(InvalidMessageError, match="no UTF-8"):
                producer.produce_async("orders", **message)

    def test_what_is_larger_than_the_client_takes_is_refused(self, post: Post) -> None:
        """With its size, the limit and the limit's name."""
        post.error = Refused(Failure(Fault.TOO_LARGE, "MSG_SIZE_TOO_LARGE", "too large", retriable=False))
        producer = Producer({"message.max.bytes": 2_000}, sender=lambda: post)

        with pytest.raises(TooLargeError, match=r"2008 bytes.*takes 2000: message.max.bytes") as refused:
            producer.produce_async("orders", b"x" * 2_000, key=b"key", headers={"four": "4"})
        assert (refused.value.topic, refused.value.key) == ("orders", b"key")
        assert (refused.value.code, refused.value.retriable) == ("MSG_SIZE_TOO_LARGE", False)

    def test_a_label_comes_back_and_is_not_sent(self, producer: Producer, post: Post) -> None:
        label = object()
        handle = producer.produce_async("orders", b"", label=label)

        assert handle.label is label
        assert post.sent[0].headers is None

    def test_a_tombstone_is_a_key_without_a_payload(self, producer: Producer, post: Post) -> None:
        producer.tombstone("orders", "k", headers={"why": "gone"}, partition=1)

        (sent,) = post.sent
        assert (sent.value, sent.key, sent.headers, sent.partition) == (None, "k", [("why", b"gone")], 1)

    @pytest.mark.parametrize("key", ["", b"", None])
    def test_a_tombstone_without_a_key_is_refused(self, producer: Producer, post: Post, key: Any) -> None:
        """It would delete nothing."""
        with pytest.raises(InvalidMessageError, match="'orders' without a key deletes nothing"):
            producer.tombstone("orders", key)
        assert post.sent == []


class TestMaking:
    """What cannot work is said where it is made; the client is made when it is needed."""

    def test_a_broker_is_needed(self) -> None:
        with pytest.raises(ConfigError, match=r"bootstrap.servers.*localhost:9092"):
            Producer({})

    @pytest.mark.parametrize("name", ["delivery.report.only.error", "on_delivery", "dr_cb", "dr_msg_cb"])
    def test_what_handles_stand_on_cannot_be_taken_away(self, name: str) -> None:
        with pytest.raises(ConfigError, match=f"sets {name!r}, which belongs to the framework"):
            Producer({"bootstrap.servers": "a:1", name: True})

    @pytest.mark.parametrize("seconds", [-1, True, "60", float("nan")])
    def test_a_wait_is_a_number(self, seconds: Any) -> None:
        with pytest.raises(ConfigError, match="max_wait_on_full"):
            Producer({"bootstrap.servers": "a:1"}, max_wait_on_full=seconds)

    def test_the_client_is_made_at_the_first_send_and_once(self, passing: Passing) -> None:
        made: list[Post] = []

        def sender() -> Post:
            made.append(Post(passing.wait))
            return made[-1]

        producer = Producer({}, sender=sender)
        assert made == []
        producer.produce_async("a", b"")
        producer.produce_async("a", b"")
        assert len(made) == 1


class TestFull:
    """A full queue is waited for, up to a limit; never dropped, never for ever."""

    def test_room_is_waited_for(self, producer: Producer, post: Post, passing: Passing) -> None:
        """Reports make it."""
        post.room, post.open = 1, False
        first = producer.produce_async("orders", b"1")
        passing.meanwhile = lambda: setattr(post, "open", True)

        second = producer.produce_async("orders", b"2")

        assert (first.done, second.done) == (True, False)
        assert [one.value for one in post.sent] == [b"1", b"2"]

    @pytest.mark.parametrize("seconds", [60.0, 5.0, 0.0])
    def test_past_the_limit_it_is_refused(self, post: Post, passing: Passing, seconds: float) -> None:
        """With how long, how many wait, and what may help; it was not accepted."""
        post.room, post.open = 1, False
        producer = Producer({}, max_wait_on_full=seconds, sender=lambda: post)
        producer.produce_async("orders", b"1")
        before = passing.monotonic()

        with pytest.raises(QueueFullError, match=rf"'orders' with key 'k'.*{seconds:g} s, 1 messages wait") as refused:
            producer.produce_async("orders", b"2", key="k")
        assert passing.monotonic() - before == pytest.approx(seconds, abs=0.2)
        assert len(post.sent) == 1
        assert (refused.value.topic, refused.value.key, refused.value.retriable) == ("orders", "k", True)

    def test_a_full_queue_does_not_stand_an_event_loop_still(
        self, producer: Producer, post: Post, passing: Passing
    ) -> None:
        """In `async def` a call that would block refuses at once, and says what to do."""
        post.room, post.open = 1, False
        before = passing.monotonic()

        async def sending() -> None:
            producer.produce_async("orders", b"1")
            with pytest.raises(QueueFullError, match=r"await handles of before.*asyncio\.to_thread"):
                producer.produce_async("orders", b"2")
            refused = producer.produce_many_async(rows("a", "b"))
            assert [type(one.error) for one in refused] == [QueueFullError, QueueFullError]

        asyncio.run(sending())
        assert passing.monotonic() == before

    @pytest.mark.parametrize(
        "call",
        [
            lambda producer: producer.produce_sync("orders", b"2", timeout=5),
            lambda producer: producer.produce_many_sync(rows("orders", "orders"), timeout=5),
            lambda producer: producer.flush_sync(timeout=5),
        ],
        ids=["produce_sync", "produce_many_sync", "flush_sync"],
    )
    @pytest.mark.parametrize("room", [True, False])
    def test_a_timeout_holds_for_the_wait_for_room_too(
        self, producer: Producer, post: Post, passing: Passing, call: Callable[[Producer], object], *, room: bool
    ) -> None:
        """Whether there is room at last, and the rest of the time is for the confirmation, or none."""
        post.room, post.open = 1, False
        producer.produce_async("orders", b"1")
        producer.buffer("orders", b"2")
        before = passing.monotonic()

        def meanwhile() -> None:
            if room and passing.monotonic() - before > 3:
                post.room = 3

        passing.meanwhile = meanwhile
        with pytest.raises((TimeoutError, QueueFullError, PartlyDeliveredError)) as found:
            call(producer)
        assert passing.monotonic() - before == pytest.approx(5, abs=0.01)
        assert isinstance(found.value, TimeoutError) == room
        assert ("not confirmed after" if room else "the queue stayed full for 5 s, 1 messages wait") in str(found.value)

    def test_of_many_the_wait_for_room_is_one(self, producer: Producer, post: Post, passing: Passing) -> None:
        """Not a minute for each, one after the other."""
        post.room, post.open = 1, False
        producer.produce_async("orders", b"1")
        before = passing.monotonic()

        refused = producer.produce_many_async(rows("a", "b", "c"))
        assert passing.monotonic() - before == pytest.approx(60, abs=0.2)
        assert {type(one.error) for one in refused} == {QueueFullError}

    def test_what_can_never_be_sent_is_refused_at_once(self, producer: Producer, post: Post, passing: Passing) -> None:
        """As one of ours."""
        post.error = Refused(REFUSED)
        before = passing.monotonic()

        with pytest.raises(DeliveryError, match="the broker refused it"):
            producer.produce_async("orders", b"")
        assert passing.monotonic() == before


class TestBlocking:
    """What waits refuses to do so on a running loop."""

    @pytest.mark.parametrize(
        "call",
        [
            lambda producer: producer.produce_sync("orders", b""),
            lambda producer: producer.produce_many_sync(rows("orders")),
            lambda producer: producer.flush_sync(),
            lambda producer: producer.flush(),
            lambda producer: producer.close(),
        ],
    )
    def test_with_what_to_write_instead(
        self, producer: Producer, post: Post, call: Callable[[Producer], object]
    ) -> None:
        """Nothing is sent."""

        async def sending() -> None:
            with pytest.raises(ConfigError, match=r"would block the event loop.*await"):
                call(producer)

        asyncio.run(sending())
        assert post.sent == []
        producer.produce_async("orders", b"")

    def test_waiting_for_a_handle(self, producer: Producer) -> None:
        """It can be awaited instead; one that has ended need not be waited for."""
        handle = producer.produce_async("orders", b"")

        async def waiting() -> None:
            with pytest.raises(ConfigError, match="await"):
                handle.wait(0)
            turn(producer)
            assert handle.wait(0).offset == 0

        asyncio.run(waiting())


class TestFlushing:
    """Wait until all that was accepted has ended."""

    def test_all_has_ended(self, producer: Producer, post: Post) -> None:
        handles = [producer.produce_async("orders", b"") for _ in range(3)]

        assert producer.flush() == 0
        assert all(handle.done for handle in handles)

    def test_what_has_not_is_counted_and_stays_on_its_way(
        self, producer: Producer, post: Post, passing: Passing
    ) -> None:
        post.open = False
        handle = producer.produce_async("orders", b"")
        before = passing.monotonic()

        assert producer.flush(5.0) == 1
        assert passing.monotonic() - before == pytest.approx(5.0, abs=0.2)
        assert not handle.done
        post.open = True
        assert handle.wait().offset == 0

    def test_a_producer_that_was_never_used_has_nothing_to_flush(self, producer: Producer) -> None:
        assert producer.flush() == 0
        assert producer._line is None


class TestClosing:
    """Flush, and end."""

    def test_what_was_accepted_is_sent(self, producer: Producer) -> None:
        """Nothing is left."""
        handles = [producer.produce_async("orders", b"") for _ in range(3)]

        assert producer.close() == 0
        assert [handle.result().offset for handle in handles] == [0, 1, 2]

    def test_what_could_not_be_sent_is_counted(self, producer: Producer, post: Post, passing: Passing) -> None:
        """In the time it was given."""
        post.open = False
        for _ in range(3):
            producer.produce_async("orders", b"")
        before = passing.monotonic()

        assert producer.close(5.0) == 3
        assert passing.monotonic() - before == pytest.approx(5.0, abs=0.2)

    def test_what_could_not_be_sent_has_failed(self, producer: Producer, post: Post) -> None:
        """Whoever waits for it would wait for ever: nobody reads reports any more."""
        post.open = False
        handle = producer.produce_async("orders", b"", key="k")
        producer.close(1.0)

        with pytest.raises(ProducerClosedError, match="closed before the broker confirmed it") as found:
            handle.result()
        assert (found.value.topic, found.value.key, found.value.retriable) == ("orders", "k", False)

    def test_what_is_accepted_meanwhile_has_ended_too(self, producer: Producer, post: Post, passing: Passing) -> None:
        """Another thread was inside `produce_async` when the rest was given up: it must not wait for ever."""
        post.open = False
        first, late = producer.produce_async("orders", b"1"), []
        line, give_up = producer._line, post.purge

        def send() -> None:
            """By the client that it had looked up before, as most messages are."""
            producer._line = line
            late.append(producer.produce_async("orders", b"2"))

        sending = Thread(target=send)

        def purge(failure: Failure) -> None:
            give_up(failure)
            if sending.ident is None:
                sending.start()
                post.until(lambda: len(post.sent) == 2)

        post.purge = purge  # type: ignore[method-assign]  # to stand in between
        producer.close(1.0)
        sending.join()

        assert [type(handle.error) for handle in (first, *late)] == [ProducerClosedError, ProducerClosedError]

    @pytest.mark.parametrize("used", [True, False])
    def test_a_closed_producer_sends_nothing_more(self, producer: Producer, post: Post, *, used: bool) -> None:
        """Whether it was used before or not: nobody would ever report on it."""
        if used:
            producer.produce_async("orders", b"")
        producer.close()
        before = len(post.sent)

        for send in (producer.produce_async, producer.produce_sync, producer.buffer):
            with pytest.raises(ProducerClosedError, match="the producer was closed: make a new one") as refused:
                send("orders", b"", key="k")
            assert (refused.value.topic, refused.value.key, refused.value.retriable) == ("orders", "k", False)
        for many in (producer.produce_many_async, producer.produce_many_sync):
            with pytest.raises(ProducerClosedError, match="the producer was closed: make a new one"):
                many(rows("orders"))
        with pytest.raises(ProducerClosedError):
            producer.variant(acks=0)
        assert len(post.sent) == before

    def test_as_a_context_it_closes(self, producer: Producer) -> None:
        """Sent by the end of the block."""
        with producer as inside:
            handle = inside.produce_async("orders", b"")

        assert handle.done
        with pytest.raises(ProducerClosedError):
            inside.produce_async("orders", b"")

    def test_also_where_the_block_raises(self, producer: Producer) -> None:
        handles: list[Handle] = []

        def sending() -> None:
            with producer:
                handles.append(producer.produce_async("orders", b""))
                raise PermissionError

        with pytest.raises(PermissionError):
            sending()
        assert handles[0].done

    def test_as_an_async_context_too(self, producer: Producer) -> None:
        async def sending() -> Handle:
            async with producer as inside:
                return inside.produce_async("orders", b"")

        assert asyncio.run(sending()).done
        assert asyncio.run(producer.aclose()) == 0

    def test_closing_twice_and_unused_is_nothing(self, producer: Producer) -> None:
        """No client is made for it."""
        assert (producer.close(), producer.close()) == (0, 0)
        assert producer._line is None


class TestDying:
    """A client that is of no more use: the next send has another."""

    def test_a_client_that_refuses_for_good_is_replaced(self, passing: Passing) -> None:
        """The message that found out goes by the next one."""
        posts = [Post(passing.wait), Post(passing.wait)]
        left = iter(posts)
        producer = Producer({}, sender=lambda: next(left))
        producer.produce_async("orders", b"1")
        posts[0].error = Refused(BROKEN)

        handle = producer.produce_async("orders", b"2")

        assert [one.value for one in posts[1].sent] == [b"2"]
        assert handle.wait().offset == 0

    def test_clients_that_all_refuse_are_not_made_for_ever(self, passing: Passing) -> None:
        """Whoever sends hears of it."""
        made: list[Post] = []

        def sender() -> Post:
            assert len(made) < 100, "a client is made again and again"
            made.append(Post(passing.wait))
            made[-1].error = Refused(BROKEN)
            return made[-1]

        with pytest.raises(ClientFailedError, match="out of order"):
            Producer({}, sender=sender).produce_async("orders", b"")


class TestBurying:
    """Dead letters: as they came, answered once, never raised."""

    @pytest.mark.parametrize("refusal", [None, LATE])
    def test_the_answer(self, producer: Producer, post: Post, refusal: Failure | None) -> None:
        """None when kept, else why not."""
        answers: list[str | None] = []
        if refusal is not None:
            post.refusing["dead"] = refusal
        producer.bury("dead", house.Letter("orders", 0, 7, b"{}", b"k"), [("a", None)], answers.append)
        assert answers == []
        post.serve(0)

        (answer,) = answers
        assert (answer is None) == (refusal is None)
        assert refusal is None or refusal.text in (answer or "")
        (sent,) = post.sent
        assert (sent.topic, sent.value, sent.key, sent.headers) == ("dead", b"{}", b"k", [("a", None)])

    @pytest.mark.parametrize("error", [BufferError(), Refused(REFUSED), ConfigError("no")])
    def test_what_is_not_accepted_is_answered_too(self, producer: Producer, post: Post, error: Exception) -> None:
        """The partition waits for an answer."""
        answers: list[str | None] = []
        post.error = error
        producer.bury("dead", house.Letter("orders", 0, 7), [], answers.append)

        assert len(answers) == 1
        assert answers[0]

    def test_a_producer_that_is_closed_before_it_ended_answers_too(self, producer: Producer, post: Post) -> None:
        answers: list[str | None] = []
        post.open = False
        producer.bury("dead", house.Letter("orders", 0, 7), [], answers.append)
        producer.close(1.0)

        (answer,) = answers
        assert "closed" in (answer or "")

    def test_a_closed_producer_answers_too(self, producer: Producer) -> None:
        """With why."""
        answers: list[str | None] = []
        producer.produce_async("orders", b"")
        producer.close()
        producer.bury("dead", house.Letter("orders", 0, 7), [], answers.append)

        assert answers
        assert "closed" in str(answers[0])


class TestStatistics:
    """How it does."""

    def test_counts(self, producer: Producer, post: Post) -> None:
        """What failed, what waits, what is buffered, and what the client says itself."""
        assert (producer.statistics().failed, producer.statistics().waiting) == (0, 0)
        post.refusing["bad"] = LATE
        producer.produce_async("bad", b"")
        producer.produce_async("orders", b"")
        turn(producer)
        post.open = False
        producer.produce_async("orders", b"")
        producer.buffer("orders", b"")

        found = producer.statistics()
        assert (found.failed, found.waiting, found.buffered) == (1, 1, 1)
        assert found.client == post.statistics()

    def test_messages_alone_wait(self, producer: Producer, post: Post) -> None:
        """The client counts what it has to say as well: its statistics, its troubles."""
        messages, serve, said = post.waiting, post.serve, ["statistics", "a trouble"]

        def served(timeout: float) -> None:
            said.clear()
            serve(timeout)

        post.waiting, post.serve = lambda: messages() + len(said), served  # type: ignore[method-assign]  # as the client
        post.open = False
        producer.produce_async("orders", b"")

        assert producer.statistics().waiting == 1
        said.append("another trouble")
        assert producer.flush(0.0) == 1


def test_the_errors_are_of_one_tree() -> None:
    """One `except` for all, `retriable` on each."""
    for kind in (QueueFullError, DeliveryTimeoutError, ClientFailedError):
        assert issubclass(kind, DeliveryError)
        assert kind("…").retriable
    for lasting in (InvalidMessageError, TooLargeError, ProducerClosedError):
        assert issubclass(lasting, DeliveryError)
        assert not lasting("…").retriable
    assert issubclass(DeliveryError, Error)
    assert issubclass(PartlyDeliveredError, Error)
