"""One assignment of one partition: what it gives out, what comes back, what is finished."""

from __future__ import annotations

import pytest

from karafka.jobs import Job, Lane, Outcome, ended
from karafka.messages import Place
from karafka.metadata import Memo
from karafka.outbox import Outbox
from karafka.partition import (
    AHEAD,
    FIRST_RUN,
    RUN_TIME,
    SUSPECT,
    Buffer,
    Partition,
    Setback,
    State,
    Suspicion,
    measure,
)
from karafka.policy import Policy
from karafka.producer import Producer
from tests.unit.house import Hands, letters, offsets, ours

PLACE = Place("orders", 0)
BATCHES = Policy(batch=True, max_messages=10, max_wait=1.0)


class Bench:
    """One `Partition` with a worker that is moved by hand. No listener: what it would do, the test does."""

    def __init__(self, policy: Policy | None = None, base: int = 0, committed: int | None = None) -> None:
        self.hands = Hands()
        self.now = 100.0
        self.partition = Partition(PLACE, committed, policy or Policy(), self._lane, ours(PLACE, base))

    def _lane(self) -> Lane:
        return Lane(lambda _run: None, self.hands, lambda _outcome: None)

    def receive(self, count: int, first: int = 0, size: int = 2) -> int:
        records = letters(count, first, value=b"x" * size)
        return self.partition.receive(records, measure(records), self.now)

    def take(self) -> Job | None:
        job = self.partition.take(self.now)
        if job is not None:
            self.hands.submit(job)
        return job

    def given(self) -> Job:
        job = self.take()
        assert job is not None
        return job

    def begin(self) -> Job:
        """The worker takes the next job; what was withdrawn from a lane meanwhile is passed over."""
        while True:
            lane = self.hands.ready.popleft()
            if (job := lane.take()) is not None:
                return job
            self.hands.release(lane)

    def end(
        self, job: Job, finished: int | None = None, error: BaseException | None = None, pace: float = 0.001
    ) -> Outcome:
        """The worker comes back with `finished` messages done, all if not told; what the listener will be told."""
        job.run.finished = len(job.run.records) if finished is None else finished
        outcome = ended(job, error, 0.0)
        self.hands.release(job.lane)
        return Outcome(job, outcome.error, pace * max(1, job.run.finished))

    def perform(self, finished: int | None = None, error: BaseException | None = None, pace: float = 0.001) -> object:
        """The worker takes the next job and comes back, and the partition takes that in."""
        return self.partition.settle(self.end(self.begin(), finished, error, pace))


@pytest.fixture
def bench() -> Bench:
    return Bench()


class TestReceiving:
    """Received offsets only rise."""

    def test_what_was_received_already_is_dropped(self, bench: Bench) -> None:
        """A seek back brings messages again: of those only the new ones count."""
        assert bench.receive(10) == 10
        assert bench.receive(10, first=5) == 5
        assert bench.receive(10) == 0

        assert offsets(bench.given().run.records) == list(range(15))

    def test_what_lies_before_the_base_is_somebody_else_s(self) -> None:
        """A partition begins where it was assigned."""
        bench = Bench(base=5)

        assert bench.receive(10) == 5
        assert offsets(bench.given().run.records) == [5, 6, 7, 8, 9]

    def test_gaps_are_none_of_its_business(self, bench: Bench) -> None:
        """The finished prefix is the offset after the last, whatever was compacted away."""
        bench.receive(2, first=3)
        bench.receive(1, first=100)
        bench.take()
        bench.perform()

        assert bench.partition.committable == 101


