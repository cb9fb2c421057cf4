"""A controller hears when a partition comes, before its first message, and when it goes or the server stops."""

from __future__ import annotations

import time
from collections import defaultdict
from threading import Event

import pytest

from karafka import Assignment, Backoff, BatchController, Controller, Message, group, topic
from karafka.events import Assigned, ErrorOccurred, Failed
from tests.brokers import new_group
from tests.specs.run import EAGER, Notes, Stage, running, until

# What controllers heard and did, by topic: (what, partition, offset).
TOLD: dict[str, Notes[tuple[str, int, int]]] = defaultdict(Notes)


class Hooks:
    """Writes down all that a controller hears."""

    @classmethod
    def on_assigned(cls, partition: Assignment) -> None:
        TOLD[partition.topic].add(("assigned", partition.partition, partition.offset))

    @classmethod
    def on_revoked(cls, partition: Assignment) -> None:
        TOLD[partition.topic].add(("revoked", partition.partition, 0))

    @classmethod
    def on_shutdown(cls, partition: Assignment) -> None:
        TOLD[partition.topic].add(("shutdown", partition.partition, 0))


class AsyncHooks:
    """The same on the event loop."""

    @classmethod
    async def on_assigned(cls, partition: Assignment) -> None:
        Hooks.on_assigned(partition)

    @classmethod
    async def on_revoked(cls, partition: Assignment) -> None:
        Hooks.on_revoked(partition)

    @classmethod
    async def on_shutdown(cls, partition: Assignment) -> None:
        Hooks.on_shutdown(partition)


class Plain(Hooks, Controller[int]):
    def perform(self) -> None:
        TOLD[self.message.topic].add(("performed", self.message.partition, self.params))


class Aside(AsyncHooks, Controller[int]):
    async def perform(self) -> None:
        TOLD[self.message.topic].add(("performed", self.message.partition, self.params))


class Batch(Hooks, BatchController[int]):
    def perform(self) -> None:
        for message in self.messages:
            TOLD[message.topic].add(("performed", message.partition, message.payload))


@pytest.mark.parametrize("controller", [Plain, Aside, Batch])
def test_the_order_of_a_life(stage: Stage, controller: type[Controller[int] | BatchController[int]]) -> None:
    """Come, performed, stopped: each hook once for a partition, and none that says it was taken away."""
    app, name = stage.app(), stage.topic(2)
    for partition in (0, 1):
        stage.send(name, map(str, range(3)), partition=partition)
    app.topic(name)(controller)

    with running(app):
        until(lambda: len(TOLD[name]) == 8)
    for partition in (0, 1):
        assert [(what, number) for what, place, number in TOLD[name] if place == partition] == [
            ("assigned", 0),
            *(("performed", number) for number in range(3)),
            ("shutdown", 0),
        ]


def test_ten_that_come_and_go_are_heard_by_their_group_alone(stage: Stage) -> None:
    app, name, shaken, still = stage.app(), stage.topic(2), new_group(), new_group()
    told: Notes[tuple[str, str, int]] = Notes()

    class Keep(Controller[int]):
        @classmethod
        def on_assigned(cls, partition: Assignment) -> None:
            told.add((partition.group, "assigned", partition.partition))

        @classmethod
        def on_revoked(cls, partition: Assignment) -> None:
            told.add((partition.group, "revoked", partition.partition))

        @classmethod
        def on_shutdown(cls, partition: Assignment) -> None:
            told.add((partition.group, "shutdown", partition.partition))

        def perform(self) -> None: ...

    app.routes.draw(*(group(one, topic(name, Keep), kafka=EAGER) for one in (shaken, still)))

    def heard(one: str, partition: int) -> list[str]:
        return [what for who, what, place in told if (who, place) == (one, partition)]

    with running(app) as server:
        for number in range(10):
            until(lambda: all(heard(shaken, place)[-1:] == ["assigned"] for place in (0, 1)), 60)
            came = len(server.told(Assigned))
            with stage.member(shaken, name):
                until(lambda: any(heard(shaken, place)[-1:] == ["revoked"] for place in (0, 1)))
            until(lambda came=came: len(server.told(Assigned)) > came, 60)  # type: ignore[misc]
            assert number < len([what for who, what, _ in told if (who, what) == (shaken, "revoked")])
        until(lambda: all(heard(shaken, place)[-1:] == ["assigned"] for place in (0, 1)), 60)
    for partition in (0, 1):
        assert heard(still, partition) == ["assigned", "shutdown"]
        ours = heard(shaken, partition)
        assert ours[-1] == "shutdown"
        assert all(pair == ("assigned", "revoked") for pair in zip(ours[:-2:2], ours[1:-2:2], strict=True))


def test_what_must_come_first_is_tried_until_it_succeeds(stage: Stage) -> None:
    """No message is performed before; the failures are told."""
    app, name = stage.app(retry=Backoff(0.05)), stage.topic()
    told: Notes[str] = Notes()
    stage.send(name, ["0"])

    @app.topic(name)
    class Prepare(Controller[int]):
        @classmethod
        def on_assigned(cls, _partition: Assignment) -> None:
            told.add("assigned")
            if len(told) < 3:
                raise ConnectionError("not yet")

        def perform(self) -> None:
            told.add("performed")

    with running(app, allow=(ErrorOccurred,)) as server:
        until(lambda: "performed" in told.all())
        assert ["not yet" in event.error for event in server.told(ErrorOccurred)] == [True, True]
    assert told.all() == ["assigned", "assigned", "assigned", "performed"]


