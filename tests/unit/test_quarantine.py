"""Messages that kill the process: counted in the commit's metadata, named before they are tried again, buried."""

from __future__ import annotations

from typing import Any

import pytest

from karafka import events as told
from karafka.errors import CrashError
from karafka.messages import Place
from karafka.metadata import Memo, decode
from karafka.policy import Backoff, DeadLetter, Policy
from karafka.quarantine import Token
from tests.unit.conftest import Build
from tests.unit.house import House, Letter

P0, P1 = Place("orders", 0), Place("orders", 1)
POLICY = Policy(retry=Backoff(1.0, 30.0, jitter=0.0), dead_letter=DeadLetter("dead", after=2, crashes=True))


class Lives:
    """Processes one after the other that read the same partition: each dies at a message, or ends in order."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._stored: dict[Place, int] = {}
        self._metadata: dict[Place, str] = {}
        self.deadly: int | None = None

    def life(self, *, count: int = 10, policy: Policy = POLICY, answering: bool = True) -> House:
        """The next process, with its partition assigned."""
        house = self._build(partitions=(), policy=policy)
        house.broker.answering = answering
        house.broker.stored, house.broker.metadata = self._stored, self._metadata
        for offset in range(count):
            house.broker.append(P0, Letter("orders", 0, offset))
        house.assign("orders", 0)
        return house

    def dies(self) -> House:
        """A process that dies when it comes to the deadly message; what it had sent to the broker stays."""
        house = self.life()
        house.block(partition=0)
        for _ in range(300):
            house.turn()
            while house.hands.ready and any(lane.jobs for lane in house.hands.ready):
                worker = house.begin()
                for _ in worker.job.run.records:
                    if worker.step() == [self.deadly]:
                        return house
                worker.end()
        return house

    @property
    def memo(self) -> Memo:
        memo = decode(self._metadata.get(P0))
        assert memo is not None
        return memo


@pytest.fixture
def lives(build: Build) -> Lives:
    return Lives(build)


def test_nothing_is_given_out_before_the_broker_knows_of_the_owner(lives: Lives) -> None:
    """Or the end of this process would not be known."""
    house = lives.life(answering=False)
    house.turn(5)
    assert house.offsets() == []
    house.broker.answer(house.broker.commits[-1])
    house.turn(5)

    assert house.offsets() == list(range(10))
    assert lives.memo.open


@pytest.mark.parametrize("how", ["stop", "revoke"])
def test_an_end_in_order_is_taken_back(lives: Lives, how: str) -> None:
    """The next owner knows nothing of it."""
    house = lives.life()
    house.turn(100)
    if how == "stop":
        house.close()
    else:
        house.revoke("orders", 0)

    assert lives.memo == Memo()


def test_what_kills_is_named_and_then_buried_unperformed(lives: Lives) -> None:
    """Two ends make it suspect, `after` more with its name are proof; what is before it is performed one by one."""
    lives.deadly = 4
    for crashes, times in [(0, 0), (1, 0), (2, 1), (3, 2)]:
        lives.dies()
        assert (lives.memo.open, lives.memo.crashes, lives.memo.times) == (True, crashes, times)
    assert lives.memo.named == 4

    house = lives.life()
    house.turn(300)

    assert 4 not in house.offsets()
    assert house.offsets()[-5:] == [5, 6, 7, 8, 9]
    (funeral,) = house.undertaker.funerals
    headers = dict(funeral.headers)
    assert funeral.record.offset() == 4
    assert headers["karafka-error"] == f"{CrashError.__module__}.{CrashError.__qualname__}".encode()
    assert headers["karafka-attempts"] == b"2"
    assert house.committed[("orders", 0)] == 10


def test_a_suspect_partition_says_so_and_goes_one_by_one(lives: Lives) -> None:
    """Each after a commit that names it and is confirmed."""
    lives.deadly = 0
    for _ in range(2):
        lives.dies()
    house = lives.life(count=3)
    house.turn(100)

    assert [one.crashes for one in house.heard(told.Suspected)] == [2]
    assert house.runs == [1, 1, 1]
    assert [commit[P0] for commit in house.broker.commits][:4] == [0, 0, 1, 2]


def test_one_end_alone_costs_nothing(lives: Lives) -> None:
    """A machine may fail."""
    lives.deadly = 0
    lives.dies()
    house = lives.life()
    house.turn(100)

    assert house.heard(told.Suspected) == []
    assert house.runs == [10]


def test_a_process_that_lost_its_partition_and_lives_has_not_died(lives: Lives) -> None:
    """It may have been away from its broker for too long."""
    house = lives.life()
    for _ in range(5):
        house.turn(20)
        house.lose("orders", 0)
        house.assign("orders", 0)
    house.turn(20)

    assert house.heard(told.Suspected) == []
    assert lives.memo.crashes == 0


def test_a_route_that_does_not_count_forgets_what_was_counted(lives: Lives) -> None:
    """Its own ends say nothing."""
    lives.deadly = 0
    lives.dies()
    house = lives.life(policy=Policy())
    house.turn(100)

    assert lives.memo == Memo()


def test_one_suspect_at_a_time_in_the_process() -> None:
    """Or an innocent one would share the blame."""
    token = Token()
    first: Any = object()
    second: Any = object()
    assert token.claim(first)
    assert token.claim(first)
    assert not token.claim(second)
    token.release(second)
    assert not token.claim(second)
    token.release(first)
    assert token.claim(second)
