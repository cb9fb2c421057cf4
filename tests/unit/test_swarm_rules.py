"""Whom the supervisor starts, replaces, stops and kills, and when: processes that only say so, and a clock by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from karafka import events as told
from karafka.clock import ManualClock
from karafka.events import Event, Events
from karafka.lifecycle import Phase
from karafka.processes.members import Limits
from karafka.processes.reports import Report
from karafka.processes.swarm import BLIND, DELAYS, LAST_WORDS, LATE, LATE_HURRIED, SETTLE, YOUNG, Swarm

E = TypeVar("E", bound=Event)
WORKS = Report(phase=Phase.RUNNING, works=True, partitions=2)
TIMEOUT = 60.0


class Process:
    """One that does nothing but remember what it was told, until the test says what it does."""

    source = None

    def __init__(self, number: int, pid: int) -> None:
        self.number, self.pid = number, pid
        self.report = Report()
        self.told: list[str] = []
        self.killed = self.dumped = self.closed = False
        self.ended: int | None = None
        self.silent = False

    def hear(self) -> bool:
        return not self.silent

    def tell(self, command: str) -> None:
        self.told.append(command)

    def dump(self) -> None:
        self.dumped = True

    def stacks(self) -> str:
        return "at line 5" if self.dumped else ""

    def kill(self) -> None:
        self.killed, self.ended = True, -9

    def status(self) -> int | None:
        return self.ended

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    def works(self, **values: Any) -> None:
        self.report = replace(WORKS, **values)


class Stage:
    """A swarm and what it did."""

    def __init__(self, size: int = 2, limits: Limits | None = None, *, static: bool = False) -> None:
        self.clock, self.events = ManualClock(), Events()
        self.heard: list[Event] = []
        self.events.on(Event, self.heard.append)
        self.made: list[Process] = []
        self.unable: OSError | None = None
        self.swarm = Swarm(
            "videos",
            size,
            limits or Limits(),
            spawn=self._spawn,
            events=self.events,
            clock=self.clock,
            static=static,
            timeout=TIMEOUT,
        )

    def _spawn(self, number: int) -> Process:
        if self.unable is not None:
            raise self.unable
        self.made.append(Process(number, 100 + len(self.made)))
        return self.made[-1]

    def turn(self, seconds: float = 0.0) -> None:
        """The turns that happen within so many seconds, and one more: as often as the swarm itself asks for."""
        until = self.clock.monotonic() + seconds
        while (wait := self.swarm.turn()) and self.clock.monotonic() + wait <= until:
            self.clock.advance(wait)
        self.clock.advance(max(0.0, until - self.clock.monotonic()))
        self.swarm.turn()

    def run(self) -> list[Process]:
        """All started, and at work."""
        self.turn()
        for process in self.made:
            process.works()
        self.turn()
        return list(self.made)

    def end(self, process: Process, status: int = 0, seconds: float = 0.0) -> None:
        process.ended = status
        self.turn(seconds)

    @property
    def phase(self) -> str:
        return self.swarm.phase.name.lower()

    @property
    def status(self) -> int:
        """The exit status; below zero before there is one."""
        return -1 if self.swarm.status is None else self.swarm.status

    @property
    def there(self) -> list[tuple[int, int]]:
        """The number and pid of each that has not ended."""
        return [(one.number, one.pid) for one in self.made if one.ended is None]

    def all(self, kind: type[E]) -> list[E]:
        return [one for one in self.heard if isinstance(one, kind)]

    def one(self, kind: type[E]) -> E:
        (found,) = self.all(kind)
        return found


class TestStarting:
    def test_as_many_as_wanted_are_started_at_once(self) -> None:
        stage = Stage(3)
        stage.turn()

        assert stage.there == [(1, 100), (2, 101), (3, 102)]

    def test_that_all_run_is_told_once(self) -> None:
        stage = Stage(2)
        stage.turn()
        first, second = stage.made
        first.works()
        stage.turn(5)
        assert not stage.all(told.SwarmStarted)
        assert stage.phase == "starting"

        second.works()
        stage.turn(5)
        assert stage.one(told.SwarmStarted).processes == 2
        assert stage.phase == "running"

    def test_one_that_cannot_be_started_is_tried_again_later(self) -> None:
        """Out of memory, or the interpreter is being replaced: the supervisor lives on."""
        stage = Stage(1)
        stage.unable = OSError(12, "Cannot allocate memory")
        stage.turn()
        assert "Cannot allocate memory" in stage.one(told.ProcessDied).error

        stage.unable = None
        stage.turn(0.5)
        assert stage.there == []
        stage.turn(0.5)
        assert stage.there == [(1, 100)]


class TestDeaths:
    @pytest.mark.parametrize("status", [-9, -11, 0, 1, 3, 7])
    def test_one_that_worked_for_long_is_replaced_at_once(self, status: int) -> None:
        """However it ended: nobody told it to."""
        stage = Stage(2)
        first, _ = stage.run()
        stage.turn(YOUNG)
        stage.end(first, status)

        assert stage.there == [(2, 101), (1, 102)]
        assert stage.one(told.ProcessDied).status == status
        assert first.closed

    def test_those_that_die_at_once_are_started_ever_later(self) -> None:
        stage = Stage(2)
        stage.run()
        pauses = []
        for _ in range(8):
            began = stage.clock.monotonic()
            stage.made[-1].ended = -11
            count = len(stage.made)
            while len(stage.made) == count:
                stage.turn(0.5)
            pauses.append(stage.clock.monotonic() - began)

        assert pauses == [pytest.approx(DELAYS.delay(death), abs=0.6) for death in range(1, 9)]
        assert pauses[-1] <= 31

    def test_what_lived_long_has_no_past(self) -> None:
        stage = Stage(1)
        stage.run()
        for _ in range(4):
            stage.end(stage.made[-1], -11, 40)
        stage.made[-1].works()
        stage.turn(YOUNG)
        stage.end(stage.made[-1], -11)

        assert len(stage.there) == 1

    def test_the_reason_is_told_in_words(self) -> None:
        stage = Stage(2)
        first, second = stage.run()
        stage.turn(20)
        stage.end(first, -9)
        stage.end(second, 3)

        one, other = stage.all(told.ProcessDied)
        assert one.error == "(pid 100) was ended by SIGKILL after 20.0 s; another takes its place at once"
        assert other.error.startswith("(pid 101) ended with status 3 after 20.0 s")


class TestConfiguration:
    def test_one_that_ends_with_1_before_it_ever_worked_ends_all(self) -> None:
        """Starting it again would not help: all stop, and the status says whose turn it is."""
        stage = Stage(2)
        stage.turn()
        first, second = stage.made
        stage.end(first, 1)
        assert second.told == ["stop"]
        stage.end(second, 0)

        assert stage.status == 1
        assert stage.one(told.ProcessDied).after is None

    def test_a_cluster_that_refuses_is_configured_wrong_too(self) -> None:
        """Then it runs for a moment, without having worked."""
        stage = Stage(1)
        stage.turn()
        stage.made[0].report = Report(phase=Phase.RUNNING)
        stage.turn()
        stage.end(stage.made[0], 1)

        assert stage.status == 1

    def test_while_others_work_it_is_tried_again(self) -> None:
        """What somebody broke under a server that runs takes away nothing more than it must."""
        stage = Stage(2)
        first, second = stage.run()
        stage.turn(20)
        stage.end(first, -9)
        stage.end(stage.made[-1], 1)

        assert second.told == []
        assert stage.all(told.ProcessDied)[-1].after == 1.0
        stage.turn(1)
        assert len(stage.there) == 2

    def test_when_none_is_left_that_works_it_is_over(self) -> None:
        stage = Stage(2)
        for process in stage.run():
            process.ended = -9
        stage.turn(2)
        third, fourth = stage.made[2:]
        stage.end(third, 1)
        assert stage.phase == "running"  # the other may yet work
        stage.end(fourth, 1, 5)

        assert stage.phase == "stopping"
        for process in stage.made[4:]:
            process.ended = 0
        stage.turn()
        assert stage.status == 1

    @pytest.mark.parametrize("status", [-11, 3])
    def test_another_end_before_it_worked_is_no_such_thing(self, status: int) -> None:
        stage = Stage(1)
        stage.turn()
        stage.end(stage.made[0], status, 1)

        assert stage.there == [(1, 101)]


class TestStopping:
    def test_all_are_told_at_once_and_waited_for(self) -> None:
        stage = Stage(3)
        first, second, third = stage.run()
        stage.swarm.stop("SIGTERM")
        assert [one.told for one in stage.made] == [["stop"]] * 3
        stage.end(first)
        stage.end(third)
        assert stage.status == -1

        stage.end(second)
        assert stage.status == 0
        assert stage.one(told.SwarmStopped).status == 0
        assert len(stage.made) == 3

    @pytest.mark.parametrize(
        ("statuses", "status"),
        [((0, 0), 0), ((0, 2), 2), ((2, 3), 3), ((3, 1), 1), ((0, 7), 7), ((7, 2), 2), ((0, -11), 3)],
    )
    def test_the_status_is_the_worst(self, statuses: tuple[int, int], status: int) -> None:
        stage = Stage(2)
        processes = stage.run()
        stage.swarm.stop("SIGTERM")
        for process, one in zip(processes, statuses, strict=True):
            stage.end(process, one)

        assert stage.status == status

    def test_one_that_was_not_yet_able_to_hear_it_is_a_clean_end(self) -> None:
        stage = Stage(1)
        stage.turn()
        stage.swarm.stop("SIGTERM")
        stage.end(stage.made[0], -15)

        assert stage.status == 0

    def test_one_that_does_not_stop_is_killed_with_its_stacks(self) -> None:
        stage = Stage(1)
        (process,) = stage.run()
        stage.swarm.stop("SIGTERM")
        stage.turn(TIMEOUT + LATE - 1)
        assert not process.killed

        stage.turn(1 + LAST_WORDS + 1)
        assert stage.status == 2
        assert stage.one(told.ProcessHung).stacks == "at line 5"

    def test_a_second_stop_does_not_wait(self) -> None:
        stage = Stage(2)
        first, second = stage.run()
        stage.swarm.stop("SIGINT")
        stage.turn(1)
        stage.swarm.stop("SIGINT")
        assert [first.told, second.told] == [["stop", "hurry"]] * 2
        stage.end(first, 2)
        stage.turn(LATE_HURRIED + LAST_WORDS + 1)

        assert second.killed
        assert stage.status == 2

    def test_its_echo_is_no_second_stop(self) -> None:
        stage = Stage(1)
        (process,) = stage.run()
        stage.swarm.stop("SIGINT")
        stage.clock.advance(0.1)
        stage.swarm.stop("SIGTERM")

        assert process.told == ["stop"]

    def test_one_that_waits_to_be_started_is_not(self) -> None:
        stage = Stage(2)
        first, second = stage.run()
        stage.end(first, -11)
        stage.swarm.stop("SIGTERM")
        stage.end(second, 0, 60)

        assert stage.status == 0
        assert len(stage.made) == 2

    def test_one_that_dies_meanwhile_is_not_replaced(self) -> None:
        stage = Stage(2)
        first, second = stage.run()
        stage.swarm.stop("SIGTERM")
        stage.end(first, -11, 5)
        stage.end(second, 0)

        assert len(stage.made) == 2
        assert stage.status == 3


class TestQuiet:
    def test_all_are_told_and_when_they_are_it_is_said(self) -> None:
        stage = Stage(2)
        first, second = stage.run()
        stage.swarm.quiet("SIGTSTP")
        stage.swarm.quiet("SIGTSTP")
        assert first.told == second.told == ["quiet"]
        first.works(phase=Phase.QUIET)
        stage.turn(5)
        assert not stage.all(told.SwarmQuiet)

        second.works(phase=Phase.QUIET)
        stage.turn(5)
        assert stage.one(told.SwarmQuiet).reason == "SIGTSTP"

    def test_none_is_started_any_more(self) -> None:
        stage = Stage(2)
        first, second = stage.run()
        stage.turn(YOUNG)
        stage.swarm.quiet("SIGTSTP")
        stage.end(first, -9, 60)
        assert stage.there == [(2, 101)]
        stage.swarm.restart()
        stage.turn(5)
        assert stage.there == [(2, 101)]
        assert stage.one(told.RestartGivenUp)

        stage.end(second, -9)
        assert stage.status != -1  # nothing is left to wait for

    def test_a_stop_ends_it(self) -> None:
        stage = Stage(1)
        (process,) = stage.run()
        stage.swarm.quiet("SIGTSTP")
        stage.swarm.stop("SIGTERM")
        stage.end(process, 0)

        assert process.told == ["quiet", "stop"]
        assert stage.status == 0


def test_stacks_are_asked_of_all() -> None:
    stage = Stage(2)
    first, second = stage.run()
    stage.swarm.show_stacks()

    assert first.told == second.told == ["stacks"]


class TestRestart:
    def test_one_after_the_other_the_next_first(self) -> None:
        """The new one works before the old one is told to stop, and the next waits for both."""
        stage = Stage(2)
        first, second = stage.run()
        stage.swarm.restart()
        stage.turn(5)
        third = stage.made[2]
        assert (third.number, first.told, second.told) == (1, [], [])

        third.report = Report(phase=Phase.RUNNING)
        stage.turn(5)
        assert first.told == []  # it runs, but has no share yet
        third.works(partitions=0)
        stage.turn(5)
        assert (first.told, second.told) == (["stop"], [])
        stage.end(first, 0, 5)
        assert len(stage.made) == 3  # what the first had is on its way
        third.works()
        stage.turn()
        fourth = stage.made[3]
        assert (fourth.number, second.told) == (2, [])

        fourth.works()
        stage.turn()
        stage.end(second, 0)
        assert stage.one(told.SwarmRestarted).waited == pytest.approx(20)
        assert [one.status for one in stage.all(told.ProcessEnded)] == [0, 0]
        assert stage.there == [(1, 102), (2, 103)]

    def test_partitions_that_go_elsewhere_are_not_waited_for_in_vain(self) -> None:
        """Another machine may have them now."""
        stage = Stage(2)
        first, _ = stage.run()
        stage.swarm.restart()
        stage.turn()
        stage.made[2].works(partitions=0)
        stage.turn()
        stage.end(first, 0, SETTLE - 1)
        assert len(stage.made) == 3
        stage.turn(2)

        assert len(stage.made) == 4

    def test_with_names_of_their_own_the_old_one_goes_first(self) -> None:
        stage = Stage(2, static=True)
        first, second = stage.run()
        stage.swarm.restart()
        stage.turn(5)
        assert (len(stage.made), first.told, second.told) == (2, ["stop"], [])

        stage.end(first, 0)
        assert stage.there == [(2, 101), (1, 102)]
        stage.turn(5)
        assert second.told == []
        stage.made[2].works()
        stage.turn()
        assert second.told == ["stop"]

    def test_a_new_one_that_does_not_come_to_work_ends_the_restart(self) -> None:
        """The old ones go on, all of them."""
        stage = Stage(2)
        first, second = stage.run()
        stage.swarm.restart()
        stage.turn()
        stage.end(stage.made[2], 1, 60)

        assert (first.told, second.told) == ([], [])
        assert stage.there == [(1, 100), (2, 101)]
        assert "ended with status 1 before it worked" in stage.one(told.RestartGivenUp).error

    def test_with_names_of_their_own_the_rest_go_on(self) -> None:
        stage = Stage(2, static=True)
        first, second = stage.run()
        stage.swarm.restart()
        stage.turn()
        stage.end(first, 0)
        stage.end(stage.made[2], 1)

        assert stage.one(told.RestartGivenUp)
        assert second.told == []
        stage.turn(2)
        assert (1, 103) in stage.there  # and the one that is missing is tried again

    def test_asked_again_meanwhile_what_is_new_by_now_is_replaced_too(self) -> None:
        """It may have been started before what is to be picked up was there."""
        stage = Stage(2)
        first, second = stage.run()
        stage.swarm.restart()
        stage.turn()
        third = stage.made[2]
        stage.swarm.restart()
        stage.turn()
        assert third.told == ["stop"]
        assert first.told == []
        stage.end(third, 0)
        fourth = stage.made[3]
        assert fourth.number == 1
        fourth.works()
        stage.turn()
        stage.end(first, 0)
        stage.made[4].works()
        stage.turn()
        stage.end(second, 0)

        assert stage.there == [(1, 103), (2, 104)]
        assert stage.one(told.SwarmRestarted)

    def test_who_waits_to_be_started_is_started_at_once(self) -> None:
        """It may be what the restart is to mend."""
        stage = Stage(2)
        first, _ = stage.run()
        stage.end(first, -11)
        for _ in range(4):
            stage.turn(8)
            stage.end(stage.made[-1], -11)
        count = len(stage.made)
        stage.turn(3)
        assert len(stage.made) == count
        stage.swarm.restart()
        stage.turn()

        assert len(stage.made) == count + 1
        assert stage.made[-1].number == 1

    def test_nobody_is_replaced_while_another_is_missing(self) -> None:
        stage = Stage(2)
        first, second = stage.run()
        stage.end(first, -11)
        stage.swarm.restart()
        stage.turn(30)

        assert [one.number for one in stage.made] == [1, 2, 1]
        assert second.told == []

    def test_a_stop_meanwhile_stops_the_old_and_the_new(self) -> None:
        stage = Stage(2)
        processes = stage.run()
        stage.swarm.restart()
        stage.turn()
        stage.swarm.stop("SIGTERM")
        assert [one.told for one in stage.made] == [["stop"]] * 3
        for process in [*processes, stage.made[2]]:
            process.ended = 0
        stage.turn()

        assert stage.status == 0

    def test_one_that_did_not_work_needs_no_successor_that_does(self) -> None:
        """Its topic may be missing, or the brokers away: a restart would never end."""
        stage = Stage(1)
        stage.turn()
        stage.made[0].report = Report(phase=Phase.RUNNING)
        stage.swarm.restart()
        stage.turn()
        stage.made[1].report = Report(phase=Phase.RUNNING)
        stage.turn()

        assert stage.made[0].told == ["stop"]

    def test_an_old_one_that_dies_meanwhile_leaves_its_place(self) -> None:
        stage = Stage(1)
        (first,) = stage.run()
        stage.swarm.restart()
        stage.turn()
        stage.end(first, -9)
        stage.made[1].works()
        stage.turn(5)

        assert stage.there == [(1, 101)]
        assert stage.one(told.SwarmRestarted)


class TestWear:
    @pytest.mark.parametrize(
        ("limits", "wear"),
        [
            (Limits(age=600), lambda stage, _: stage.turn(601)),
            (Limits(memory=500), lambda _, one: one.works(memory=501)),
        ],
        ids=["age", "memory"],
    )
    def test_who_is_worn_is_replaced_in_order(self, limits: Limits, wear: Callable[[Stage, Process], None]) -> None:
        stage = Stage(2, limits)
        first, second = stage.run()
        stage.turn(YOUNG)
        wear(stage, first)
        stage.turn()
        third = stage.made[2]
        assert (third.number, first.told, second.told) == (1, [], [])
        third.works()
        stage.turn()

        assert first.told == ["stop"]
        assert stage.all(told.ProcessOutdated)[0].reason.split()[-1] in {"--max-age", "--max-memory"}

    def test_all_that_are_worn_at_once_go_one_by_one(self) -> None:
        stage = Stage(3, Limits(age=600))
        stage.run()
        stage.turn(700)

        assert [one.told for one in stage.made] == [[]] * 4

    def test_who_is_worn_at_birth_is_not_replaced_without_a_pause(self) -> None:
        stage = Stage(1, Limits(memory=10))
        stage.run()
        began = stage.clock.monotonic()
        while stage.clock.monotonic() < began + 60:
            for process in stage.made:
                process.works(memory=50)
                if process.told and process.ended is None:
                    process.ended = 0
            stage.turn(0.5)

        assert 3 <= len(stage.made) <= 8


class TestHanging:
    def test_who_is_not_heard_of_is_killed_with_its_stacks_and_replaced(self) -> None:
        stage = Stage(2, Limits(hang=30))
        first, _ = stage.run()
        first.silent = True
        stage.turn(29)
        assert stage.there == [(1, 100), (2, 101)]
        stage.turn(3)

        assert stage.there == [(2, 101), (1, 102)]
        hung = stage.one(told.ProcessHung)
        assert (hung.pid, hung.stacks) == (100, "at line 5")
        assert "nothing was heard" in hung.error

    def test_one_whose_listener_does_not_get_on_is_killed(self) -> None:
        stage = Stage(1, Limits(hang=30))
        (process,) = stage.run()
        process.works(turn=30.5)
        stage.turn(1)

        assert process.killed
        assert "listener" in stage.one(told.ProcessHung).error

    def test_a_handler_may_take_any_time(self) -> None:
        stage = Stage(1, Limits(hang=30))
        (process,) = stage.run()
        process.works(handler=36_000.0)
        stage.turn(60)

        assert stage.there == [(1, 100)]

    def test_unless_it_was_bounded(self) -> None:
        stage = Stage(1, Limits(handler=600))
        (process,) = stage.run()
        process.works(handler=601.0)
        stage.turn(1)

        assert process.killed
        assert "--max-handler-age" in stage.one(told.ProcessHung).error

    def test_when_this_process_itself_stood_still_nobody_is_to_blame(self) -> None:
        """A machine that was suspended: what the others said meanwhile is not heard yet."""
        stage = Stage(1, Limits(hang=30))
        (process,) = stage.run()
        process.silent = True
        stage.clock.advance(3_600)
        assert BLIND < 3_600
        stage.turn(1)

        assert stage.there == [(1, 100)]

    def test_one_that_hangs_while_it_stops_is_killed_too(self) -> None:
        stage = Stage(1, Limits(hang=30))
        (process,) = stage.run()
        stage.swarm.stop("SIGTERM")
        process.silent = True
        stage.turn(32)

        assert stage.status == 2
