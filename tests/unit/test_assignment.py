"""What user code asks of its partition: mark, commit, pause, seek; and what each does to what is in work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from karafka import events as told
from karafka.assignment import Assignment, CommitWanted
from karafka.errors import ConfigError
from karafka.messages import Place, Run
from karafka.policy import Backoff, DeadLetter, Policy
from tests.unit.conftest import Build
from tests.unit.house import House, Letter, letters, offsets, ours

P0 = Place("orders", 0)
STEADY = Backoff(1.0, 30.0, jitter=0.0)
MANUAL = Policy(manual=True, retry=STEADY)


class Hand:
    """A handler that does what the test says at certain offsets, each time or `once`, before a message is performed."""

    def __init__(self) -> None:
        self.performed: list[int] = []
        self.attempts: list[tuple[int, int]] = []
        self.at: dict[int, Callable[[Run], object]] = {}
        self.once: dict[int, Callable[[Run], object]] = {}

    def __call__(self, run: Run) -> None:
        attempt = run.attempt
        for record in run:
            offset = record.offset() or 0
            self.attempts.append((offset, attempt))
            attempt = 1
            act = self.at.get(offset) or self.once.pop(offset, None)
            if act is not None:
                act(run)
            self.performed.append(offset)


def assignment_of(run: Run) -> Assignment:
    assert run.assignment is not None
    return run.assignment


def mark(offset: int) -> Callable[[Run], object]:
    return lambda run: assignment_of(run).mark(offset)


def fail(_run: Run) -> None:
    raise ValueError("no")


def recall(run: Run) -> None:
    run.recall()


def pause(seconds: float) -> Callable[[Run], object]:
    return lambda run: assignment_of(run).pause(seconds)


def seek(to: int) -> Callable[[Run], object]:
    return lambda run: assignment_of(run).seek(to)


def then(*acts: Callable[[Run], object]) -> Callable[[Run], object]:
    def act(run: Run) -> None:
        for one in acts:
            one(run)

    return act


@pytest.fixture
def hand() -> Hand:
    return Hand()


def asked(house: House) -> Future[bool]:
    """A commit that user code waits for."""
    answer: Future[bool] = Future()
    house.listener._inbox.put(CommitWanted(house.listener._partitions[P0].assignment, answer))
    return answer


class TestMarking:
    """A mark finishes a message and all before it, whatever comes after."""

    def test_what_is_marked_is_not_given_again_though_it_fails(self, build: Build, hand: Hand) -> None:
        """At most once, on demand."""
        house = build(handler=hand)
        hand.at[5] = then(mark(5), fail)
        house.send("orders", count=10)
        house.turn(60)

        assert hand.performed == [0, 1, 2, 3, 4, 6, 7, 8, 9]
        assert house.committed[("orders", 0)] == 10

    def test_a_failing_batch_gives_again_only_what_is_not_marked(self, build: Build) -> None:
        """And whoever marks says who is to blame: the first that is not marked, not any half of the batch."""
        seen: list[list[int]] = []

        def batches(run: Run) -> None:
            seen.append(offsets(run.records))
            for offset in seen[-1]:
                if offset == 7:
                    raise ValueError("no")
                mark(offset)(run)
            run.finished = len(run.records)

        policy = Policy(batch=True, max_messages=10, retry=STEADY, dead_letter=DeadLetter("dead", after=3))
        house = build(handler=batches, policy=policy)
        house.send("orders", count=20)
        house.turn(2)
        for _ in range(4):
            house.wait(31)

        assert seen[:4] == [list(range(10)), list(range(7, 17)), list(range(7, 17)), list(range(8, 18))]
        assert [one.record.offset() for one in house.undertaker.funerals] == [7]
        assert house.committed[("orders", 0)] == 20

    def test_marks_are_committed_while_the_run_goes_on(self, build: Build) -> None:
        """As progress is."""
        house = build()
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        worker = house.begin()
        worker.step(3)

        assignment_of(worker.job.run).mark(6)
        house.turn(60)

        assert house.committed[("orders", 0)] == 7

    def test_once_the_partition_is_gone_a_mark_says_so(self, build: Build) -> None:
        """And counts for nothing."""
        house = build()
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        assignment = assignment_of(house.begin().job.run)

        house.lose("orders", 0)

        assert assignment.mark(5) is False
        assert assignment.revoked
        house.turn(60)
        assert house.broker.commits == []

    def test_until_it_is_gone_a_mark_counts(self, build: Build) -> None:
        """While the engine waits for what runs it is still ours, though on its way."""
        house = build()
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        worker = house.begin()
        worker.step()
        assignment = assignment_of(worker.job.run)
        answers: list[object] = []

        house.revoke(
            "orders",
            0,
            meanwhile=[
                lambda: answers.append(assignment.revoked),
                lambda: answers.append(assignment.mark(4)),
                house.rest,
                worker.reply,
                worker.release,
            ],
        )

        assert answers == [True, True]
        assert house.committed[("orders", 0)] == 5
        assert assignment.mark(6) is False


class TestMarkingByHand:
    """Where marking is manual nothing else finishes a message."""

    def test_what_is_not_marked_is_not_committed(self, build: Build, hand: Hand) -> None:
        """However much was performed."""
        house = build(handler=hand, policy=MANUAL)
        hand.at[3] = mark(3)
        house.send("orders", count=10)
        house.turn(60)

        assert hand.performed == list(range(10))
        assert house.committed == {("orders", 0): 4}

    def test_a_failure_gives_again_all_that_is_not_marked(self, build: Build, hand: Hand) -> None:
        """In order, from the first; the one that failed is tried for the second time."""
        house = build(handler=hand, policy=MANUAL)
        hand.at = {2: mark(2), 6: fail}
        house.send("orders", count=10)
        house.turn(20)
        hand.at = {9: mark(9)}
        house.wait(2.0)
        house.turn(60)

        assert hand.performed == [*range(6), *range(3, 10)]
        assert [one for one in hand.attempts if one[1] > 1] == [(6, 2)]
        assert house.committed == {("orders", 0): 10}

    def test_a_dead_letter_is_not_given_again_and_marks_nothing_before_it(self, build: Build, hand: Hand) -> None:
        """What was performed and not marked may be on its way into a batch of the user's own."""
        grave = Policy(manual=True, retry=STEADY, dead_letter=DeadLetter("dead", after=1))
        house = build(handler=hand, policy=grave)
        hand.at = {4: fail, 7: fail}
        house.send("orders", count=10)
        house.turn(60)

        assert [one.record.offset() for one in house.undertaker.funerals] == [4, 7]
        assert hand.performed == [0, 1, 2, 3, 5, 6, 8, 9]
        assert house.committed == {}

    def test_a_mark_right_before_a_dead_letter_finishes_it_too(self, build: Build, hand: Hand) -> None:
        """Nobody will mark it otherwise."""
        house = build(handler=hand, policy=Policy(manual=True, dead_letter=DeadLetter("dead", after=1)))
        hand.at = {9: fail}
        house.send("orders", count=10)
        house.turn(60)
        house.listener._partitions[P0].assignment.mark(8)
        house.turn(60)

        assert house.committed == {("orders", 0): 10}

    def test_the_ends_of_transactions_are_not_passed_over_what_is_not_marked(self, build: Build, hand: Hand) -> None:
        """With all marked they are."""
        house = build(handler=hand, policy=MANUAL)
        house.send("orders", count=5)
        house.broker.markers[P0] = 7
        house.turn(100)
        assert house.committed == {}

        house.listener._partitions[P0].assignment.mark(4)
        house.turn(400)
        assert house.committed == {("orders", 0): 7}