class TestGivingOut:
    """Runs in order, of a length that is handed back soon, two ahead at most."""

    def test_messages_are_given_out_in_order(self, bench: Bench) -> None:
        """However they came."""
        for first in range(0, 300, 60):
            bench.receive(60, first)

        given: list[int] = []
        while (job := bench.take()) is not None:
            given += offsets(job.run.records)
            bench.perform()

        assert given == list(range(300))

    def test_a_first_run_finds_out_how_long_a_message_takes(self, bench: Bench) -> None:
        """Of a lane nothing is known yet."""
        bench.receive(2_000)

        assert len(bench.given().run.records) == FIRST_RUN

    @pytest.mark.parametrize(
        ("pace", "length"), [(0.001, int(RUN_TIME / 0.001)), (1.0, 1), (0.000_001, 2_000), (3_600.0, 1)]
    )
    def test_a_run_is_as_long_as_its_time_allows(self, bench: Bench, pace: float, length: int) -> None:
        """By the pace that was measured: at least one message, at most what the route allows."""
        bench.receive(10_000)
        bench.take()
        bench.perform(pace=pace)

        assert len(bench.given().run.records) == pytest.approx(length, abs=1)

    def test_what_all_messages_of_a_run_wait_for_at_once_is_no_part_of_their_pace(self, bench: Bench) -> None:
        """Or runs would shrink to one message where confirmations take their time, and each would wait alone."""
        bench.receive(5_000)
        for _ in range(5):
            job = bench.given()
            outcome = bench.end(bench.begin(), pace=0.001)
            job.run.waited = 0.2
            bench.partition.settle(Outcome(job, None, outcome.elapsed + job.run.waited))
        assert len(bench.given().run.records) == int(RUN_TIME / 0.001)

    def test_what_waits_for_confirmations_goes_in_long_runs(self) -> None:
        """Not in those that the listener's thread performs itself, each with a wait of its own."""
        bench = Bench()
        bench.hands.lends = True
        bench.receive(5_000)
        bench.given()
        bench.perform(pace=1e-6)
        assert bench.partition.brisk

        job = bench.given()
        job.run.outbox = outbox = Outbox(Producer.recorder())
        outbox.send(0, "results", "x")
        bench.perform(pace=1e-6)

        assert not bench.partition.brisk

    def test_a_pace_too_small_to_measure_is_no_trouble(self, bench: Bench) -> None:
        """A clock may not have moved at all."""
        bench.receive(10_000)
        for pace in (0.0, 0.0, 5e-324):
            bench.take()
            bench.perform(pace=pace)

        assert len(bench.given().run.records) == 2_000

    def test_two_jobs_are_out_at_most(self, bench: Bench) -> None:
        """One is performed, one waits behind it, so that no worker waits for the listener."""
        bench.receive(1_000)

        assert [bench.take() is not None for _ in range(4)] == [True] * AHEAD + [False] * 2

    def test_nothing_is_given_out_twice(self, bench: Bench) -> None:
        """What is out is out."""
        bench.receive(200)
        first, second = bench.given(), bench.given()

        assert not set(offsets(first.run.records)) & set(offsets(second.run.records))


