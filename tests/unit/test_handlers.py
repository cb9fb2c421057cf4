"""From a controller to a handler: what is called when, and what counts as finished."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, ClassVar

import pytest

from karafka import handlers
from karafka.app import App
from karafka.controllers import Abort, BatchController, Context, Controller, Discard, before_enqueue
from karafka.errors import ParseError
from karafka.events import Aborted, Discarded, Event, Events
from karafka.handlers import Together, handler_for, touches_params_first
from karafka.jobs import Lane
from karafka.jobs import perform as perform_job
from karafka.messages import UNREADABLE, Place, Record, Run
from karafka.parsers import Parser, payloads
from karafka.partition import Partition
from karafka.policy import AskedRetry, Policy
from tests.unit.house import Hands, Letter, ours

APP = App("shop", kafka={"bootstrap.servers": "localhost:9092"})
GOOD, BAD = b'{"a": 1}', b"{no json"


class Desk:
    """One controller behind its handler, and what it left behind."""

    def __init__(self, controller: type[Any], parser: Parser | None = None, of: Any = Any) -> None:
        self.events = Events()
        self.told: list[Event] = []
        self.events.on(Event, self.told.append)
        reading = payloads(parser, of)
        self.parsed: list[bytes | None] = []

        def noted(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
            if iscoroutinefunction(parse):
                return parse

            def parsing(raw: bytes | None) -> Any:
                self.parsed.append(raw)
                return parse(raw)

            return parsing

        context = Context(
            "g", noted(reading.parse), noted(reading.decode) if reading.decode else None, self.events, APP
        )
        self.handler: Any = handler_for(controller, context)
        together: Any = getattr(self.handler, "__self__", None)
        if isinstance(together, Together):
            together._watched = True  # as it is from the second run on

    @property
    def fast(self) -> bool:
        return isinstance(getattr(self.handler, "__self__", None), Together)

    def run(self, *values: bytes | None, attempt: int = 1) -> Run:
        records: list[Record] = [Letter("orders", 0, 10 * number, value) for number, value in enumerate(values)]
        return Run(records, attempt)

    def perform(self, *values: bytes | None, attempt: int = 1) -> Run:
        """Hand over a run with these payloads; raises what the handler raises."""
        return self.handle(self.run(*values, attempt=attempt))

    def handle(self, run: Run) -> Run:
        if iscoroutinefunction(self.handler):
            asyncio.run(self.handler(run))
        else:
            self.handler(run)
        return run

    def fail(self, *values: bytes | None, attempt: int = 1) -> tuple[BaseException, int]:
        """The same for a run that fails: what was raised, and how many were finished."""
        run = self.run(*values, attempt=attempt)
        with pytest.raises(BaseException) as raised:  # noqa: PT011 - whatever it is, the caller looks
            self.handle(run)
        return raised.value, run.finished


class Noting(Controller[Any]):
    """Base of the test controllers: what they note is gone before each test."""

    notes: ClassVar[list[Any]] = []


@pytest.fixture(autouse=True, params=["few", "many"])
def _clean(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few messages go another way: each test is there for both."""
    Noting.notes.clear()
    monkeypatch.setattr(handlers, "FEW", 100 if request.param == "few" else 0)


class Fast(Noting):
    def perform(self) -> None:
        self.notes.append(self.params)


class Lazy(Noting):
    def perform(self) -> None:
        self.notes.append(self.message.offset)
        if self.message.offset == 10:
            self.notes.append(self.params)


class Async(Noting):
    async def perform(self) -> None:
        await asyncio.sleep(0)
        self.notes.append(self.params)


class Hooked(Noting):
    @before_enqueue
    def first(self) -> None:
        self.notes.append("first")

    def perform(self) -> None:
        self.notes.append(self.params)


KINDS = pytest.mark.parametrize("kind", [Fast, Async, Hooked])


def values_noted() -> list[Any]:
    return [note for note in Noting.notes if not isinstance(note, str)]


