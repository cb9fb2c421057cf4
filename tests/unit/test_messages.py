"""A message as users see it, a batch of them, and a run as the engine hands it over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from karafka.errors import ParseError
from karafka.messages import Batch, Header, Message, Place, Run
from karafka.policy import grave_headers
from tests.unit.house import Letter, letters, offsets


class Parser:
    """Counts what it is asked; refuses `bad`."""

    def __init__(self) -> None:
        self.asked: list[bytes | None] = []

    def __call__(self, raw: bytes | None) -> Any:
        self.asked.append(raw)
        if raw == b"bad":
            raise ValueError("bad it is")
        return json.loads(raw or b"null")


@pytest.fixture
def parser() -> Parser:
    return Parser()


def message(parser: Parser, value: bytes | None = b"1", **fields: Any) -> Message[Any]:
    return Message(Letter("orders", 2, 7, value, **fields), parser, "g", attempt=3)


class TestMessage:
    """Everything as it came; the payload parsed at first touch, once."""

    def test_what_is_known_of_it(self, parser: Parser) -> None:
        """Without parsing anything."""
        one = message(parser, b"raw", key=b"k", headers=[("a", b"1")], timestamp=(1, 1_500))

        assert (one.topic, one.partition, one.offset, one.key, one.raw) == ("orders", 2, 7, b"k", b"raw")
        assert (one.headers, one.timestamp, one.attempt) == ({"a": b"1"}, 1.5, 3)
        assert parser.asked == []

    def test_its_id_is_the_same_for_each_repetition(self, parser: Parser) -> None:
        """Group, topic, partition and offset: the key to make work idempotent by."""
        assert message(parser).id == "g/orders/2/7"
        assert repr(message(parser)) == "<Message g/orders/2/7 attempt=3>"

    def test_of_a_header_that_stands_twice_the_last_counts(self, parser: Parser) -> None:
        """As Kafka's own clients answer it; none at all is an empty dict."""
        assert message(parser, headers=[("a", b"1"), ("b", None), ("a", b"2")]).headers == {"a": b"2", "b": None}
        assert message(parser, headers=None).headers == {}

    def test_a_time_that_is_not_known_says_so(self, parser: Parser) -> None:
        """-1.0, not 1970."""
        assert message(parser, timestamp=(0, 0)).timestamp == -1.0

    def test_the_payload_is_parsed_at_first_touch_and_once(self, parser: Parser) -> None:
        """The same object each time."""
        one = message(parser, b'{"a": 1}')

        assert one.payload is one.payload
        assert parser.asked == [b'{"a": 1}']

    def test_a_payload_that_is_none_is_parsed_once_too(self, parser: Parser) -> None:
        """None is a payload like any other."""
        one = message(parser, b"null")

        assert (one.payload, one.payload) == (None, None)
        assert len(parser.asked) == 1

    def test_a_tombstone_is_told_without_parsing(self, parser: Parser) -> None:
        """Null, not empty."""
        assert message(parser, None).tombstone
        assert not message(parser, b"").tombstone
        assert parser.asked == []

    def test_a_parse_error_stays_with_its_message(self, parser: Parser) -> None:
        """The same each time, naming place and cause; what the parser raised is behind it."""
        one = message(parser, b"bad")

        with pytest.raises(ParseError) as first:
            _ = one.payload
        with pytest.raises(ParseError) as second:
            _ = one.payload

        assert first.value is second.value is one.error
        assert str(first.value) == "the payload of orders/2/7 cannot be parsed: ValueError: bad it is"
        assert isinstance(first.value.__cause__, ValueError)
        assert len(parser.asked) == 1

    @pytest.mark.parametrize("error", [RecursionError(), StopIteration(), ZeroDivisionError(), AssertionError()])
    def test_whatever_a_parser_raises_is_a_parse_error(self, error: Exception) -> None:
        """No exception of a parser's means something else."""

        def fail(_raw: bytes | None) -> None:
            raise error

        with pytest.raises(ParseError):
            _ = Message[Any](Letter("orders", 0, 0), fail, "g").payload