class TestComingBack:
    """What is not finished comes back in order, with the jobs behind it."""

    def test_a_failure_comes_back_before_the_jobs_behind_it(self, bench: Bench) -> None:
        """The failed message stays first; the withdrawn job follows the rest of its own."""
        bench.receive(200)
        bench.take()
        bench.take()

        setback = bench.perform(finished=30, error=ValueError())

        assert setback is not None
        assert bench.partition.committable == 30
        given: list[int] = []
        while (job := bench.take()) is not None:
            given += offsets(job.run.records)
            bench.perform()
        assert given == list(range(30, 200))

    def test_nothing_is_given_out_until_a_job_that_was_taken_is_back(self, bench: Bench) -> None:
        """A worker may have taken the job behind before it could be withdrawn: it comes back, in its place."""
        bench.receive(300)
        bench.take()
        bench.take()
        first = bench.begin()
        outcome = bench.end(first, finished=0, error=ValueError())
        second = bench.begin()

        bench.partition.settle(outcome)
        assert bench.take() is None
        assert second.lane.broken
        bench.partition.settle(bench.end(second, finished=0))

        assert offsets(bench.given().run.records)[:1] == [0]
        assert bench.partition.buffer.count + bench.partition._count_out == 300

    @pytest.mark.parametrize("how", ["bury", "skip"])
    def test_a_message_that_is_given_up_is_the_one_that_failed(self, bench: Bench, how: str) -> None:
        """Also while a job behind it is still on its way back."""
        bench.receive(300)
        bench.take()
        bench.take()
        first = bench.begin()
        outcome = bench.end(first, finished=10, error=ValueError())
        second = bench.begin()
        bench.partition.settle(outcome)

        if how == "bury":
            bench.partition.bury()
            bench.partition.buried()
        else:
            bench.partition.skip()
        assert bench.partition.committable == 11
        bench.partition.settle(bench.end(second, finished=0))

        given: list[int] = []
        while (job := bench.take()) is not None:
            given += offsets(job.run.records)
            bench.perform()
        assert given == list(range(11, 300))

    def test_a_halted_run_is_no_failure(self, bench: Bench) -> None:
        """What it finished counts, the rest comes back, nothing is tried for a second time."""
        bench.receive(100)
        bench.take()

        assert bench.perform(finished=40) is None

        job = bench.given()
        assert (offsets(job.run.records)[0], job.run.attempt) == (40, 1)

    def test_attempts_are_counted_for_the_message_that_failed(self, bench: Bench) -> None:
        """Those before it in a run do not add to them, and neither does a run that was handed back."""
        bench.receive(10)
        bench.take()
        assert getattr(bench.perform(finished=4, error=ValueError()), "attempt", 0) == 1

        for attempt in (2, 3):
            assert bench.given().run.attempt == attempt
            assert getattr(bench.perform(finished=0, error=ValueError()), "attempt", 0) == attempt

        assert bench.given().run.attempt == 4
        bench.perform(finished=0)  # handed back before it was begun
        assert bench.given().run.attempt == 4

    def test_attempts_begin_anew_once_a_message_is_finished(self, bench: Bench) -> None:
        """The next one's first failure is its first."""
        bench.receive(10)
        bench.take()
        bench.perform(finished=0, error=ValueError())
        bench.take()

        assert getattr(bench.perform(finished=1, error=ValueError()), "attempt", 0) == 1

    def test_a_partition_that_backs_off_waits_for_its_time(self, bench: Bench) -> None:
        """Nothing of it goes out before."""
        bench.receive(10)
        bench.take()
        bench.perform(finished=0, error=ValueError())

        bench.partition.back_off(until=bench.now + 5)
        assert bench.take() is None
        assert bench.partition.due(bench.now) == bench.now + 5

        bench.now += 5
        assert bench.given().run.attempt == 2

    def test_a_partition_that_is_held_gives_out_nothing(self, bench: Bench) -> None:
        """However long one waits."""
        bench.receive(10)
        bench.partition.hold()
        bench.now += 1e9

        assert bench.take() is None


class TestBatches:
    """Gathered up to a number or a time; finished or failed as a whole; halved until one stands alone."""

    @pytest.fixture
    def bench(self) -> Bench:
        return Bench(BATCHES)

    def test_a_full_batch_goes_out_at_once(self, bench: Bench) -> None:
        """There is nothing to wait for."""
        bench.receive(25)

        assert len(bench.given().run.records) == 10
        assert len(bench.given().run.records) == 10

    def test_a_batch_that_is_not_full_waits_for_its_time(self, bench: Bench) -> None:
        """Counted from its first message."""
        bench.receive(3)
        assert bench.take() is None
        bench.now += 0.6
        bench.receive(3, first=3)
        assert bench.take() is None

        bench.now += 0.4
        assert len(bench.given().run.records) == 6

    def test_a_failing_batch_is_halved_until_the_culprit_stands_alone(self, bench: Bench) -> None:
        """Those before it are finished on the way."""
        bench.receive(10)
        sizes = []
        for _ in range(20):
            bench.now += 1.0
            job = bench.given()
            records = offsets(job.run.records)
            sizes.append(len(records))
            if 6 in records:
                bench.perform(finished=0, error=ValueError())
                if len(records) == 1:
                    break
                bench.partition.split()
                bench.partition.back_off(bench.now)
            else:
                bench.perform()

        assert sizes[-1] == 1
        assert sizes[:2] == [10, 5]
        assert bench.partition.committable == 6

    def test_a_half_is_half_of_what_failed(self, bench: Bench) -> None:
        """Not of all that waits: else a batch that was gathered short grows, and takes in the innocent."""
        bench.receive(3)
        bench.now += 1.0
        bench.take()
        bench.receive(50, first=3)
        bench.perform(finished=0, error=ValueError())

        bench.partition.split()
        bench.partition.back_off(bench.now)

        assert len(bench.given().run.records) <= 2

    def test_one_alone_is_to_blame_only_if_no_other_was_there(self, bench: Bench) -> None:
        """A batch's first message is named, and is not alone."""
        bench.receive(10)
        bench.take()
        assert getattr(bench.perform(finished=0, error=ValueError()), "alone", None) is False

        single = Bench(Policy(batch=True, max_messages=1))
        single.receive(1)
        single.take()
        assert getattr(single.perform(finished=0, error=ValueError()), "alone", None) is True


