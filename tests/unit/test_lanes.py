"""A partition in order by lane, in a listener's hands: delays, burials, marks, bounds and what is kept of it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from karafka import events as told
from karafka.assignment import CommitWanted, LaneAssignment
from karafka.client import Effect, Trouble
from karafka.jobs import Job
from karafka.lanes import Lanes
from karafka.messages import Place, Record, offset_of
from karafka.metadata import Memo, decode, encode
from karafka.outbox import Outbox
from karafka.policy import Backoff, DeadLetter, Policy
from karafka.producer import Producer
from tests.unit.conftest import Build
from tests.unit.house import Hand, House
from tests.unit.post import Post, without_threads

P0 = Place("orders", 0)
PLAIN = Backoff(first=1, cap=30, factor=2, jitter=0)


def tens(record: Record) -> int:
    """Offsets that end alike are of one lane."""
    return (record.offset() or 0) % 10


def by_lane(**policy: Any) -> Policy:
    return Policy(**{"lane": tens, "width": 4, "retry": PLAIN, **policy})


def owned(house: House) -> Lanes:
    partition = house.listener._partitions[P0]
    assert isinstance(partition, Lanes)
    return partition


def kept(house: House) -> tuple[int, ...]:
    """What stands beside the offset in the last commit."""
    memo = decode(house.broker.metadata[P0])
    assert memo is not None
    return memo.above


def test_a_failing_message_delays_its_lane_alone(build: Build) -> None:
    """The others are performed, and kept above the prefix; in its time it is tried again."""
    house = build(policy=by_lane(), partitions=(0,))
    house.fail(3, ValueError("no"))
    house.send("orders", count=30)
    house.turn(45)

    assert sorted(house.offsets()) == [one for one in range(30) if one % 10 != 3]
    assert house.committed == {P0: 3}
    assert kept(house) == (1, 9, 1, 9, 1, 6)
    house.turn(15)
    assert [one.attempt for one in house.heard(told.Retried)] == [2]

    house.mend()
    house.turn(150)
    assert house.offsets()[-3:] == [3, 13, 23]
    assert house.committed == {P0: 30}
    assert kept(house) == ()


def test_lanes_are_buried_each_by_itself(build: Build) -> None:
    """One that is refused is sent again without being performed; nobody else waits for it."""
    policy = by_lane(dead_letter=DeadLetter("dead", after=1))
    house = build(policy=policy, partitions=(0,))
    house.undertaker.answering = False
    for offset in (3, 5):
        house.fail(offset, ValueError("no"))
    house.send("orders", count=20)
    house.turn(5)
    assert len(house.undertaker.funerals) == 2
    assert sorted(house.offsets()) == [one for one in range(20) if one % 10 not in {3, 5}]

    refused, taken = house.undertaker.funerals
    refused.done("away")
    taken.done(None)
    house.turn(5)
    assert 15 in house.offsets()
    assert 13 not in house.offsets()
    house.turn(60)
    house.undertaker.funerals[-1].done(None)
    house.turn(60)

    assert house.committed == {P0: 20}
    assert [one[2] for one in house.tried].count(3) == 1


def test_a_held_lane_holds_no_other(build: Build) -> None:
    """Where there is no second try, and nobody to bury it."""
    house = build(policy=by_lane(retry=None), partitions=(0,))
    house.fail(3, ValueError("no"))
    house.send("orders", count=20)
    house.turn(60)

    assert sorted(house.offsets()) == [one for one in range(20) if one % 10 != 3]
    assert house.committed == {P0: 3}


def test_the_end_of_the_process_holds_all(build: Build) -> None:
    """Nothing more is given out of the partition."""
    house = build(policy=by_lane(width=1), partitions=(0,))
    house.fail(3, SystemExit(7))
    house.send("orders", count=4)
    house.turn(5)
    house.send("orders", count=4)
    house.turn(30)

    assert house.endings[0][0] == 7
    assert house.offsets() == [0, 1, 2]


def test_what_is_kept_is_not_performed_by_the_next_owner(build: Build) -> None:
    """Also when the message below is finished before all that was kept was received again."""
    house = build(policy=by_lane(), partitions=(0,))
    house.fail(3, ValueError("no"))
    house.send("orders", count=30)
    house.turn(30)
    house.revoke("orders", 0)
    house.turn()
    house.mend()
    house.performed.clear()

    house.assign("orders", 0)
    house.turn(60)

    assert sorted(house.offsets()) == [3, 13, 23]
    assert house.committed == {P0: 30}


def test_a_commit_that_is_asked_for_is_of_what_stands_above_too(build: Build) -> None:
    """The answer is given when that is kept."""
    house = build(policy=by_lane(), partitions=(0,), commit_interval=1000.0)
    house.fail(0, ValueError("no"))
    house.send("orders", count=10)
    house.turn(3)
    house.broker.answering = False
    answer: Future[bool] = Future()
    house.listener._inbox.put(CommitWanted(owned(house).assignment, answer))
    house.turn(3)
    assert not answer.done()

    house.broker.answer(house.broker.commits[-1])
    house.turn(3)

    assert answer.result(0)
    assert kept(house) == (1, 9)


def test_a_mark_finishes_its_message_alone(build: Build) -> None:
    """Where marking is manual; the others wait for theirs, and are not performed again meanwhile."""
    house = build(policy=by_lane(manual=True), partitions=(0,))
    house.send("orders", count=10)
    house.turn(5)
    assignment = owned(house).assignment
    assert isinstance(assignment, LaneAssignment)

    assert assignment.mark(7)
    assert assignment.mark(8)
    house.turn(60)

    assert house.committed == {P0: 0}
    assert kept(house) == (7, 2)
    for offset in (*range(7), 9):
        assignment.mark(offset)
    house.turn(60)
    assert house.committed == {P0: 10}
    assert len(house.tried) == 10


def test_tries_of_a_lane_that_is_gone_are_none_of_the_next(build: Build) -> None:
    """One that was marked and failed again is over; a lane that comes then begins with its first try."""
    house = build(policy=by_lane(lane=offset_of), partitions=(0,))
    house.block(0)
    house.send("orders", count=1)
    house.turn()
    house.begin().end(ValueError("no"))
    house.turn(60)
    hand = house.begin()
    assert hand.job.run.attempt == 2
    owned(house).assignment.mark(0)
    hand.end(ValueError("no"))
    house.turn(5)

    house.send("orders", count=1)
    house.turn(5)
    assert [(offsets_of(job), job.run.attempt) for job in owned(house).out] == [([1], 1)]


def test_the_oldest_message_holds_up_what_is_too_far_ahead(build: Build) -> None:
    """It is named, once; when it is finished all goes on."""
    house = build(policy=by_lane(ahead=50, high=10_000), partitions=(0,))
    house.fail(0, ValueError("no"))
    house.send("orders", count=200)
    house.turn(200)

    assert (P0.topic, P0.partition) in house.paused
    assert owned(house).received <= 200
    assert [(one.offset, one.ahead >= 50) for one in house.heard(told.HeldUp)] == [(0, True)]

    house.mend()
    house.turn(2_000)
    assert sorted(house.offsets()) == list(range(200))
    assert house.committed == {P0: 200}


def test_what_retention_took_is_no_gap_for_ever(build: Build) -> None:
    """The prefix goes on behind it."""
    house = build(policy=by_lane(), partitions=(0,))
    house.send("orders", count=10)
    house.turn(60)
    house.send("orders", count=20)
    house.broker.trim(P0, 20)
    house.broker.say(Trouble("OFFSET_OUT_OF_RANGE", "gone", Effect.OUT_OF_RANGE, "orders", P0))
    house.turn(60)

    assert house.heard(told.OutOfRange)
    assert house.committed == {P0: 30}


def test_a_seek_forgets_what_stood_above(build: Build) -> None:
    """And commits the new position without it."""
    house = build(policy=by_lane(), partitions=(0,))
    house.fail(3, ValueError("no"))
    house.send("orders", count=30)
    house.turn(30)
    owned(house).assignment.seek(20)
    house.performed.clear()
    house.turn(60)

    assert sorted(house.offsets()) == list(range(20, 30))
    assert house.committed == {P0: 30}
    assert kept(house) == ()


def test_a_pause_brings_all_back(build: Build) -> None:
    """And ends by itself."""
    house = build(policy=by_lane(), partitions=(0,))
    owned(house).assignment.pause(5.0)
    house.turn()
    house.send("orders", count=30)
    house.turn(60)
    assert house.offsets() == []

    house.turn(250)
    assert sorted(house.offsets()) == list(range(30))


def test_what_is_foreign_beside_the_offset_is_told_and_left_out_of_account(build: Build) -> None:
    """Never fatal; and what was finished above another offset says nothing."""
    house = build(policy=by_lane(), partitions=())
    house.broker.stored[P0], house.broker.metadata[P0] = 0, "leader=host-7"
    house.send("orders", count=10)
    house.assign("orders", 0)
    house.turn(60)

    assert house.heard(told.MetadataIgnored)
    assert sorted(house.offsets()) == list(range(10))


@pytest.mark.parametrize("base", [0, 1])
def test_only_what_was_finished_above_this_very_offset_counts(build: Build, base: int) -> None:
    """A tool may set an offset and leave the text beside it."""
    house = build(policy=by_lane(), partitions=())
    house.broker.stored[P0], house.broker.metadata[P0] = 0, encode(Memo(base=base, above=(5, 5)))
    house.send("orders", count=10)
    house.assign("orders", 0)
    house.turn(60)

    assert sorted(house.offsets()) == list(range(5 if base == 0 else 10))


def at_the_fourth(build: Build) -> tuple[House, Hand]:
    """Messages of lanes of their own go together, and a worker stands still at the fourth."""
    house = build(policy=by_lane(lane=offset_of, width=2), partitions=(0,))
    house.block(0)
    house.send("orders", count=100)
    house.turn()
    for _ in range(3):
        house.begin().end(elapsed=0.0001)  # by themselves, as nothing was known of them yet
        house.turn()
    hand = house.begin()
    assert len(hand.job.run.records) > 4
    assert hand.step(4) == [3, 4, 5, 6]
    hand.late(1.0)
    return house, hand


def offsets_of(job: Job) -> list[int]:
    return [one.offset() or 0 for one in job.run.records]


def test_who_is_done_waits_for_nobody_of_the_same_job(build: Build) -> None:
    """The others are finished, or go with somebody else."""
    house, hand = at_the_fourth(build)
    house.turn(30)
    assert offsets_of(hand.job) == [3, 4, 5, 6]
    house.free(0)
    house.turn(30)
    assert house.committed == {P0: 6}
    assert kept(house) == (1, 93)

    hand.end()
    house.turn(30)
    assert house.committed == {P0: 100}


def test_who_has_sent_something_is_done_when_that_is_confirmed(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes out while another of the same job stands still; who is not begun goes with somebody else at once."""
    house, hand = at_the_fourth(build)
    passing, post = without_threads(monkeypatch), Post()
    post.meanwhile, post.open = passing.wait, False
    producer = Producer({"bootstrap.servers": "there:9092"}, sender=lambda: post)
    outbox = hand.job.run.outbox = Outbox(producer)
    for offset in (4, 5):
        outbox.send(offset, "results", str(offset))
    house.turn(30)
    house.free(0)
    house.turn(30)
    assert [one.value for one in post.sent] == ["4", "5"]
    assert offsets_of(hand.job) == [3, 4, 5, 6]
    assert house.committed == {P0: 4}
    assert kept(house) == (3, 93)

    post.answer()
    post.serve(0.0)
    house.turn(90)
    assert house.committed == {P0: 6}
    assert kept(house) == (1, 93)

    producer.close()
    hand.end()
    house.turn(30)
    assert house.committed == {P0: 100}


