"""Both ends of a background job: what the server hands over, and what a worker performs."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, ClassVar

import pytest

from karafka import Controller
from karafka.errors import TimeLimitError
from tests.unit.paper import Shop

DEFINES = ["def", "async def"]


class Noting(Controller[Any]):
    """Base of the test controllers: what they note is gone before each test."""

    notes: ClassVar[list[Any]] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    Noting.notes.clear()


def busy(seconds: float) -> None:
    by = monotonic() + seconds
    while monotonic() < by:
        pass


class TestTimeLimits:
    def test_a_plain_perform_that_takes_longer_fails(self) -> None:
        class Slow(Noting):
            def perform(self) -> None:
                busy(60)

            def after_failure(self, error: BaseException) -> None:
                self.notes.append((type(error), self.message.attempt))

        shop = Shop(Slow)
        shop.serve(b"1")

        assert isinstance(shop.work(limit=0.02, attempt=3), TimeLimitError)
        assert Noting.notes == [(TimeLimitError, 3)]

    def test_a_coroutine_that_takes_longer_is_cancelled(self) -> None:
        class Slow(Noting):
            async def perform(self) -> None:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.notes.append("cancelled")
                    raise

            async def after_failure(self, error: BaseException) -> None:
                await asyncio.sleep(0)
                self.notes.append((type(error), str(error)))

        shop = Shop(Slow)
        shop.serve(b"1")

        assert isinstance(shop.work(limit=0.02), TimeLimitError)
        assert Noting.notes == ["cancelled", (TimeLimitError, "it took longer than its time_limit of 0.02 s")]

    def test_a_timeout_of_its_own_is_its_own(self) -> None:
        class Impatient(Noting):
            async def perform(self) -> None:
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(60)

        shop = Shop(Impatient)
        shop.serve(b"1")

        error = shop.work(limit=60.0)
        assert type(error) is TimeoutError

    @pytest.mark.parametrize("define", DEFINES)
    def test_a_try_that_failed_is_told_once_however_long_that_takes(self, define: str) -> None:
        """The limit is that of the try: what is done about its failure has none."""

        class Plain(Noting):
            def perform(self) -> None:
                raise ValueError("mine")

            def after_failure(self, error: BaseException) -> None:
                self.notes.append(type(error))
                busy(0.3)
                self.notes.append("told")

        class Aside(Noting):
            async def perform(self) -> None:
                raise ValueError("mine")

            async def after_failure(self, error: BaseException) -> None:
                self.notes.append(type(error))
                await asyncio.sleep(0.3)
                self.notes.append("told")

        shop = Shop(Plain if define == "def" else Aside)
        shop.serve(b"1")

        assert isinstance(shop.work(limit=0.01), ValueError)
        assert Noting.notes == [ValueError, "told"]