class TestBatchesTogether:
    """Several full ones in one run, each by itself: what they are finished by, and who is to blame."""

    @pytest.fixture
    def bench(self) -> Bench:
        bench = Bench(Policy(batch=True, max_messages=10, max_wait=1.0, batches=3))
        bench.receive(10)
        bench.take()
        bench.perform(pace=1e-6)  # it is known to be quick
        return bench

    def test_full_ones_go_at_once_and_the_rest_gathers(self, bench: Bench) -> None:
        """As many as may go together."""
        bench.receive(47, first=10)
        jobs = [bench.given(), bench.given()]

        assert [(len(job.run.records), job.run.batch) for job in jobs] == [(30, 10), (10, 10)]
        bench.perform()
        bench.perform()
        assert bench.take() is None
        bench.now += 1.0
        assert len(bench.given().run.records) == 7

    def test_as_many_go_as_are_done_in_time(self) -> None:
        """One at least."""
        bench = Bench(Policy(batch=True, max_messages=10, batches=3))
        for pace, count in ((RUN_TIME / 20, 20), (RUN_TIME, 10)):
            bench.receive(10, first=bench.partition.received)
            bench.take()
            bench.partition.pace = None
            bench.perform(pace=pace)
            bench.receive(40, first=bench.partition.received)
            assert len(bench.given().run.records) == count
            bench.perform(pace=pace)
            while bench.take() is not None:
                bench.perform(pace=pace)

    def test_the_one_that_fails_is_halved_and_those_before_it_are_finished(self, bench: Bench) -> None:
        """Its first message is named, in its own first try."""
        bench.receive(30, first=10)
        bench.take()
        setback = bench.perform(finished=10, error=ValueError())

        assert isinstance(setback, Setback)
        assert (setback.record.offset(), setback.attempt, setback.alone) == (20, 1, False)
        assert bench.partition.committable == 20
        bench.partition.split()
        bench.partition.back_off(bench.now)
        job = bench.given()
        assert (offsets(job.run.records), job.run.attempt) == (list(range(20, 25)), 2)

    def test_of_batches_of_one_the_culprit_stands_alone_at_once(self) -> None:
        """However many others were handed over with it."""
        bench = Bench(Policy(batch=True, max_messages=1, batches=5))
        bench.receive(1)
        bench.take()
        bench.perform(pace=1e-6)
        bench.receive(5, first=1)
        bench.take()
        setback = bench.perform(finished=2, error=ValueError())

        assert isinstance(setback, Setback)
        assert (setback.record.offset(), setback.alone) == (3, True)

    def test_what_is_marked_of_it_is_finished_and_the_next_batch_is_not_to_blame(self, bench: Bench) -> None:
        """All of it was marked before it failed."""
        bench.receive(30, first=10)
        bench.take()
        job = bench.begin()
        bench.partition.assignment.mark(29)
        setback = bench.partition.settle(bench.end(job, finished=10, error=ValueError()))

        assert isinstance(setback, Setback)
        assert (setback.record.offset(), setback.over) == (29, True)
        assert bench.partition.committable == 30

    def test_a_suspect_goes_alone(self, bench: Bench) -> None:
        """Who kills the process is to be found out."""
        bench.partition.suspicion = Suspicion(after=1, clear_at=1_000)
        bench.partition.memo = Memo(crashes=SUSPECT)
        bench.receive(30, first=10)

        assert len(bench.given().run.records) == 1


class TestLeaving:
    """LEAVING and REVOKED only go forward."""

    def test_what_waits_is_withdrawn_and_what_runs_may_end(self, bench: Bench) -> None:
        """The run ends after the message in hand, and counts."""
        bench.receive(300)
        bench.take()
        bench.take()
        job = bench.begin()

        bench.partition.leave()

        assert list(bench.partition.out) == [job]
        assert job.run.halted
        bench.partition.settle(bench.end(job, finished=7))
        assert bench.partition.committable == 7
        assert not bench.partition.unsettled

    @pytest.mark.parametrize("state", [State.LEAVING, State.REVOKED])
    def test_nothing_brings_it_back(self, bench: Bench, state: State) -> None:
        """Neither a retry nor a burial nor a message."""
        bench.receive(10)
        bench.take()
        bench.perform(finished=0, error=ValueError())
        bench.partition.leave()
        if state is State.REVOKED:
            bench.partition.revoke()

        bench.partition.back_off(bench.now)
        bench.partition.hold()
        bench.partition.bury()
        bench.partition.buried()
        bench.receive(10, first=10)
        bench.now += 1e9

        assert bench.partition.state is state
        assert bench.take() is None

    def test_a_burial_under_way_is_something_that_still_counts(self, bench: Bench) -> None:
        """A revocation waits for it."""
        bench.receive(1)
        bench.take()
        bench.perform(finished=0, error=ValueError())
        bench.partition.bury()
        bench.partition.leave()

        before = bench.partition.unsettled
        bench.partition.buried()
        assert (before, bench.partition.unsettled) == (True, False)
        assert bench.partition.committable == 1


