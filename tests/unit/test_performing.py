"""Both ends of a background job: what the server hands over, and what a worker performs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from inspect import iscoroutinefunction
from time import monotonic
from typing import Any, ClassVar

import pytest

from karafka import (
    Bury,
    ConfigError,
    Controller,
    DeadLetter,
    EnqueueError,
    Responder,
    Retry,
    Worker,
    before_enqueue,
    outgoing,
)
from karafka.assignment import Assignment
from karafka.backends.envelope import read
from karafka.errors import ParseError, ResponderError, TimeLimitError
from karafka.events import Aborted, Discarded
from karafka.naming import Found
from karafka.parsers import Raw
from karafka.policy import AskedBurial, Policy, judge
from tests.unit.paper import Shop, SlowPaper

DEFINES = ["def", "async def"]
VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")
GRAVE = DeadLetter("dead", after=1, strategy=lambda _error, _attempt: Bury())


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

    @pytest.mark.parametrize("define", DEFINES)
    def test_hooks_run_and_perform_does_not(self, define: str) -> None:
        """In the order of the messages, each in variables of its own."""

        class Plain(Noting):
            @before_enqueue
            def look(self) -> None:
                self.notes.append((self.params["at"], VARIABLE.get()))
                VARIABLE.set("set")
                self.params["seen"] = True
                if self.params["at"] == 1:
                    self.abort("not this one")

            def perform(self) -> None:
                self.notes.append(("performed", self.params))

        class Aside(Plain):
            async def perform(self) -> None:  # type: ignore[override]  # it is plain there
                super().perform()

        shop = Shop(Plain if define == "def" else Aside)

        assert shop.serve(*(b'{"at": %d}' % at for at in range(3))) == (3, None)
        assert Noting.notes == [(0, "unset"), (1, "unset"), (2, "unset")]
        assert shop.carried == [{"at": 0, "seen": True}, {"at": 2, "seen": True}]
        assert [(type(one), getattr(one, "reason", "")) for one in shop.told] == [(Aborted, "not this one")]
        assert shop.work(1) is None
        assert Noting.notes[3:] == [("performed", {"at": 2, "seen": True})]

    @pytest.mark.parametrize("define", DEFINES)
    def test_without_hooks_it_goes_as_it_came_and_is_not_parsed(self, define: str) -> None:
        class Plain(Noting):
            def perform(self) -> None:
                self.notes.append(self.params)

        class Aside(Plain):
            async def perform(self) -> None:  # type: ignore[override]  # it is plain there
                super().perform()

        shop = Shop(Plain if define == "def" else Aside)

        assert shop.serve(b'{"a":  1}', b"{no json", None) == (3, None)
        assert shop.carried == ['{"a":  1}', "{no json", None]
        assert shop.work(0) is None
        assert isinstance(shop.work(1), ParseError)
        assert shop.work(2) is None
        assert Noting.notes == [{"a": 1}, None]

    @pytest.mark.parametrize("swallows", [False, True])
    def test_what_a_hook_could_not_parse_is_not_handed_over(self, swallows: bool) -> None:  # noqa: FBT001
        class Hooked(Noting):
            @before_enqueue
            def look(self) -> None:
                try:
                    assert self.params
                except ParseError:
                    if not swallows:
                        raise

            def perform(self) -> None: ...

        shop = Shop(Hooked)
        finished, error = shop.serve(b"1", b"{no json", b"3")

        assert (finished, type(error)) == (1, ParseError)
        assert len(shop.queue.jobs) == 1

    @pytest.mark.parametrize("define", DEFINES)
    def test_what_the_queue_does_not_take_is_not_finished(self, define: str) -> None:
        class Plain(Noting):
            def perform(self) -> None: ...

        class Aside(Noting):
            async def perform(self) -> None: ...

        shop = Shop(Plain if define == "def" else Aside)
        shop.queue.failing = EnqueueError("its broker is away")
        assert shop.serve(b"1") == (0, shop.queue.failing)

    @pytest.mark.parametrize("policy", [Policy(), Policy(retry=None), Policy(retry=None, dead_letter=GRAVE)])
    @pytest.mark.parametrize("attempt", [1, 1_000])
    def test_it_waits_until_it_does_whatever_the_policy(self, policy: Policy, attempt: int) -> None:
        """That is no fault of the message's: it is neither buried nor held, nor asked a strategy about."""
        verdict = judge(policy, EnqueueError("its broker is away"), attempt)

        assert isinstance(verdict, Retry)
        assert verdict.after > 0

    @pytest.mark.parametrize("define", DEFINES)
    def test_an_event_loop_does_not_wait_for_the_queue(self, define: str) -> None:
        class Plain(Noting):
            def perform(self) -> None: ...

        class Aside(Noting):
            async def perform(self) -> None: ...

        shop = Shop(Plain if define == "def" else Aside, SlowPaper())
        assert shop.serve(b"1", b"2") == (2, None)
        assert shop.carried == ["1", "2"]

    def test_a_try_of_the_server_s_is_none_of_perform(self) -> None:
        """`after_failure` is where perform is: a hook that fails has not begun one."""

        class Hooked(Noting):
            @before_enqueue
            def look(self) -> None:
                raise ValueError("hook")

            def perform(self) -> None: ...

            def after_failure(self, error: BaseException) -> None:
                self.notes.append(error)

        assert isinstance(Shop(Hooked).serve(b"1")[1], ValueError)
        assert Noting.notes == []


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


