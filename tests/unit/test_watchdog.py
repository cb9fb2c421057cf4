"""What is late is told once, with who is at work; and when it goes on, how long it was."""

from __future__ import annotations

from karafka.events import CaughtUp, Event, Events, Late
from karafka.watchdog import Watchdog, Watched

NEVER = float("inf")


class Kennel:
    """A watchdog without its thread, looking at one thing that beats as the test says."""

    def __init__(self, *, back: float | None = None) -> None:
        events = Events()
        self.told: list[Event] = []
        events.on(Event, self.told.append)
        self._dog = Watchdog(events)
        self.beat, self.at_work = NEVER, "Orders at orders/0/1"
        answer = None if back is None else lambda: back
        self._one = Watched("the loop", 0.5, lambda: self.beat, lambda: "stacks", lambda: self.at_work, answer)

    def look(self, now: float, beat: float) -> None:
        self.beat = beat
        self._dog._look_at(self._one, now)


def test_it_is_told_once_while_it_lasts_and_once_after() -> None:
    """With who was at work when it was noticed."""
    kennel = Kennel()
    for now in (10.0, 10.25, 10.5, 10.75, 11.0):
        kennel.look(now, beat=10.0)
    assert kennel.told == [Late(what="the loop", by=0.5, stacks="stacks", at_work="Orders at orders/0/1")]

    kennel.at_work = "somebody else"
    kennel.look(12.25, beat=12.0)
    kennel.look(12.5, beat=12.25)

    assert kennel.told[1:] == [CaughtUp(what="the loop", after=2.0, at_work="Orders at orders/0/1")]


def test_what_waits_again_has_gone_on() -> None:
    """It need not beat then: it went on between two looks."""
    kennel = Kennel()
    kennel.look(11.0, beat=10.0)
    kennel.look(11.25, beat=NEVER)

    assert kennel.told[1:] == [CaughtUp(what="the loop", after=1.25, at_work="Orders at orders/0/1")]


def test_who_knows_when_it_went_on_is_believed() -> None:
    kennel = Kennel(back=11.1)
    kennel.look(11.0, beat=10.0)
    kennel.look(11.25, beat=11.2)

    told = kennel.told[1]
    assert isinstance(told, CaughtUp)
    assert round(told.after, 3) == 1.1


def test_late_again_is_told_again() -> None:
    """In the very look that sees the last one over, too."""
    kennel = Kennel()
    kennel.look(11.0, beat=10.0)
    kennel.look(13.0, beat=12.0)

    assert [type(one) for one in kennel.told] == [Late, CaughtUp, Late]


def test_what_beats_is_not_late() -> None:
    kennel = Kennel()
    for now in (1.0, 1.25, 1.5):
        kennel.look(now, beat=now - 0.1)
        kennel.look(now, beat=NEVER)

    assert kennel.told == []
