"""A partition whose messages are in order by lane only, a key's or another's: lanes are performed side by side.

What is done in a moment is not worth a hand-over of its own: it is performed *together*, in the order of the log, as
`Partition` does it. Else it goes *apart*: each lane is a `Strand`, one job of it is out at a time, and the oldest
message that may go goes next. The committed offset is the finished prefix all the same; what is finished above it is
kept beside it. The listener's thread's alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import replace
from enum import IntEnum
from heapq import heappop, heappush
from itertools import count

from karafka.assignment import Assignment
from karafka.clock import NEVER
from karafka.jobs import Job, Lane, Outcome
from karafka.messages import Place, Record, Run, offset_of
from karafka.metadata import Memo, fits, sure
from karafka.offsets import Scattered
from karafka.partition import RUN_TIME, Partition, Progress, Setback, State, measure
from karafka.policy import Policy

# Seconds that a message takes: what takes less goes together, what takes more goes apart.
QUICK, SLOW = 25e-6, 50e-6
# A job of several lanes is as long at least, in seconds: the hand-over is to cost little beside it. While there is more
# to do than workers can begin, it may be longer: what it has not taken up is given to others if it stands still.
BUNDLE_TIME, LONG_BUNDLE_TIME = 1e-3, 20e-3
# Jobs wait beside those that are performed, so that no worker waits for the listener: for so many seconds, but this
# share of the others at least, and as many as these at most. What is tried again goes behind them.
SPARE_TIME, SPARE = 0.05, 0.25


class Standing(IntEnum):
    """Where a strand stands."""

    #: Has nothing, backs off, or gathers a batch.
    ASIDE = 0
    #: Among those that may go.
    READY = 1
    #: A job of it is out.
    OUT = 2
    #: Its first message is in trouble, and waits for a verdict, a burial, or a person.
    STUCK = 3


ASIDE, READY, OUT, STUCK = Standing


class Strand:
    """The messages of one lane that are in hand and not out, in order."""

    __slots__ = ("attempts", "due", "failed", "limit", "name", "records", "standing")

    def __init__(self, name: Hashable) -> None:
        self.records: deque[Record] = deque()
        self.begin(name)

    def begin(self, name: Hashable) -> None:
        """It is that lane's from here on; it has nothing yet."""
        self.name = name
        self.standing = ASIDE
        #: Until when it backs off, or gathers a batch.
        self.due = 0.0
        #: How often its first message failed; how long the batch was that failed, and how long the next one may be.
        self.attempts = self.failed = 0
        self.limit: int | None = None