def test_what_is_done_of_a_job_that_does_not_end_counts_when_its_partition_goes(build: Build) -> None:
    """The next owner does not do it again."""
    house, _ = at_the_fourth(build)
    house.revoke("orders", 0)

    assert house.committed == {P0: 6}


def test_what_is_done_of_a_job_that_does_not_end_counts_at_a_stop(build: Build) -> None:
    house, _ = at_the_fourth(build)
    house.close(within=2.0)

    assert house.committed == {P0: 6}


def test_behind_a_lone_quick_message_that_stands_still_the_others_go(build: Build) -> None:
    """It was to be done in a moment, as all before it: nobody of another lane waits for it."""
    house = build(policy=by_lane(lane=offset_of, width=2), partitions=(0,))
    house.send("orders", count=400)
    house.turn(30)
    assert not owned(house)._apart
    house.block(0)
    house.send("orders", count=1)
    house.turn()
    hand = house.begin()
    assert hand.step() == [400]
    house.send("orders", count=9)
    house.turn(3)
    hand.late(1.0)
    house.free(0)
    house.turn(30)

    assert set(house.offsets()) == {*range(400), *range(401, 410)}
    assert house.committed == {P0: 400}
    assert kept(house) == (1, 9)


def test_only_more_than_may_be_out_leaves_time_to_spare(build: Build) -> None:
    """While jobs wait beside those that are performed, and more could go, the listener need not hurry."""
    house = build(policy=by_lane(lane=offset_of, width=4), partitions=(0,))
    house.block(0)
    house.send("orders", count=100)
    house.turn()
    partition = owned(house)
    assert (len(partition.out), partition.spare) == (5, 0.0), "nothing is known yet of how long a message takes"

    house.begin().end(elapsed=0.008)
    house.turn()
    in_hand = partition.count - partition.waiting
    assert len(partition.out) == 8
    assert partition.spare == pytest.approx(4 / 4 * 0.008 * in_hand / 8)

    house.free(0)
    house.turn(30)
    assert len(house.offsets()) >= 99
    assert partition.spare == 0.0


