"""A partition that is paused by hand waits its time, alone: what was performed is committed, the rest comes after."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from karafka import Backoff, BatchController, Controller
from karafka.events import Assigned, Committed, Failed
from tests.specs.run import EAGER, Notes, Stage, running, until


@pytest.mark.parametrize("batch", [False, True], ids=["message", "batch"])
def test_nothing_behind_the_message_in_hand_is_performed_until_then(stage: Stage, *, batch: bool) -> None:
    app, topic = stage.app(commit_interval=0.1), stage.topic(2)
    seen: Notes[tuple[int, int, float]] = Notes()
    for partition in (0, 1):
        stage.send(topic, map(str, range(10)), partition=partition)

    class Single(Controller[int]):
        def perform(self) -> None:
            if (self.message.partition, self.params) == (0, 4):
                self.pause(1.5)
            seen.add((self.message.partition, self.params, time.monotonic()))

    class Batch(BatchController[int]):
        def perform(self) -> None:
            if (self.messages[0].partition, self.params[-1]) == (0, 4):
                self.pause(1.5)
            for number in self.params:
                seen.add((self.messages[0].partition, number, time.monotonic()))

    if batch:
        app.topic(topic, max_messages=5)(Batch)
    else:
        app.topic(topic)(Single)

    with running(app) as server:
        until(lambda: len(seen) == 15)
        until(lambda: any(event.offsets.get((topic, 0)) == 5 for event in server.told(Committed)), 1.0)
        assert stage.committed(app.config.client_id, topic, 2)[0] == 5
        until(lambda: len(seen) == 20)
    for partition in (0, 1):
        assert [number for place, number, _ in seen if place == partition] == list(range(10))
    times = {number: when for place, number, when in seen if place == 0}
    assert 1.4 <= times[5] - times[4] < 4
    assert times[9] - times[5] < 1


def test_a_second_pause_replaces_the_first(stage: Stage) -> None:
    """A shorter one too; and a time may be said as a date."""
    app, topic = stage.app(), stage.topic()
    seen: Notes[tuple[int, float]] = Notes()
    stage.send(topic, ["0", "1", "2"])

    @app.topic(topic)
    class Twice(Controller[int]):
        def perform(self) -> None:
            seen.add((self.params, time.monotonic()))
            if self.params == 0:
                self.pause(3_600)
                self.pause(0.5)
            if self.params == 1:
                self.pause(0.01)
                self.pause(datetime.now(UTC) + timedelta(seconds=1))

    with running(app):
        until(lambda: len(seen) == 3)
    numbers, times = zip(*seen.all(), strict=True)
    assert numbers == (0, 1, 2)
    assert 0.4 <= times[1] - times[0] < 3
    assert 0.9 <= times[2] - times[1] < 4


def test_a_failure_does_not_end_a_pause(stage: Stage) -> None:
    """The next try waits for whichever is later; attempts go on counting."""
    app, topic = stage.app(retry=Backoff(0.02)), stage.topic()
    tries: Notes[tuple[int, int, float]] = Notes()
    stage.send(topic, ["0", "1"])

    @app.topic(topic)
    class Stumble(Controller[int]):
        def perform(self) -> None:
            tries.add((self.params, self.message.attempt, time.monotonic()))
            if self.params == 0 and self.message.attempt == 1:
                self.pause(1)
                raise ValueError

    with running(app, allow=(Failed,)):
        until(lambda: len(tries) == 3)
    assert [(number, attempt) for number, attempt, _ in tries] == [(0, 1), (0, 2), (1, 1)]
    times = [when for _, _, when in tries]
    assert 0.9 <= times[1] - times[0] < 4


def test_a_pause_holds_up_no_stop(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, ["0", "1"])

    @app.topic(topic)
    class Rest(Controller[int]):
        def perform(self) -> None:
            self.pause(3_600)
            seen.add(self.params)

    with running(app):
        until(lambda: len(seen) == 1)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert seen.all() == [0]
    assert stage.committed(app.config.client_id, topic) == {0: 1}


def test_a_pause_ends_with_its_assignment(stage: Stage) -> None:
    """Who has the partition next goes on at once, this member too."""
    app, topic = stage.app(kafka=EAGER), stage.topic(2)
    seen: Notes[tuple[int, int]] = Notes()
    for partition in (0, 1):
        stage.send(topic, ["0", "1"], partition=partition)

    @app.topic(topic)
    class Rest(Controller[int]):
        def perform(self) -> None:
            if self.params == 0:
                self.pause(3_600)
            seen.add((self.message.partition, self.params))

    with running(app) as server:
        until(lambda: len(seen) == 2)
        with stage.member(app.config.client_id, topic) as member:
            (taken,) = (one.partition for one in member.assignment())
        until(lambda: (taken, 1) in seen.all(), 60)
        assert len(server.told(Assigned)) > 1


@pytest.mark.parametrize("until_when", ["soon", -1, float("nan"), float("inf"), None, datetime(2030, 1, 1)])  # noqa: DTZ001 - without a zone, which is the mistake
def test_a_pause_that_is_none_is_refused_and_nothing_is_skipped(stage: Stage, until_when: object) -> None:
    app, topic = stage.app(retry=Backoff(0.02)), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(5)))

    @app.topic(topic)
    class Mistake(Controller[int]):
        def perform(self) -> None:
            if self.params == 2 and self.message.attempt == 1:
                self.pause(until_when)  # type: ignore[arg-type]
            seen.add(self.params)

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(seen) == 5)
        assert [event.offset for event in server.told(Failed)] == [2]
    assert seen.all() == list(range(5))