class TestCommitting:
    """An answer once the broker has confirmed; nobody waits for what cannot come."""

    def test_the_answer_comes_with_the_broker_s_word(self, house: House) -> None:
        """Not before; and without waiting for the interval."""
        house.broker.answering = False
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        house.begin().step(4)

        answer = asked(house)
        house.turn(2)
        assert house.broker.commits == [{P0: 3}]
        assert not answer.done()
        house.broker.answer(house.broker.commits[0])
        house.turn()

        assert answer.result(0) is True

    def test_a_refused_commit_goes_again_before_there_is_an_answer(self, house: House) -> None:
        """A rebalance under way refuses what the next try keeps."""
        house.broker.answering = False
        house.send("orders", count=10)
        house.turn(3)
        answer = asked(house)
        house.turn()
        house.broker.answer(house.broker.commits[-1], "REBALANCE_IN_PROGRESS")
        house.broker.answering = True
        house.turn(100)

        assert answer.result(0) is True

    def test_what_is_committed_already_needs_no_commit(self, house: House) -> None:
        """The answer is at hand."""
        house.send("orders", count=10)
        house.turn(100)
        sent = len(house.broker.commits)

        answer = asked(house)
        house.turn()

        assert answer.result(0) is True
        assert len(house.broker.commits) == sent

    @pytest.mark.parametrize("how", ["before", "meanwhile", "after", "lost"])
    def test_of_a_partition_that_goes_the_answer_is_no_at_once(self, house: House, how: str) -> None:
        """The engine waits for the worker that waits for this answer: neither may wait for the other."""
        house.broker.answering = False
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        worker = house.begin()
        worker.step(2)
        answers: list[Future[bool]] = []
        if how in {"before", "lost"}:
            answers.append(asked(house))
            house.turn()
        if how == "lost":
            house.lose("orders", 0)
        else:
            assignment = assignment_of(worker.job.run)
            house.revoke(
                "orders",
                0,
                meanwhile=[
                    lambda: answers.append(assignment._commit()) if how == "meanwhile" else None,
                    house.rest,
                    lambda: answers.append(assignment._commit()) if how == "after" else None,
                    worker.end,
                ],
            )

        assert [answer.result(0) for answer in answers] == [False]

    def test_inside_a_loop_waiting_is_refused(self) -> None:
        """It would stop the loop that the answer comes by."""

        async def perform() -> None:
            ours().commit()

        with pytest.raises(ConfigError, match=r"await commit_async\(\)"):
            asyncio.run(perform())

    def test_no_answer_in_time_is_no(self) -> None:
        """Whoever waits decides how long."""
        assert ours().commit(timeout=0.01) is False


