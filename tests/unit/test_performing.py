"""Both ends of a background job: what the server hands over, and what a worker performs."""

from __future__ import annotations

import asyncio
from inspect import iscoroutinefunction
from time import monotonic
from typing import Any, ClassVar

import pytest

from karafka import Controller, before_enqueue
from karafka.assignment import Assignment
from karafka.errors import TimeLimitError
from karafka.events import Aborted
from karafka.parsers import Raw
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


class TestInTheServer:
    def test_what_a_hook_of_an_async_controller_gives_back_is_awaited(self) -> None:
        """As without a backend: a plain hook may give back what is to be awaited."""

        class Hooked(Noting):
            @before_enqueue
            def ask(self) -> Any:
                return self.drop()

            async def drop(self) -> None:
                await asyncio.sleep(0)
                self.abort("asked for")

            async def perform(self) -> None: ...

        shop = Shop(Hooked)

        assert shop.serve(b"1", b"2") == (2, None)
        assert shop.queue.jobs == []
        assert [type(one) for one in shop.told] == [Aborted] * 2

    def test_hooks_of_partitions_run_where_the_route_s_handler_does(self) -> None:
        """A pool of threads would not await those of an async controller."""

        class Prepared(Noting):
            @classmethod
            async def on_assigned(cls, partition: Assignment) -> None: ...

            async def perform(self) -> None: ...

        route = Shop(Prepared).route
        assert iscoroutinefunction(route.hooks.assigned)
        assert route.asynchronous
        assert iscoroutinefunction(route.handler)

    def test_what_no_hook_touches_is_not_parsed(self) -> None:
        """Nor by a parser that must be awaited, which parses before the hooks."""
        parsed: list[bytes] = []

        class Asked(Raw):
            async def parse(self, raw: bytes, /) -> Any:  # type: ignore[override]  # it is plain there
                parsed.append(raw)
                return raw.decode()

        class Untouched(Noting):
            async def perform(self) -> None:
                self.notes.append(self.params)

        shop = Shop(Untouched, parser=Asked())
        shop.serve(b"one")

        assert parsed == []
        assert shop.carried == ["one"]
        assert shop.work() is None
        assert Noting.notes == ["one"]


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
