"""`after_failure` is called after each try that failed, on the controller that failed, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, ClassVar

import pytest

from karafka import BatchController, ConfigError, Controller, Responder, before_enqueue, outgoing
from karafka.controllers import Answering, AnyController, Context, check_controller
from karafka.errors import ParseError, ResponderError
from karafka.events import Events
from karafka.handlers import handler_for
from karafka.messages import Run
from karafka.parsers import payloads
from karafka.policy import Asked
from karafka.stacks import traceback_of
from tests.unit.house import Letter


class UsersResponder(Responder):
    users = outgoing("users")


class Noting:
    """What controllers here are told is noted; gone before each test. `does` is what perform does."""

    notes: ClassVar[list[Any]] = []
    does: ClassVar[Any]
    tells: ClassVar[Any]


def nothing(_controller: Any) -> None: ...


@pytest.fixture(autouse=True)
def _clean() -> None:
    Noting.notes.clear()
    Noting.does = staticmethod(nothing)
    Noting.tells = staticmethod(nothing)


class Plain(Noting, Controller[Any]):
    def perform(self) -> None:
        self.mark_of_mine = "mine"
        self.does(self)

    def after_failure(self, error: BaseException) -> None:
        self.notes.append((error, getattr(self, "mark_of_mine", None)))
        self.tells(self)


class Aside(Noting, Controller[Any]):
    async def perform(self) -> None:
        await asyncio.sleep(0)
        self.mark_of_mine = "mine"
        self.does(self)

    async def after_failure(self, error: BaseException) -> None:
        await asyncio.sleep(0)
        self.notes.append((error, getattr(self, "mark_of_mine", None)))
        self.tells(self)


class Half(Noting, Controller[Any]):
    """A plain `after_failure` of a coroutine."""

    async def perform(self) -> None:
        self.mark_of_mine = "mine"
        self.does(self)

    def after_failure(self, error: BaseException) -> None:
        self.notes.append((error, getattr(self, "mark_of_mine", None)))
        self.tells(self)


class Several(Noting, BatchController[Any]):
    def perform(self) -> None:
        self.mark_of_mine = "mine"
        self.does(self)

    def after_failure(self, error: BaseException) -> None:
        self.notes.append((error, getattr(self, "mark_of_mine", None)))
        self.tells(self)


class SeveralAside(Noting, BatchController[Any]):
    async def perform(self) -> None:
        await asyncio.sleep(0)
        self.mark_of_mine = "mine"
        self.does(self)

    async def after_failure(self, error: BaseException) -> None:
        await asyncio.sleep(0)
        self.notes.append((error, getattr(self, "mark_of_mine", None)))
        self.tells(self)


KINDS: list[type[AnyController]] = [Plain, Aside, Half, Several, SeveralAside]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def tried(kind: type[AnyController], *values: bytes | None, answering: Answering | None = None) -> BaseException | None:
    """Have a route's handler try messages: what was raised."""
    events, reading, app = Events(), payloads(None, Any), None
    context = Context("g", reading.parse, reading.decode, events, app, answering)  # type: ignore[arg-type]  # not asked
    handler: Any = handler_for(kind, context)
    run = Run([Letter("orders", 0, at, one) for at, one in enumerate(values or (b"7",))])
    try:
        if iscoroutinefunction(handler):
            asyncio.run(handler(run))
        else:
            handler(run)
    except Exception as error:  # noqa: BLE001 - it is looked at
        return error
    return None


def raises(error: BaseException) -> Callable[[Any], None]:
    def does(_controller: Any) -> None:
        raise error

    return does


