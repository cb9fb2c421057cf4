"""Random histories of one partition and its lane, beside a reference that is too simple to be wrong.

The reference knows what was received, and which of it is over (performed or given up). Whatever happens in between,
a message is given out only when all before it are over or out with it, never twice at once, never again once it is
over; and the committed offset is the one after the longest prefix that is over.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karafka.jobs import Job, Lane, Outcome, ended
from karafka.messages import Place, Record
from karafka.partition import Partition, Setback, State, measure
from karafka.policy import Policy
from tests.unit.house import Hands, Letter, Worker, offsets, ours

# What may happen, as often as it stands here: much of what opens a window, little of what closes one.
STEPS = (
    *("receive", "receive again", "take", "take", "take", "begin", "begin", "begin", "step", "step", "finish"),
    *("fail", "fail", "fail", "settle", "settle", "halt", "wait", "buried", "refused", "overtake"),
)
ENDINGS = ("leave", "revoke")
History: TypeAlias = list[tuple[str, int]]
histories = st.builds(
    lambda opening, middle, ending: [*opening, *middle, *ending],
    st.lists(st.tuples(st.just("receive"), st.integers(0, 30)), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), min_size=10, max_size=80),
    st.one_of(
        st.just([]),
        st.lists(st.tuples(st.sampled_from((*STEPS, *ENDINGS)), st.integers(0, 5)), min_size=5, max_size=20),
    ),
)


class Story:
    """A partition, its workers, its listener's inbox: each step is one thing that one of them does."""

    def __init__(self, policy: Policy) -> None:
        self.hands = Hands()
        self.now = 100.0
        self.partition = Partition(Place("orders", 0), 0, policy, self._lane, ours())
        self.batch = policy.batch
        self.inbox: deque[Outcome] = deque()
        self.workers: list[Worker] = []
        # The reference.
        self.received: list[int] = []
        self.over: set[int] = set()
        self.settled: set[int] = set()
        self.out: list[Job] = []
        self.culprit: int | None = None
        self.tries: dict[int, int] = {}
        self.gone = False

    def _lane(self) -> Lane:
        return Lane(lambda _run: None, self.hands, lambda _outcome: None)

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────

    def do(self, step: str, number: int) -> None:  # noqa: C901 - a list of what may happen
        match step:
            case "receive":
                self.receive(1 + number, gap=number % 3)
            case "receive again" if self.received:
                again = self.received[-1 - number % len(self.received) :]
                self._receive(again)
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
            case "overtake" if not self.workers:
                # The narrowest window: a job fails, and the one behind it is taken before anybody hears of that.
                for each in ("take", "take", "begin", "step", "fail", "begin"):
                    self.do(each, 0)
            case "settle":
                self.settle(number)
            case "halt" if self.workers and len(self.workers[0].job.run.records) > 1:
                self.workers[0].job.run.halt()
            case "wait":
                self.now += number
                if self.partition.mourning(self.now):
                    self.partition.bury()
            case "buried" if self.partition.burying:
                self.give_up()
                self.partition.buried()
            case "refused" if self.partition.burying:
                self.partition.unburied(self.now + 1)
            case "leave":
                self.partition.leave()
                self.gone = True
            case "revoke":
                self.partition.leave()
                self.partition.revoke()
                self.gone = True

    def receive(self, count: int, gap: int) -> None:
        first = (self.received[-1] + 1 if self.received else 0) + gap
        new = list(range(first, first + count))
        self.received += new
        self._receive(new)

    def _receive(self, numbers: list[int]) -> None:
        records: list[Record] = [Letter("orders", 0, number, b"x" * 7) for number in numbers]
        self.partition.receive(records, measure(records), self.now)

    def take(self) -> None:
        job = self.partition.take(self.now)
        if job is None:
            return
        assert not self.gone
        given = offsets(job.run.records)
        busy = {one for other in self.out for one in offsets(other.run.records)}
        assert given
        assert not busy & set(given), "given out twice at once"
        assert not self.over & set(given), "given out again although it is over"
        waiting = [one for one in self.received if one not in busy and one not in self.over]
        if not job.lane.broken:
            assert given == waiting[: len(given)], "given out of order"
            assert job.run.attempt == self.tries.get(given[0], 0) + 1
        self.out.append(job)
        self.hands.submit(job)

    def begin(self) -> None:
        for _ in range(len(self.hands.ready)):
            lane = self.hands.ready.popleft()
            if (job := lane.take()) is not None:
                assert all(worker.job.lane is not lane for worker in self.workers), "two workers in one lane"
                self.workers.append(Worker(job))
                return
            self.hands.release(lane)

    def walk(self, worker: Worker) -> bool:
        """The worker finishes the message in hand and takes up the next; False when there is none."""
        if worker.job.lane.broken:
            return False
        if self.batch:
            return self.walk_batches(worker)
        before, worker.hold = worker.hold, next(worker.walk, None)
        if before is not None:
            self.perform(before.offset() or 0)
        return worker.hold is not None

    def walk_batches(self, worker: Worker) -> bool:
        """The same by batches: the last one is in hand until the job is finished, or fails."""
        run = worker.job.run
        last = run.finished + run.batch >= len(run.records)
        if last or not run.live():
            return False
        batch = run.records[run.finished : run.finished + run.batch]
        for one in offsets(batch):
            self.perform(one)
        run.finished += len(batch)
        return True

    def perform(self, offset: int) -> None:
        assert offset not in self.over
        if self.partition.state is not State.REVOKED:
            assert all(one in self.over for one in self.received if one < offset), "performed out of order"
        self.over.add(offset)

    def finish(self, worker: Worker) -> None:
        while self.walk(worker):
            pass
        run = worker.job.run
        if self.batch and not worker.job.lane.broken and run.live():
            for one in offsets(run.records[run.finished :]):
                self.perform(one)
            run.finished = len(run.records)
        self.reply(worker, None)

    def fail(self, worker: Worker) -> None:
        if worker.job.lane.broken:
            self.reply(worker, None)
        elif worker.hold is not None or self.batch:
            self.reply(worker, ValueError("no"))

    def reply(self, worker: Worker, error: BaseException | None) -> None:
        self.workers.remove(worker)
        outcome = ended(worker.job, error, 0.0)
        self.inbox.append(Outcome(outcome.job, outcome.error, 0.001))
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
        done = offsets(outcome.job.run.records[: outcome.job.run.finished])
        self.settled |= set(done)
        self.out = [job for job in self.out if job in self.partition.out]
        if setback is not None:
            self.judge(setback, number)

    def judge(self, setback: Setback, number: int) -> None:
        offset = setback.record.offset() or 0
        assert setback.attempt == self.tries.get(offset, 0) + 1
        assert all(one in self.over for one in self.received if one < offset)
        self.tries[offset] = setback.attempt
        if self.partition.state >= State.LEAVING:
            return
        self.culprit = offset
        if not setback.alone:
            self.partition.split()
            self.partition.back_off(self.now)
        elif number % 3 == 0:
            self.partition.back_off(self.now + number % 2)
        elif number % 3 == 1:
            self.give_up()
            self.partition.skip()
        else:
            self.partition.bury()

    def give_up(self) -> None:
        assert self.culprit is not None
        self.over.add(self.culprit)
        self.settled.add(self.culprit)

    # ── what holds ───────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        partition = self.partition
        assert partition.offsets.finished == self.after(self.settled)
        if partition.state is not State.REVOKED:
            assert partition.in_progress <= self.after(self.over)
        assert partition.in_progress >= partition.offsets.finished
        assert partition.count >= 0
        assert partition.size >= 0
        if not self.gone:
            assert partition.count == len(self.received) - len(self.settled)

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
            if self.partition.mourning(1e12):
                self.partition.bury()
            if self.partition.burying:
                self.give_up()
                self.partition.buried()
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
        assert self.partition.committable in {self.after(self.over), None}


def live(history: History, policy: Policy) -> None:
    story = Story(policy)
    for step, number in history:
        story.do(step, number)
        story.check()
    if not story.gone:
        story.finish_all()


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.sampled_from([1, 2, 5, 2_000]))
def test_order_and_the_finished_prefix_hold_in_every_history(history: History, longest: int) -> None:
    """Single messages: however jobs end, halt, fail, come back late or are given up."""
    live(history, Policy(max_messages=longest))


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.sampled_from([1, 2, 7]))
def test_batches_are_halved_and_finished_in_every_history(history: History, longest: int) -> None:
    """Batches: finished as a whole, halved when they fail, until one stands alone."""
    live(history, Policy(batch=True, max_messages=longest, max_wait=0.5))


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.sampled_from([1, 2, 7]))
def test_batches_that_go_together_are_each_by_itself_in_every_history(history: History, longest: int) -> None:
    """What one of them did counts, whatever becomes of the next."""
    live(history, Policy(batch=True, max_messages=longest, max_wait=0.5, batches=3))
