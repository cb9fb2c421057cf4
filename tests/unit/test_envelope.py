"""What crosses a job queue comes out as it went in, or is refused in words."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karafka.backends.envelope import (
    VERSION,
    Carried,
    Envelope,
    Parsed,
    packed,
    plain,
    read,
    read_plain,
    text_of,
    unpacking,
)
from karafka.errors import InterchangeError, JobError, MessageError, ParseError
from karafka.interchangers import Binary, Interchanger
from karafka.messages import UNREADABLE, Header, Message, Record
from karafka.parsers import payloads
from tests.unit.house import Letter

WHOSE = {"group": "shop", "route": "videos", "worker": "app:VideosWorker"}
NOTHING = object()
NAIVE = datetime(2026, 1, 2)  # noqa: DTZ001 - as people make them
# As text of its own, or as the objects of a queue that writes JSON itself.
WAYS: list[Callable[[Envelope], Envelope]] = [
    lambda made: read(text_of(made)),
    lambda made: read_plain(json.loads(json.dumps(plain(made)))),
]
ways = pytest.mark.parametrize("way", WAYS, ids=["text", "objects"])


def pack(record: Record, params: Any = NOTHING, of: Any = Any, interchanger: Interchanger | None = None) -> Envelope:
    parsed = params is not NOTHING
    return packed(
        record,
        params if parsed else None,
        parsed=parsed,
        interchanger=interchanger or Interchanger(),
        of=of,
        enqueued=12.5,
        **WHOSE,
    )


def taken(envelope: Envelope, interchanger: Interchanger | None = None) -> Carried:
    return Carried(envelope, interchanger or Interchanger())


def params_of(record: Carried, of: Any = Any) -> Any:
    """What `perform` sees as its params."""
    return Message(record, unpacking(payloads(None, of).parse, of), "shop").payload


def crossed(params: Any, of: Any = Any, interchanger: Interchanger | None = None) -> Any:
    """What `perform` sees of params that a hook has touched."""
    made = pack(Letter("videos", 0, 0, b"{}"), params, of, interchanger)
    return params_of(taken(read(text_of(made)), interchanger), of)


@dataclass
class Video:
    id: int
    price: float = 1.5
    tags: list[str] = field(default_factory=list)
    more: Any = None


@dataclass
class Longer(Video):
    minutes: int = 90


class Frozen(msgspec.Struct, frozen=True, tag=True):
    at: datetime


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True):
    two_words: int = 7


class Row(TypedDict):
    id: int
    at: date


class Colour(Enum):
    RED = "red"


class Own:
    """JSON has no form for it."""


@dataclass(eq=False)
class Alone:
    """Equal to nothing but itself."""

    id: int


KEYS = st.none() | st.binary(max_size=20) | st.text(max_size=20).map(str.encode)
HEADERS: st.SearchStrategy[list[Header]] = st.lists(st.tuples(st.text(max_size=8), KEYS), max_size=5)
TEXTS = st.none() | st.text(max_size=40).map(str.encode)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.dates()
    | st.decimals()
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


class TestAMessageAsItCame:
    @ways
    @given(value=TEXTS, key=KEYS, headers=HEADERS, partition=st.integers(0, 2**31 - 1), offset=st.integers(0, 2**62))
    def test_comes_out_as_it_went_in(
        self,
        way: Callable[[Envelope], Envelope],
        value: bytes | None,
        key: bytes | None,
        headers: list[Header],
        partition: int,
        offset: int,
    ) -> None:
        """Whatever bytes its key and headers are, and whatever text its payload."""
        record = taken(way(pack(Letter("videos", partition, offset, value, key, headers, (1, 1_700_000_000_123)))))

        assert (record.value(), record.key(), record.headers()) == (value, key, headers)
        assert type(record.value()) is not Parsed
        assert (record.topic(), record.partition(), record.offset()) == ("videos", partition, offset)
        assert record.timestamp() == (1, 1_700_000_000_123)
        assert len(record) == len(value or b"")

    @ways
    @given(value=st.none() | st.binary(max_size=40))
    def test_any_bytes_do_by_binary(self, way: Callable[[Envelope], Envelope], value: bytes | None) -> None:
        record = taken(way(pack(Letter("videos", 0, 0, value), interchanger=Binary())), Binary())
        assert record.value() == value

    def test_without_headers_there_are_none(self) -> None:
        assert taken(pack(Letter("videos", 0, 0, b"{}"))).headers() == []

    def test_headers_may_be_set(self) -> None:
        """As the record of a client allows."""
        record = taken(pack(Letter("videos", 0, 0, b"{}")))
        record.set_headers([UNREADABLE])
        assert record.headers() == [UNREADABLE]

    def test_it_says_whose_it_is(self) -> None:
        made = pack(Letter("videos", 3, 17, b"{}"))

        assert (made.v, made.group, made.route, made.worker) == (VERSION, "shop", "videos", "app:VideosWorker")
        assert (made.id, made.enqueued) == ("shop/videos/3/17", 12.5)
        assert made.id == Message(taken(made), lambda raw: raw, made.group).id

    def test_the_text_is_json_that_a_person_can_read(self) -> None:
        """What is not there is not written."""
        made = pack(Letter("videos", 3, 17, b'{"a": 1}', b"k", [("h", b"\xff"), ("n", None)], (1, 5)))

        assert json.loads(text_of(made)) == {
            "v": 1,
            **WHOSE,
            "topic": "videos",
            "partition": 3,
            "offset": 17,
            "timestamp": [1, 5],
            "params": '{"a": 1}',
            "key": "k",
            "headers": [["h", {"base64": "/w=="}], ["n", None]],
            "enqueued": 12.5,
        }

    def test_a_payload_that_is_no_text_is_refused_with_the_way_out(self) -> None:
        with pytest.raises(InterchangeError, match=r"videos/0/7 cannot .*: its payload is no UTF-8.*Binary\(\)"):
            pack(Letter("videos", 0, 7, b"\xff"))

    def test_headers_that_cannot_be_read_are_no_headers_to_carry(self) -> None:
        with pytest.raises(ParseError, match="the name of one is no UTF-8"):
            pack(Letter("videos", 0, 7, b"{}", headers=[UNREADABLE]))


class TestWhatAHookHasTouched:
    @given(params=JSON)
    def test_json_comes_out_as_it_went_in(self, params: Any) -> None:
        assert repr(crossed([params])) == repr([params])

    @given(params=ANYTHING)
    def test_anything_else_comes_out_equal_or_is_refused(self, params: Any) -> None:
        try:
            came = crossed([params])
        except InterchangeError:
            return
        assert came == [params]

    @pytest.mark.parametrize(
        ("params", "of"),
        [
            (Video(7, 2.0, ["a"]), Video),
            (Video(7, more={"a": [1, None]}), Video),
            ([Video(1), Video(2)], list[Video]),
            (Frozen(datetime(2026, 1, 2, 3, 4, 5, 678, UTC)), Frozen),
            (Frozen(NAIVE), Frozen | None),
            (Renamed(), Renamed),
            ({"id": 1, "at": date(2026, 1, 2)}, Row),
            ({1: "a", 2: "b"}, dict[int, str]),
            ({date(2026, 1, 2): [UUID(int=7)]}, dict[date, list[UUID]]),
            ((1, "a"), tuple[int, str]),
            ({1, 2}, set[int]),
            ([b"\xff\x00"], list[bytes]),
            ([Decimal("1.50"), None], list[Decimal | None]),
            ([Colour.RED], list[Colour]),
            ([timedelta(seconds=1.5)], list[timedelta]),
            ([3], Annotated[list[int], msgspec.Meta(max_length=2)]),
            (Alone(7), Alone),
        ],
    )
    def test_a_declared_type_comes_out_as_it_went_in(self, params: Any, of: Any) -> None:
        came = crossed(params, of)

        assert type(came) is type(params)
        assert came == params or vars(came) == vars(params)

    @pytest.mark.parametrize(
        ("params", "of"),
        [
            (NAIVE, Any),
            ((1, 2), Any),
            ({1: "a"}, Any),
            ([float("nan")], Any),
            ([b"bytes"], Any),
            ({"at": NAIVE}, dict[str, Any]),
            (Video(7, more=NAIVE), Video),
            (Video(7, more=(1, 2)), Video),
            (Video(7, float("inf")), Video),
            (Video("seven"), Video),  # type: ignore[arg-type]  # a hook may do that
            (Longer(7), Video),
            ([1, 2, 3], Annotated[list[int], msgspec.Meta(max_length=2)]),
            (Own(), Own),
            ([Own()], Any),
            (["\ud800"], Any),
        ],
    )
    def test_what_would_come_out_as_something_else_is_refused(self, params: Any, of: Any) -> None:
        with pytest.raises(InterchangeError) as refused:
            pack(Letter("videos", 2, 9, b"{}"), params, of)
        assert re.search(r"videos/2/9 .*interchanger", str(refused.value))

    @pytest.mark.parametrize("params", [b"\xff", b"text", "text", 7, 7.5, True, None])
    def test_what_no_hook_can_change_goes_as_it_came(self, params: Any) -> None:
        """A parser may have made it of anything."""
        record = Letter("videos", 0, 0, b"as it came")

        made = pack(record, params)
        assert (made.params, made.parsed) == ("as it came", False)
        assert taken(made).value() == b"as it came"

    def test_its_raw_bytes_are_the_json_of_it(self) -> None:
        record = taken(read(text_of(pack(Letter("videos", 0, 0, b'{"id":  7}'), Video(7), Video))))
        assert json.loads(record.value() or b"") == {"id": 7, "price": 1.5, "tags": [], "more": None}

    def test_a_tombstone_stays_one(self) -> None:
        made = pack(Letter("videos", 0, 0, None), None)
        assert taken(made).value() is None
        assert params_of(taken(made)) is None


class Sealed(Interchanger):
    """Carries what was parsed in a form of its own."""

    def encode(self, params: Any, /) -> Any:
        return {"sealed": super().encode(params)}

    def decode(self, carried: Any, /) -> Any:
        return carried["sealed"]


class TestInterchangers:
    def test_both_payloads_and_what_was_parsed_go_by_it(self) -> None:
        assert taken(read(text_of(pack(Letter("v", 0, 0, b"raw"), interchanger=Sealed()))), Sealed()).value() == b"raw"
        assert crossed({"a": 1}, interchanger=Sealed()) == {"a": 1}
        assert crossed(Video(7), Video, Sealed()) == Video(7)

    def test_one_that_takes_payloads_raw_carries_no_change(self) -> None:
        made = pack(Letter("videos", 0, 0, b"{}"), {"changed": True}, interchanger=Binary())
        assert taken(made, Binary()).value() == b"{}"

    @pytest.mark.parametrize(
        "carried",
        [b"bytes", (1, 2), {1: 2}, NAIVE, None, Own(), float("nan"), "\ud800"],
    )
    def test_what_it_gives_must_be_json(self, carried: Any) -> None:
        """What JSON would make something else of it never gets back."""

        class Careless(Interchanger):
            def encode(self, params: Any, /) -> Any:
                return carried

        with pytest.raises(InterchangeError, match="videos/0/7"):
            pack(Letter("videos", 0, 7, b"{}"), interchanger=Careless())

    def test_what_it_raises_is_a_failure_of_the_message(self) -> None:
        class Broken(Interchanger):
            def encode(self, params: Any, /) -> Any:
                raise ZeroDivisionError("broken")

            def decode(self, carried: Any, /) -> Any:
                raise ZeroDivisionError("broken")

        letter = Letter("videos", 0, 7, b"{}")
        with pytest.raises(InterchangeError, match="videos/0/7 cannot cross the job queue: broken"):
            pack(letter, interchanger=Broken())
        with pytest.raises(ParseError, match="the params of shop/videos/0/7 cannot be decoded: broken"):
            taken(pack(letter), Broken())

    def test_it_must_give_back_bytes_where_that_was_a_payload(self) -> None:
        class Wrong(Interchanger):
            def decode(self, carried: Any, /) -> Any:
                return 7

        with pytest.raises(ParseError, match="bytes are expected of the interchanger's decode, not int"):
            taken(pack(Letter("videos", 0, 7, b"{}")), Wrong())

    def test_trying_again_cannot_help(self) -> None:
        assert issubclass(InterchangeError, ParseError)
        assert issubclass(JobError, MessageError)
        assert not issubclass(JobError, ParseError), "a newer worker may perform it"


GOOD = plain(pack(Letter("videos", 0, 7, b"{}")))


class TestWhatIsNoJob:
    @pytest.mark.parametrize(
        "text",
        [
            None,
            b"",
            b"{}",
            b"[]",
            b"null",
            b"7",
            b"{no json",
            b"\xff",
            b'{"v": 1}',
            json.dumps({**GOOD, "offset": "x"}).encode(),
        ],
    )
    def test_it_is_told_as_such(self, text: bytes | None) -> None:
        with pytest.raises(JobError, match="this is no job of karafka's"):
            read(text)

    @pytest.mark.parametrize("made", [None, "text", [], {}, {**GOOD, "headers": 7}, {**GOOD, "v": "1"}])
    def test_as_objects_too(self, made: object) -> None:
        with pytest.raises(JobError, match="this is no job of karafka's"):
            read_plain(made)

    @pytest.mark.parametrize("more", [{}, {"params": {"of": ["another", "form"]}, "topic": 7}])
    def test_a_later_form_says_so(self, more: dict[str, Any]) -> None:
        """Whatever else is in it, as far as its version can be read."""
        job = {**GOOD, "v": VERSION + 1, **more}
        said = f"this job has the form {VERSION + 1}, of a later karafka than this worker's, which knows {VERSION}"
        with pytest.raises(JobError, match=said):
            read(json.dumps(job).encode())
        with pytest.raises(JobError, match=said):
            read_plain(job)

    def test_what_a_form_adds_is_left_alone(self) -> None:
        """Fields may come within a version."""
        assert read_plain({**GOOD, "another": 1}) == read_plain(GOOD)

    @pytest.mark.parametrize(
        "spoiled",
        [
            {"key": {"base64": "!!"}},
            {"key": {"base64": "eA"}},
            {"headers": [["h", {"base64": "é"}]]},
            {"params": 7},
            {"params": {"a": 1}},
        ],
    )
    def test_what_cannot_be_taken_out_of_it_is_a_parse_error(self, spoiled: dict[str, Any]) -> None:
        with pytest.raises(ParseError, match="shop/videos/0/7"):
            taken(read_plain({**GOOD, **spoiled}))


class TestBinary:
    def test_it_is_base64(self) -> None:
        assert Binary().encode(b"\xff\x00") == b64encode(b"\xff\x00").decode()
        assert Binary().decode("/wA=") == b"\xff\x00"

    @pytest.mark.parametrize("carried", ["/wA", "!wA=", "/w\nA="])
    def test_what_is_none_is_not_taken_for_some(self, carried: str) -> None:
        with pytest.raises(ValueError, match=r"padding|base64"):
            Binary().decode(carried)