def test_a_slow_preparation_holds_up_no_other_partition(stage: Stage) -> None:
    app, name = stage.app(concurrency=2), stage.topic(2)
    seen: Notes[int] = Notes()
    open_ = Event()
    for partition in (0, 1):
        stage.send(name, ["0"], partition=partition)

    @app.topic(name)
    class Prepare(Controller[int]):
        @classmethod
        def on_assigned(cls, partition: Assignment) -> None:
            if partition.partition == 0:
                open_.wait(30)

        def perform(self) -> None:
            seen.add(self.message.partition)

    with running(app):
        until(lambda: seen.all() == [1])
        open_.set()
        until(lambda: seen.all() == [1, 0])


def test_what_is_collected_can_be_finished_when_a_partition_goes(stage: Stage) -> None:
    """Kept over many messages and not marked: `on_revoked` and `on_shutdown` may still mark it, and it is committed."""
    app, name = stage.app(kafka=EAGER, commit_interval=3_600.0), stage.topic(2)
    group = app.config.client_id
    marked: Notes[tuple[str, int, bool]] = Notes()
    last: dict[int, Message[int]] = {}
    for partition in (0, 1):
        stage.send(name, map(str, range(10)), partition=partition)

    @app.topic(name, marking="manual")
    class Collect(Controller[int]):
        @classmethod
        def on_revoked(cls, partition: Assignment) -> None:
            assert partition.revoked
            if (message := last.pop(partition.partition, None)) is not None:
                marked.add(("revoked", partition.partition, partition.mark(message.offset)))
                assert not partition.commit()  # not alone: with all that is finished, when this has returned

        @classmethod
        def on_shutdown(cls, partition: Assignment) -> None:
            if (message := last.pop(partition.partition, None)) is not None:
                marked.add(("shutdown", partition.partition, partition.mark(message.offset)))
                assert partition.commit()
                assert stage.committed(group, name, 2)[partition.partition] == 11

        def perform(self) -> None:
            last[self.message.partition] = self.message

    with running(app) as server:
        until(lambda: [message.offset for message in last.values()] == [9, 9])
        assert stage.committed(group, name, 2) == {}
        with stage.member(group, name) as member:
            (taken,) = (place.partition for place in member.assignment())
            assert ("revoked", taken, True) in marked.all()
            assert stage.committed(group, name, 2)[taken] == 10
        until(lambda: any(event.starts.get((name, taken)) == 10 for event in server.told(Assigned)), 60)
        stage.send(name, ["10"], partition=taken)
        until(lambda: [message.offset for message in last.values()] == [10])
        stage.send(name, ["10"], partition=1 - taken)
        until(lambda: [message.offset for message in last.values()] == [10, 10])
    assert stage.committed(group, name, 2) == {0: 11, 1: 11}
    assert marked.all()[-1][0] == "shutdown"
    assert all(yes for _, _, yes in marked)


@pytest.mark.parametrize("when", ["after messages", "while it backs off", "while it is paused", "before any message"])
def test_a_stop_is_told_whatever_the_partition_does(stage: Stage, when: str) -> None:
    app, name = stage.app(retry=Backoff(600, 600)), stage.topic()
    told: Notes[str] = Notes()
    if when != "before any message":
        stage.send(name, ["0"])

    @app.topic(name)
    class Keep(Controller[int]):
        @classmethod
        def on_assigned(cls, _partition: Assignment) -> None:
            told.add("assigned")

        @classmethod
        def on_shutdown(cls, _partition: Assignment) -> None:
            told.add("shutdown")

        def perform(self) -> None:
            if when == "while it is paused":
                self.pause(600)
            told.add("performed")
            if when == "while it backs off":
                raise ValueError

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(told) == (1 if when == "before any message" else 2))
        if when == "while it backs off":
            until(lambda: server.told(Failed))
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert told.all()[-1] == "shutdown"
    assert told.all().count("shutdown") == 1


def test_of_an_assignment_that_has_ended_nothing_can_be_finished(stage: Stage) -> None:
    """The next one is another, though the partition is the same."""
    app, name = stage.app(kafka=EAGER), stage.topic(2)
    assignments: Notes[Assignment] = Notes()
    last: dict[int, Message[int]] = {}
    for partition in (0, 1):
        stage.send(name, ["0"], partition=partition)

    @app.topic(name)
    class Keep(Controller[int]):
        @classmethod
        def on_assigned(cls, partition: Assignment) -> None:
            assignments.add(partition)

        def perform(self) -> None:
            last[self.message.partition] = self.message

    with running(app):
        until(lambda: len(last) == 2)
        with stage.member(app.config.client_id, name) as member:
            (taken,) = (place.partition for place in member.assignment())
            (old,) = (one for one in assignments if one.partition == taken)
            assert old.revoked
            assert not old.mark(last[taken].offset)
            assert not old.commit()
            assert not old.seek(0)
        until(lambda: [one.partition for one in assignments].count(taken) == 2, 60)
        new = assignments.all()[-1] if assignments.all()[-1].partition == taken else assignments.all()[-2]
        assert new is not old
        assert new.partition == taken
        assert not new.revoked
        assert old.revoked
        assert not old.mark(last[taken].offset)
