"""Random histories of one partition and its lanes, beside a reference that is too simple to be wrong.

The reference knows what was received, in which lane, and which of it is over (performed or given up). Whatever
happens in between, one message of a lane is performed at a time, in order, never twice at once, never again once it
is over; and what is committed, with what stands beside it, says exactly what is over.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karafka.jobs import Job, Lane, Outcome, ended
from karafka.lanes import Lanes
from karafka.messages import Place, Record
from karafka.metadata import Memo, decode, encode
from karafka.partition import Setback, State, measure
from karafka.policy import Policy
from tests.unit.house import Hands, Letter, Worker, offsets, ours

P0 = Place("orders", 0)
# Seconds that a message takes: so little that all go together, so much that they go apart, or just between.
PACES = (1e-6, 1e-4, 3e-5, 5e-3)
STEPS = (
    *("receive", "receive", "receive again", "take", "take", "take", "take", "begin", "begin", "begin", "begin"),
    *("step", "step", "finish", "finish", "fail", "fail", "fail", "settle", "settle", "settle", "settle", "settle"),
    *("take", "take", "begin", "begin", "halt", "free", "recall", "work", "work", "work"),
    *("wait", "buried", "refused", "pace"),
)
ENDINGS = ("leave", "revoke")
History: TypeAlias = list[tuple[str, int]]
histories = st.builds(
    lambda opening, middle, ending: [*opening, *middle, *ending],
    st.lists(st.tuples(st.just("receive"), st.integers(0, 30)), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), min_size=10, max_size=120),
    st.one_of(
        st.just([]),
        st.lists(st.tuples(st.sampled_from((*STEPS, *ENDINGS)), st.integers(0, 9)), min_size=5, max_size=20),
    ),
)


class Story:
    """A partition, its workers, its listener's inbox: each step is one thing that one of them does."""

    def __init__(self, policy: Policy, lanes: int, pace: float) -> None:
        self.policy = replace(policy, lane=self.lane_of)
        self.lanes = lanes
        self.hands = Hands()
        self.now = 100.0
        self.pace = pace
        self.partition = self.made(0, Memo())
        self.inbox: deque[Outcome] = deque()
        self.workers: list[Worker] = []
        self.received: list[int] = []
        self.over: set[int] = set()
        self.settled: set[int] = set()
        self.out: dict[Job, list[int]] = {}
        self.burying: list[int] = []
        self.tries: dict[int, int] = {}
        self.gone = False

    def made(self, base: int, memo: Memo) -> Lanes:
        def lane() -> Lane:
            return Lane(lambda _run: None, self.hands, lambda _outcome: None)

        return Lanes(P0, base, self.policy, lane, ours(P0, base), memo)

    def lane_of(self, record: Record) -> int:
        return self.lane(record.offset() or 0)

    def lane(self, offset: int) -> int:
        """Lane 0 is the hot one."""
        return 0 if offset % 3 == 0 else offset % self.lanes

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────

    def do(self, step: str, number: int) -> None:  # noqa: C901 - a list of what may happen
        match step:
            case "receive":
                first = (self.received[-1] + 1 if self.received else 0) + number % 3
                new = [one for one in range(first, first + 1 + number) if number % 4 or one % 5]
                self.received += new
                self._receive(new)
            case "receive again" if self.received:
                self._receive(self.received[-1 - number % len(self.received) :])
            case "pace":
                self.pace = PACES[number % len(PACES)]
            case "take":
                self.take()
            case "begin":
                self.begin()
            case "step" if self.workers:
                worker = self.workers[number % len(self.workers)]
                for _ in range(1 + number):
                    self.walk(worker)
            case "finish" if self.workers:
                self.finish(self.workers[number % len(self.workers)])
            case "fail" if self.workers:
                self.fail(self.workers[number % len(self.workers)])
            case "settle":
                self.settle(number)
            case "work":
                for _ in range(4 * number):
                    for each in ("take", "begin", "finish", "settle"):
                        self.do(each, 0)
            case "halt" if self.workers:
                job = self.workers[number % len(self.workers)].job
                if len(job.run.records) > 1:
                    job.run.halt()
                    if number % 2:
                        self.do("free", 0)
            case "free":
                for job in list(self.out):
                    self.partition.free(job)
                self.settled |= {one for one in self.over if self.partition.offsets.holds(one)}
                self.out = {job: offsets(job.run.records) for job in self.partition.out}
            case "recall":
                self.partition.recall()
            case "wait":
                self.now += number
                for offset in self.partition.mourning(self.now):
                    self.bury(offset)
            case "buried" if self.burying:
                offset = self.burying.pop(number % len(self.burying))
                self.give_up(offset)
                self.partition.buried(offset)
            case "refused" if self.burying:
                self.partition.unburied(self.now + 1, self.burying.pop(number % len(self.burying)))
            case "leave":
                self.partition.leave()
                self.gone = True
            case "revoke":
                self.partition.leave()
                self.partition.revoke()
                self.gone = True

    def _receive(self, numbers: list[int]) -> None:
        records: list[Record] = [Letter("orders", 0, number, b"x" * 7) for number in numbers]
        if records:
            self.partition.receive(records, measure(records), self.now)

    def take(self) -> None:
        job = self.partition.take(self.now)
        if job is None:
            return
        assert not self.gone
        given = offsets(job.run.records)
        busy = {one for others in self.out.values() for one in others if one not in self.settled}
        assert given
        assert given == sorted(given)
        assert not busy & set(given), "given out twice at once"
        assert not self.over & set(given), "given out again although it is over"
        assert not set(self.burying) & set(given), "given out while it is being buried"
        together = not self.partition._apart
        for lane in {self.lane(one) for one in given}:
            mine = [one for one in given if self.lane(one) == lane]
            free = [one for one in self.received if self.lane(one) == lane and one not in self.over | busy]
            # What goes out in a lane that is broken comes back unperformed.
            assert mine == free[: len(mine)] or job.lane.broken, "given out of order"
            # Together, runs wait for each other in one lane; apart, no two of one are out.
            assert together or not any(self.lane(one) == lane for one in busy), "two of one lane at once"
        if not job.lane.broken:
            assert job.run.attempt == self.tries.get(given[0], 0) + 1
        self.out[job] = given
        self.hands.submit(job)

    def begin(self) -> None:
        for _ in range(len(self.hands.ready)):
            lane = self.hands.ready.popleft()
            if (job := lane.take()) is not None:
                self.workers.append(Worker(job))
                return
            self.hands.release(lane)

    def walk(self, worker: Worker) -> bool:
        """The worker finishes the message in hand and takes up the next; False when there is none."""
        if worker.job.lane.broken or self.policy.batch:
            return False
        before, worker.hold = worker.hold, next(worker.walk, None)
        if before is not None:
            self.perform(before.offset() or 0)
        return worker.hold is not None

    def perform(self, offset: int) -> None:
        assert offset not in self.over
        if self.partition.state is not State.REVOKED:
            mine = [one for one in self.received if one < offset and self.lane(one) == self.lane(offset)]
            assert self.over.issuperset(mine), "performed out of order"
        self.over.add(offset)

    def finish(self, worker: Worker) -> None:
        while self.walk(worker):
            pass
        run = worker.job.run
        if self.policy.batch and not worker.job.lane.broken and run.live():
            for one in offsets(run.records):
                self.perform(one)
            run.finished = len(run.records)
        self.reply(worker, None)

    def fail(self, worker: Worker) -> None:
        if worker.job.lane.broken:
            self.reply(worker, None)
        elif worker.hold is not None or self.walk(worker) or (self.policy.batch and worker.job.run.live()):
            self.reply(worker, ValueError("no"))

    def reply(self, worker: Worker, error: BaseException | None) -> None:
        self.workers.remove(worker)
        outcome = ended(worker.job, error, 0.0)
        self.inbox.append(Outcome(outcome.job, outcome.error, self.pace * outcome.job.run.finished))
        self.hands.release(worker.job.lane)

    def settle(self, number: int) -> None:
        """The listener takes in one outcome and decides, by `number`."""
        if not self.inbox:
            return
        outcome = self.inbox.popleft()
        if outcome.job not in self.partition.out:
            assert self.gone
            return
        setback = self.partition.settle(outcome)
        self.settled |= set(offsets(outcome.job.run.records[: outcome.job.run.finished]))
        self.out = {job: given for job, given in self.out.items() if job in self.partition.out}
        if setback is not None:
            self.judge(setback, number)

    def judge(self, setback: Setback, number: int) -> None:
        offset = setback.record.offset() or 0
        assert setback.attempt == self.tries.get(offset, 0) + 1
        self.tries[offset] = setback.attempt
        if self.partition.state >= State.LEAVING:
            return
        if not setback.alone:
            self.partition.split(offset)
            self.partition.back_off(self.now, offset)
        elif number % 3 == 0:
            self.partition.back_off(self.now + number % 2, offset)
        elif number % 3 == 1:
            self.give_up(offset)
            self.partition.skip(offset)
        else:
            self.bury(offset)

    def bury(self, offset: int) -> None:
        self.burying.append(offset)
        self.partition.bury(offset)

    def give_up(self, offset: int) -> None:
        self.over.add(offset)
        self.settled.add(offset)

    # ── what holds ───────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        partition = self.partition
        assert [partition.offsets.holds(one) for one in self.received] == [one in self.settled for one in self.received]
        assert partition.offsets.finished >= self.after(self.settled)
        if partition.state is not State.REVOKED:
            assert all(one in self.over for one in self.received if one < partition.in_progress)
        assert partition.size >= 0
        if not self.gone:
            assert partition.count == len(self.received) - len(self.settled)
            self.check_kept()

    def check_kept(self) -> None:
        """The next owner gives out what is not over, and nothing else."""
        position = self.partition.in_progress
        memo = decode(encode(self.partition.keep(position)))
        assert memo is not None
        heir = self.made(position, memo.at(position, ""))
        records: list[Record] = [Letter("orders", 0, one, b"x") for one in self.received if one >= position]
        left = set(self.received) - self.settled
        for index in range(0, len(records), 7):
            some = records[index : index + 7]
            heir.receive(some, measure(some), self.now)
            if index == 7 and heir.count:
                # Meanwhile the first of them is performed: what was kept above it may not be forgotten.
                heir.offsets.settle(position, min(left) + 1)
        assert heir.count <= len(left)
        assert heir.count >= len(left - self.over) - 1

    def after(self, over: set[int]) -> int:
        """The offset after the longest prefix that is `over`."""
        position = 0
        for one in self.received:
            if one not in over:
                break
            position = one + 1
        return position

    def finish_all(self) -> None:
        """Whatever was going on, in the end all is over, and nothing is left in hand."""
        for _ in range(10_000):
            for offset in self.partition.mourning(1e12):
                self.bury(offset)
            while self.burying:
                self.do("buried", 0)
            self.now += 10.0
            self.take()
            self.begin()
            for worker in list(self.workers):
                self.finish(worker)
            self.settle(0)
            self.check()
            if not self.partition.count:
                break
        assert self.over == set(self.received)
        assert (self.partition.count, self.partition.size) == (0, 0)
        assert self.partition.waiting == 0
        assert not self.partition._strands


def live(history: History, policy: Policy, lanes: int, pace: float) -> None:
    story = Story(policy, lanes, pace)
    for step, number in history:
        story.do(step, number)
        story.check()
    if not story.gone:
        story.finish_all()


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.sampled_from([1, 2, 7, 1_000]), st.sampled_from([1, 2, 8]), st.sampled_from(PACES))
def test_lanes_keep_their_order_in_every_history(history: History, lanes: int, width: int, pace: float) -> None:
    """Single messages: however jobs end, halt, fail, come back late or are given up."""
    live(history, Policy(width=width), lanes, pace)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.sampled_from([1, 2, 7]), st.sampled_from([1, 2, 7]), st.sampled_from([0.0, 0.5]))
def test_batches_of_lanes_are_halved_in_every_history(
    history: History, lanes: int, longest: int, gather: float
) -> None:
    """Batches of one lane: finished as a whole, halved when they fail, until one stands alone."""
    live(history, Policy(batch=True, max_messages=longest, max_wait=gather, width=4), lanes, PACES[1])
