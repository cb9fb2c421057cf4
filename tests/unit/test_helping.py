"""What is done in a moment the listener's thread performs itself, between two turns, in a worker's seat."""

from __future__ import annotations

import pytest

from karafka import events as told
from karafka.messages import Place, Record, Run
from karafka.partition import FIRST_RUN, MOMENT
from karafka.policy import Backoff, Policy
from tests.unit.conftest import Build
from tests.unit.house import House

P0 = Place("orders", 0)
BRISK = 1e-6


@pytest.fixture
def brisk(build: Build) -> House:
    """Two partitions whose messages take a moment, as is known, and workers whose seats may be borrowed."""
    house = build(policy=Policy(retry=Backoff(1.0, 1.0, jitter=0.0)))
    house.send("orders", partitions=(0, 1), count=FIRST_RUN)
    house.turn(5)
    assert house.offsets(0) == house.offsets(1) == list(range(FIRST_RUN))
    for partition in house.listener._partitions.values():
        partition.pace = BRISK
    house.hands.lends = True
    return house


def test_what_is_done_in_a_moment_is_performed_in_the_turn(brisk: House) -> None:
    """Nothing goes to a worker; it is settled at once, in order, and committed as ever; the seat is given back."""
    brisk.send("orders", partitions=(0, 1), count=50)
    assert brisk.listener.step()

    assert not brisk.hands.ready
    assert brisk.offsets(0) == brisk.offsets(1) == list(range(FIRST_RUN + 50))
    assert brisk.hands.lent == 0
    assert not brisk.listener._busy
    brisk.wait(1.0)
    assert brisk.committed == {("orders", 0): FIRST_RUN + 50, ("orders", 1): FIRST_RUN + 50}


def test_what_takes_longer_is_the_workers(brisk: House) -> None:
    """By the pace that was measured: of these, all at once are more than a moment."""
    brisk.listener._partitions[P0].pace = MOMENT / 10
    brisk.send("orders", partitions=(0,), count=50)
    brisk.listener.step()

    assert len(brisk.hands.ready) == 1
    assert brisk.offsets(0) == list(range(FIRST_RUN))


def test_what_waits_for_confirmations_is_the_workers(brisk: House) -> None:
    """However short: one after the other in the turn, each partition would wait for those of all before it."""
    for partition in brisk.listener._partitions.values():
        partition.sends = True
    brisk.send("orders", partitions=(0, 1), count=3)
    brisk.listener.step()

    assert len(brisk.hands.ready) == 2
    assert brisk.offsets(0) == brisk.offsets(1) == list(range(FIRST_RUN))


def test_a_turn_keeps_no_more_than_a_moment_in_all(brisk: House) -> None:
    """However many partitions have something short: the others begin at once, on workers."""
    for partition in brisk.listener._partitions.values():
        partition.pace = MOMENT / 80
    brisk.send("orders", partitions=(0, 1), count=50)
    brisk.listener.step()

    assert len(brisk.hands.ready) == 1
    assert sorted((len(brisk.offsets(0)), len(brisk.offsets(1)))) == [FIRST_RUN, FIRST_RUN + 50]


def test_of_what_nothing_is_known_it_is_a_worker_that_finds_out(build: Build) -> None:
    """The first messages of a partition may take an hour."""
    house = build()
    house.hands.lends = True
    house.send("orders", count=3)
    house.listener.step()

    assert len(house.hands.ready) == 1


def test_without_a_free_seat_it_waits_for_a_worker(brisk: House) -> None:
    """`concurrency` is a promise: never more at once."""
    brisk.hands.lends = False
    brisk.send("orders", count=3)
    brisk.listener.step()

    assert len(brisk.hands.ready) == 1
    assert brisk.offsets(0) == list(range(FIRST_RUN))


def test_where_nobody_could_relieve_it_nothing_is_kept(brisk: House) -> None:
    """The system may have no more threads: then all goes to the workers there are."""
    brisk.relay.ready = False
    brisk.send("orders", count=3)
    brisk.listener.step()

    assert len(brisk.hands.ready) == 1
    assert brisk.hands.lent == 0


def test_what_fails_is_judged_as_anywhere(brisk: House) -> None:
    """Tried again after its delay, those before it finished, its neighbours going on."""
    brisk.fail(FIRST_RUN + 2, ValueError("no"))
    brisk.send("orders", partitions=(0, 1), count=5)
    brisk.listener.step()

    assert brisk.offsets(0) == list(range(FIRST_RUN + 2))
    assert brisk.offsets(1) == list(range(FIRST_RUN + 5))
    (failed,) = brisk.heard(told.Failed)
    assert failed.offset == FIRST_RUN + 2
    brisk.mend()
    brisk.wait(1.0)
    assert brisk.offsets(0) == list(range(FIRST_RUN + 5))


def test_while_a_partition_is_waited_for_the_others_go_to_workers(brisk: House) -> None:
    """Inside a revocation this thread is the client's: nobody could go on in its place."""
    slow = brisk.listener._partitions[P0]
    slow.pace = None
    brisk.block(partition=0)
    brisk.send("orders", partitions=(0,), count=3)
    brisk.listener.step()
    worker = brisk.begin()
    fast = brisk.listener._partitions[Place("orders", 1)]

    def more() -> None:
        brisk.send("orders", partitions=(1,), count=3)
        came: list[Record] = [*brisk.broker.logs[fast.place][-3:]]
        fast.receive(came, 6, 0.0)
        brisk.listener._changed[fast] = None

    def seen() -> None:
        assert [one.jobs[0].ticket for one in brisk.hands.ready if one.jobs] == [fast]
        worker.end()

    brisk.revoke("orders", 0, meanwhile=[more, brisk.rest, seen])

    assert brisk.hands.lent == 0


def test_who_was_relieved_touches_nothing_any_more(brisk: House) -> None:
    """Its outcome comes as a worker's does; its seat it gives back itself; what it did not come to is the workers'."""
    brisk.relay.relieved = True
    brisk.send("orders", partitions=(0, 1), count=3)
    assert not brisk.listener.step()

    done = brisk.offsets(0)[FIRST_RUN:] + brisk.offsets(1)[FIRST_RUN:]
    assert done == [FIRST_RUN, FIRST_RUN + 1, FIRST_RUN + 2]
    assert brisk.hands.lent == 0
    assert len(brisk.listener._busy) == 2, "who comes back late has settled what is not his any more"

    brisk.relay.relieved = False
    brisk.listener._moments.leave()
    brisk.turn(2)

    assert brisk.offsets(0) == brisk.offsets(1) == list(range(FIRST_RUN + 3))
    assert not brisk.listener._busy


def test_the_turns_are_given_away_while_a_message_is_performed(brisk: House) -> None:
    """And at no other time."""
    away: list[bool] = []
    work = brisk.works["orders"].handler

    def watched(run: Run) -> None:
        away.append(brisk.relay.away)
        work(run)

    for partition in brisk.listener._partitions.values():
        partition._lane.handler = watched
    brisk.send("orders", partitions=(0, 1), count=3)
    brisk.listener.step()

    assert away == [True, True]
    assert not brisk.relay.away