class TestEachKind:
    """Sync, fast, async, with hooks: the same promises."""

    def test_which_is_fast(self) -> None:
        """Only where parsing ahead is the same as parsing at touch."""
        assert Desk(Fast).fast
        assert not any(Desk(kind).fast for kind in (Lazy, Async, Hooked))

    @KINDS
    def test_all_are_performed_in_order_and_finished(self, kind: type[Any]) -> None:
        """One after the other."""
        run = Desk(kind).perform(b"1", b"2", b"3")

        assert values_noted() == [1, 2, 3]
        assert run.finished == 3

    @KINDS
    def test_a_failure_stops_at_its_message(self, kind: type[Any]) -> None:
        """Those before it are finished, those behind it are not performed."""

        class Failing(kind):  # type: ignore[misc]
            notes: ClassVar[Any] = _FailOn(3, Noting.notes.append)

        error, finished = Desk(Failing).fail(b"1", b"2", b"3", b"4")

        assert (type(error), finished) == (ZeroDivisionError, 2)
        assert values_noted() == [1, 2]

    @KINDS
    def test_a_parse_error_stops_at_its_message(self, kind: type[Any]) -> None:
        """In the middle of a run too: earlier ones finished, that one failed, later ones not performed."""
        error, finished = Desk(kind).fail(b"1", b"2", BAD, b"4")

        assert (type(error), finished) == (ParseError, 2)
        assert "orders/0/20" in str(error)
        assert values_noted() == [1, 2]

    @KINDS
    @pytest.mark.parametrize("position", [0, 1, 3])
    def test_a_second_try_does_the_same(self, kind: type[Any], position: int) -> None:
        """Whichever message is refused."""
        bodies: list[bytes | None] = [b"1", b"2", b"3", b"4"]
        bodies[position] = BAD

        error, finished = Desk(kind).fail(*bodies, attempt=2)

        assert (type(error), finished) == (ParseError, position)

    @KINDS
    @pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RuntimeError()])
    def test_whatever_is_raised_the_account_is_right(self, kind: type[Any], raised: BaseException) -> None:
        """What is finished is finished, whatever ends the run."""

        class Failing(kind):  # type: ignore[misc]
            notes: ClassVar[Any] = _FailOn(2, Noting.notes.append, raised)

        error, finished = Desk(Failing).fail(b"1", b"2", b"3")

        assert (error, finished) == (raised, 1)

    @KINDS
    def test_each_message_has_a_controller_of_its_own(self, kind: type[Any]) -> None:
        """Nothing is carried from one message to the next."""
        seen = []

        class Keeping(kind):  # type: ignore[misc]
            def __init__(self) -> None:
                seen.append(self)

        Desk(Keeping).perform(b"1", b"2", b"3")

        assert len({id(one) for one in seen}) == 3
        assert all(isinstance(one, kind) for one in seen)

    @KINDS
    def test_a_halted_run_ends_after_the_message_in_hand(self, kind: type[Any]) -> None:
        """The rest is left, and is no failure."""
        desk = Desk(kind)
        run = desk.run(b"1", b"2", b"3", b"4")

        class Halting(kind):  # type: ignore[misc]
            notes: ClassVar[Any] = _CallOn(2, Noting.notes.append, run.halt)

        Desk(Halting).handle(run)

        assert values_noted() == [1, 2]
        assert run.finished == 2

    @KINDS
    def test_what_it_knows_of_its_message(self, kind: type[Any]) -> None:
        """Message, attempt, id, app: and the payload is the same object wherever it is read."""
        seen: list[Any] = []

        class Looking(kind):  # type: ignore[misc]
            notes: ClassVar[Any] = None

        class Notes:
            def append(self, value: Any) -> None:
                seen.append(value)

        Looking.notes = Notes()

        class Asking(Controller[Any]):
            def perform(self) -> None:
                params = self.params
                seen.append((params is self.message.payload, self.message is self.message))
                seen.append((self.message.attempt, self.message.id, self.app))

        Desk(Asking).perform(GOOD)

        assert seen == [(True, True), (1, "g/orders/0/0", APP)]

    def test_the_first_message_of_a_retried_run_has_its_attempt(self) -> None:
        """The others are tried for the first time."""
        attempts = []

        class Counting(Controller[Any]):
            def perform(self) -> None:
                attempts.append(self.message.attempt)

        Desk(Counting).perform(b"1", b"2", attempt=4)

        assert attempts == [4, 1]


class _FailOn:
    """A list that raises when `value` is appended."""

    def __init__(self, value: Any, append: Callable[[Any], None], error: BaseException | None = None) -> None:
        self._value = value
        self._append = append
        self._error = error or ZeroDivisionError()

    def append(self, value: Any) -> None:
        if value == self._value:
            raise self._error
        self._append(value)


class _CallOn:
    """A list that calls something when `value` is appended."""

    def __init__(self, value: Any, append: Callable[[Any], None], call: Callable[[], None]) -> None:
        self._value = value
        self._append = append
        self._call = call

    def append(self, value: Any) -> None:
        if value == self._value:
            self._call()
        self._append(value)


