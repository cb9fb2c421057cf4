"""What a process says of itself, made of what its app tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from karafka import events as told
from karafka.errors import BrokerError
from karafka.events import Events
from karafka.lifecycle import Phase
from karafka.messages import Place
from karafka.processes.reports import WINDOW, Account, Report

FIRST, SECOND = Place("orders", 0), Place("orders", 1)
STARTED = told.ServerStarted(client_id="shop", groups={"g": ("orders",), "h": ("orders",)})
STILL = (0.0, 0.0, 0.0)


class Told:
    """A bus and the account that hears it."""

    def __init__(self) -> None:
        self.events = Events()
        self.account = Account(self.events)

    def assigned(self, group: str = "g", **starts: int) -> None:
        places: dict[tuple[str, int], int] = {Place("orders", int(name[1:])): offset for name, offset in starts.items()}
        self.events.tell(told.Assigned(group=group, starts=places))

    def performed(self, count: int, position: int, place: Place = FIRST, group: str = "g") -> None:
        self.events.tell(
            told.Performed(
                group=group,
                topic=place.topic,
                partition=place.partition,
                position=position,
                count=count,
                elapsed=0.1,
            )
        )

    def report(self, now: float = 0.0) -> Report:
        return replace(self.account.report(now, STILL), memory=0)


def test_a_report_comes_over_the_wire_as_it_was() -> None:
    report = Report(phase=Phase.QUIET, works=True, partitions=3, rate=1.5, memory=7, turn=0.1, handler=2.0, lag=4)

    assert Report.read(report.line()) == report
    assert report.line().endswith(b"\n")
    assert report.line().count(b"\n") == 1


@pytest.mark.parametrize("line", ["", "{", "[]", "7", '{"phase": 99}', '{"works": true}', '{"phase": 1, "x": 2}'])
def test_what_is_no_report_is_refused(line: str) -> None:
    """So that another release on the other end is told from one that speaks."""
    with pytest.raises(ValueError, match="no report"):
        Report.read(line.encode())


def test_the_phase_only_moves_forward() -> None:
    one = Told()
    assert one.report().phase is Phase.STARTING
    for event, phase in (
        (STARTED, Phase.RUNNING),
        (told.ServerStopping(reason="", timeout=1), Phase.STOPPING),
        (told.ServerQuiet(reason=""), Phase.STOPPING),
        (told.ServerStopped(status=0, unfinished=()), Phase.STOPPED),
    ):
        one.events.tell(event)
        assert one.report().phase is phase


def test_it_works_when_each_group_has_given_it_its_share() -> None:
    """Even if that is nothing; a listener may be quicker than the server that started it."""
    one = Told()
    one.assigned("g", p0=0)
    assert not one.report().works
    one.events.tell(STARTED)
    assert not one.report().works
    one.assigned("h")

    assert one.report().works


def test_partitions_that_came_and_went() -> None:
    one = Told()
    one.assigned("g", p0=0, p1=0)
    one.assigned("h", p0=0)
    assert one.report().partitions == 3

    one.events.tell(told.Revoked(group="g", positions={FIRST: 0}, waited=0))
    one.events.tell(told.Lost(group="h", places=(FIRST,), error="gone"))
    assert one.report().partitions == 1


def test_the_rate_is_of_the_last_seconds() -> None:
    one = Told()
    one.assigned(p0=0)
    assert one.report(0.0).rate == 0
    one.performed(100, 100)
    assert one.report(5.0).rate == 20
    assert one.report(WINDOW).rate == 10
    for now in range(int(WINDOW) + 1, 30):
        one.report(float(now))

    assert one.report(30.0).rate == 0


class TestLag:
    def ends(self, group: str, places: Sequence[Place]) -> Mapping[Place, int]:
        assert group in {"g", "h"}
        return dict.fromkeys(places, 10)

    def test_is_known_only_when_it_was_asked_for(self) -> None:
        one = Told()
        assert one.report().lag is None
        one.account.look(self.ends, 1)

        assert (one.report().lag, one.report().looked) == (0, 1)

    def test_is_what_is_not_finished(self) -> None:
        """Of each group for itself: both may read the same partition."""
        one = Told()
        one.assigned("g", p0=2, p1=10)
        one.assigned("h", p0=0)
        one.performed(3, 5, FIRST, "g")
        one.account.look(self.ends, 1)

        assert one.report().lag == 5 + 0 + 10

    def test_a_commit_passes_over_what_are_no_messages(self) -> None:
        """Markers of transactions stand at the end, and nobody will perform them."""
        one = Told()
        one.assigned(p0=0)
        one.performed(9, 9)
        one.events.tell(told.Committed(group="g", offsets={FIRST: 10}))
        one.account.look(self.ends, 1)

        assert one.report().lag == 0

    def test_a_seek_moves_it(self) -> None:
        one = Told()
        one.assigned(p0=9)
        one.events.tell(told.Sought(group="g", topic="orders", partition=0, left=9, offset=4))
        one.account.look(self.ends, 1)

        assert one.report().lag == 6

    def test_what_comes_late_of_a_partition_that_went_counts_no_more(self) -> None:
        one = Told()
        one.assigned(p0=0)
        one.events.tell(told.Revoked(group="g", positions={FIRST: 0}, waited=0))
        one.performed(1, 1)
        one.events.tell(told.Committed(group="g", offsets={FIRST: 1}))
        one.account.look(self.ends, 1)

        assert (one.report().partitions, one.report().lag) == (0, 0)

    def test_is_never_below_zero(self) -> None:
        one = Told()
        one.assigned(p0=12)
        one.account.look(self.ends, 1)

        assert one.report().lag == 0

    def test_is_not_known_when_the_brokers_do_not_say(self) -> None:
        """The question is answered all the same."""
        one = Told()
        one.assigned(p0=0)
        one.account.look(self.ends, 1)

        def away(group: str, places: Sequence[Place]) -> Mapping[Place, int]:
            raise BrokerError("away", retriable=True)

        with pytest.raises(BrokerError):
            one.account.look(away, 2)

        assert (one.report().lag, one.report().looked) == (None, 2)


def test_memory_is_that_of_this_process() -> None:
    report = Told().account.report(0.0, STILL)

    assert 5e6 < report.memory < 5e9


def test_ages_are_told_as_they_are() -> None:
    report = Told().account.report(0.0, (0.1, 2.0, 71.0))

    assert (report.turn, report.handler, report.oldest) == (0.1, 2.0, 71.0)
