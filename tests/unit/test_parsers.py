"""Bytes to objects: what is taken, what is refused, and that nothing crashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import msgspec
import pytest

from karafka import Controller, Producer, topic
from karafka.errors import ConfigError, ParseError
from karafka.parsers import JSON, Parser, Raw, Text, payloads


@dataclass
class Video:
    id: int
    title: str = ""


class Struct(msgspec.Struct):
    id: int


class Dict(TypedDict):
    id: int


class Upper:
    """A parser of a user's own: text to a dict."""

    def parse(self, raw: bytes, /) -> Any:
        return {"id": int(raw)}

    def generate(self, payload: Any, /) -> bytes:
        return str(payload["id"]).encode()


def read(of: Any, raw: bytes | None, parser: Parser | None = None) -> Any:
    return payloads(parser, of).parse(raw)


class TestJSON:
    """What JSON gives, or what the type says."""

    @pytest.mark.parametrize(
        ("raw", "payload"),
        [
            (b'{"a": [1, 2.5, "x", null, true]}', {"a": [1, 2.5, "x", None, True]}),
            (b" 1 ", 1),
            (b"9007199254740993", 9_007_199_254_740_993),
            (b"18446744073709551615", 2**64 - 1),
            (b'"\xc3\xa9"', "é"),
            (b'{"a": 1, "a": 2}', {"a": 2}),
            (b'"\\ud83d\\ude00"', "\U0001f600"),
        ],
    )
    def test_untyped(self, raw: bytes, payload: Any) -> None:
        """As any JSON reader does; of doubled keys the last counts."""
        assert read(Any, raw) == payload

    @pytest.mark.parametrize("number", [2**64, 2**70, -(2**63) - 1, 10**40])
    def test_numbers_beyond_64_bits_stay_exact(self, number: int) -> None:
        """As the docstring says: ints where the type is undeclared."""
        payload = read(Any, str(number).encode())

        assert (payload, type(payload)) == (number, int)

    @pytest.mark.parametrize(
        "raw",
        [
            *(b"", b" ", b"{", b'{"a": 1', b"[1, 2", b'"abc', b"NaN", b"[Infinity]", b"-Infinity", b"nul", b"1 2"),
            *(b"{} x", b"{'a': 1}", b"[1,]", b"\xff\xfe", b'"\xe9"', "{}".encode("utf-16"), b"\x00"),
            *(b"\xef\xbb\xbf{}", b'"\\ud83d"'),
        ],
    )
    def test_what_is_no_json_is_refused(self, raw: bytes) -> None:
        """Cut off, not a number, in the wrong encoding: an exception, whatever it is called."""
        with pytest.raises(Exception):  # noqa: B017, PT011 - the message makes a ParseError of any
            read(Any, raw)

    @pytest.mark.parametrize("of", [Any, list[Any], Video])
    @pytest.mark.parametrize("raw", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"id":' * 100_000])
    def test_deep_nesting_does_not_crash_the_process(self, raw: bytes, of: Any) -> None:
        """An exception like any other."""
        with pytest.raises(Exception):  # noqa: B017, PT011
            read(of, raw)

    @pytest.mark.parametrize(
        ("of", "payload"), [(Video, Video(7, "x")), (Struct, Struct(7)), (Dict, {"id": 7}), (dict[str, Any], None)]
    )
    def test_typed(self, of: Any, payload: Any) -> None:
        """Dataclass, Struct, TypedDict: checked while it decodes, unknown fields passed over."""
        found = read(of, b'{"id": 7, "title": "x"}')

        assert found == (payload or {"id": 7, "title": "x"})

    @pytest.mark.parametrize("raw", [b"{}", b'{"id": "7"}', b'{"id": 7.5}', b'{"id": null}', b"[]", b"7", b"null"])
    def test_what_is_not_of_the_type_is_refused(self, raw: bytes) -> None:
        """A missing field, another type, null."""
        with pytest.raises(msgspec.ValidationError):
            read(Video, raw)

    def test_both_ways(self) -> None:
        """What it writes it reads."""
        json = JSON(Video)

        assert json.parse(json.generate(Video(1, "é"))) == Video(1, "é")


class VideosController(Controller[Any]):
    """Any."""

    def perform(self) -> None:
        """Nothing."""


class Remote:
    """Asks somebody for each payload that is sent, and so cannot be waited for."""

    async def parse(self, raw: bytes, /) -> Any:
        return raw

    async def generate(self, payload: Any, /) -> bytes:
        return bytes(payload)


@pytest.mark.parametrize(("parser", "words"), [(Remote(), "coroutine function"), (object(), "parse(bytes)")])
def test_what_cannot_parse_and_generate_is_refused(parser: Any, words: str) -> None:
    """Where it is named: by a route, and by a producer."""
    with pytest.raises(ConfigError, match=re.escape(words)):
        topic("videos", VideosController, parser=parser)
    with pytest.raises(ConfigError, match=re.escape(words)):
        Producer({"bootstrap.servers": "localhost:9092"}, parser=parser)


class TestTombstones:
    """A null payload is None where that is meant."""

    @pytest.mark.parametrize("of", [Any, None, Video | None, int | None, Annotated[int | None, "x"]])
    def test_admitted(self, of: Any) -> None:
        """Undeclared, or said so, with a note on it or without."""
        assert read(of, None) is None

    @pytest.mark.parametrize("of", [Video, int, list[int], dict[str, int | None]])
    def test_refused_with_the_way_out(self, of: Any) -> None:
        """Where it is not meant."""
        with pytest.raises(ParseError, match=r"tombstone.*\| None"):
            read(of, None)

    def test_a_parser_of_one_s_own_is_not_asked(self) -> None:
        """There are no bytes to parse."""
        assert read(Any, None, Upper()) is None


class TestOwnParsers:
    """What it gives is of the declared type, or is made so."""

    @pytest.mark.parametrize(
        ("of", "payload"), [(Any, {"id": 7}), (dict, {"id": 7}), (Video, Video(7)), (Struct, Struct(7))]
    )
    def test_what_it_gives_is_converted_to_the_type(self, of: Any, payload: Any) -> None:
        """Where it is not yet that."""
        assert read(of, b"7", Upper()) == payload

    def test_a_typed_dict_too(self) -> None:
        """It is a type that knows no instances."""
        assert read(Dict, b"7", Upper()) == {"id": 7}

    def test_what_is_not_of_the_type_is_refused(self) -> None:
        """In msgspec's words."""
        with pytest.raises(msgspec.ValidationError):
            read(list[int], b"7", Upper())

    @pytest.mark.parametrize(
        ("parser", "of", "payload"),
        [(Text(), Any, "é"), (Text(), str, "é"), (Raw(), Any, "é".encode()), (Raw(), bytes, "é".encode())],
    )
    def test_text_and_bytes_are_built_in(self, parser: Parser, of: Any, payload: Any) -> None:
        """As they are."""
        assert read(of, "é".encode(), parser) == payload
        assert parser.generate(payload) == "é".encode()

    def test_text_in_the_wrong_encoding_is_refused(self) -> None:
        """Not replaced by question marks."""
        with pytest.raises(UnicodeDecodeError):
            read(str, b"\xff", Text())
        assert read(str, b"\xe9", Text("latin-1")) == "é"


@pytest.mark.parametrize("parser", [None, Upper()])
@pytest.mark.parametrize("of", [Any, Video, Video | None])
@pytest.mark.parametrize("raw", [b"7", b'{"id": 7}', b"", b"x", b"null", None])
def test_the_quick_way_gives_the_same_or_raises(parser: Parser | None, of: Any, raw: bytes | None) -> None:
    """What it refuses is asked of `parse` again: it must never give something else."""
    reading = payloads(parser, of)
    try:
        assert reading.decode is not None
        quick = reading.decode(raw)
    except Exception:  # noqa: BLE001 - refusing is always right
        return

    assert quick == reading.parse(raw)
