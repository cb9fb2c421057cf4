"""Whose turn it is to run a loop: one thread's at a time, and never nobody's for long."""

from __future__ import annotations

import threading
from itertools import pairwise
from random import Random
from threading import Event
from time import monotonic, sleep

import pytest

from karafka import relay as relaying
from karafka.relay import LOOK, Relay
from tests.unit.house import until


class Loop:
    """Takes a step for each of `absences` (seconds), and ends; or when it is told to."""

    def __init__(self, absences: list[float]) -> None:
        self.relay = Relay("loop", self.run)
        self.absences = absences
        self.steps: list[int] = []
        self.inside = 0
        #: How long each absence was after which who came back found the baton gone.
        self.away: list[float] = []

    def run(self) -> bool:
        while self.absences:
            self.inside += 1
            assert self.inside == 1, "two threads run the loop"
            absence = self.absences.pop(0)
            self.steps.append(threading.get_ident())
            self.inside -= 1
            assert self.relay.stands_by()
            baton = self.relay.put_down()
            began = monotonic()
            sleep(absence)
            if not self.relay.take_up(baton):
                self.away.append(monotonic() - began)
                return False
        return True


def test_who_comes_back_soon_goes_on() -> None:
    """Thousands of times; unless the machine itself kept it away."""
    loop = Loop([0.0] * 5_000)
    loop.relay.start()

    assert loop.relay.join(10)
    assert len(loop.steps) == 5_000
    assert len(set(loop.steps)) <= 1 + len(loop.away)
    assert all(away >= LOOK for away in loop.away)


def test_who_stays_away_is_relieved() -> None:
    """Within two looks; the loop goes on at once, and whoever comes back ends."""
    loop = Loop([0.0, 1.0, 0.0, 0.0])
    began = monotonic()
    loop.relay.start()

    assert loop.relay.join(10)
    assert monotonic() - began < 0.5, "the loop has waited for who was away"
    assert len(loop.steps) == 4
    assert loop.steps[0] == loop.steps[1] != loop.steps[2] == loop.steps[3]
    assert until(lambda: len(loop.away) == 1)


def test_one_thread_at_a_time_runs_it_however_they_come_and_go() -> None:
    """Absences around the length at which somebody else takes over; each step is taken once."""
    random = Random(7)
    loop = Loop([random.choice((0.0, 0.0, LOOK / 2, LOOK, LOOK * 1.5, LOOK * 2)) for _ in range(300)] + [0.0])
    loop.relay.start()

    assert loop.relay.join(30)
    assert len(loop.steps) == 301
    changes = sum(one != other for one, other in pairwise(loop.steps))
    assert changes > 0, "nobody was relieved: this has tested nothing"
    assert until(lambda: len(loop.away) == changes)


def test_nobody_looks_while_nobody_goes_away() -> None:
    """An idle server does not wake a hundred times a second."""
    go = Event()
    relay: Relay

    def run() -> bool:
        assert relay.stands_by()
        assert relay.take_up(relay.put_down())
        go.wait()
        return True

    relay = Relay("loop", run)
    relay.start()
    assert until(lambda: relay._count == 1 and not relay._called.is_set())
    go.set()

    assert relay.join(5)


def test_its_threads_have_ended_when_it_is_joined() -> None:
    """Both: who ran the loop last, and who stood by."""
    loop = Loop([0.0, 0.05, 0.0])
    loop.relay._name = "loop-of-this-test"
    loop.relay.start()

    assert loop.relay.join(5)
    assert until(lambda: len(loop.away) == 1)
    assert until(lambda: not [one for one in threading.enumerate() if one.name == "loop-of-this-test"])


def test_one_that_never_began_has_ended() -> None:
    """A server that gives up while it starts waits for nobody."""
    assert Relay("loop", lambda: True).join(0)


def test_who_runs_it_is_known() -> None:
    """For stacks: the thread that has the loop now, and 0 before there is one."""
    loop = Loop([0.0, 0.1, 0.3])
    assert loop.relay.ident == 0
    loop.relay.start()

    assert until(lambda: len(loop.steps) == 3)
    assert loop.relay.ident == loop.steps[2] != loop.steps[0]
    assert loop.relay.join(5)


def test_without_a_thread_to_be_had_nobody_stands_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks stays."""

    class NoThread:
        def __init__(self, **_settings: object) -> None: ...

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    relay = Relay("loop", lambda: True)
    monkeypatch.setattr(relaying, "Thread", NoThread)
    assert not relay.stands_by()
    monkeypatch.undo()
    assert relay.stands_by()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_raises_has_ended() -> None:
    """Whoever waits for it waits for nobody."""

    def run() -> bool:
        raise SystemExit

    relay = Relay("loop", run)
    relay.start()

    assert relay.join(5)