class TestParsing:
    """Exactly what is touched is parsed, and a parse error stays with its message."""

    def test_a_payload_that_is_not_touched_is_not_parsed(self) -> None:
        """Touching it for some does not parse the others."""
        desk = Desk(Lazy)

        desk.perform(BAD, b"2", BAD)

        assert Noting.notes == [0, 10, 2, 20]
        assert desk.parsed == [b"2"]

    def test_the_fast_path_parses_each_once(self) -> None:
        """One ahead of `perform`, in order."""
        desk = Desk(Fast)

        desk.perform(b"1", b"2", b"3")

        assert desk.parsed == [b"1", b"2", b"3"]

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_a_parse_error_that_was_swallowed_still_fails_its_message(self, asynchronous: bool) -> None:  # noqa: FBT001
        """The message is judged by it: nobody saw its payload."""

        class Swallowing(Noting):
            def perform(self) -> None:
                with suppress(Exception):
                    self.notes.append(self.params)

        class SwallowingAsync(Noting):
            async def perform(self) -> None:
                with suppress(Exception):
                    self.notes.append(self.params)

        error, finished = Desk(SwallowingAsync if asynchronous else Swallowing).fail(b"1", BAD, b"3")

        assert (type(error), finished) == (ParseError, 1)
        assert Noting.notes == [1]

    @pytest.mark.parametrize("asynchronous", [False, True])
    @pytest.mark.parametrize("after", ["swallowed", "raised on", "dropped"])
    def test_headers_that_cannot_be_read_judge_their_message_whatever_becomes_of_the_error(
        self,
        asynchronous: bool,  # noqa: FBT001
        after: str,
    ) -> None:
        """As a payload does, also where the payload was parsed ahead; the messages behind it are not begun."""

        class Careless(Noting):
            def perform(self) -> None:
                self.notes.append(self.params)
                try:
                    _ = self.message.headers
                except ParseError as error:
                    if after == "raised on":
                        raise ValueError("bad orders") from error
                    if after == "dropped":
                        self.discard("bad orders")

        class CarelessInLoop(Noting):
            async def perform(self) -> None:
                Careless.perform(self)  # type: ignore[arg-type]  # of the same shape

        desk = Desk(CarelessInLoop if asynchronous else Careless)
        run = desk.run(b"1", b"2", b"3")
        run.records[1].set_headers([UNREADABLE])
        if after == "dropped":
            desk.handle(run)
            # What is behind it may be performed by another run.
            assert run.finished >= 2
            assert Noting.notes == [1, 2, 3][: run.finished]
            return
        with pytest.raises(ParseError, match="headers of orders/0/10 cannot be read"):
            desk.handle(run)

        assert (run.finished, Noting.notes) == (1, [1, 2])

    def test_a_parse_error_raised_on_as_something_else_still_judges_its_message(self) -> None:
        """What can never succeed is not tried again because user code gave it another name."""

        class Renaming(Controller[Any]):
            def perform(self) -> None:
                try:
                    _ = self.params
                except ParseError as error:
                    raise ValueError("bad order") from error

        error, _ = Desk(Renaming).fail(BAD)

        assert isinstance(error, ParseError)

    def test_a_parse_error_in_a_hook_is_one_too(self) -> None:
        """Swallowed there, `perform` may run, and the message fails all the same."""

        class Peeking(Noting):
            @before_enqueue
            def peek(self) -> None:
                try:
                    _ = self.params
                except ParseError:
                    self.notes.append("peeked")

            def perform(self) -> None:
                self.notes.append("performed")

        error, finished = Desk(Peeking).fail(BAD)

        assert (type(error), finished) == (ParseError, 0)

    @pytest.mark.parametrize("error", [StopIteration(), Abort("no"), RecursionError(), ZeroDivisionError()])
    @pytest.mark.parametrize("position", [0, 1])
    def test_whatever_a_parser_raises_fails_its_message(self, error: Exception, position: int) -> None:
        """On the fast path as at touch: never a silent end of the run, never a message passed over."""

        class Odd:
            def parse(self, raw: bytes, /) -> Any:
                if raw == BAD:
                    raise error
                return int(raw)

            def generate(self, payload: Any, /) -> bytes:
                return b""

        bodies = [b"1", b"2", b"3"]
        bodies[position] = BAD

        raised, finished = Desk(Fast, Odd()).fail(*bodies)

        assert (type(raised), finished) == (ParseError, position)
        assert Noting.notes == [int(body) for body in bodies[:position]]

    def test_a_run_cut_short_by_its_parser_is_told(self) -> None:
        """An outcome without an error would be given out again at once, for ever, and nobody would know."""

        class Leaky:
            def parse(self, raw: bytes, /) -> Any:
                return next(iter([] if raw == b"" else [raw]))

            def generate(self, payload: Any, /) -> bytes:
                return b""

        desk = Desk(Fast, Leaky())
        hands = Hands()
        partition = Partition(Place("orders", 0), 0, Policy(), lambda: Lane(desk.handler, hands, print), ours())
        partition.receive([Letter("orders", 0, 0, b"")], 0, 0.0)
        job = partition.take(0.0)
        assert job is not None

        outcome = perform_job(job)

        assert outcome.error is not None

    @pytest.mark.parametrize("of", [Any, int | None, None])
    def test_a_tombstone_is_none_where_that_is_meant(self, of: Any) -> None:
        """Undeclared, or declared so."""
        run = Desk(Fast, of=of).perform(None)

        assert (Noting.notes, run.finished) == ([None], 1)

    def test_a_tombstone_in_the_middle_of_a_fast_run(self) -> None:
        """A message like any other."""
        run = Desk(Fast, of=int | None).perform(b"1", None, None, b"4")

        assert (Noting.notes, run.finished) == ([1, None, None, 4], 4)

    def test_a_tombstone_is_refused_in_words_where_it_is_not_meant(self) -> None:
        """With the way out."""
        error, finished = Desk(Fast, of=int).fail(b"1", None)

        assert (type(error), finished) == (ParseError, 1)
        assert "use int | None" in str(error)

    def test_a_controller_s_own_params_are_honoured(self) -> None:
        """Who writes a property `params` gets it, on every path."""

        class Wrapped(Noting):
            @property
            def params(self) -> Any:
                return ("mine", self.message.payload)

            def perform(self) -> None:
                self.notes.append(self.params)

        Desk(Wrapped).perform(b"1")

        assert Noting.notes == [("mine", 1)]