class TestBatch:
    """Messages of one partition, in order, their payloads together."""

    def batch(self, parser: Any, *values: bytes) -> Batch[Any]:
        return Batch([Letter("orders", 0, offset, value) for offset, value in enumerate(values)], parser, "g", 2)

    def test_it_is_a_sequence_of_messages(self, parser: Parser) -> None:
        """Length, index, slice, iteration: the same objects each time, nothing parsed."""
        batch = self.batch(parser, b"1", b"2", b"3")

        assert (len(batch), batch[0].offset, batch[-1].offset) == (3, 0, 2)
        assert [one.offset for one in batch[1:]] == [1, 2]
        assert batch[0] is next(iter(batch))
        assert batch[0].attempt == 2
        assert parser.asked == []

    def test_payloads_are_parsed_at_first_touch_and_once(self, parser: Parser) -> None:
        """All of them."""
        batch = self.batch(parser, b"1", b"2")

        assert batch.payloads == [1, 2]
        assert batch.payloads is batch.payloads
        assert parser.asked == [b"1", b"2"]

    def test_a_payload_is_parsed_once_however_it_is_reached(self, parser: Parser) -> None:
        """Through the batch, then through its message: the same object."""
        batch = self.batch(parser, b"[1]", b"[2]")

        assert batch.payloads[0] is batch[0].payload
        assert len(parser.asked) == 2

    def test_one_that_is_refused_refuses_them_all_and_is_named(self, parser: Parser) -> None:
        """The batch knows its first parse error once it was met."""
        batch = self.batch(parser, b"1", b"bad", b"3")
        assert batch.error is None

        with pytest.raises(ParseError, match="orders/0/1"):
            _ = batch.payloads

        assert batch.error is batch[1].error is not None

    def test_no_payload_is_left_out_whatever_a_parser_raises(self) -> None:
        """StopIteration too, which C iterators take for the end: the others would be performed without it."""

        def leaky(raw: bytes | None) -> Any:
            return next(iter([] if raw == b"empty" else [raw]))

        batch = self.batch(leaky, b"1", b"empty", b"3")

        with pytest.raises(ParseError):
            assert len(batch.payloads) == 3


class TestRun:
    """Messages of one lane given to a handler at once, and how far it came."""

    def test_a_message_counts_as_finished_when_the_next_is_asked_for(self) -> None:
        """What is in hand when something is raised is not."""
        run = Run(letters(3))
        seen = [(record.offset(), run.finished) for record in run]

        assert seen == [(0, 0), (1, 1), (2, 2)]
        assert run.finished == 3

    def test_progress_is_known_while_it_is_walked(self) -> None:
        """By the iterator's own place, also for who keeps no account; the message in hand does not count."""
        run = Run(letters(5))
        assert run.progress == 0
        walk = run.walk()
        seen = [run.progress for _ in walk]

        assert seen == [0, 1, 2, 3, 4]
        assert run.progress == 4  # the account of who walked says whether the last is finished

    def test_an_account_that_is_further_counts(self) -> None:
        """At the end the handler's word."""
        run = Run(letters(5))
        list(run)

        assert run.progress == 5

    def test_halting_ends_it_after_the_message_in_hand(self) -> None:
        """For each iterator over it; what was seen before stays."""
        run = Run(letters(10))
        walk, beside = iter(run), iter(run.live())
        for _ in range(4):
            next(walk)
            next(beside)

        run.halt()

        assert (run.halted, run.progress) == (True, 3)
        assert (list(walk), list(beside)) == ([], [])
        assert run.finished == 4
        assert run.progress == 4
        assert offsets(run.records) == list(range(10))

    def test_a_run_halted_before_it_began_does_nothing(self) -> None:
        """And has finished nothing."""
        run = Run(letters(3))
        run.halt()

        assert list(run) == []
        assert (run.finished, run.progress, run.halted) == (0, 0, True)

    def test_a_run_that_is_done_is_not_halted(self) -> None:
        """Only what was cut short is."""
        run = Run(letters(3))
        list(run)

        assert not run.halted


def test_a_place_is_its_pair() -> None:
    """A key for maps of either."""
    assert Place("orders", 1) == ("orders", 1)
    assert {("orders", 1): 5}[Place("orders", 1)] == 5


class Unreadable(Letter):
    """A message with a header whose name is no UTF-8, as the client hands it out: the second touch would kill."""

    touched = False

    def headers(self) -> list[Header] | None:
        if self._headers is None:
            assert not self.touched, "a segmentation fault"
            self.touched = True
            raise SystemError("returned a result with an exception set")
        return self._headers


class TestUnreadableHeaders:
    """A name that is no UTF-8 is a parse error, each time, and never the end of the process."""

    def test_each_touch_says_so(self) -> None:
        """The message is judged by it, swallowed or not."""
        message: Message[Any] = Message(Unreadable("orders", 0, 7), lambda raw: raw, "g")
        for _ in range(3):
            with pytest.raises(ParseError, match="headers of orders/0/7 cannot be read"):
                _ = message.headers
        assert message.error is not None

    def test_its_dead_letter_says_so(self) -> None:
        """What cannot be read cannot be passed on."""
        for _ in range(2):
            headers = grave_headers(Unreadable("orders", 0, 7), "g", 1, ValueError("no"), 0.0)
            assert headers[0] == ("karafka-headers", b"unreadable")
