"""Each message has context variables of its own: what one perform sets no other sees; what `on_start` sets all see."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context
from decimal import Decimal, localcontext
from typing import Any

import pytest

from karafka import BatchController, Controller, before_enqueue
from tests.specs.run import Notes, Stage, running, until

ORDER: ContextVar[int | None] = ContextVar("order", default=None)
STARTED: ContextVar[str] = ContextVar("started", default="nothing")
COUNT = 3_000

seen: Notes[Any] = Notes()


class Quick(Controller[int]):
    """No hook, and `params` comes first."""

    def perform(self) -> None:
        note(self.params)


class Careful(Controller[int]):
    @before_enqueue
    def hook(self) -> None: ...

    def perform(self) -> None:
        note(self.params)


class InLoop(Controller[int]):
    async def perform(self) -> None:
        note(self.params)


class Waiting(Controller[int]):
    async def perform(self) -> None:
        await asyncio.sleep(0)
        note(self.params)


class Together(BatchController[int]):
    def perform(self) -> None:
        note(self.params[0])


class TogetherInLoop(BatchController[int]):
    async def perform(self) -> None:
        note(self.params[0])


SINGLE = (Quick, Careful, InLoop, Waiting)


def note(number: int) -> None:
    """What is found set, and, from the middle on, something set and left behind."""
    seen.add((number, ORDER.get(), STARTED.get()))
    if number >= COUNT // 2:
        ORDER.set(number)


@pytest.fixture(autouse=True)
def _clean() -> None:
    seen._notes.clear()


@pytest.mark.parametrize("controller", [*SINGLE, Together, TogetherInLoop])
def test_what_one_sets_another_never_sees(stage: Stage, controller: type[Any]) -> None:
    """Also the one after the first that sets something, in the middle of thousands."""
    app, topic = stage.app(), stage.topic()
    batches = issubclass(controller, BatchController)
    app.topic(topic, max_messages=10 if batches else 2_000)(controller)
    stage.send(topic, map(str, range(COUNT)))

    with running(app):
        until(lambda: bool(seen) and seen.all()[-1][0] >= COUNT - (10 if batches else 1), 60)

    assert [one for one in seen if one[1] is not None] == []
    if not batches:
        assert [number for number, _, _ in seen] == list(range(COUNT))


@pytest.mark.parametrize("controller", SINGLE)
def test_nor_where_messages_go_by_themselves(stage: Stage, controller: type[Any]) -> None:
    """Side by side, whichever thread or task comes by."""
    app, topic = stage.app(), stage.topic()
    app.topic(topic, order=None, concurrency=8, max_messages=1)(controller)
    stage.send(topic, map(str, range(COUNT)))

    with running(app):
        until(lambda: len(seen.all()) == COUNT, 60)

    assert [one for one in seen if one[1] is not None] == []
    assert sorted(number for number, _, _ in seen) == list(range(COUNT))


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("controller", [*SINGLE, Together, TogetherInLoop])
def test_what_a_start_hook_sets_all_see(stage: Stage, controller: type[Any], *, asynchronous: bool) -> None:
    app, topic = stage.app(), stage.topic()
    app.topic(topic)(controller)
    stage.send(topic, ["0", "1"])

    def plain() -> None:
        STARTED.set("here")

    async def awaited() -> None:
        STARTED.set("here")

    app.on_start(awaited if asynchronous else plain)

    with running(app):
        until(lambda: seen)

    assert {started for _, _, started in seen} == {"here"}
    assert STARTED.get() == "nothing"


def test_hooks_and_performs_of_a_message_share_theirs(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic(2)
    stage.send(topic, map(str, range(100)))
    stage.send(topic, map(str, range(100)), partition=1)

    @app.topic(topic)
    class Sharing(Controller[int]):
        @before_enqueue
        async def remember(self) -> None:
            ORDER.set(self.params + 1_000 * self.message.partition)

        async def perform(self) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.child())

        async def child(self) -> None:
            await asyncio.sleep(0)
            seen.add(ORDER.get() == self.params + 1_000 * self.message.partition)

    with running(app):
        until(lambda: len(seen) == 200)
    assert all(seen)


def test_a_variable_that_is_set_back_costs_no_message_its_speed(stage: Stage) -> None:
    """Spans and local settings come and go within a message; decimal numbers set a variable at their first use."""
    app, topic = stage.app(), stage.topic()
    stage.send(topic, map(str, range(100)))
    tasks: Notes[asyncio.Task[Any] | None] = Notes()

    @app.topic(topic)
    class Spans(Controller[int]):
        async def perform(self) -> None:
            token = ORDER.set(self.params)
            with localcontext(prec=3):
                seen.add(str(Decimal(1) / 3))
            ORDER.reset(token)
            tasks.add(asyncio.current_task())

    with running(app):
        until(lambda: len(seen) == 100)
    assert set(seen) == {"0.333"}
    assert len(set(tasks)) < 50


def test_a_copy_that_is_kept_hides_nothing_for_long(stage: Stage) -> None:
    """While somebody holds a copy of the context, the end of the run tells that a variable was set."""
    app, topic = stage.app(), stage.topic()
    copies: list[Any] = []

    @app.topic(topic)
    class Keeping(Controller[int]):
        def perform(self) -> None:
            seen.add((self.params, ORDER.get()))
            copies.append(copy_context())
            ORDER.set(self.params)

    with running(app):
        stage.send(topic, ["0"])
        until(lambda: len(seen) == 1)
        stage.send(topic, map(str, range(1, 100)))
        until(lambda: len(seen) == 100)

    assert [before for _, before in seen] == [None] * 100