class TestHooks:
    """Before `perform`, in the order of declaration, inherited ones first."""

    def test_order(self) -> None:
        """Base class before subclass; an overridden one in its place, once."""

        class Base(Noting):
            @before_enqueue
            def one(self) -> None:
                self.notes.append("one")

            @before_enqueue
            def two(self) -> None:
                self.notes.append("two")

        class Sub(Base):
            @before_enqueue
            def three(self) -> None:
                self.notes.append("three")

            def two(self) -> None:
                self.notes.append("my two")

            def perform(self) -> None:
                self.notes.append("perform")

        Desk(Sub).perform(b"1")

        assert Noting.notes == ["one", "my two", "three", "perform"]

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_an_abort_in_a_hook_drops_the_message_on_purpose(self, asynchronous: bool) -> None:  # noqa: FBT001
        """Finished, `perform` and later hooks not run, and an event says why; the next message goes on."""

        class Dropping(Noting):
            @before_enqueue
            def drop(self) -> None:
                if self.params == 2:
                    raise Abort("two is too many")

            @before_enqueue
            def later(self) -> None:
                self.notes.append("later")

            def perform(self) -> None:
                self.notes.append(self.params)

        class DroppingAsync(Dropping):
            async def perform(self) -> None:  # type: ignore[override]
                self.notes.append(self.params)

        desk = Desk(DroppingAsync if asynchronous else Dropping)
        run = desk.perform(b"1", b"2", b"3")

        assert Noting.notes == ["later", 1, "later", 3]
        assert run.finished == 3
        (aborted,) = desk.told
        assert isinstance(aborted, Aborted)
        assert (aborted.offset, aborted.reason) == (10, "two is too many")

    @pytest.mark.parametrize("first", [True, False])
    def test_an_abort_in_perform_finishes_its_message(self, first: bool) -> None:  # noqa: FBT001
        """On the fast path too, wherever in the run."""

        class Giving(Noting):
            def perform(self) -> None:
                value = self.params
                if value == (1 if first else 2):
                    self.discard("enough")
                self.notes.append(value)

        desk = Desk(Giving)
        assert desk.fast

        run = desk.perform(b"1", b"2", b"3")

        assert Noting.notes == ([2, 3] if first else [1, 3])
        assert run.finished == 3
        assert [type(event) for event in desk.told] == [Discarded]

    def test_an_async_hook_is_awaited(self) -> None:
        """Where `perform` is async."""

        class Waiting(Noting):
            @before_enqueue
            async def wait(self) -> None:
                await asyncio.sleep(0)
                self.notes.append("waited")

            async def perform(self) -> None:
                self.notes.append("performed")

        Desk(Waiting).perform(b"1")

        assert Noting.notes == ["waited", "performed"]

    def test_what_a_plain_hook_returns_is_nobody_s_business(self) -> None:
        """Async or not."""

        class Chatty(Noting):
            @before_enqueue
            def check(self) -> bool:
                return True

            async def perform(self) -> None:
                self.notes.append("performed")

        assert Desk(Chatty).perform(b"1").finished == 1


