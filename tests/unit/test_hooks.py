"""`on_assigned`, `on_revoked`, `on_shutdown`: around all that is performed, one at a time for a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from karafka import events as told
from karafka.controllers import BatchController, Controller, check_controller, partition_hooks
from karafka.errors import ConfigError
from karafka.messages import NO_HOOKS, Place, Run
from karafka.policy import Backoff, Policy
from tests.unit.conftest import Build
from tests.unit.house import House, ours

P0 = Place("orders", 0)
STEADY = Policy(retry=Backoff(1.0, 30.0, jitter=0.0))


class Diary:
    """A controller's hooks that note what happens, and raise what the test says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.raising: dict[str, BaseException] = {}

    def controller(self) -> type[Controller[Any]]:
        diary = self

        class Noting(Controller[Any]):
            @classmethod
            def on_assigned(cls, partition: Any) -> None:
                diary.note("assigned", partition)

            @classmethod
            def on_revoked(cls, partition: Any) -> None:
                diary.note("revoked", partition)

            @classmethod
            def on_shutdown(cls, partition: Any) -> None:
                diary.note("shutdown", partition)

            def perform(self) -> None: ...

        return Noting

    def note(self, what: str, partition: Any) -> None:
        self.notes.append(f"{what} {partition.topic}/{partition.partition}@{partition.offset}")
        if what in self.raising:
            raise self.raising.pop(what)

    def perform(self, run: Run) -> None:
        for record in run:
            self.notes.append(str(record.offset()))


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def hooked(build: Build, diary: Diary) -> Callable[..., House]:
    """A house whose topic has hooks; nothing is assigned yet."""

    def made(**options: Any) -> House:
        house = build(partitions=(), handler=diary.perform, policy=STEADY, **options)
        house.hooks = partition_hooks(diary.controller())
        return house

    return made


def test_a_partition_is_welcomed_before_its_first_message(hooked: Callable[..., House], diary: Diary) -> None:
    """With where it begins."""
    house = hooked()
    house.send("orders", count=5)
    house.broker.stored[P0] = 3
    house.assign("orders", 0)
    house.turn(60)

    assert diary.notes == ["assigned orders/0@3", "3", "4"]


def test_a_welcome_that_fails_is_tried_again_before_anything_is_given_out(
    hooked: Callable[..., House], diary: Diary
) -> None:
    """With back-off, and an event that says so."""
    house = hooked()
    diary.raising["assigned"] = ValueError("no database")
    house.send("orders", count=2)
    house.assign("orders", 0)
    house.turn(20)
    assert diary.notes == ["assigned orders/0@0"]
    (failed,) = house.heard(told.HookFailed)
    assert "no database" in failed.error
    assert "tried again in 1.0 s" in failed.verdict

    house.wait(1.0)
    house.turn(10)

    assert diary.notes == ["assigned orders/0@0", "assigned orders/0@0", "0", "1"]


def test_the_farewell_comes_after_the_last_message_that_runs(hooked: Callable[..., House], diary: Diary) -> None:
    """And before the partition is given up; what it takes counts against the time-out of the revocation."""
    house = hooked()
    house.assign("orders", 0)
    house.turn(3)
    house.block(partition=0)
    house.send("orders", count=5)
    house.turn(2)
    worker = house.begin()
    worker.step()
    house.free(partition=0)

    house.revoke("orders", 0, meanwhile=[house.rest, worker.end, *[house.rest, house.work] * 4])

    assert diary.notes == ["assigned orders/0@0", "revoked orders/0@0"]
    (revoked,) = house.heard(told.Revoked)
    assert revoked.waited < 10


def test_of_a_lost_partition_too(hooked: Callable[..., House], diary: Diary) -> None:
    """Whatever it holds must be let go; nobody waits for it."""
    house = hooked()
    house.assign("orders", 0)
    house.turn(3)

    house.lose("orders", 0)
    house.turn()

    assert diary.notes == ["assigned orders/0@0", "revoked orders/0@0"]