@pytest.mark.parametrize(("elapsed", "out"), [(0.001, 16), (0.1, 12), (60.0, 10)])
def test_what_waits_beside_the_workers_is_little_work(build: Build, elapsed: float, out: int) -> None:
    """So that none of them waits; but what is tried again, and is older, goes behind that."""
    house = build(policy=by_lane(lane=offset_of, width=8), partitions=(0,))
    house.block(0)
    house.send("orders", count=100)
    house.turn()
    house.begin().end(elapsed=elapsed)
    house.turn()

    assert len(owned(house).out) == out


def test_what_waits_for_a_lane_that_is_out_leaves_no_time_to_spare(build: Build) -> None:
    """The next message of a lane goes as soon as the one before is back."""
    house = build(policy=by_lane(width=16), partitions=(0,))
    house.block(0)
    house.send("orders", count=100)
    house.turn()
    house.begin().end(elapsed=0.008)
    house.turn()
    partition = owned(house)

    assert len(partition.out) == 10
    assert partition.waiting
    assert partition.spare == 0.0


def test_a_quick_job_that_stands_still_is_taken_apart_once_all_it_sent_is_confirmed(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, what it has performed is not finished, whoever else waits."""
    house = build(policy=by_lane(lane=offset_of, width=2), partitions=(0,))
    house.send("orders", count=400)
    house.turn(30)
    house.block(0)
    house.send("orders", count=10)
    house.turn()
    hand = house.begin()
    passing, post = without_threads(monkeypatch), Post()
    post.meanwhile, post.open = passing.wait, False
    producer = Producer({"bootstrap.servers": "there:9092"}, sender=lambda: post)
    assert hand.step(4) == [400, 401, 402, 403]
    outbox = hand.job.run.outbox = Outbox(producer)
    outbox.send(401, "results", "401")
    hand.late(1.0)
    house.turn(90)
    assert house.committed == {P0: 401}
    assert [one.value for one in post.sent] == ["401"]

    post.answer()
    post.serve(0.0)
    house.free(0)
    house.turn(90)
    assert house.committed == {P0: 403}
    assert set(house.offsets()) == {*range(400), *range(404, 410)}
    producer.close()
