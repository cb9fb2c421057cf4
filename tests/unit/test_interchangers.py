"""How params cross a job queue: as they are, as base64, or in a form of the user's own."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karafka import Binary, ConfigError, Controller, Interchanger, topic
from karafka.errors import InterchangeError
from karafka.interchangers import check_interchanger


class VideosController(Controller[Any]):
    def perform(self) -> None: ...


class TestAsTheyAre:
    @given(text=st.text())
    def test_a_payload_that_is_text_goes_as_that(self, text: str) -> None:
        assert Interchanger().encode(text.encode()) == text

    @pytest.mark.parametrize("params", [{"a": 1}, [1, 2], "text", 7, None, date(2026, 1, 2)])
    def test_what_was_parsed_goes_as_it_is(self, params: object) -> None:
        assert Interchanger().encode(params) is params
        assert Interchanger().decode(params) is params

    def test_other_bytes_are_refused_with_the_way_out(self) -> None:
        with pytest.raises(InterchangeError, match=r"no UTF-8, which JSON cannot carry: topic\(…, interchanger=Binary"):
            Interchanger().encode(b"\xff")

    def test_it_takes_what_was_parsed(self) -> None:
        assert not Interchanger.raw


class TestBinaryPayloads:
    @given(raw=st.binary())
    def test_any_bytes_come_out_as_they_went_in(self, raw: bytes) -> None:
        carried = Binary().encode(raw)
        assert carried.isascii()
        assert Binary().decode(carried) == raw

    def test_it_takes_payloads_as_they_came(self) -> None:
        assert Binary.raw


class Duck:
    def encode(self, params: Any) -> Any:
        return params

    def decode(self, carried: Any) -> Any:
        return carried


class AsyncEncode(Interchanger):
    async def encode(self, params: Any, /) -> Any:
        return params


class AsyncDecode(Interchanger):
    async def decode(self, carried: Any, /) -> Any:
        return carried


class TestWhatIsNone:
    @pytest.mark.parametrize("interchanger", [Binary, "binary", object(), Duck(), 7])
    def test_it_is_refused_where_it_is_declared(self, interchanger: Any) -> None:
        """A class that was meant to be one is not made one by its methods: it has no word on `raw`."""
        with pytest.raises(
            ConfigError, match=r"topic\('videos'\): interchanger=.* an Interchanger is expected, such as"
        ):
            topic("videos", VideosController, backend="kafka", interchanger=interchanger)

    @pytest.mark.parametrize(("interchanger", "method"), [(AsyncEncode(), "encode"), (AsyncDecode(), "decode")])
    def test_nobody_awaits_it(self, interchanger: Any, method: str) -> None:
        with pytest.raises(ConfigError, match=rf"{method} of .* is a coroutine function, which nobody awaits"):
            topic("videos", VideosController, backend="kafka", interchanger=interchanger)

    def test_one_of_the_user_s_own_is_one(self) -> None:
        class Own(Interchanger): ...

        check_interchanger("here", Own())
