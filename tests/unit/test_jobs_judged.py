"""In a topic of jobs each message is judged by the worker that it names, and events name its own controller."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from karafka.errors import JobError
from karafka.events import Buried, Failed
from karafka.messages import Record, offset_of
from karafka.policy import AskedRetry, Backoff, DeadLetter, Inside, Policy
from karafka.setbacks import Work
from tests.unit.house import House

GRAVE = DeadLetter("dead", after=21)
OWN = Policy(retry=Backoff(1, 300, jitter=0), dead_letter=GRAVE, lane=offset_of, width=4)
QUICK = Inside("QuickController", Policy(retry=Backoff(5, 5, jitter=0), dead_letter=DeadLetter("dead", after=2)))
PICKY = Inside(
    "PickyController", Policy(retry=Backoff(1, 1, jitter=0).never(ValueError), dead_letter=DeadLetter("dead", after=9))
)
# By offset; None for what is no job.
JOBS: dict[int, Inside | None] = {0: QUICK, 1: PICKY, 2: None}


def whose(record: Record) -> Inside | None:
    return JOBS[record.offset() or 0]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> House:
    """A house whose only topic is one of jobs, with three in it."""
    house = House(monkeypatch, policy=OWN)
    house.works["orders"] = Work(house._perform, OWN, house.hands, house.undertaker, "Job", inside=whose)
    house.send("orders", values=[b"{}"] * 3)
    return house


def failing(house: House, offset: int, error: BaseException) -> list[Failed]:
    """Have one fail; what was told of it until nothing more happens."""
    house.fail(offset, error)
    house.assign("orders", 0)
    for _ in range(30):
        house.wait(301)
    return [one for one in house.heard(Failed) if one.offset == offset]


def test_it_is_tried_as_often_as_its_worker_says(jobs: House) -> None:
    told = failing(jobs, 0, ValueError("mine"))

    assert [one.attempt for one in told] == [1, 2]
    assert told[0].verdict == "tried again in 5.0 s"
    assert {one.controller for one in told} == {"QuickController"}
    assert [(one.offset, one.grave) for one in jobs.heard(Buried)] == [(0, "dead")]
    assert sorted(jobs.performed) == [("orders", 0, 1), ("orders", 0, 2)]


def test_what_its_worker_never_tries_again_goes_at_once(jobs: House) -> None:
    (told,) = failing(jobs, 1, ValueError("mine"))

    assert (told.controller, told.verdict) == ("PickyController", "goes to dead")


def test_what_cannot_be_told_is_judged_by_the_queue_s_own_policy(jobs: House) -> None:
    """A worker of a later release may know it: it waits for long."""
    told = failing(jobs, 2, JobError("of another release"))

    assert [one.attempt for one in told] == list(range(1, 22))
    assert {one.controller for one in told} == {"Job"}


@pytest.mark.parametrize("asks", [lambda: AskedRetry(9.0), lambda: ValueError("mine")], ids=["asked", "failed"])
def test_one_that_waits_holds_up_no_other(jobs: House, asks: Callable[[], Exception]) -> None:
    jobs.fail(0, asks())
    jobs.assign("orders", 0)
    jobs.turn(20)

    assert sorted(set(jobs.performed)) == [("orders", 0, 1), ("orders", 0, 2)]