class TestBatches:
    """One controller for the whole run: finished as a whole, or not."""

    def test_the_batch_is_the_run(self) -> None:
        """Payloads, messages, attempt."""
        seen: list[Any] = []

        class Counting(BatchController[Any]):
            def perform(self) -> None:
                seen.extend([self.params, [one.offset for one in self.messages], self.messages[0].attempt])

        run = Desk(Counting).perform(b"1", b"2", attempt=3)

        assert seen == [[1, 2], [0, 10], 3]
        assert run.finished == 2

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_a_failure_finishes_nothing(self, asynchronous: bool) -> None:  # noqa: FBT001
        """All of it is tried again."""

        class Failing(BatchController[Any]):
            def perform(self) -> None:
                raise ZeroDivisionError

        class FailingAsync(BatchController[Any]):
            async def perform(self) -> None:
                raise ZeroDivisionError

        error, finished = Desk(FailingAsync if asynchronous else Failing).fail(b"1", b"2")

        assert (type(error), finished) == (ZeroDivisionError, 0)

    def test_several_in_a_run_are_performed_one_after_the_other(self) -> None:
        """Each in a context of its own, and each finished by itself; the next is not begun after one that fails."""

        class Batched(BatchController[Any]):
            def perform(self) -> None:
                Noting.notes.append((self.params, [one.attempt for one in self.messages], LEFT.get(None)))
                LEFT.set(1)
                if self.params[0] == 5:
                    raise ValueError("no")

        desk = Desk(Batched)
        run = desk.run(b"1", b"2", b"3", b"4", b"5", b"6", b"7", attempt=3)
        run.batch = 2
        with pytest.raises(ValueError, match="no"):
            copy_context().run(desk.handle, run)

        assert run.finished == 4
        assert Noting.notes == [([1, 2], [3, 3], None), ([3, 4], [1, 1], None), ([5, 6], [1, 1], None)]

    def test_a_run_of_several_that_is_halted_ends_after_the_one_in_hand(self) -> None:
        """The others come back."""

        class Halting(BatchController[Any]):
            def perform(self) -> None:
                self._run.halt()

        desk = Desk(Halting)
        run = desk.run(b"1", b"2", b"3")
        run.batch = 2

        assert desk.handle(run).finished == 2

    def test_payloads_of_all_are_parsed_before_one_is_refused(self) -> None:
        """Which one, its own parser says."""

        class Batched(BatchController[Any]):
            def perform(self) -> None:
                Noting.notes.append(self.params)

        assert Desk(Batched).perform(b"1", b"2").finished == 2
        error, finished = Desk(Batched).fail(b"1", BAD)

        assert "orders/0/10" in str(error)
        assert (finished, Noting.notes) == (0, [[1, 2]])

    @pytest.mark.parametrize("how", ["payloads", "messages"])
    def test_a_swallowed_parse_error_fails_the_batch(self, how: str) -> None:
        """However it was met."""

        class Swallowing(BatchController[Any]):
            def perform(self) -> None:
                with suppress(ParseError):
                    _ = self.params if how == "payloads" else [one.payload for one in self.messages]

        error, finished = Desk(Swallowing).fail(b"1", BAD)

        assert (type(error), finished) == (ParseError, 0)

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_a_parse_error_raised_on_as_something_else_still_judges_the_batch(self, *, asynchronous: bool) -> None:
        """As it does a message of its own; a way to finish is one all the same."""

        class Renaming(BatchController[Any]):
            def perform(self) -> None:
                try:
                    _ = self.params
                except ParseError as error:
                    raise ValueError("bad orders") from error

        class RenamingAsync(BatchController[Any]):
            async def perform(self) -> None:
                Renaming.perform(self)  # type: ignore[arg-type]  # of the same shape

        error, finished = Desk(RenamingAsync if asynchronous else Renaming).fail(b"1", BAD)

        assert (type(error), finished) == (ParseError, 0)

    def test_an_abort_finishes_it_with_an_event(self) -> None:
        """On purpose, as a whole."""

        class Dropping(BatchController[Any]):
            @before_enqueue
            def drop(self) -> None:
                raise Abort("all of it")

            def perform(self) -> None:
                raise AssertionError

        desk = Desk(Dropping)

        assert desk.perform(b"1", b"2").finished == 2
        assert [type(event) for event in desk.told] == [Aborted]

    def test_a_batch_halted_before_it_began_is_not_performed(self) -> None:
        """It comes back whole."""

        class Failing(BatchController[Any]):
            def perform(self) -> None:
                raise AssertionError

        desk = Desk(Failing)
        run = desk.run(b"1", b"2")
        run.halt()

        assert desk.handle(run).finished == 0


