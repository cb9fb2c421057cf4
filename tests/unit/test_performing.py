"""Both ends of a background job: what the server hands over, and what a worker performs."""

from __future__ import annotations

import asyncio
from inspect import iscoroutinefunction
from time import monotonic
from typing import Any, ClassVar

import pytest

from karafka import ConfigError, Controller, Worker, before_enqueue
from karafka.assignment import Assignment
from karafka.backends.envelope import read
from karafka.errors import TimeLimitError
from karafka.events import Aborted
from karafka.naming import Found
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


class UrgentWorker(Worker):
    queue = "urgent"


class OtherWorker(Worker): ...


class FirstWorker(Worker):
    priority = -1


class TestAnotherWorker:
    def test_a_hook_chooses_it_for_its_message(self) -> None:
        class Choosing(Noting):
            @before_enqueue
            def choose(self) -> None:
                if self.params == 2:
                    self.worker = UrgentWorker

            def perform(self) -> None: ...

        shop = Shop(Choosing)

        assert shop.serve(b"1", b"2", b"3") == (3, None)
        usual = shop.background.worker.cls
        assert shop.queue.workers == [usual, UrgentWorker, usual]
        assert [read(one).worker.rpartition(":")[2] for one in shop.queue.jobs] == [
            usual.__qualname__,
            "UrgentWorker",
            usual.__qualname__,
        ]

    @pytest.mark.parametrize(
        ("chosen", "said"), [(FirstWorker, "FirstWorker has a priority"), ("urgent", "'urgent' is no worker")]
    )
    def test_one_that_the_queue_cannot_do_justice_to_fails_the_message(self, chosen: Any, said: str) -> None:
        """As it would be refused on a route: it is not handed over to wait where nobody looks."""

        class Choosing(Noting):
            @before_enqueue
            def choose(self) -> None:
                self.worker = chosen

            def perform(self) -> None: ...

        shop = Shop(Choosing)
        finished, error = shop.serve(b"1")

        assert (finished, type(error)) == (0, ConfigError)
        assert said in str(error)
        assert shop.queue.jobs == []

    @pytest.mark.parametrize(
        ("chosen", "said"), [(FirstWorker, "FirstWorker has a priority"), ("urgent", "'urgent' is no worker")]
    )
    def test_one_that_a_controller_names_for_all_is_checked_where_it_is_routed(self, chosen: Any, said: str) -> None:
        class Named(Noting):
            worker = chosen

            def perform(self) -> None: ...

        with pytest.raises(ConfigError, match=said):
            Shop(Named)

    def test_the_route_s_word_comes_before_the_controller_s_and_a_hook_s_before_both(self) -> None:
        class Named(Noting):
            worker: type[Worker] | None = UrgentWorker

            @before_enqueue
            def choose(self) -> None:
                if self.params == 2:
                    self.worker = Worker

            def perform(self) -> None: ...

        for shop, usual, source in (
            (Shop(Named), UrgentWorker, "named by its controller"),
            (Shop(Named, worker=OtherWorker), OtherWorker, "named by the route"),
        ):
            assert shop.background.worker == Found(usual, source)
            assert shop.serve(b"1", b"2") == (2, None)
            assert shop.queue.workers == [usual, Worker]


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