@kinds
class TestEachKind:
    def test_it_is_told_why_on_the_controller_that_failed(self, kind: type[AnyController]) -> None:
        wrong = ValueError("mine")
        Noting.does = staticmethod(raises(wrong))

        assert tried(kind) is wrong
        assert Noting.notes == [(wrong, "mine")]

    def test_a_group_of_exceptions_too(self, kind: type[AnyController]) -> None:
        wrong = ExceptionGroup("several", [ValueError("mine"), KeyError("yours")])
        Noting.does = staticmethod(raises(wrong))

        assert tried(kind) is wrong
        assert Noting.notes == [(wrong, "mine")]

    def test_what_ends_well_is_no_failure(self, kind: type[AnyController]) -> None:
        assert tried(kind, b"1", b"2") is None
        assert Noting.notes == []

    @pytest.mark.parametrize(
        "decides",
        [
            lambda one: one.discard("on purpose"),
            lambda one: one.abort("on purpose"),
            lambda one: one.bury("on purpose"),
            lambda one: one.retry(1.0, "on purpose"),
        ],
        ids=["discard", "abort", "bury", "retry"],
    )
    def test_what_was_decided_is_no_failure(self, kind: type[AnyController], decides: Callable[[Any], Any]) -> None:
        Noting.does = staticmethod(decides)
        tried(kind)
        assert Noting.notes == []

    def test_a_decision_beside_a_failure_is_a_decision(self, kind: type[AnyController]) -> None:
        def does(one: Any) -> None:
            try:
                one.bury("on purpose")
            except Asked as asked:
                raise ExceptionGroup("both", [asked, ValueError("mine")]) from None

        Noting.does = staticmethod(does)
        assert isinstance(tried(kind), ExceptionGroup)
        assert Noting.notes == []

    @pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()], ids=repr)
    def test_the_end_of_the_process_is_no_failure(self, kind: type[AnyController], end: BaseException) -> None:
        Noting.does = staticmethod(raises(end))
        with pytest.raises(type(end)):
            tried(kind)
        assert Noting.notes == []

    def test_a_payload_that_cannot_be_parsed_is_one_whatever_became_of_it(self, kind: type[AnyController]) -> None:
        def swallows(one: Any) -> None:
            with pytest.raises(ParseError):
                assert one.params

        Noting.does = staticmethod(swallows)
        error = tried(kind, b"{no json")

        assert isinstance(error, ParseError)
        assert Noting.notes == [(error, "mine")]

    def test_an_answer_that_is_missing_is_one(self, kind: type[AnyController]) -> None:
        error = tried(kind, answering=Answering(UsersResponder))

        assert isinstance(error, ResponderError)
        assert Noting.notes == [(error, "mine")]

    def test_what_it_raises_hides_nothing(self, kind: type[AnyController]) -> None:
        """It is noted beside the error, and seen wherever that is shown."""
        wrong = ValueError("mine")
        Noting.does, Noting.tells = staticmethod(raises(wrong)), staticmethod(raises(KeyError("another")))

        assert tried(kind) is wrong
        assert wrong.__notes__ == ["after_failure of it failed too: KeyError: 'another'"]
        assert wrong.__notes__[0] in traceback_of(wrong)

    def test_it_decides_nothing_any_more(self, kind: type[AnyController]) -> None:
        wrong = ValueError("mine")
        Noting.does, Noting.tells = staticmethod(raises(wrong)), staticmethod(lambda one: one.discard("too late"))

        assert tried(kind) is wrong
        assert wrong.__notes__ == ["after_failure of it failed too: Discard: too late"]

    def test_it_may_end_the_process(self, kind: type[AnyController]) -> None:
        Noting.does, Noting.tells = staticmethod(raises(ValueError("mine"))), staticmethod(raises(SystemExit(3)))
        with pytest.raises(SystemExit):
            tried(kind)


class TestHooks:
    def test_a_hook_that_fails_is_a_try_that_failed(self) -> None:
        class Hooked(Plain):
            @before_enqueue
            def first(self) -> None:
                raise ValueError("hook")

        error = tried(Hooked)
        assert Noting.notes == [(error, None)]

    def test_of_several_messages_each_has_its_own(self) -> None:
        def odd(one: Any) -> None:
            if one.params == 2:
                raise ValueError("two")

        Noting.does = staticmethod(odd)
        assert str(tried(Plain, b"1", b"2", b"3")) == "two"
        assert len(Noting.notes) == 1


class TestWhatIsRefused:
    def test_a_coroutine_of_a_plain_perform(self) -> None:
        class Mixed(Controller[Any]):
            def perform(self) -> None: ...

            async def after_failure(self, error: BaseException) -> None: ...

        with pytest.raises(
            ConfigError, match=r"Mixed\.after_failure is async, but its perform is not: make both async"
        ):
            check_controller(Mixed)


def test_who_wants_to_know_nothing_pays_nothing() -> None:
    """Without an after_failure of its own a controller is handled as if there were none."""

    class Quick(Controller[Any]):
        def perform(self) -> None:
            assert self.params

    class Told(Quick):
        def after_failure(self, error: BaseException) -> None: ...

    def kind(controller: type[AnyController]) -> str:
        reading, app = payloads(None, Any), None
        context = Context("g", reading.parse, reading.decode, Events(), app)  # type: ignore[arg-type]  # not asked
        return type(getattr(handler_for(controller, context), "__self__", None)).__name__

    assert (kind(Quick), kind(Told)) == ("Together", "Failing")