class TestPausing:
    """After the message in hand nothing of the partition is performed until then; the others go on."""

    def test_what_follows_waits(self, build: Build, hand: Hand) -> None:
        """Exactly: not even the next of the same run is begun."""
        house = build(handler=hand)
        hand.at[3] = then(pause(5), recall)
        house.send("orders", count=10)
        house.turn(60)
        assert hand.performed == [0, 1, 2, 3]
        assert house.committed == {("orders", 0): 4}

        house.wait(5)

        assert hand.performed == list(range(10))

    def test_others_go_on(self, build: Build) -> None:
        """A rest is one partition's."""
        house = build()
        house.listener._partitions[P0].assignment.pause(60)
        house.turn()
        house.send("orders", partitions=(0, 1), count=10)
        house.turn(60)

        assert house.offsets(0) == []
        assert house.offsets(1) == list(range(10))

    def test_a_second_pause_replaces_the_first(self, house: House) -> None:
        """Also by a shorter one."""
        assignment = house.listener._partitions[P0].assignment
        assignment.pause(600)
        house.turn()
        house.send("orders", count=10)
        house.turn(5)
        assignment.pause(1)
        house.turn()
        house.wait(1)

        assert house.offsets(0) == list(range(10))

    def test_a_time_may_be_told_instead(self, house: House) -> None:
        """One that has passed is no pause."""
        house.listener._partitions[P0].assignment.pause(datetime(2020, 1, 1, tzinfo=UTC))
        house.send("orders", count=3)
        house.turn(5)

        assert house.offsets(0) == [0, 1, 2]

    def test_a_pause_outlasts_a_retry(self, build: Build, hand: Hand) -> None:
        """A failure does not shorten it."""
        house = build(handler=hand, policy=Policy(retry=STEADY))
        hand.once[2] = then(pause(10), fail)
        house.send("orders", count=5)
        house.turn(20)
        house.wait(5)
        assert hand.performed == [0, 1]

        house.wait(5)
        assert hand.performed == [0, 1, 2, 3, 4]


