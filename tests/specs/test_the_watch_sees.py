"""A spec fails by itself: on an error nobody expected, an offset performed twice, a commit above unfinished work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from karafka import Backoff, Controller
from karafka.assignment import Assignment
from karafka.client import Kept
from karafka.events import Assigned, Buried, ClientTroubled, Committed, Discarded, Failed, Received, Sought
from karafka.messages import Place, Run
from tests.specs.run import Stage, Watch, running, until
from tests.unit.house import Letter

GROUP, TOPIC = "a group", "any"


class Bench:
    """A watch of an app whose server never starts: what it is to see is told by hand."""

    def __init__(self, stage: Stage) -> None:
        app = stage.app()
        app.topic(TOPIC)(type("Keep", (Controller,), {"perform": lambda _self: None}))
        self.app, self.watch = app, Watch(app, (Failed,))
        self.assignment = Assignment(GROUP, TOPIC, 0, 0, lambda _wish: None)

    def assign(self, start: int = 0) -> None:
        self.app.events.tell(Assigned(group=GROUP, starts={(TOPIC, 0): start}))

    def receive(self, offset: int, count: int) -> None:
        self.app.events.tell(Received(group=GROUP, topic=TOPIC, partition=0, offset=offset, count=count))

    def perform(
        self, offsets: Iterable[int], done: int | None = None, *, asynchronous: bool = False, manual: bool = False
    ) -> None:
        """A run of `offsets` of which the first `done` are finished, all by default."""
        run = Run([Letter(TOPIC, 0, offset) for offset in offsets], assignment=self.assignment)
        finished = len(run.records) if done is None else done

        def plain(run: Run) -> None:
            run.finished = finished

        async def aside(run: Run) -> None:
            run.finished = finished

        given: Any = self.watch.over(GROUP, aside if asynchronous else plain, manual=manual)(run)
        if asynchronous:
            asyncio.run(given)

    def commit(self, position: int) -> None:
        """Asked for, and confirmed by the broker."""
        self.ask(position)
        self.confirm(position)

    def ask(self, position: int) -> None:
        self.watch.commits(GROUP, {Place(TOPIC, 0): Kept(position)})

    def confirm(self, position: int) -> None:
        self.app.events.tell(Committed(group=GROUP, offsets={(TOPIC, 0): position}))


@pytest.fixture
def bench(stage: Stage) -> Bench:
    return Bench(stage)


def test_a_run_without_a_fault_passes(bench: Bench) -> None:
    """Gaps, a failure and its second try, a burial, a message given up: nothing of that is a fault."""
    where: dict[str, Any] = {"group": GROUP, "topic": TOPIC, "partition": 0}
    bench.assign(5)
    bench.receive(5, 10)
    bench.ask(5)
    bench.perform([5, 6, 8, 9], done=2)
    bench.commit(8)
    bench.perform([8, 9], done=0, asynchronous=True)
    bench.app.events.tell(Buried(**where, offset=8, grave="dead"))
    bench.perform([9], done=0)
    bench.app.events.tell(Discarded(**where, offset=9, controller="Keep", reason="on purpose"))
    bench.perform([10, 11])
    bench.ask(12)
    bench.app.events.tell(Sought(**where, left=12, offset=7))
    bench.confirm(12)
    bench.receive(7, 5)
    bench.perform([7, 8], done=1)
    bench.assignment.mark(8)
    bench.commit(9)
    bench.perform([9])
    bench.assign(12)
    bench.perform([12])
    bench.watch.check()


def test_a_run_without_a_fault_that_marks_by_hand_passes(bench: Bench) -> None:
    """What was performed and not marked may come again after a failure; what was buried is passed over."""
    bench.assign()
    bench.receive(0, 6)
    bench.perform([0, 1, 2, 3], done=3, manual=True)
    bench.ask(0)
    bench.assignment.mark(0)
    bench.commit(1)
    bench.receive(1, 5)
    bench.perform([1, 2], manual=True)
    bench.perform([3, 4], done=0, manual=True)
    bench.app.events.tell(Buried(group=GROUP, topic=TOPIC, partition=0, offset=3, grave="dead"))
    bench.receive(1, 5)
    bench.perform([1, 2, 4], manual=True)
    bench.ask(1)
    bench.assignment.mark(2)
    bench.ask(4)
    bench.assignment.mark(4)
    bench.ask(5)
    bench.watch.check()


def test_an_error_that_is_not_allowed_fails_the_spec(stage: Stage) -> None:
    app, topic = stage.app(retry=Backoff(0.05)), stage.topic()
    stage.send(topic, ["1"])

    @app.topic(topic)
    class Fail(Controller[int]):
        def perform(self) -> None:
            raise ValueError(self.params)

    with pytest.raises(AssertionError, match="unexpected: Failed"), running(app) as server:
        until(lambda: server.told(Failed))


def test_an_error_beside_those_allowed_fails_the_spec(bench: Bench) -> None:
    bench.app.events.tell(ClientTroubled(group=GROUP, code="_TRANSPORT", error="away"))
    with pytest.raises(AssertionError, match="unexpected: ClientTroubled"):
        bench.watch.check()


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([[0, 1, 2], [2, 3]], "2 is performed again: all below 3 was finished"),
        ([[0, 1], [0, 1]], "0 is performed again: all below 2 was finished"),
        ([[0, 1, 1, 2]], "1 is given out after 1 in one run"),
        ([[0, 2, 1]], "1 is given out after 2 in one run"),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_an_offset_performed_twice_fails_the_spec(
    bench: Bench, runs: list[list[int]], words: str, *, asynchronous: bool
) -> None:
    bench.assign()
    bench.receive(0, 4)
    for offsets in runs:
        bench.perform(offsets, asynchronous=asynchronous)
    with pytest.raises(AssertionError, match=words):
        bench.watch.check()


@pytest.mark.parametrize("manual", [False, True], ids=["auto", "manual"])
@pytest.mark.parametrize("how", ["marked", "buried"])
def test_what_was_settled_and_comes_again_fails_the_spec(bench: Bench, how: str, *, manual: bool) -> None:
    bench.assign()
    bench.receive(0, 3)
    bench.perform([0, 1], done=0, manual=manual)
    if how == "marked":
        bench.assignment.mark(0)
    else:
        bench.app.events.tell(Buried(group=GROUP, topic=TOPIC, partition=0, offset=0, grave="dead"))
    bench.perform([0, 1], manual=manual)
    with pytest.raises(AssertionError, match="0 is performed again"):
        bench.watch.check()


def test_a_message_passed_over_fails_the_spec(bench: Bench) -> None:
    bench.assign()
    bench.receive(0, 4)
    bench.perform([0, 1, 2], done=1)
    bench.perform([2])
    with pytest.raises(AssertionError, match="1 is not finished and passed over: 2 is performed"):
        bench.watch.check()


def test_two_messages_of_a_partition_at_once_fail_the_spec(bench: Bench) -> None:
    bench.assign()
    bench.receive(0, 2)

    def nested(_run: Run) -> None:
        bench.perform([1])

    bench.watch.over(GROUP, nested)(Run([Letter(TOPIC, 0, 0)]))
    with pytest.raises(AssertionError, match="1 is performed beside 0"):
        bench.watch.check()


def test_work_without_an_assignment_fails_the_spec(bench: Bench) -> None:
    bench.perform([0])
    with pytest.raises(AssertionError, match="0 is performed without an assignment"):
        bench.watch.check()


class TestCommits:
    """A commit above unfinished work is seen when it is asked for, however soon the work is done after."""

    def test_of_what_has_only_been_received(self, bench: Bench) -> None:
        bench.assign(5)
        bench.receive(5, 10)
        bench.ask(5)
        bench.watch.check()
        bench.ask(6)
        with pytest.raises(AssertionError, match="committed 6, but 5 is not finished"):
            bench.watch.check()

    def test_of_what_failed(self, bench: Bench) -> None:
        bench.assign()
        bench.receive(0, 3)
        bench.perform([0, 1, 2], done=1)
        bench.ask(1)
        bench.watch.check()
        bench.ask(2)
        with pytest.raises(AssertionError, match="committed 2, but 1 is not finished"):
            bench.watch.check()

    def test_of_what_is_in_hand(self, bench: Bench) -> None:
        bench.assign()
        bench.receive(0, 3)

        def early(run: Run) -> None:
            for _record in run:
                bench.ask(run.finished)
            bench.ask(3)
            bench.watch.check()

        bench.watch.over(GROUP, early)(Run([Letter(TOPIC, 0, offset) for offset in range(3)]))

        def too_early(run: Run) -> None:
            for record in run:
                bench.ask((record.offset() or 0) + 1)

        bench.watch.over(GROUP, too_early)(Run([Letter(TOPIC, 0, 3)]))
        with pytest.raises(AssertionError, match="committed 4, but 3 is not finished"):
            bench.watch.check()

    @pytest.mark.parametrize("path", ["performed", "in hand", "buried behind it"])
    def test_of_what_was_not_marked(self, bench: Bench, path: str) -> None:
        bench.assign()
        bench.receive(0, 3)
        bench.assignment.mark(0)
        if path == "in hand":

            def early(run: Run) -> None:
                for _record in run:
                    bench.ask(1 if run.finished < 2 else 2)

            run = Run([Letter(TOPIC, 0, offset) for offset in range(3)], assignment=bench.assignment)
            bench.watch.over(GROUP, early, manual=True)(run)
        else:
            bench.perform([0, 1, 2], done=2, manual=True)
            bench.ask(1)
            bench.watch.check()
            if path == "buried behind it":
                bench.app.events.tell(Buried(group=GROUP, topic=TOPIC, partition=0, offset=2, grave="dead"))
            bench.ask(2)
        with pytest.raises(AssertionError, match="committed 2, but 1 is not finished"):
            bench.watch.check()

    def test_that_nobody_asked_for(self, bench: Bench) -> None:
        bench.assign()
        bench.commit(0)
        bench.watch.check()
        bench.confirm(1)
        with pytest.raises(AssertionError, match="1 is confirmed, which nobody asked for"):
            bench.watch.check()

    def test_of_what_is_not_ours(self, bench: Bench) -> None:
        bench.ask(1)
        with pytest.raises(AssertionError, match="committed 1 without an assignment"):
            bench.watch.check()


def test_a_running_server_s_commits_are_watched(stage: Stage) -> None:
    """What the engine asks the client for passes the watch: here one commit is made to reach too far."""
    app, topic = stage.app(), stage.topic()
    stage.send(topic, ["0", "1"])
    app.topic(topic)(type("Keep", (Controller,), {"perform": lambda _self: None}))

    def reach(_event: Received) -> None:
        (listener,) = server.server._listeners
        listener._client.commit({Place(topic, 0): Kept(2)})

    # Heard after the watch has heard it, on the thread that owns the client.
    app.events.on(Assigned, lambda _event: app.events.on(Received, reach))
    with pytest.raises(AssertionError, match="committed 2, but 0 is not finished"), running(app) as server:
        until(lambda: server.told(Committed))


def test_a_fault_ends_the_waiting(stage: Stage) -> None:
    """Nobody waits out a deadline for what a fault has decided."""
    app, topic = stage.app(), stage.topic()
    stage.send(topic, ["x"])

    @app.topic(topic)
    class Fail(Controller[int]):
        def perform(self) -> None:
            assert self.params

    with pytest.raises(AssertionError, match="unexpected: Failed"), running(app):
        until(lambda: False, timeout=150)


def test_another_status_than_expected_fails_the_spec(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    stage.send(topic, ["0"])

    @app.topic(topic)
    class Leave(Controller[int]):
        def perform(self) -> None:
            raise SystemExit(7)

    with pytest.raises(AssertionError, match="the server ended with 7"), running(app, allow=(Failed,)) as server:
        until(lambda: server.told(Failed))


def test_a_listener_that_raises_fails_the_spec(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    app.topic(topic)(type("Keep", (Controller,), {"perform": lambda _self: None}))

    def broken(event: Assigned) -> None:
        raise ValueError(event)

    app.events.on(Assigned, broken)
    with pytest.raises(AssertionError, match="a listener raised"), running(app) as server:
        until(lambda: server.told(Assigned))