class Lanes(Partition):
    """See the module. `policy.lane` names a message's lane; up to `policy.width` jobs are performed side by side."""

    offsets: Scattered

    def __init__(
        self,
        place: Place,
        committed: int | None,
        policy: Policy,
        lane: Callable[[], Lane],
        assignment: Assignment,
        memo: Memo,
    ) -> None:
        super().__init__(place, committed, policy, lane, assignment, replace(memo, base=-1, above=()))
        assert policy.lane is not None  # noqa: S101 - else it is a `Partition`
        self.offsets = Scattered(assignment.offset, committed, memo.above)
        self._name = policy.lane
        self._width = policy.width
        self._apart = True
        # How many jobs may be out; how many messages of different lanes make one that is worth its hand-over, and how
        # many it may have.
        self._most = policy.width + max(1, int(policy.width * SPARE))
        self._bundle = self._long_bundle = 1
        # Until when all that is out is waited for, so that what comes can go together.
        self._gather_by = NEVER
        self._tie = count()
        self._now = 0.0
        # What the broker keeps of what is finished above the prefix, and is to keep: versions of `offsets`.
        self._kept = self._sent = self.offsets.version
        self._empty()

    def _empty(self) -> None:
        """Nothing is in hand."""
        self._strands: dict[Hashable, Strand] = {}
        # Of lanes of which nothing is in hand: used again.
        self._free: list[Strand] = []
        # Those that may go, the oldest message first; those that back off or gather.
        self._ready: list[tuple[int, Strand]] = []
        self._asleep: list[tuple[float, int, Strand]] = []
        # Whose messages each job holds that went out apart: of one strand, or one of each.
        self._owners: dict[Job, list[Strand]] = {}
        # How many of a job's messages were settled before its end.
        self._early: dict[Job, int] = {}
        # Those that are stuck, by the offset of their first message; how many of them are being buried.
        self._culprits: dict[int, Strand] = {}
        self._burials = 0
        # Dead letters that are to be sent again: when, and of which offset.
        self._mourned: list[tuple[float, int]] = []
        # By which no job goes at present: as many were made as jobs were out at once.
        self._idle: list[Lane] = []
        # Messages in strands, and their bytes.
        self._waiting = self._size_waiting = 0
        # Performed, and waiting for a mark.
        self._performed_only: set[int] = set()

    # ── receiving ────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, records: list[Record], size: int, now: float) -> int:
        self.positioned, self._now = True, now
        offsets, least = self.offsets, self.received
        first, end = records[0].offset() or 0, (records[-1].offset() or 0) + 1
        if first < max(least, offsets.finished) or offsets.gaps:
            records = [one for one in records if (at := one.offset() or 0) >= least and not offsets.holds(at)]
            size = measure(records)
        self._pass(records, end)
        self.received = max(end, least)
        if not records:
            return 0
        if not self.buffer.count:
            self._since = now
        self.buffer.add(records, size)
        return len(records)

    def _pass(self, records: list[Record], end: int) -> None:
        """Of what was received up to before `end` only `records` are there to be performed."""
        at = self.received
        if records and (records[0].offset() or 0) == at and end - at == len(records):
            return
        for record in records:
            if (offset := record.offset() or 0) > at:
                self.offsets.settle(at, offset)
            at = offset + 1
        if end > at:
            self.offsets.settle(at, end)

    @property
    def waiting(self) -> int:
        return self.buffer.count + self._waiting

    @property
    def count(self) -> int:
        return super().count + self._waiting

    @property
    def size(self) -> int:
        return super().size + self._size_waiting

    @property
    def load(self) -> float:
        return super().load / self._width if self._apart else super().load

    @property
    def spare(self) -> float:
        """The share of its jobs that wait, in time; none unless there is more to give out than may be out."""
        jobs, width = len(self.out), self._width
        if not self._apart or not self._ready or self.pace is None or jobs <= width:
            return 0.0
        return (jobs - width) / width * self.pace * self._count_out / jobs

    @property
    def full(self) -> bool:
        far = self.received - self.offsets.finished >= self.policy.ahead
        self.held_up = far or (self.held_up and self._apart and bool(self._ready) and not self._room())
        return far or super().full

    @property
    def drained(self) -> bool:
        return super().drained and self.received - self.offsets.finished <= self.policy.ahead // 2

    # ── together or apart ────────────────────────────────────────────────────────────────────────────────────

    def _shift(self, now: float) -> None:
        """Go together or apart, where that is due and nothing stands in the way; apart, fill the strands."""
        quick = not self.policy.batch and (self.suspect or (self.pace is not None and self.pace <= QUICK))
        if self._apart:
            if not self._strands:
                self._gather_by = NEVER
                if quick:
                    self._apart = False
                    return
            elif quick and self._gather_by == NEVER:
                self._gather_by = now + RUN_TIME
            # For as long as all that is out may be back in a moment, what comes waits to go together.
            if self.buffer.count and (not quick or self._culprits or self._asleep or now >= self._gather_by):
                self._spread(now)
        elif not self.suspect and not self.out and not self._returned:
            troubled = self.state in {State.BACKING_OFF, State.HELD} and self._first_failed
            if troubled or (self.pace is not None and self.pace > SLOW):
                self._apart = True
                strand = self._spread(now) if self.buffer.count else None
                if troubled and strand is not None:
                    self._trouble(strand)

    @property
    def _first_failed(self) -> bool:
        first = self.buffer.first
        return first is not None and first.offset() == self._tried[0]

    def _spread(self, now: float) -> Strand:
        """What was received goes to the lanes it belongs to. The strand of the first message."""
        strands, name = self._strands, self._name
        fresh: dict[Strand, None] = {}
        head: Strand | None = None
        while self.buffer.count:
            records, _ = self.buffer.take(self.buffer.count)
            self._waiting += len(records)
            # Exactly: they leave one by one, and what was only estimated would add up.
            self._size_waiting += sum(map(len, records))
            for record in records:
                lane = name(record)
                strand = strands.get(lane)
                if strand is None:
                    strand = self._strand(lane)
                strand.records.append(record)
                fresh[strand] = None
                head = head or strand
        simple = self.policy.max_wait <= 0
        for strand in fresh:
            if strand.attempts or not simple:
                self._offer(strand, now)
            elif strand.standing is ASIDE:
                self._rise(strand)
        assert head is not None  # noqa: S101 - nobody spreads nothing
        return head

    def _trouble(self, strand: Strand) -> None:
        """What the first message is in, that failed together with others, is its strand's alone from now on."""
        self._withhold(strand)
        offset, strand.attempts = self._tried
        self._tried = (-1, 0)
        if self.state is State.BACKING_OFF:
            self._sleep(strand, self.retry_at)
        else:
            strand.standing = STUCK
            self._culprits[offset] = strand
            self._burials += self.burying
            if self.rebury_at < NEVER:
                heappush(self._mourned, (self.rebury_at, offset))
            self.burying, self.rebury_at = False, NEVER
        self._become(State.OPEN)

    # ── giving out ───────────────────────────────────────────────────────────────────────────────────────────

    def _offer(self, strand: Strand, now: float) -> None:
        """It may have something to give: let it stand among those that may go, as soon as it may."""
        if strand.standing is not ASIDE:
            return
        if not strand.records:
            self._drop(strand)
            return
        gathers = self.policy.max_wait > 0 and not strand.attempts and len(strand.records) < self._batch(strand)
        if strand.due > now and (strand.attempts or gathers):
            return  # it is asleep
        if gathers:
            self._sleep(strand, now + self.policy.max_wait)
        else:
            self._rise(strand)

    def _strand(self, lane: Hashable) -> Strand:
        """One for `lane`, of which nothing is in hand yet."""
        if self._free:
            strand = self._free.pop()
            strand.begin(lane)
        else:
            strand = Strand(lane)
        self._strands[lane] = strand
        return strand

    def _drop(self, strand: Strand) -> None:
        """It has nothing more. Any number of times."""
        if self._strands.get(strand.name) is strand:
            del self._strands[strand.name]
            self._free.append(strand)

    def _rise(self, strand: Strand) -> None:
        strand.standing = READY
        heappush(self._ready, (strand.records[0].offset() or 0, strand))

    def _sleep(self, strand: Strand, until: float) -> None:
        strand.due = until
        heappush(self._asleep, (until, next(self._tie), strand))

    def _wake(self, now: float) -> None:
        asleep = self._asleep
        while asleep and asleep[0][0] <= now:
            due, _, strand = heappop(asleep)
            if strand.due == due and strand.records and strand.standing is ASIDE:
                self._rise(strand)

    def _withhold(self, strand: Strand) -> None:
        """It may not go after all."""
        if strand.standing is READY:
            strand.standing = ASIDE
            self._ready.remove((strand.records[0].offset() or 0, strand))
            self._ready.sort()  # a sorted list is a heap

    def due(self, now: float) -> float:
        self._now = now
        self._shift(now)
        if not self._apart:
            return super().due(now)
        opens = self._opens(now)
        if opens == NEVER or len(self.out) >= self._most:
            return NEVER
        self._wake(now)
        if self._ready:
            if self._room():
                return opens
            self.held_up = True
            return NEVER
        wakes = self._asleep[0][0] if self._asleep else NEVER
        return max(opens, min(wakes, self._gather_by if self.buffer.count else NEVER))

    def take(self, now: float) -> Job | None:
        if self.due(now) > now:
            return None
        if not self._apart:
            return super().take(now)
        self._become(State.OPEN)
        return self._next()

    def hand_out(self, now: float) -> list[Job]:
        if self.due(now) > now:
            return []
        if not self._apart:
            return super().hand_out(now)
        self._tune()
        self._become(State.OPEN)
        jobs = [self._next()]
        ready, out, most = self._ready, self.out, self._most
        near = sure(self.received - self.offsets.finished)
        while ready and len(out) < most and (near or self._room()):
            jobs.append(self._next())
        return jobs

    def _tune(self) -> None:
        """Jobs are cut by how long messages take."""
        if self.pace is None:
            return
        pace, width = max(self.pace, 1e-9), self._width
        self._most = width + max(1, int(width * min(1.0, max(SPARE, SPARE_TIME / pace))))
        if not self.policy.batch:
            most = self.policy.max_messages
            self._bundle = min(most, int(BUNDLE_TIME / pace))
            self._long_bundle = min(most, int(LONG_BUNDLE_TIME / pace))

    def _next(self) -> Job:
        """The oldest message that may go, and what goes with it."""
        ready = self._ready
        first = heappop(ready)[1]
        strands, waiting = [first], first.records
        records, attempt = [waiting.popleft()], first.attempts + 1
        if waiting and (share := self._share(first)) > 1:
            records += [waiting.popleft() for _ in range(share - 1)]
        elif attempt == 1 and self._long_bundle > 1:
            # Too little for a hand-over of its own: others go with it, a message of each. As many as leave each worker
            # two more such jobs to begin, or the last ones would work on alone.
            bundle = max(self._bundle, min(self._long_bundle, len(ready) // (2 * self._width)))
            while len(records) < bundle and ready and not ready[0][1].attempts:
                strand = heappop(ready)[1]
                strands.append(strand)
                records.append(strand.records.popleft())
        for strand in strands:
            strand.standing, strand.due = OUT, 0.0
        count = len(records)
        size = len(records[0]) if count == 1 else sum(map(len, records))
        lane = self._idle.pop() if self._idle else self._make_lane()
        job = Job(Run(records, attempt, self.assignment), self, lane, size)
        self.out[job] = None
        self._owners[job] = strands
        self._waiting -= count
        self._size_waiting -= size
        self._count_out += count
        self._size_out += size
        return job

    def _share(self, strand: Strand) -> int:
        """How many messages of `strand`, one of which is taken already, go at once. One that has more than its share of
        the work must not wait between two of its own; of all others the oldest go first, one by one.
        """
        waiting = len(strand.records) + 1
        if self.policy.batch:
            return min(waiting, self._batch(strand))
        if strand.attempts or self.pace is None or waiting * self._width <= self._waiting:
            return 1
        most = min(waiting, self.policy.max_messages)
        return max(1, min(most, int(RUN_TIME / self.pace))) if self.pace else most

    def _batch(self, strand: Strand) -> int:
        return min(self.policy.max_messages, strand.limit or self.policy.max_messages)

    def _room(self) -> bool:
        """Whether what may end above the prefix can be kept with the commit; the oldest message may always go."""
        span = self.received - self.offsets.finished
        return fits(self.offsets.gaps + self._count_out + 1, span) or self._ready[0][0] <= self.offsets.finished

    def jump(self, offset: int) -> None:
        if offset > self.received:
            self.offsets.settle(self.received, offset)
        super().jump(offset)

    def blocks(self, job: Job) -> bool:
        return job not in self._owners

    def free(self, job: Job) -> bool:
        run, owners = job.run, self._owners.get(job)
        taken = run.taken
        if not taken or self.state is State.REVOKED:
            return False
        if owners is None:
            return self._part(job, taken)
        early = self._early.get(job, 0)
        done = max(early, run.sure(taken - 1))
        if early == done and taken == len(run.records):
            return False
        self._settle_early(job, owners, early, done)
        rest = self._cut(job, taken)
        if len(owners) == 1:
            self._give_back(owners[0], rest)
        else:
            for strand, record in zip(owners[taken:], rest, strict=True):
                strand.standing = ASIDE
                self._give_back(strand, [record])
                self._offer(strand, self._now)
            del owners[taken:]
        return True

    def _cut(self, job: Job, taken: int) -> list[Record]:
        """What `job` has not begun is not its own any more."""
        run = job.run
        rest, run.records = run.records[taken:], run.records[:taken]
        size = sum(map(len, rest))
        job.size -= size
        self._count_out -= len(rest)
        self._size_out -= size
        return rest

    def _settle_early(self, job: Job, owners: list[Strand], start: int, end: int) -> None:
        """Those of its messages are performed: neither they nor their lanes wait for the one in hand."""
        self._perform(job.run.records[start:end])
        self._early[job] = end
        self._count_out -= end - start
        for index in range(start, end) if len(owners) > 1 else ():
            strand, owners[index] = owners[index], Strand(object())
            strand.standing, strand.attempts, strand.limit = ASIDE, 0, None
            self._offer(strand, self._now)

    def _part(self, job: Job, taken: int) -> bool:
        """The message that `job` has in hand goes on by itself; what it has not begun, and what is behind it, apart."""
        if self.state >= State.LEAVING or self.suspect or self._returned or job.run.sure(taken - 1) < taken - 1:
            return False
        rest = self._cut(job, taken)
        for other in [one for one in self.out if one is not job and one.lane.withdraw(one)]:
            del self.out[other]
            self._count_out -= len(other.run.records)
            self._size_out -= other.size
            rest += other.run.records
        *done, held = job.run.records
        self._perform(done)
        self._early[job] = len(done)
        self._count_out -= len(done)
        self._apart, self._lane = True, self._make_lane()
        strand = self._strand(self._name(held))
        strand.standing = OUT
        self._owners[job] = [*(Strand(object()) for _ in done), strand]
        if rest:
            self.buffer.put_back(rest, measure(rest))
        if self.buffer.count:
            self._spread(self._now)
        return True

    # ── settling ─────────────────────────────────────────────────────────────────────────────────────────────

    def settle(self, outcome: Outcome) -> Setback | None:
        job = outcome.job
        owners = self._owners.pop(job, None)
        if owners is None:
            return self._settle_together(outcome)
        del self.out[job]
        run = job.run
        self.sends = run.outbox is not None and run.outbox.used
        records, finished = run.records, run.finished
        length = len(records)
        self._count_out -= length - (self._early.pop(job, 0) if self._early else 0)
        self._size_out -= job.size
        if finished:
            pace = outcome.working / finished
            self.pace = pace if self.pace is None else 0.7 * self.pace + 0.3 * pace
        self._perform(records if finished == length else records[:finished])
        if self.suspicion is not None:
            self._clear(self.offsets.finished)
        if not job.lane.broken:
            self._idle.append(job.lane)
        if finished != length or outcome.error is not None:
            return self._settle_in_part(outcome, owners)
        simple = self.policy.max_wait <= 0
        for strand in owners:
            strand.standing = ASIDE
            if strand.attempts:
                strand.attempts, strand.limit = 0, None
            if not strand.records:
                self._drop(strand)
            elif simple:
                self._rise(strand)
            else:
                self._offer(strand, self._now)
        return None

    def _settle_in_part(self, outcome: Outcome, owners: list[Strand]) -> Setback | None:
        """What is not finished goes back to its strands."""
        run, finished = outcome.job.run, outcome.job.run.finished
        alone = len(owners) == 1
        for index, strand in enumerate(owners):
            strand.standing = ASIDE
            if finished > index:
                strand.attempts, strand.limit = 0, None
            if alone:
                self._give_back(strand, run.records[finished:])
            elif finished <= index:
                self._give_back(strand, [run.records[index]])
        setback = self._blame(outcome, owners) if outcome.error is not None else None
        for strand in owners:
            self._offer(strand, self._now)
        return setback

    def _settle_together(self, outcome: Outcome) -> Setback | None:
        run = outcome.job.run
        if self.policy.manual:
            self._perform(run.records[: run.finished])
        setback = super().settle(outcome)
        if setback is not None and self.offsets.holds(setback.record.offset() or 0):
            self.skip()
            return replace(setback, over=True)
        return setback

    def _blame(self, outcome: Outcome, owners: list[Strand]) -> Setback:
        run, error = outcome.job.run, outcome.error
        assert error is not None  # noqa: S101 - nobody is to blame otherwise
        left = run.records[min(run.finished, len(run.records) - 1) :]
        culprit = left[0]
        if self.policy.batch:
            culprit = next((one for one in left if not self.offsets.holds(one.offset() or 0)), culprit)
        offset, index = culprit.offset() or 0, len(run.records) - len(left)
        attempt = run.attempt if culprit is run.records[0] else 1
        if self.offsets.holds(offset):
            return Setback(culprit, attempt, error, alone=True, over=True)
        strand = owners[0] if len(owners) == 1 else owners[index]
        strand.standing, strand.attempts, strand.failed = STUCK, attempt, len(left)
        self._culprits[offset] = strand
        marks = any(self.offsets.holds(one.offset() or 0) for one in left)
        return Setback(culprit, attempt, error, alone=not self.policy.batch or len(left) == 1 or marks)

    def _give_back(self, strand: Strand, records: list[Record]) -> None:
        """They stand first in their strand again, but for what was marked."""
        left = [one for one in records if not self.offsets.holds(one.offset() or 0)]
        strand.records.extendleft(reversed(left))
        self._waiting += len(left)
        self._size_waiting += sum(map(len, left))

    def _perform(self, records: list[Record]) -> None:
        """They were performed, and so are finished, unless that takes a mark."""
        if self.policy.manual:
            offsets = map(offset_of, records)
            self._performed_only.update(one for one in offsets if not self.offsets.holds(one))
            return
        if len(records) == 1:
            at = records[0].offset() or 0
            self.offsets.settle(at, at + 1)
            return
        start = end = -1
        for at in map(offset_of, records):
            if at != end:
                # Often all of them lie side by side: they count as one.
                if end >= 0:
                    self.offsets.settle(start, end)
                start = at
            end = at + 1
        if end >= 0:
            self.offsets.settle(start, end)

    def marked(self) -> None:
        if not self.assignment.marks:
            return
        for offset in self.assignment.taken():
            self._performed_only.discard(offset)
            self.offsets.settle(offset, offset + 1)

    @property
    def unmarked(self) -> bool:
        return bool(self._performed_only)

    # ── what becomes of a message that failed ────────────────────────────────────────────────────────────────

    def back_off(self, until: float, offset: int | None = None) -> None:
        strand = self._culprits.pop(offset, None) if offset is not None else None
        if strand is None:
            super().back_off(until)
            self._rewind = False  # what was performed and not marked waits for its mark
            return
        strand.standing = ASIDE
        self._sleep(strand, until)

    def split(self, offset: int | None = None) -> None:
        if offset in self._culprits:
            strand = self._culprits[offset]
            strand.limit = max(1, strand.failed // 2)
        else:
            super().split()

    def hold(self, offset: int | None = None) -> None:
        if offset is None:
            self.stand()
        elif offset not in self._culprits:
            super().hold()

    def bury(self, offset: int | None = None) -> None:
        if offset in self._culprits:
            self._burials += 1
        else:
            super().bury()

    def unburied(self, until: float, offset: int | None = None) -> None:
        if offset is not None and offset in self._culprits:
            self._burials -= 1
            heappush(self._mourned, (until, offset))
        else:
            super().unburied(until)

    def mourning(self, now: float) -> tuple[int, ...]:
        due = []
        while self._mourned and self._mourned[0][0] <= now:
            due.append(heappop(self._mourned)[1])
        return (*super().mourning(now), *due)

    def buried(self, offset: int | None = None) -> None:
        if offset in self._culprits:
            self._burials -= 1
            self.skip(offset)
        else:
            super().buried()

    def skip(self, offset: int | None = None) -> None:
        strand = self._culprits.pop(offset, None) if offset is not None else None
        if strand is None or offset is None:
            offset = self._pop_first().offset() or 0
            self.offsets.settle(offset, offset + 1)
            self._finish(offset + 1)
            self._become(State.OPEN)
            return
        record = strand.records.popleft()
        self._waiting -= 1
        self._size_waiting -= len(record)
        self.offsets.settle(offset, offset + 1)
        strand.standing, strand.attempts, strand.limit = ASIDE, 0, None
        self._offer(strand, self._now)

    @property
    def unsettled(self) -> bool:
        return super().unsettled or self._burials > 0

    # ── leaving, and going elsewhere ─────────────────────────────────────────────────────────────────────────

    def revoke(self) -> None:
        super().revoke()
        self._owners.clear()

    def go_on_at(self, offset: int, assignment: Assignment | None = None) -> None:
        super().go_on_at(offset, assignment)
        self.offsets = Scattered(offset, self.offsets.committed)
        self._kept = -1
        self._empty()

    @property
    def in_progress(self) -> int:
        return self.offsets.finished if self._apart else super().in_progress

    # ── what the broker keeps ────────────────────────────────────────────────────────────────────────────────

    @property
    def committable(self) -> int | None:
        position = super().committable
        return self.in_progress if position is None and self.offsets.version != self._kept else position

    @property
    def progress(self) -> Progress:
        return self.in_progress, self.offsets.version

    def keeps(self, progress: Progress) -> bool:
        return super().keeps(progress) and self._kept >= progress[1]

    def keep(self, position: int) -> Memo:
        self._sent = self.offsets.version
        above = self.offsets.above(position)
        return replace(self.memo, base=position, above=above) if above else self.memo

    def doubt(self) -> None:
        super().doubt()
        self._kept = -1

    def kept(self, position: int, memo: Memo) -> None:
        super().kept(position, replace(memo, base=-1, above=()))
        self._kept = self._sent