class TestAccounts:
    """What is in hand is known at any time, and nothing is left of it at the end."""

    def test_all_that_is_performed_leaves_nothing(self, bench: Bench) -> None:
        """Messages and bytes return to zero."""
        bench.receive(500, size=100)
        assert bench.partition.count == 500
        assert bench.partition.size == pytest.approx(50_000, rel=0.05)

        while bench.take() is not None:
            bench.perform()

        assert (bench.partition.count, bench.partition.size) == (0, 0)

    def test_what_is_out_counts(self, bench: Bench) -> None:
        """Giving out frees nothing, finishing does."""
        bench.receive(200, size=100)
        bench.take()
        bench.take()
        assert bench.partition.count == 200
        assert bench.partition.size == pytest.approx(20_000, rel=0.05)

        bench.perform()
        assert bench.partition.count == 100
        assert bench.partition.size == pytest.approx(10_000, rel=0.05)

    @pytest.mark.parametrize(("high", "low"), [(100, 50), (10, 5)])
    def test_it_is_full_at_high_water_and_drained_at_half(self, high: int, low: int) -> None:
        """Between them nothing changes."""
        bench = Bench(Policy(high=high))
        bench.receive(high - 1)
        before = bench.partition.full
        bench.receive(1, first=high - 1)
        assert (before, bench.partition.full, bench.partition.drained) == (False, True, False)

        other = Bench(Policy(high=high))
        other.receive(low)
        assert other.partition.drained

    def test_bytes_of_many_are_estimated_from_some(self) -> None:
        """Exact for alike and for few; never far off for what one list can hold."""
        assert measure(letters(1_600, value=b"x" * 10)) == 16_000
        assert measure([*letters(1, value=b"x" * 1_000), *letters(3, 1)]) == 1_006


class TestProgress:
    """The finished prefix counts what a running job has finished."""

    def test_a_running_job_s_progress_may_be_committed(self, bench: Bench) -> None:
        """All but the message in hand."""
        bench.receive(100)
        bench.take()
        walk = iter(bench.begin().run)
        for _ in range(21):
            next(walk)

        assert bench.partition.committable == 20

    def test_nothing_new_is_nothing_to_commit(self) -> None:
        """What the broker has already is not sent again."""
        bench = Bench(base=5, committed=5)
        assert bench.partition.committable is None

        fresh = Bench(base=5)
        assert fresh.partition.committable == 5


class TestBuffer:
    """Lists as they came: in order, none twice, counted."""

    @pytest.mark.parametrize("limit", [1, 3, 7, 10, 16, 64, 1_000])
    @pytest.mark.parametrize("sizes", [[1], [10], [1, 1, 1, 50], [3, 70, 2], [100, 1, 100]])
    def test_all_that_goes_in_comes_out_in_order(self, sizes: list[int], limit: int) -> None:
        """Whatever is asked for at a time, and never more."""
        buffer, first = Buffer(), 0
        for size in sizes:
            records = letters(size, first)
            buffer.add(records, measure(records))
            first += size

        taken: list[int] = []
        while buffer.count:
            some, _ = buffer.take(limit)
            assert 0 < len(some) <= limit
            taken += offsets(some)

        assert taken == list(range(sum(sizes)))
        assert buffer.size == 0

    def test_what_is_put_back_comes_first(self) -> None:
        """As if it had not been taken."""
        buffer = Buffer()
        buffer.add(letters(10), 20)
        some, size = buffer.take(4)
        buffer.put_back(some, size)

        assert offsets(buffer.take(10)[0]) == list(range(10))