class TestGroups:
    """What tasks raise together: what is asked for in it is done; what failed beside is told."""

    def kinds(self, error: BaseException) -> list[Desk]:
        """A desk for each way that a message goes, whose `perform` raises `error` at 2."""

        class Quick(Controller[Any]):
            def perform(self) -> None:
                if self.params == 2:
                    raise error

        class Careful(Quick):
            @before_enqueue
            def hook(self) -> None: ...

        class InLoop(Controller[Any]):
            async def perform(self) -> None:
                if self.params == 2:
                    raise error

        class Together(BatchController[Any]):
            def perform(self) -> None:
                if 2 in self.params:
                    raise error

        class TogetherInLoop(BatchController[Any]):
            async def perform(self) -> None:
                if 2 in self.params:
                    raise error

        return [Desk(one) for one in (Quick, Careful, InLoop, Together, TogetherInLoop)]

    @pytest.mark.parametrize("beside", [[], [ValueError("no")], [asyncio.CancelledError()]])
    def test_a_message_given_up_in_a_group_is_finished(self, beside: list[BaseException]) -> None:
        """An event says so, and names what failed beside it."""
        for desk in self.kinds(BaseExceptionGroup("tasks", [*beside, BaseExceptionGroup("in", [Discard("old")])])):
            assert desk.perform(b"1", b"2", b"3").finished == 3
            (told,) = desk.told
            assert isinstance(told, Discarded)
            assert told.reason.startswith("old")
            assert ("beside" in told.reason) is bool(beside)

    def test_what_else_is_asked_for_is_raised_itself(self) -> None:
        """So that it is told as a decision, not as a failure."""
        wish = AskedRetry(7)
        for desk in self.kinds(ExceptionGroup("tasks", [wish])):
            assert desk.fail(b"1", b"2")[0] is wish

    def test_beside_a_failure_the_group_is_raised(self) -> None:
        """It is told as a failure, and judged by what is asked for."""
        error = ExceptionGroup("tasks", [AskedRetry(7), ValueError()])
        for desk in self.kinds(error):
            assert desk.fail(b"1", b"2")[0] is error

    def test_what_ends_the_process_comes_first(self) -> None:
        """A message that somebody gives up beside it is not finished."""
        end = SystemExit(4)
        for desk in self.kinds(BaseExceptionGroup("tasks", [Discard("old"), end])):
            error, finished = desk.fail(b"1", b"2")
            assert error is end
            assert finished < 2

    def test_a_group_of_failures_is_one(self) -> None:
        """As it came."""
        error = BaseExceptionGroup("tasks", [ValueError(), asyncio.CancelledError()])
        for desk in self.kinds(error):
            assert desk.fail(b"1", b"2")[0] is error

    def test_a_parse_error_that_a_group_hides_judges_its_message(self) -> None:
        """As under any other name."""

        class Hiding(Controller[Any]):
            async def perform(self) -> None:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self.read())

            async def read(self) -> Any:
                return self.params

        assert isinstance(Desk(Hiding).fail(BAD)[0], ParseError)


LEFT: ContextVar[Any] = ContextVar("left", default=None)