class TestSeeking:
    """Once what is in hand has ended the partition goes on elsewhere, and that is committed."""

    @pytest.mark.parametrize("to", [0, 2, 8, 10])
    def test_it_goes_on_there(self, build: Build, hand: Hand, to: int) -> None:
        """Backwards or forwards."""
        house = build(handler=hand)
        hand.once[5] = then(seek(to), recall)
        house.send("orders", count=10)
        house.turn(60)

        assert hand.performed == [*range(6), *range(to, 10)]
        assert house.committed[("orders", 0)] == 10
        (sought,) = house.heard(told.Sought)
        assert (sought.left, sought.offset) == (6, to)

    def test_the_new_position_is_committed_also_a_lower_one(self, build: Build, hand: Hand) -> None:
        """What was finished above it is void."""
        house = build(handler=hand)
        house.send("orders", count=10)
        house.turn(100)
        house.block(partition=0)
        house.listener._partitions[P0].assignment.seek(4)
        house.turn(100)

        assert house.committed[("orders", 0)] == 4

    def test_marks_of_before_are_void(self, build: Build, hand: Hand) -> None:
        """Whoever still holds messages of before cannot finish what is to be performed again."""
        house = build(handler=hand)
        before = house.listener._partitions[P0].assignment
        house.send("orders", count=10)
        house.turn(60)
        before.seek(0)
        house.block(partition=0)
        house.turn(10)

        assert before.mark(9) is False
        house.turn(100)
        assert house.committed[("orders", 0)] == 0

    def test_one_that_fails_as_well_backs_off_first(self, build: Build, hand: Hand) -> None:
        """Or a message that always seeks to itself and fails would never rest."""
        house = build(handler=hand, policy=Policy(retry=STEADY))
        hand.once[5] = then(seek(3), recall, fail)
        house.send("orders", count=10)
        house.turn(20)
        assert hand.performed == [0, 1, 2, 3, 4]

        house.wait(1.0)
        house.turn(20)
        assert hand.performed == [0, 1, 2, 3, 4, 3, 4, 5, 6, 7, 8, 9]

    def test_a_time_is_the_first_message_of_then_or_later(self, build: Build, hand: Hand) -> None:
        """Messages are found by the broker."""
        house = build(handler=hand, partitions=())
        for offset in range(10):
            house.broker.append(P0, Letter("orders", 0, offset, timestamp=(1, 1_000 * offset)))
        house.assign("orders", 0)
        house.turn(60)
        house.listener._partitions[P0].assignment.seek(datetime.fromtimestamp(6.5, UTC))
        house.turn(60)

        assert hand.performed[10:] == [7, 8, 9]

    def test_a_partition_that_goes_is_committed_where_it_was_sought(self, build: Build) -> None:
        """The next owner goes on there; once it is going it cannot be sought any more."""
        house = build()
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        worker = house.begin()
        worker.step(2)
        assignment = assignment_of(worker.job.run)
        assert assignment.seek(7)
        answers: list[bool] = []

        house.revoke("orders", 0, meanwhile=[house.rest, lambda: answers.append(assignment.seek(3)), worker.end])

        assert answers == [False]
        assert house.committed[("orders", 0)] == 7

    def test_at_a_stop_too(self, build: Build) -> None:
        """What was asked for while the last message ran holds."""
        house = build()
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        worker = house.begin()
        worker.step(2)

        def seek_and_end() -> None:
            assert assignment_of(worker.job.run).seek(7)
            worker.end()

        house.close(meanwhile=[seek_and_end])

        assert house.committed[("orders", 0)] == 7

    @pytest.mark.parametrize("wrong", [-1, 1.5, True, "5", None])
    def test_what_is_no_offset_is_refused_at_once(self, wrong: Any) -> None:
        """Nothing is skipped by it."""
        with pytest.raises(ConfigError, match="seek"):
            ours().seek(wrong)

    def test_a_time_without_a_zone_is_refused(self) -> None:
        """It is no moment."""
        with pytest.raises(ValueError, match="zone"):
            ours().seek(datetime(2026, 1, 1))  # noqa: DTZ001
        with pytest.raises(ValueError, match="zone"):
            ours().pause(datetime(2026, 1, 1))  # noqa: DTZ001


