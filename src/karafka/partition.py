"""One assignment of one partition: what was received, what is out, what is finished. No thread, no I/O.

The listener's thread's alone. An assignment ends for good: the same partition assigned again is a new `Partition`,
so that an outcome which comes late finds nothing to spoil.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from karafka.assignment import Assignment
from karafka.clock import NEVER
from karafka.exactly_once import ExactlyOnce
from karafka.jobs import Job, Lane, Outcome
from karafka.messages import Handler, Place, Record, Run, offset_of
from karafka.metadata import Memo
from karafka.offsets import Offsets
from karafka.policy import Policy

# A run is sized to be handed back after so many seconds: others get their turn, a revocation waits no longer.
RUN_TIME = 0.05
# Of a lane nothing is known yet: a first run of so many messages finds out.
FIRST_RUN = 100
# What takes no longer is sooner performed by the listener's thread than handed to a worker and back, in seconds.
MOMENT = 0.001
# Messages that take no longer each are cut into such runs. As measured: with several workers at it each waits for the
# interpreter most of the time, so this is some times what they really take, and less than anything that waits for I/O.
BRISK = MOMENT / 100
# Jobs of a lane that are out at once: one performed, one that waits, so that no worker waits for the listener.
AHEAD = 2


# How far a partition is: the finished prefix, and a version of what is finished above it.
Progress: TypeAlias = tuple[int, int]


class State(IntEnum):
    """What a partition does. The first three change as work goes; LEAVING and REVOKED only go forward."""

    #: Gives out what it has.
    OPEN = 0
    #: Waits until its next try.
    BACKING_OFF = 1
    #: Waits for a burial, or for a person.
    HELD = 2
    #: Gives out nothing more; what runs may end and counts.
    LEAVING = 3
    #: Not ours any more; whatever comes back counts for nothing.
    REVOKED = 4


# After so many ends in a row that nobody could tell of a partition is suspect.
SUSPECT = 2


@dataclass(slots=True)
class Suspicion:
    """Where crashes are counted, see `quarantine`.

    `noted` is the memo that the broker has confirmed, `named` the message that it names for this process; beyond
    `clear_at` nothing can have been in hand when the others died.
    """

    after: int
    clear_at: int
    noted: Memo | None = None
    named: int = -1


@dataclass(frozen=True, slots=True)
class Setback:
    """A message that failed in its `attempt`-th try; `alone` if no other could be to blame, `over` if it is finished
    all the same, because it was marked.
    """

    record: Record
    attempt: int
    error: BaseException
    alone: bool
    over: bool = False


class Buffer:
    """Received messages in order, kept as the lists they came in: a list that fits is handed on as it is."""

    __slots__ = ("_lists", "count", "size")

    def __init__(self) -> None:
        self._lists: deque[list[Record]] = deque()
        self.count = 0
        self.size = 0

    def add(self, records: list[Record], size: int) -> None:
        self._lists.append(records)
        self.count += len(records)
        self.size += size

    @property
    def first(self) -> Record | None:
        return self._lists[0][0] if self._lists else None

    def put_back(self, records: list[Record], size: int) -> None:
        self._lists.appendleft(records)
        self.count += len(records)
        self.size += size

    def take(self, limit: int) -> tuple[list[Record], int]:
        """Up to `limit` messages from the front and their bytes; fewer only where joining lists would cost more."""
        lists = self._lists
        taken = lists.popleft()
        if len(taken) > limit:
            rest, taken = taken, taken[:limit]
            del rest[:limit]
            lists.appendleft(rest)
        while lists and len(taken) + len(lists[0]) <= limit:
            taken += lists.popleft()
        if lists and len(taken) < limit and len(taken) * 4 < limit:
            wanted = limit - len(taken)
            taken += lists[0][:wanted]
            del lists[0][:wanted]
        self.count -= len(taken)
        size = measure(taken) if self.count else self.size
        self.size = max(0, self.size - size)
        return taken, size


def measure(records: list[Record]) -> int:
    """Bytes of the payloads. Of a long list every 16th is asked: exact enough for a bound, at a sixteenth the cost.

    The client's own queue bounds what one list can hold, so a stray large message cannot carry it far off.
    """
    if len(records) < 64:
        return sum(map(len, records))
    return sum(map(len, records[::16])) * 16


class Partition:
    """See the module. It begins at `assignment.offset`; `committed` is what the broker has of it."""

    def __init__(
        self,
        place: Place,
        committed: int | None,
        policy: Policy,
        lane: Callable[[], Lane],
        assignment: Assignment,
        memo: Memo | None = None,
    ) -> None:
        base = assignment.offset
        self.place = place
        self.policy = policy
        self.assignment = assignment
        #: What is committed beside its offset.
        self.memo = memo or Memo()
        self.suspicion: Suspicion | None = None
        self.offsets = Offsets(base, committed)
        #: The next offset to be received: lower ones are repetitions and dropped.
        self.received = base
        self.state = State.OPEN
        #: When a BACKING_OFF partition opens again, by the listener's clock.
        self.retry_at = 0.0
        #: Until when user code wants it to rest, by the listener's clock.
        self.rests_until = 0.0
        #: Where user code wants it to go on, once all that is out is back; None for nowhere else.
        self.sought: int | None = None
        # Where marking is manual: all below was performed; what of it is not marked is given out again after a failure,
        # but for those that were settled for good.
        self._performed = base
        self._settled: set[int] = set()
        self._rewind = False
        # Gives out nothing, whatever else happens: a person must decide.
        self._stands = False
        #: What commits it, where that is not the listener.
        self.exactly_once: ExactlyOnce | None = None
        #: The hook under way, if one is; the one to be called before anything is given out, and how often it failed.
        self.calling: Job | None = None
        self.welcome: Handler | None = None
        self.tried = 0
        self.again_after = 0.0
        #: Whether it must not begin yet: something of an assignment before is still out.
        self.waits = False
        #: Whether the hook at its end was called.
        self.taken_leave = False
        self.buffer = Buffer()
        #: Jobs that are out, a set in the order they went.
        self.out: dict[Job, None] = {}
        #: Whether its oldest message holds up all others, and whether that was told.
        self.held_up = self.told_held_up = False
        #: Whether fetching is stopped for it, as last told to the client.
        self.paused = False
        #: Whether its dead letter is under way; when it is to be sent again.
        self.burying = False
        self.rebury_at = NEVER
        #: Whether all that the client delivered of it was received here: its position there then says something.
        self.positioned = False
        #: When the listener will look at it again, infinity if no timer is set.
        self.wake_at = NEVER
        self._make_lane = lane
        self._lane = lane()
        self._size_out = 0
        self._count_out = 0
        self._returned: list[Record] = []
        self._tried: tuple[int, int] = (-1, 0)
        self._failed = 0
        self._limit: int | None = None
        self._since = 0.0
        #: Where it stood when that was looked at last, since when, and when it was told that it stands still.
        self.stood_at = -1
        self.stood_since = 0.0
        self.stood_told = 0.0
        #: Seconds a message takes on a worker, as measured; None before the first outcome.
        self.pace: float | None = None
        #: Whether what was performed last has sent something whose confirmation it waited for.
        self.sends = False

    # ── receiving ────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, records: list[Record], size: int, now: float) -> int:
        """Messages from the broker, offsets rising, `size` bytes in all. How many were new."""
        self.positioned = True
        first, end = records[0].offset() or 0, (records[-1].offset() or 0) + 1
        if first < self.received or self._settled:
            least, settled = self.received, self._settled
            records = [one for one in records if (at := one.offset() or 0) >= least and at not in settled]
        self.received = max(end, self.received)
        if not records:
            return 0
        if not self.buffer.count:
            self._since = now
        self.buffer.add(records, size)
        return len(records)

    @property
    def waiting(self) -> int:
        """Messages that are to be given out."""
        return self.buffer.count

    @property
    def first(self) -> Record | None:
        """The message to be given out next, where there is only one order."""
        return self.buffer.first

    @property
    def count(self) -> int:
        """Messages in hand: received and not finished."""
        return self.buffer.count + self._count_out + len(self._returned)

    @property
    def size(self) -> int:
        """Bytes in hand."""
        return self.buffer.size + self._size_out

    @property
    def full(self) -> bool:
        return self.count >= self.policy.high or self.size >= self.policy.high_bytes

    @property
    def drained(self) -> bool:
        """Whether there is room enough to fetch again: half of high water, so that the worker does not run dry."""
        return self.count <= self.policy.high // 2 and self.size <= self.policy.high_bytes // 2

    @property
    def brisk(self) -> bool:
        """Whether the listener's thread is to perform it where it can: in short runs, and only one is out."""
        quick = self.pace is not None and self.pace <= BRISK and self._lane.pool.lends
        # A transaction takes longer, and so do confirmations, which as many as possible are to share.
        return quick and not self.policy.exactly_once and not self.sends

    @property
    def load(self) -> float:
        """Seconds of work in hand, as far as is known."""
        return self.count * (self.pace or 0.0)

    @property
    def spare(self) -> float:
        """Seconds for which its workers have enough to begin; 0 where what comes back may let something begin."""
        return 0.0

    # ── giving out ───────────────────────────────────────────────────────────────────────────────────────────

    def take(self, now: float) -> Job | None:
        """The next job, or None: nothing to give, enough out, or a time to wait for (`due`)."""
        if not self.buffer.count or len(self.out) >= (1 if self.brisk else AHEAD) or self.due(now) > now:
            return None
        if self.exactly_once is not None and self.committable is not None:
            return None  # a commit that the broker takes late would undo a transaction's
        self._become(State.OPEN)
        records, size = self.buffer.take(self._run_length())
        first = records[0].offset() or 0
        tried, attempt = self._tried
        if first < tried <= (records[-1].offset() or 0):
            # A rewind has gone back to before the one that failed: it is to stand first in its run.
            cut = bisect_left(records, tried, key=offset_of)
            rest, records = records[cut:], records[:cut]
            size = measure(records)
            self.buffer.put_back(rest, measure(rest))
        batch = self.policy.max_messages if self.policy.batches > 1 else 0
        run = Run(records, attempt + 1 if tried == first else 1, self.assignment, batch)
        job = Job(run, self, self._lane, size)
        self.out[job] = None
        self._count_out += len(records)
        self._size_out += size
        self._since = now
        return job

    def hand_out(self, now: float) -> list[Job]:
        """Jobs to be given out now; when there are none, that is all."""
        job = self.take(now)
        return [] if job is None else [job]

    def due(self, now: float) -> float:
        """From when on `take` may give something: `now` if at once, infinity if only something else helps."""
        opens = self._opens(now)
        if self.state is not State.OPEN:
            return opens
        if self._lane.broken and self.out:
            return NEVER
        if self.policy.max_wait and self.buffer.count < self._run_length():
            return max(opens, self._since + self.policy.max_wait)
        return opens

    def _opens(self, now: float) -> float:
        """The same as far as all of it is concerned, whatever its messages."""
        if self._stands or self.waits or self.calling or self.welcome or self.sought is not None or self._rewind:
            return NEVER
        match self.state:
            case State.HELD | State.LEAVING | State.REVOKED:
                return NEVER
            case State.BACKING_OFF:
                return max(self.retry_at, self.rests_until)
            case State.OPEN:
                return max(now, self.rests_until)

    def _run_length(self) -> int:
        limit = 1 if self.suspect else self.policy.max_messages
        if self._limit is not None:
            return min(limit, self._limit)
        if self.policy.batch:
            return limit if self.suspect else limit * self._batches()
        if self.pace is None:
            return min(limit, FIRST_RUN)
        return max(1, min(limit, int(self._run_time() / self.pace) if self.pace > 0 else limit))

    def _run_time(self) -> float:
        return MOMENT if self.brisk else RUN_TIME

    def _batches(self) -> int:
        """How many full batches go at once: those there are, and as are done in time."""
        size = self.policy.max_messages
        if self.policy.batches == 1 or not self.pace:
            return 1
        return max(1, min(self.policy.batches, self.buffer.count // size, int(self._run_time() / (self.pace * size))))

    # ── settling ─────────────────────────────────────────────────────────────────────────────────────────────

    def settle(self, outcome: Outcome) -> Setback | None:
        """Take in how a job of ours ended: what is finished moves the offsets, what is not comes back in order."""
        job, run = outcome.job, outcome.job.run
        del self.out[job]
        self.sends = run.outbox is not None and run.outbox.used
        finished, length = max(run.finished, self._marked_in(run)), len(run.records)
        self._count_out -= length
        self._size_out -= job.size
        if finished:
            pace = outcome.working / finished
            self.pace = pace if self.pace is None else 0.7 * self.pace + 0.3 * pace
            self._finish((run.records[finished - 1].offset() or 0) + 1)
            if self.exactly_once is not None:
                self.kept(self.offsets.finished, self.memo)
        if finished < length:
            self._come_back(run.records[finished:])
        elif not self.out:
            if self._lane.broken:
                self._lane = self._make_lane()
            if not self.buffer.count and not self._returned:
                self._since = 0.0
        if outcome.error is None:
            return None
        # Of a batch it is the first that is not marked; else the one in hand, whatever was marked.
        end = min(run.finished + run.batch, length)
        blamed = min(finished if self.policy.batch else run.finished, end - 1)
        culprit = run.records[blamed]
        attempt = run.attempt if blamed == 0 else 1
        if blamed < finished:
            return Setback(culprit, attempt, outcome.error, alone=True, over=True)
        failed = end - run.finished
        self._tried, self._failed = (culprit.offset() or 0, attempt), failed
        # Whoever marks says how far a batch came: then the first that is not marked is to blame.
        marks = self.assignment.marked > self.assignment.offset
        return Setback(culprit, attempt, outcome.error, alone=not self.policy.batch or failed == 1 or marks)

    def _marked_in(self, run: Run) -> int:
        """How many messages of `run` are finished by marks."""
        marked = self.assignment.marked
        if self.exactly_once is not None or marked <= (run.records[0].offset() or 0):
            return 0
        return bisect_left(run.records, marked, key=offset_of)

    def _finish(self, position: int) -> None:
        """All below `position` was performed; and so is finished, unless that takes a mark."""
        self._performed = max(self._performed, position)
        if not self.policy.manual:
            self.offsets.finish(position)
        if position > self._tried[0]:
            self._tried, self._limit = (-1, 0), None
        self._clear(position)

    def _clear(self, position: int) -> None:
        """All below `position` is done: who died here did not die of that."""
        if self.suspicion is not None and position >= self.suspicion.clear_at and self.memo.crashes:
            self.memo = self.memo.cleared()

    def _come_back(self, records: list[Record]) -> None:
        """`records` go back to the front, before those of the jobs behind them, which are withdrawn."""
        self._returned += records
        for job in [job for job in self.out if job.lane.withdraw(job)]:
            del self.out[job]
            self._count_out -= len(job.run.records)
            self._size_out -= job.size
            self._returned += job.run.records
        if not self.out:
            self.buffer.put_back(self._returned, measure(self._returned))
            self._returned = []
            self._lane = self._make_lane()

    # ── what becomes of a message that failed ────────────────────────────────────────────────────────────────
    # It is the first in hand; where there are several firsts, `offset` says which.

    def bury(self, offset: int | None = None) -> None:  # noqa: ARG002
        """It is on its way to the dead letter topic; nothing is given out until it is there."""
        self.burying = True
        self.rebury_at = NEVER
        self._become(State.HELD)

    def unburied(self, until: float, offset: int | None = None) -> None:  # noqa: ARG002
        """The dead letter topic did not take it: it is sent again then, without being performed."""
        self.burying = False
        self.rebury_at = until

    def mourning(self, now: float) -> tuple[int, ...]:
        """The messages whose dead letters are to be sent again now, by their offsets."""
        if self.state is not State.HELD or self.burying or self.rebury_at > now:
            return ()
        self.rebury_at = NEVER
        first = self._returned[0] if self._returned else self.buffer.first
        return () if first is None else (first.offset() or 0,)

    def buried(self, offset: int | None = None) -> None:  # noqa: ARG002
        """The broker has confirmed the dead letter."""
        self.burying = False
        self.skip()

    def skip(self, offset: int | None = None) -> None:  # noqa: ARG002
        """It is finished without having been performed."""
        at = self._pop_first().offset() or 0
        if self.unmarked:
            self._settled.add(at)
        else:
            self.offsets.finish(at + 1)
        self._finish(at + 1)
        self._become(State.OPEN)

    def _pop_first(self) -> Record:
        """The first message in hand, taken out."""
        # Jobs behind it may still be on their way back: then it is not in the buffer yet.
        return self._returned.pop(0) if self._returned else self.buffer.take(1)[0][0]

    def back_off(self, until: float, offset: int | None = None) -> None:  # noqa: ARG002
        self.retry_at = until
        self._rewind = self.unmarked
        self._become(State.BACKING_OFF)

    def split(self, offset: int | None = None) -> None:  # noqa: ARG002
        """The next run is half as long: a failing batch is halved until the culprit stands alone."""
        self._limit = max(1, self._failed // 2)

    def hold(self, offset: int | None = None) -> None:  # noqa: ARG002
        """Nothing more is given out behind it; without an offset, nothing at all."""
        self._become(State.HELD)

    def stand(self) -> None:
        """Give out nothing more: for good, as far as this assignment goes."""
        self._stands = True

    # ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────

    def leave(self) -> None:
        """Start nothing more: jobs that wait are withdrawn, those that run end after the message in hand."""
        self._become(State.LEAVING)
        for job in list(self.out):
            if job.lane.withdraw(job):
                del self.out[job]
            else:
                job.run.halt()

    @property
    def unsettled(self) -> bool:
        """Whether something of it is still under way that would count if it ended now."""
        return bool(self.out or self.calling) or self.burying

    def greets(self, now: float) -> bool:
        """Whether its hook is to be called before anything is given out, now."""
        open_ = self.state in {State.OPEN, State.BACKING_OFF} and max(self.retry_at, self.rests_until) <= now
        return self.welcome is not None and self.calling is None and open_ and not self.waits

    def revoke(self) -> None:
        """Not ours any more, for good: what is still out comes to nothing."""
        self._become(State.REVOKED)
        self.assignment.revoke()
        self.assignment.close()
        self.out.clear()

    # ── what user code asks for ──────────────────────────────────────────────────────────────────────────────

    def rest(self, until: float) -> None:
        """Give out nothing more until then."""
        self.rests_until = until
        self.recall()

    def seek(self, to: int) -> None:
        """Go on at `to` once all that is out is back; see `elsewhere`."""
        self.sought = to
        self.recall()

    def blocks(self, job: Job) -> bool:  # noqa: ARG002
        """Whether what is out behind `job` waits for it although order does not ask for that."""
        return False

    def free(self, job: Job) -> bool:  # noqa: ARG002
        """`job` is halted and does not end: what it has done counts, and what is not taken up yet, here and behind it,
        need not wait for it, where order allows that.

        Whether there was anything.
        """
        return False

    def jump(self, offset: int) -> None:
        """What lies between here and `offset` will never be received."""
        self.received = max(offset, self.received)

    def recall(self) -> None:
        """What is out comes back: the message in hand ends, what waits behind it is not begun."""
        for job in self.out:
            job.run.recall()

    def stalled(self, now: float, after: float) -> float | None:
        """For how long it has stood still, if that is longer than `after` and was not told for so long."""
        position = self.in_progress
        if position != self.stood_at or self.rests_until > now:
            self.stood_at, self.stood_since, self.stood_told = position, now, now
        if now - self.stood_told < after:
            return None
        self.stood_told = now
        return now - self.stood_since

    @property
    def elsewhere(self) -> int | None:
        """The offset to go on at, now that nothing is out: where a seek or a rewind wants it. None: right here."""
        if self.unsettled:
            return None
        if self.sought is not None:
            return self.sought
        return self.in_progress if self._rewind else None

    def go_on_at(self, offset: int, assignment: Assignment | None = None) -> None:
        """Nothing is out: forget what was received and go on at `offset`. By a seek there is a new `assignment`, and
        what was marked or finished says nothing any more.
        """
        if assignment is not None:
            self.assignment.close()
            self.assignment = assignment
            self.offsets = Offsets(offset, self.offsets.committed)
            self._tried, self._limit = (-1, 0), None
            self._settled.clear()
            self.sought = None
            if self.rebury_at < NEVER:
                # It leaves the message that could not be buried behind.
                self.rebury_at = NEVER
                self._become(State.OPEN)
        self._rewind = False
        self._performed = self.received = offset
        self._settled = {one for one in self._settled if one >= offset}
        self._returned = []
        self.buffer = Buffer()
        self.positioned = False

    def _become(self, state: State) -> None:
        """Go to `state`; a partition that is leaving only goes forward."""
        if self.state < State.LEAVING or state > self.state:
            self.state = state

    @property
    def committable(self) -> int | None:
        """The offset to commit now, or None: nothing new is finished."""
        position = self.in_progress
        news = self.suspicion is not None and self.suspicion.noted != self.memo
        return position if news or position != self.offsets.committed else None

    @property
    def progress(self) -> Progress:
        """What is finished now."""
        return self.in_progress, 0

    def keeps(self, progress: Progress) -> bool:
        """Whether the broker keeps all that was finished then."""
        return self.offsets.committed is not None and self.offsets.committed >= progress[0]

    def keep(self, position: int) -> Memo:  # noqa: ARG002
        """What is to be kept beside `position`, which is to be committed."""
        return self.memo

    def kept(self, position: int, memo: Memo) -> None:
        """The broker keeps them."""
        self.offsets.committed = position
        if self.suspicion is not None:
            self.suspicion.noted = memo

    def doubt(self) -> None:
        """The broker may keep something older instead: it is to be committed again."""
        self.offsets.committed = None
        if self.suspicion is not None:
            self.suspicion.noted = None

    @property
    def suspect(self) -> bool:
        """Whether its messages go one by one, each named before."""
        return self.suspicion is not None and self.memo.crashes >= SUSPECT

    @property
    def in_progress(self) -> int:
        """The finished prefix, counting marks, and what a running job has finished so far."""
        if self.exactly_once is not None:
            return self.offsets.finished  # nothing but a transaction finishes
        finished = max(self.offsets.finished, self.assignment.marked)
        if self.out and not self.policy.manual:
            run = next(iter(self.out)).run
            if progress := run.progress:
                return max(finished, (run.records[progress - 1].offset() or 0) + 1)
        return finished

    def marked(self) -> None:
        """There are new marks: what was settled right behind them is finished too."""
        position = self.in_progress
        while position in self._settled:
            self._settled.discard(position)
            position += 1
        self.offsets.finish(position)

    @property
    def unmarked(self) -> bool:
        """Whether something was performed that is not marked, where that is what finishes it."""
        return self.policy.manual and self._performed > self.in_progress