class UsersResponder(Responder):
    users = outgoing("users")

    def respond(self, payload: Any) -> None:
        self.respond_to("users", payload)


class TestInTheWorker:
    @pytest.mark.parametrize("define", DEFINES)
    def test_what_a_job_sends_and_answers_is_sent(self, define: str) -> None:
        class Plain(Noting):
            def perform(self) -> None:
                self.produce("results", self.params)
                self.respond_with(self.params)

        class Aside(Noting):
            async def perform(self) -> None:
                self.produce("results", self.params)
                await self.respond_with(self.params)

        shop = Shop(Plain if define == "def" else Aside, responder=UsersResponder)
        shop.serve(b"7")

        assert shop.producer.recorded == []
        assert shop.work() is None
        assert [(one.topic, one.payload) for one in shop.producer.recorded] == [("results", b"7"), ("users", b"7")]

    @pytest.mark.parametrize("define", DEFINES)
    def test_an_answer_that_is_missing_is_a_failure_there(self, define: str) -> None:
        class Plain(Noting):
            def perform(self) -> None: ...

            def after_failure(self, error: BaseException) -> None:
                self.notes.append(type(error))

        class Aside(Plain):
            async def perform(self) -> None: ...  # type: ignore[override]  # it is plain there

        shop = Shop(Plain if define == "def" else Aside, responder=UsersResponder)

        assert shop.serve(b"7") == (1, None)
        assert isinstance(shop.work(limit=60.0), ResponderError)
        assert Noting.notes == [ResponderError]

    def test_a_decision_is_no_failure(self) -> None:
        class Deciding(Noting):
            def perform(self) -> None:
                if self.params == 1:
                    self.discard("on purpose")
                self.bury("on purpose")

            def after_failure(self, error: BaseException) -> None:
                self.notes.append(error)

        shop = Shop(Deciding)
        shop.serve(b"1", b"2")

        assert shop.work(0) is None
        assert [type(one) for one in shop.told] == [Discarded]
        assert isinstance(shop.work(1), AskedBurial)
        assert Noting.notes == []

    def test_the_partition_is_the_server_s(self) -> None:
        """What is asked of it says so."""

        class Asking(Noting):
            def perform(self) -> None:
                asks: list[Callable[[], object]] = [
                    self.mark,
                    self.commit,
                    lambda: self.pause(1.0),
                    lambda: self.seek(0),
                    lambda: self.revoked,
                ]
                for ask in asks:
                    with pytest.raises(RuntimeError, match="no partition outside of a server"):
                        ask()
                self.notes.append("asked")

        shop = Shop(Asking)
        shop.serve(b"1")
        assert shop.work() is None
        assert Noting.notes == ["asked"]

    @pytest.mark.parametrize("define", DEFINES)
    def test_what_was_parsed_by_a_parser_of_its_own_is_not_parsed_again(self, define: str) -> None:
        class Words(Raw):
            def parse(self, raw: bytes, /) -> Any:
                return raw.decode().split()

        class AsyncWords(Raw):
            async def parse(self, raw: bytes, /) -> Any:  # type: ignore[override]  # it is plain there
                return raw.decode().split()

        class Plain(Noting):
            @before_enqueue
            def look(self) -> None:
                if self.message.offset == 1:
                    self.params.append("more")

            def perform(self) -> None:
                self.notes.append(self.params)

        class Aside(Plain):
            async def perform(self) -> None:  # type: ignore[override]  # it is plain there
                super().perform()

        shop = Shop(Plain, parser=Words()) if define == "def" else Shop(Aside, parser=AsyncWords())
        shop.serve(b"a b", b"c d")

        assert shop.carried == ["a b", ["c", "d", "more"]]
        assert (shop.work(0), shop.work(1)) == (None, None)
        assert Noting.notes == [["a", "b"], ["c", "d", "more"]]


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
