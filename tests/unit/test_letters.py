"""A message is checked before anything leaves: what Kafka has no such message for is refused, and told in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from karafka.errors import ConfigError, InvalidMessageError
from karafka.letters import (
    Letter,
    Writers,
    check_key,
    checked_headers,
    checked_partition,
    milliseconds,
    written,
)
from karafka.parsers import JSON, Text

GENERATE = JSON().generate


@dataclass
class Video:
    id: int
    tags: list[Any] = field(default_factory=list)


class Click(msgspec.Struct):
    path: str
    extra: Any = None


class Sealed(Text):
    """A parser that refuses what it does not like."""

    def generate(self, payload: Any, /) -> bytes:
        if payload == "secret":
            raise PermissionError("not this")
        return super().generate(repr(payload))


class TestTopics:
    """A topic is what Kafka calls one."""

    @pytest.mark.parametrize("topic", ["a", "orders", "a.b_c-D9", "x" * 249])
    def test_taken(self, topic: str) -> None:
        """And looked up once: what makes bytes of its payloads."""
        assert Writers(None, None)[topic]({"a": 1}) == b'{"a":1}'

    @pytest.mark.parametrize("topic", ["", ".", "..", "two words", "é", "a/b", "a\n", "a\0", "x" * 250, None, 7, b"a"])
    def test_refused(self, topic: Any) -> None:
        """With the name, and what a name is."""
        with pytest.raises(InvalidMessageError, match=r"no topic name for Kafka: 1 to 249") as refused:
            Writers(None, None)[topic]
        assert repr(topic) in str(refused.value)
        assert refused.value.topic == str(topic)
        assert not refused.value.retriable

    def test_what_cannot_even_be_looked_up_is_refused_in_the_same_words(self) -> None:
        with pytest.raises(InvalidMessageError, match="no topic name"):
            Writers(None, None).of(["orders"])

    def test_a_topic_may_have_a_parser_of_its_own(self) -> None:
        """All others have the common one."""
        writers = Writers(Sealed(), {"raw": Text()})

        assert writers["raw"]("a") == b"a"
        assert writers["orders"]("a") == b"'a'"

    @pytest.mark.parametrize(
        ("parsers", "said"),
        [({"two words": Text()}, "two words.*no topic name"), ({"orders": object()}, r"'orders'.*is no parser")],
    )
    def test_parsers_are_checked_where_they_are_given(self, parsers: Any, said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            Writers(None, parsers)


class TestPayloads:
    """Bytes and text are sent as they are, None is a tombstone, all else is written by the parser."""

    @pytest.mark.parametrize(
        ("payload", "value"),
        [
            (b"raw", b"raw"),
            (bytearray(b"raw"), b"raw"),
            (memoryview(b"raw"), b"raw"),
            ("téxt", "téxt"),
            (None, None),
            ({"a": [1, None]}, b'{"a":[1,null]}'),
            (7, b"7"),
            (False, b"false"),
            (2**70, b"1180591620717411303424"),
            (Video(1), b'{"id":1,"tags":[]}'),
            (Click("/"), b'{"path":"/","extra":null}'),
            (datetime(2024, 2, 29, tzinfo=UTC), b'"2024-02-29T00:00:00Z"'),
            (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
            (Decimal("1.50"), b'"1.50"'),
        ],
    )
    def test_written(self, payload: Any, value: bytes | str | None) -> None:
        """What is text stays so: the client encodes it, as UTF-8."""
        assert written(GENERATE, "orders", None, payload) == value

    @pytest.mark.parametrize("payload", [object(), {1, object()}, float, lambda: None])
    def test_refused(self, payload: Any) -> None:
        """With the topic, the key and the reason."""
        with pytest.raises(InvalidMessageError, match=r"payload for 'orders' with key b'k' cannot be written") as found:
            written(GENERATE, "orders", b"k", payload)
        assert (found.value.topic, found.value.key, found.value.retriable) == ("orders", b"k", False)
        assert isinstance(found.value.__cause__, TypeError)
        assert str(found.value.__cause__) in str(found.value)

    @pytest.mark.parametrize(
        ("payload", "where"),
        [
            ({"a": [0, {"b": object()}]}, "$.a[1].b (object)"),
            ([1, (2, {3: object()})], "$[1][1][3] (object)"),
            ({"video": Video(1, ["a", object()])}, "$.video.tags[1] (object)"),
            (Click("/", {"deep": [Click("/", print)]}), "$.extra.deep[0].extra (builtin_function_or_method)"),
            ({"a": {"b": {"c": 1j}}}, "$.a.b.c (complex)"),
        ],
    )
    def test_what_is_refused_is_found_in_the_payload(self, payload: Any, where: str) -> None:
        """However deep: a message may have hundreds of fields."""
        with pytest.raises(InvalidMessageError) as found:
            written(GENERATE, "orders", None, payload)
        assert f"cannot be written, at {where}: " in str(found.value)

    def test_where_it_cannot_be_told_nothing_is_said(self) -> None:
        """A payload that holds itself, and one that is refused as a whole."""
        ring: list[Any] = []
        ring.append(ring)
        for payload in (ring, object()):
            with pytest.raises(InvalidMessageError) as found:
                written(GENERATE, "orders", None, payload)
            assert "$." not in str(found.value)

    def test_the_parser_of_the_topic_says_what_it_refuses(self) -> None:
        """Whatever it raises, and whatever it gives that is no bytes."""
        with pytest.raises(InvalidMessageError, match=r"at \$\.a \(str\): PermissionError: not this") as found:
            written(_picky, "orders", None, {"a": "secret"})
        assert isinstance(found.value.__cause__, PermissionError)
        with pytest.raises(InvalidMessageError, match="its parser generated str, not bytes"):
            written(str, "orders", None, 7)  # type: ignore[arg-type]  # a parser that is wrong


def _picky(payload: Any) -> bytes:
    return b"".join(map(_picky, payload.values())) if isinstance(payload, dict) else Sealed().generate(payload)


class TestKeys:
    """Text, bytes or none."""

    @pytest.mark.parametrize("key", [None, "k", b"\xff", "", b""])
    def test_taken(self, key: Any) -> None:
        check_key("orders", key)

    @pytest.mark.parametrize("key", [7, 1.5, ("a",), UUID(int=1), bytearray(b"k")])
    def test_refused(self, key: Any) -> None:
        """With its type, and the way out."""
        with pytest.raises(InvalidMessageError, match=r"'orders' has the key .*text or bytes.*key=str\(") as refused:
            check_key("orders", key)
        assert type(key).__name__ in str(refused.value)
        assert refused.value.topic == "orders"


class TestHeaders:
    """A mapping, or pairs in order; names are text, values text, bytes or None."""

    @pytest.mark.parametrize(
        ("headers", "pairs"),
        [
            ({"a": "é", "b": b"\xff", "c": None}, [("a", "é".encode()), ("b", b"\xff"), ("c", None)]),
            ([("x", b"1"), ("x", b"2")], [("x", b"1"), ("x", b"2")]),
            ((("x", "1"), ("é", "")), [("x", b"1"), ("é", b"")]),
            ((pair for pair in [("x", "1")]), [("x", b"1")]),
        ],
    )
    def test_taken(self, headers: Any, pairs: list[tuple[str, bytes | None]]) -> None:
        assert checked_headers("orders", None, headers) == pairs

    @pytest.mark.parametrize(
        ("headers", "said"),
        [
            ({"a": 1}, "the header 'a' is 1: text, bytes or None"),
            ({"a": bytearray(b"1")}, "the header 'a' is bytearray"),
            ({7: "a"}, "a header is named 7: names are text"),
            ({b"a": "a"}, "a header is named b'a': names are text"),
            (5, "a mapping or pairs of name and value"),
            ([("a",)], "a mapping or pairs of name and value"),
            (["abc"], "a mapping or pairs of name and value"),
            ({"a": "\ud800"}, "surrogates"),
        ],
    )
    def test_refused(self, headers: Any, said: str) -> None:
        """With the message that they are of."""
        with pytest.raises(InvalidMessageError, match=said) as refused:
            checked_headers("orders", "k", headers)
        assert "a message to 'orders' with key 'k': " in str(refused.value)
        assert (refused.value.topic, refused.value.key) == ("orders", "k")

    @pytest.mark.parametrize("name", ["\ud800", "a\0b", "\0"])
    def test_names_that_the_client_cannot_write_are_refused(self, name: str) -> None:
        """It would end the process for half a surrogate pair, and cut a name short at a null character."""
        with pytest.raises(InvalidMessageError, match="header"):
            checked_headers("orders", None, {name: b"1"})


class TestPartitions:
    """A whole number from 0, as far as the client counts."""

    @pytest.mark.parametrize("partition", [0, 1, 2**31 - 1])
    def test_taken(self, partition: int) -> None:
        assert checked_partition("orders", partition) == partition

    @pytest.mark.parametrize("partition", [-1, -1001, 1.0, "1", True, 2**31, 2**70])
    def test_refused(self, partition: Any) -> None:
        """It is no way to say "any": that is None."""
        with pytest.raises(InvalidMessageError, match=r"names partition .*whole number from 0.*or None") as refused:
            checked_partition("orders", partition)
        assert refused.value.topic == "orders"


class TestTimes:
    """Seconds since 1970, or a datetime that says where."""

    @pytest.mark.parametrize(
        ("moment", "found"),
        [
            (1, 1_000),
            (1.5, 1_500),
            (datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC), 2_000),
            (datetime(1970, 1, 1, 1, 0, 3, tzinfo=timezone(timedelta(hours=1))), 3_000),
        ],
    )
    def test_taken(self, moment: float | datetime, found: int) -> None:
        assert milliseconds("orders", moment) == found

    def test_what_was_read_can_be_sent_again(self) -> None:
        """A message's own timestamp, in seconds, is the same millisecond."""
        stamps = range(1_000, 4_000_000_000_000, 1_333_333_337)

        assert [milliseconds("orders", stamp / 1_000) for stamp in stamps] == list(stamps)

    @pytest.mark.parametrize(
        "moment",
        [
            *(0, -1.0, True, "now", float("nan"), float("inf"), 1e300),
            datetime(2024, 1, 1),  # noqa: DTZ001 - that is the mistake
            datetime(1969, 1, 1, tzinfo=UTC),
            timedelta(1),
        ],
    )
    def test_refused(self, moment: Any) -> None:
        """Whose time a datetime without a zone is, nobody knows."""
        with pytest.raises(InvalidMessageError, match=r"has the timestamp .*datetime with a zone") as refused:
            milliseconds("orders", moment)
        assert refused.value.topic == "orders"


@pytest.mark.parametrize(
    ("letter", "size"),
    [
        (Letter("a", None, None, None), 0),
        (Letter("a", "é", b"key", None), 5),
        (Letter("a", b"12", "ké", [("é", b"123"), ("x", None)]), 2 + 3 + 2 + 3 + 1),
    ],
)
def test_the_size_of_a_message_is_what_the_broker_keeps_of_it(letter: Letter, size: int) -> None:
    """Payload, key, names and values of headers, in bytes."""
    assert letter.size == size
