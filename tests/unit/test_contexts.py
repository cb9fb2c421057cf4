"""Context variables: whether one was set, and who is at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from decimal import Decimal, localcontext

import pytest

from karafka.contexts import AT_WORK, CAN_BE_TOLD, Baseline, at_work, on_set, within
from karafka.messages import Run
from tests.unit.house import Letter, ours

LANGUAGE: ContextVar[object] = ContextVar("language")
OTHER: ContextVar[object] = ContextVar("other")


class Equal:
    """Equal to all, and not to be compared."""

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __eq__(self, other: object) -> bool:
        raise AssertionError("values are not compared")


def nothing() -> None: ...


def set_it() -> None:
    LANGUAGE.set("de")


def set_another() -> None:
    OTHER.set("de")


def set_an_equal() -> None:
    LANGUAGE.set(Equal())


def set_and_back() -> None:
    LANGUAGE.reset(LANGUAGE.set("de"))


def set_elsewhere() -> None:
    copy_context().run(set_it)


def calculate() -> None:
    with localcontext(prec=3):
        assert str(Decimal(1) / 3) == "0.333"


def work() -> None:
    AT_WORK.set(("Orders", None))


class TestBaseline:
    """What user code left behind."""

    @pytest.mark.parametrize(
        ("call", "changed"),
        [
            (nothing, False),
            (set_it, True),
            (set_another, True),
            (set_an_equal, True),
            (set_and_back, False),
            (set_elsewhere, False),
            (calculate, False),
            (work, False),
        ],
    )
    def test_what_changed(self, call: Callable[[], None], *, changed: bool) -> None:
        """A variable that is another object than before; not one that was set back."""

        def inside() -> None:
            LANGUAGE.set(Equal())
            AT_WORK.set(("nobody", None))
            before = Baseline()
            call()
            assert before.changed() is changed
            assert before.fresh()[LANGUAGE] is before.fresh()[LANGUAGE]

        copy_context().run(inside)

    def test_fresh_contexts_share_nothing(self) -> None:
        """Each begins as it was."""

        def inside() -> None:
            LANGUAGE.set("en")
            before = Baseline()
            before.fresh().run(LANGUAGE.set, "de")
            assert before.fresh()[LANGUAGE] == "en"
            assert not before.changed()

        copy_context().run(inside)


class TestOnSet:
    """Told at once, and only of what happens in this context."""

    @pytest.mark.parametrize(("call", "times"), [(nothing, 0), (set_it, 1), (set_and_back, 1), (set_elsewhere, 0)])
    def test_it_tells_once(self, call: Callable[[], None], times: int) -> None:
        """Whatever is set after."""
        assert CAN_BE_TOLD
        told: list[int] = []

        def inside() -> None:
            watch = on_set(lambda: told.append(1))
            call()
            assert len(told) == times
            call()
            del watch
            set_another()

        copy_context().run(inside)
        assert len(told) == times

    def test_each_hears_of_its_own(self) -> None:
        """Also one after the other in one context."""
        told: list[str] = []

        def inside() -> None:
            for name in ("first", "second"):
                watch = on_set(lambda name=name: told.append(name))  # type: ignore[misc]
                LANGUAGE.set(name)
                del watch

        copy_context().run(inside)
        assert told == ["first", "second"]


def test_within_calls_in_a_copy() -> None:
    """The name stays: it is told when a hook fails."""
    base = copy_context()
    base.run(LANGUAGE.set, "en")
    found: list[object] = []

    def on_assigned(_run: Run) -> None:
        found.append(LANGUAGE.get())
        set_it()

    handler = within(base, on_assigned)
    for _ in range(2):
        handler(Run([]))

    assert found == ["en", "en"]
    assert handler.__name__ == "on_assigned"


def test_who_is_at_work() -> None:
    """The task itself, and those that it began, also if they outlast it."""

    async def main() -> list[str]:
        assert at_work(asyncio.current_task()) == ""
        said = []
        for place in (None, Letter("orders", 3, 42), ours()):
            AT_WORK.set(("Orders", place))
            child = asyncio.create_task(asyncio.sleep(0))
            AT_WORK.set(("Other", None))
            said.append(at_work(child))
            await child
        return [*said, at_work(asyncio.current_task())]

    assert asyncio.run(main()) == ["Orders", "Orders at orders/3/42", "Orders of orders/0", "Other"]
    assert at_work(None) == ""