class TestContexts:
    """What one message sets, the next does not see."""

    @KINDS
    @pytest.mark.parametrize("first", [1, 3])
    def test_what_one_leaves_behind_no_other_finds(self, kind: type[Any], first: int) -> None:
        """From the first, or from the middle of a run on."""
        found: list[Any] = []

        def leave(value: Any) -> None:
            if value == "first":  # a hook's note
                return
            found.append((value, LEFT.get()))
            if value >= first:
                LEFT.set(value)

        class Leaving(kind):  # type: ignore[misc]
            notes: ClassVar[Any] = _Append(leave)

        desk, bodies = Desk(Leaving), [b"%d" % number for number in range(1, 7)]
        run = copy_context().run(desk.perform, *bodies)
        for _ in range(3):  # what came back is given out again
            bodies = bodies[run.finished :]
            run = copy_context().run(desk.perform, *bodies)

        assert found == [(number, None) for number in range(1, 7)]

    def test_the_fast_path_is_left_for_good_when_a_variable_is_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The run ends after its message; nothing is parsed ahead any more."""
        monkeypatch.setattr(handlers, "FEW", 0)

        class Leaving(Noting):
            def perform(self) -> None:
                value = self.params
                self.notes.append(value)
                if value == 2:
                    LEFT.set(value)

        desk = Desk(Leaving)
        assert copy_context().run(desk.perform, b"1", b"2", b"3", b"4").finished == 2
        assert copy_context().run(desk.perform, b"3", b"4").finished == 2
        assert Noting.notes == [1, 2, 3, 4]

    def test_the_first_run_tells_however_short(self) -> None:
        """Whoever keeps a copy of each context is found out before a long run shares one."""
        kept: list[Any] = []

        class Keeping(Noting):
            def perform(self) -> None:
                self.notes.append((self.params, LEFT.get(None)))
                kept.append(copy_context())
                LEFT.set(self.params)

        desk = Desk(Keeping)
        desk.handler.__self__._watched = False
        copy_context().run(desk.perform, b"1")
        copy_context().run(desk.perform, b"2", b"3", b"4")

        assert Noting.notes == [(number, None) for number in range(1, 5)]

    def test_a_refused_payload_does_not_leave_it(self) -> None:
        """What the engine sets by itself is no sign of anything."""
        desk = Desk(Fast)
        for _ in range(2):
            assert copy_context().run(desk.fail, b"1", BAD, b"3")[1] == 1
        assert copy_context().run(desk.perform, b"1", b"2", attempt=2).finished == 2

        desk.handler.__self__._each = None  # it would be asked
        assert copy_context().run(desk.perform, b"1", b"2").finished == 2

    def test_a_cancellation_that_comes_late_strikes_no_other_message(self) -> None:
        """The rest of the run comes back, for a task that nobody cancelled."""

        class Cancelling(Noting):
            async def perform(self) -> None:
                self.notes.append(self.params)
                if self.params == 2:
                    asyncio.current_task().cancel()  # type: ignore[union-attr]  # in a task

        desk = Desk(Cancelling)
        run = desk.run(b"1", b"2", b"3")

        async def main() -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.create_task(desk.handler(run))

        asyncio.run(main())
        assert Noting.notes == [1, 2]
        assert run.finished == 2


class _Append:
    """A list that calls something with what is appended."""

    def __init__(self, append: Callable[[Any], None]) -> None:
        self.append = append


class TestAsyncParsers:
    """Awaited ahead, given at touch."""

    class Slow:
        async def parse(self, raw: bytes, /) -> Any:
            await asyncio.sleep(0)
            return {"number": int(raw)}

        def generate(self, payload: Any, /) -> bytes:
            return b""

    @dataclass
    class Order:
        number: int

    def test_hooks_and_perform_have_the_payload(self) -> None:
        """Of the declared type; None for a tombstone where that is one."""

        class Reading(Noting):
            @before_enqueue
            def look(self) -> None:
                self.notes.append(self.params)

            async def perform(self) -> None:
                assert self.params is self.message.payload
                self.notes.append(self.params)

        run = Desk(Reading, self.Slow(), self.Order | None).perform(b"1", None)

        assert Noting.notes == [self.Order(1), self.Order(1), None, None]
        assert run.finished == 2

    @pytest.mark.parametrize("value", [b"no number", None])
    def test_what_is_refused_is_raised_at_touch(self, value: bytes | None) -> None:
        """Where nobody touches it nobody fails."""

        class Touching(Noting):
            async def perform(self) -> None:
                self.notes.append(self.params)

        class Passing(Noting):
            async def perform(self) -> None:
                self.notes.append("passed")

        class Swallowing(Noting):
            async def perform(self) -> None:
                with suppress(ParseError):
                    _ = self.params

        assert isinstance(Desk(Touching, self.Slow(), self.Order).fail(value)[0], ParseError)
        assert isinstance(Desk(Swallowing, self.Slow(), self.Order).fail(value)[0], ParseError)
        assert Desk(Passing, self.Slow(), self.Order).perform(value).finished == 1

    def test_a_batch_is_parsed_whole(self) -> None:
        """By messages, so that the culprit is known."""
        seen: list[Any] = []

        class Counting(BatchController[Any]):
            async def perform(self) -> None:
                seen.extend(self.params)

        assert Desk(Counting, self.Slow(), self.Order).perform(b"1", b"2").finished == 2
        assert seen == [self.Order(1), self.Order(2)]
        error, finished = Desk(Counting, self.Slow(), self.Order).fail(b"1", b"no")
        assert "orders/0/10" in str(error)
        assert finished == 0

    def test_a_cancellation_is_not_the_payload_s_fault(self) -> None:
        """A failure like any other, and no parse error."""

        class Cancelled:
            async def parse(self, raw: bytes, /) -> Any:
                raise asyncio.CancelledError

            def generate(self, payload: Any, /) -> bytes:
                return b""

        assert isinstance(Desk(Async, Cancelled()).fail(b"1")[0], asyncio.CancelledError)


class TestNothingIsFinishedThatWasNotPerformed:
    """What looks like a call and does nothing is no success."""

    @pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_coroutine_that_nobody_awaits_is_no_success(self) -> None:
        """A decorator that is no `async def` hides that `perform` is one."""

        def decorated(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
            @functools.wraps(method)
            def around(self: Any) -> Any:
                return method(self)

            return around

        class Hidden(Noting):
            @decorated
            async def perform(self) -> None:
                self.notes.append(self.params)

        desk = Desk(Hidden)
        run = desk.run(b"1")
        try:
            desk.handle(run)
        except Exception:  # noqa: BLE001 - refusing in any words is right
            return
        assert Noting.notes == [1] or run.finished == 0

    def test_a_generator_that_nobody_runs_is_no_success(self) -> None:
        """A `yield` in `perform` makes it one."""

        class Yielding(Noting):
            def perform(self) -> Any:
                self.notes.append(self.params)
                yield

        try:
            desk = Desk(Yielding)
            run = desk.run(b"1")
            desk.handle(run)
        except Exception:  # noqa: BLE001 - refusing in any words is right
            return
        assert Noting.notes == [1] or run.finished == 0


def _decorated(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(method)
    def around(self: Any) -> Any:
        print("called first")
        return method(self)

    return around


class _Bodies:
    """Function bodies, named for what they do; never called."""

    def plain(self: Any) -> None:
        print(self.params)

    def returned(self: Any) -> Any:
        return self.params

    def attribute_of(self: Any) -> Any:
        return self.params.title

    def into_a_variable(self: Any) -> None:
        video = self.params
        print(video)

    def in_a_try(self: Any) -> None:
        try:
            print(self.params)
        except ParseError:
            raise ValueError from None

    def in_the_condition(self: Any) -> None:
        if self.params:
            print(1)

    def looped_over(self: Any) -> None:
        for one in self.params:
            print(one)

    def other_name_for_self(this: Any) -> Any:  # noqa: N805
        return this.params

    def unpacked(self: Any) -> Any:
        first, second = self.params
        return first, second

    def in_a_branch(self: Any) -> None:
        if self.message.offset:
            print(self.params)

    def after_a_branch(self: Any) -> None:
        if self.message.tombstone:
            return
        print(self.params)

    def one_armed(self: Any) -> Any:
        return self.app and self.params

    def conditional_expression(self: Any) -> Any:
        return self.params if self.app else None

    def in_a_loop(self: Any) -> None:
        for _ in self.app:
            print(self.params)

    def in_a_while(self: Any) -> None:
        while self.app:
            print(self.params)

    def after_a_call(self: Any) -> None:
        self.check()
        print(self.params)

    def argument_after_a_call(self: Any) -> None:
        print(self.check(), self.params)

    def after_a_raise(self: Any) -> None:
        raise ValueError
        print(self.params)  # type: ignore[unreachable]

    def after_an_assignment_to_self(self: Any) -> None:
        self.seen = 1
        print(self.params)

    def after_an_import(self: Any) -> None:
        import json  # noqa: PLC0415

        print(json, self.params)

    def of_another(self: Any) -> Any:
        return self.app.params

    def never(self: Any) -> None:
        print(self.message)

    def in_a_closure(self: Any) -> Any:
        def inner() -> Any:
            return self.params

        return inner

    def in_a_lambda(self: Any) -> Any:
        return lambda: self.params

    def in_a_comprehension(self: Any) -> Any:
        return [self.params for _ in self.app]

    def yielding(self: Any) -> Any:
        yield self.params

    def in_an_assertion(self: Any) -> None:
        assert self.message.offset
        print(self.params)

    def in_a_with(self: Any) -> None:
        with self.app:
            print(self.params)

    def in_a_match(self: Any) -> None:
        match self.app:
            case 1:
                print(self.params)

    def deleted(self: Any) -> None:
        del self.params

    def set(self: Any) -> None:
        self.params = 1

    @_decorated
    def decorated(self: Any) -> Any:
        return self.params

    async def asynchronous(self: Any) -> Any:
        return self.params

    @staticmethod
    def without_self() -> None: ...


# Read before anything else can happen: parsing ahead parses exactly what would have been parsed.
FIRST = {
    "plain", "returned", "attribute_of", "into_a_variable", "in_a_try", "in_the_condition", "looped_over",
    "other_name_for_self", "unpacked",
}  # fmt: skip
NAMES = [name for name in vars(_Bodies) if not name.startswith("_")]


@pytest.mark.parametrize("name", NAMES)
def test_where_params_is_touched_first(name: str) -> None:
    """Read from the bytecode of whichever Python runs: no is always safe, yes must be certain."""
    assert touches_params_first(getattr(_Bodies, name)) == (name in FIRST)


@pytest.mark.parametrize("odd", [print, functools.partial(print), object(), None, int])
def test_what_is_no_plain_function_is_never_first(odd: Any) -> None:
    """Built in, partial, or nothing that could be called."""
    assert not touches_params_first(odd)
