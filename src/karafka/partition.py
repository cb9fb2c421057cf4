"""One assignment of one partition: what was received, what is out, what is finished. No thread, no I/O.

The listener's thread's alone. An assignment ends for good: the same partition assigned again is a new `Partition`,
so that an outcome which comes late finds nothing to spoil.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from karafka.jobs import Job, Lane, Outcome
from karafka.messages import Place, Record, Run
from karafka.offsets import Offsets
from karafka.policy import Policy

# A run is sized to be handed back after so many seconds: others get their turn, a revocation waits no longer.
RUN_TIME = 0.05
# Of a lane nothing is known yet: a first run of so many messages finds out.
FIRST_RUN = 100
# Jobs of a lane that are out at once: one performed, one that waits, so that no worker waits for the listener.
AHEAD = 2


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


@dataclass(frozen=True, slots=True)
class Setback:
    """A message that is not finished after its `attempt`-th try; `alone` if no other could be to blame."""

    record: Record
    attempt: int
    error: BaseException
    alone: bool


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
    """See the module. `base` is the offset it was assigned with."""

    def __init__(
        self, place: Place, base: int, committed: int | None, policy: Policy, lane: Callable[[], Lane]
    ) -> None:
        self.place = place
        self.policy = policy
        self.offsets = Offsets(base, committed)
        #: The next offset to be received: lower ones are repetitions and dropped.
        self.received = base
        self.state = State.OPEN
        #: When a BACKING_OFF partition opens again, by the listener's clock.
        self.retry_at = 0.0
        self.buffer = Buffer()
        self.out: deque[Job] = deque()
        #: Whether fetching is stopped for it, as last told to the client.
        self.paused = False
        #: Whether its dead letter is under way.
        self.burying = False
        #: Whether all that the client delivered of it was received here: its position there then says something.
        self.positioned = False
        #: When the listener will look at it again, infinity if no timer is set.
        self.wake_at = float("inf")
        self._make_lane = lane
        self._lane = lane()
        self._size_out = 0
        self._count_out = 0
        self._returned: list[Record] = []
        self._tried: tuple[int, int] = (-1, 0)
        self._failed = 0
        self._limit: int | None = None
        self._since = 0.0
        #: Seconds a message takes on a worker, as measured; None before the first outcome.
        self.pace: float | None = None

    # ── receiving ────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, records: list[Record], size: int, now: float) -> int:
        """Messages from the broker, offsets rising, `size` bytes in all. How many were new."""
        self.positioned = True
        first = records[0].offset() or 0
        if first < self.received:
            records = [record for record in records if (record.offset() or 0) >= self.received]
            if not records:
                return 0
        if not self.buffer.count:
            self._since = now
        self.received = (records[-1].offset() or 0) + 1
        self.buffer.add(records, size)
        return len(records)

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
    def load(self) -> float:
        """Seconds of work in hand, as far as is known."""
        return self.count * (self.pace or 0.0)

    # ── giving out ───────────────────────────────────────────────────────────────────────────────────────────

    def take(self, now: float) -> Job | None:
        """The next job, or None: nothing to give, enough out, or a time to wait for (`due`)."""
        if self.due(now) > now or len(self.out) >= AHEAD or not self.buffer.count:
            return None
        self._become(State.OPEN)
        records, size = self.buffer.take(self._run_length())
        first = records[0].offset() or 0
        tried, attempt = self._tried
        job = Job(Run(records, attempt + 1 if tried == first else 1), self, self._lane, size)
        self.out.append(job)
        self._count_out += len(records)
        self._size_out += size
        self._since = now
        return job

    def due(self, now: float) -> float:
        """From when on `take` may give something: `now` if at once, infinity if only something else helps."""
        match self.state:
            case State.HELD | State.LEAVING | State.REVOKED:
                return float("inf")
            case State.BACKING_OFF:
                return self.retry_at
            case State.OPEN:
                if self._lane.broken and self.out:
                    return float("inf")
                if self.policy.max_wait and self.buffer.count < self._run_length():
                    return self._since + self.policy.max_wait
                return now

    def _run_length(self) -> int:
        limit = self.policy.max_messages
        if self._limit is not None:
            return min(limit, self._limit)
        if self.policy.batch:
            return limit
        if self.pace is None:
            return min(limit, FIRST_RUN)
        return max(1, min(limit, int(RUN_TIME / self.pace) if self.pace > 0 else limit))

    # ── settling ─────────────────────────────────────────────────────────────────────────────────────────────

    def settle(self, outcome: Outcome) -> Setback | None:
        """Take in how a job of ours ended: what is finished moves the offsets, what is not comes back in order."""
        job, run = outcome.job, outcome.job.run
        self.out.remove(job)
        finished, length = run.finished, len(run.records)
        self._count_out -= length
        self._size_out -= job.size
        if finished:
            pace = outcome.elapsed / finished
            self.pace = pace if self.pace is None else 0.7 * self.pace + 0.3 * pace
            self.offsets.finish((run.records[finished - 1].offset() or 0) + 1)
            self._tried, self._limit = (-1, 0), None
        if finished < length:
            self._come_back(run.records[finished:])
        elif not self.out and not self.buffer.count and not self._returned:
            self._since = 0.0
        if outcome.error is None or finished >= length:
            return None
        culprit = run.records[finished]
        attempt = run.attempt if finished == 0 else 1
        self._tried, self._failed = (culprit.offset() or 0, attempt), length
        return Setback(culprit, attempt, outcome.error, alone=not self.policy.batch or length == 1)

    def _come_back(self, records: list[Record]) -> None:
        """`records` go back to the front, before those of the jobs behind them, which are withdrawn."""
        self._returned += records
        for job in [job for job in self.out if job.lane.withdraw(job)]:
            self.out.remove(job)
            self._count_out -= len(job.run.records)
            self._size_out -= job.size
            self._returned += job.run.records
        if not self.out:
            self.buffer.put_back(self._returned, measure(self._returned))
            self._returned = []
            self._lane = self._make_lane()

    def bury(self) -> None:
        """The first message in hand is on its way to the dead letter topic; nothing is given out until it is there."""
        self.burying = True
        self._become(State.HELD)

    def buried(self) -> None:
        """The broker has confirmed the dead letter."""
        self.burying = False
        self.skip()

    def skip(self) -> None:
        """The first message in hand is finished without having been performed."""
        # Jobs behind it may still be on their way back: then it is not in the buffer yet.
        record = self._returned.pop(0) if self._returned else self.buffer.take(1)[0][0]
        self.offsets.finish((record.offset() or 0) + 1)
        self._tried, self._limit = (-1, 0), None
        self._become(State.OPEN)

    def back_off(self, until: float) -> None:
        self.burying = False
        self.retry_at = until
        self._become(State.BACKING_OFF)

    def split(self) -> None:
        """The next run is half as long: a failing batch is halved until the culprit stands alone."""
        self._limit = max(1, self._failed // 2)

    def hold(self) -> None:
        self._become(State.HELD)

    def open(self) -> None:
        """What it was held for is over."""
        if self.state is State.HELD:
            self._become(State.OPEN)

    # ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────

    def leave(self) -> None:
        """Start nothing more: jobs that wait are withdrawn, those that run end after the message in hand."""
        self._become(State.LEAVING)
        for job in list(self.out):
            if job.lane.withdraw(job):
                self.out.remove(job)
            else:
                job.run.halt()

    @property
    def unsettled(self) -> bool:
        """Whether something of it is still under way that would count if it ended now."""
        return bool(self.out) or self.burying

    def revoke(self) -> None:
        """Not ours any more, for good: what is still out comes to nothing."""
        self._become(State.REVOKED)
        self.out.clear()

    def _become(self, state: State) -> None:
        """Go to `state`; a partition that is leaving only goes forward."""
        if self.state < State.LEAVING or state > self.state:
            self.state = state

    @property
    def committable(self) -> int | None:
        """The offset to commit now, or None: nothing new is finished."""
        position = self.in_progress
        return None if position == self.offsets.committed else position

    @property
    def in_progress(self) -> int:
        """The finished prefix, counting what a running job has finished so far."""
        if self.out and (progress := self.out[0].run.progress):
            return max(self.offsets.finished, (self.out[0].run.records[progress - 1].offset() or 0) + 1)
        return self.offsets.finished