class TestGoneTopics:
    """A topic that was deleted and made again is a new one."""

    def test_all_of_it_begins_anew(self, build: Build, hand: Hand) -> None:
        """Said so; from its beginning; and what is committed is about the new one."""
        house = build(handler=hand)
        house.identified(orders="old")
        house.send("orders", count=10)
        house.turn(100)
        house.broker.logs[P0] = [*letters(3)]  # type: ignore[list-item]

        house.identified(orders="new")
        house.turn(100)

        assert hand.performed == [*range(10), *range(3)]
        (renewed,) = house.heard(told.TopicRenewed)
        assert (renewed.topic, renewed.partitions) == ("orders", (0, 1))
        assert house.committed[("orders", 0)] == 3
        assert "t=new" in house.broker.metadata[P0]

    def test_one_that_was_gone_meanwhile_is_said_to_be_new(self, build: Build, hand: Hand) -> None:
        """The broker forgot what was committed of the former one, but this process has read it."""
        house = build(handler=hand)
        house.identified(orders="old")
        house.send("orders", count=10)
        house.turn(100)
        house.revoke("orders", 0, 1)
        house.broker.logs[P0] = [*letters(3)]  # type: ignore[list-item]
        house.broker.stored.clear()
        house.identified(orders="new")
        house.assign("orders", 0)
        house.turn(100)

        assert hand.performed == [*range(10), *range(3)]
        assert [one.topic for one in house.heard(told.TopicRenewed)] == ["orders"]

    @pytest.mark.parametrize("start", ["earliest", "latest"])
    def test_one_that_was_seen_to_be_gone_is_said_to_be_new(
        self, build: Build, hand: Hand, start: Literal["earliest", "latest"]
    ) -> None:
        """Also where its partitions come before its id is known; from its beginning, whatever the route says."""
        house = build(handler=hand, policy=Policy(start=start))
        house.identified(orders="old")
        house.send("orders", count=10)
        house.turn(100)
        house.revoke("orders", 0, 1)
        house.identified(orders=None)
        house.broker.logs[P0] = [*letters(3)]  # type: ignore[list-item]
        house.broker.stored.clear()
        house.assign("orders", 0, 1)
        house.turn(100)
        house.identified(orders="new")
        house.identified(orders="new")
        house.turn(100)

        assert hand.performed == [*range(10), *range(3)]
        assert [(one.topic, one.partitions) for one in house.heard(told.TopicRenewed)] == [("orders", (0, 1))]
        house.send("orders")
        house.turn(100)
        assert "t=new" in house.broker.metadata[P0]

    def test_the_same_topic_is_left_alone(self, house: House) -> None:
        """However often its id is told."""
        for _ in range(3):
            house.identified(orders="same")
        house.send("orders", count=10)
        house.turn(100)
        house.identified(orders="same")

        assert house.offsets(0) == list(range(10))
        assert house.heard(told.TopicRenewed) == []