def test_the_next_assignment_waits_for_what_still_runs_and_for_the_farewell(
    hooked: Callable[..., House], diary: Diary
) -> None:
    """The same place given back to the same process: never two at work on it."""
    house = hooked()
    house.assign("orders", 0)
    house.turn(3)
    house.block(partition=0)
    house.send("orders", count=5)
    house.turn(2)
    worker = house.begin()
    worker.step()
    house.lose("orders", 0)
    house.assign("orders", 0)
    house.lose("orders", 0)
    house.assign("orders", 0)
    house.free(partition=0)
    house.turn(20)
    assert diary.notes == ["assigned orders/0@0"]

    worker.end()
    house.turn(20)

    assert diary.notes[1:3] == ["revoked orders/0@0", "assigned orders/0@0"]
    assert diary.notes[3:] == ["0", "1", "2", "3", "4"]


def test_at_a_stop_the_other_hook_is_called_instead(hooked: Callable[..., House], diary: Diary) -> None:
    """Once for each partition."""
    house = hooked()
    house.assign("orders", 0, 1)
    house.turn(3)

    house.close(meanwhile=[house.rest, house.work, house.rest])

    assert diary.notes[2:] == ["shutdown orders/0@0", "shutdown orders/1@0"]


def test_what_a_farewell_raises_is_told_and_nothing_else(hooked: Callable[..., House], diary: Diary) -> None:
    """It is not called again."""
    house = hooked()
    house.assign("orders", 0)
    house.turn(3)
    diary.raising["revoked"] = ValueError("no")

    house.revoke("orders", 0, meanwhile=[house.rest, house.work, house.rest])
    house.turn(20)

    assert diary.notes.count("revoked orders/0@0") == 1
    assert [one.verdict for one in house.heard(told.HookFailed)] == ["it is not called again"]


def test_a_hook_may_end_the_process(hooked: Callable[..., House], diary: Diary) -> None:
    """As `perform` may."""
    house = hooked()
    diary.raising["assigned"] = SystemExit(7)
    house.assign("orders", 0)
    house.turn(5)

    assert [status for status, _ in house.endings] == [7]


def test_a_hook_may_say_where_to_begin(hooked: Callable[..., House], diary: Diary) -> None:
    """Where offsets are kept elsewhere, beside the data."""

    class Seeking(diary.controller()):  # type: ignore[misc]
        @classmethod
        def on_assigned(cls, partition: Any) -> None:
            if partition.offset == 0:
                partition.seek(3)

    house = hooked()
    house.hooks = partition_hooks(Seeking)
    house.send("orders", count=5)
    house.assign("orders", 0)
    house.turn(60)

    assert diary.notes == ["3", "4"]


def test_what_is_not_overridden_is_not_called() -> None:
    """It costs nothing."""

    class Plain(Controller[Any]):
        def perform(self) -> None: ...

    class One(BatchController[Any]):
        @classmethod
        def on_revoked(cls, partition: Any) -> None: ...

        def perform(self) -> None: ...

    assert partition_hooks(Plain) == NO_HOOKS
    found = partition_hooks(One)
    assert (found.assigned, found.shutdown) == (None, None)
    assert found.revoked is not None


def test_an_async_hook_wants_an_async_perform() -> None:
    """Or nobody would await it."""

    class Mixed(Controller[Any]):
        @classmethod
        async def on_assigned(cls, partition: Any) -> None: ...

        def perform(self) -> None: ...

    with pytest.raises(ConfigError, match="on_assigned is async, but its perform is not"):
        check_controller(Mixed)


def test_an_async_hook_is_awaited() -> None:
    """On the loop, as `perform` is; a plain one is called there."""
    seen: list[object] = []

    class Both(Controller[Any]):
        @classmethod
        async def on_assigned(cls, partition: Any) -> None:
            seen.append(partition)

        @classmethod
        def on_revoked(cls, partition: Any) -> None:
            seen.append(partition)

        async def perform(self) -> None: ...

    hooks, assignment = partition_hooks(Both), ours()
    for hook in (hooks.assigned, hooks.revoked):
        assert hook is not None
        with pytest.raises(StopIteration):
            hook(Run([], assignment=assignment)).send(None)  # type: ignore[union-attr]

    assert seen == [assignment, assignment]
