"""What crosses threads: a `Job` out to a worker, an `Outcome` back to the listener. Nothing else does.

A lane is what must be in order: a partition. Its jobs are performed one after the other, whichever worker takes
them; the next may already wait in the lane while one is performed, so that a worker does not wait for the listener.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Any, Protocol

from karafka.messages import Handler, Run


class Job:
    """One run of a lane. `ticket` is the listener's: the partition object it belongs to, never touched by workers."""

    __slots__ = ("lane", "run", "size", "started", "ticket")

    def __init__(self, run: Run, ticket: Any, lane: Lane, size: int) -> None:
        self.run = run
        self.ticket = ticket
        self.lane = lane
        #: Bytes of the payloads.
        self.size = size
        #: When a worker took it (`perf_counter`), None before.
        self.started: float | None = None


@dataclass(slots=True)
class Outcome:
    """How a job ended: `run.finished` says how far it came, `error` what stopped it, `elapsed` seconds it took."""

    job: Job
    error: BaseException | None
    elapsed: float

    @property
    def working(self) -> float:
        """The same without what all its messages waited for at once: a longer run would wait no longer."""
        return max(0.0, self.elapsed - self.job.run.waited)


class Lane:
    """The jobs of one lane, in order; at most one is performed at a time.

    The listener adds and withdraws, a pool's worker takes. After a run that did not come to its end the lane is
    `broken`: the jobs behind it come back unperformed, and the listener goes on with a new lane.
    """

    __slots__ = ("_turn", "broken", "handler", "jobs", "pool", "reply")

    def __init__(self, handler: Handler, pool: Pool, reply: Callable[[Outcome], None]) -> None:
        self.handler: Any = handler
        #: Who performs its jobs.
        self.pool = pool
        #: Puts an outcome on the listener's queue. Any thread.
        self.reply = reply
        self.jobs: deque[Job] = deque()
        self.broken = False
        self._turn = Lock()

    def claim(self) -> bool:
        """True for the one caller that is to see the lane served: held until `release`, without waiting."""
        return bool(self.jobs) and self._turn.acquire(blocking=False)

    def release(self) -> None:
        self._turn.release()

    def take(self) -> Job | None:
        """The next job, for the worker that holds the claim; None if it was withdrawn meanwhile."""
        try:
            return self.jobs.popleft()
        except IndexError:
            return None

    def withdraw(self, job: Job) -> bool:
        """Take back a job that no worker has taken; False if one has. Only the listener calls it."""
        try:
            self.jobs.remove(job)
        except ValueError:
            return False
        return True


class Pool(Protocol):
    """Who performs: worker threads, or the event loop. Listeners call it, from any of their threads."""

    #: Whether `borrow` ever gives a seat.
    lends: bool

    def submit(self, job: Job) -> None:
        """`job` goes to its lane, and the lane to a worker unless it has one."""

    def borrow(self) -> Seat | None:
        """A worker's seat, where the caller may perform until it gives it back; None where none is free."""

    def stop(self) -> None: ...


class Seat(Protocol):
    """A worker's seat, held by another thread."""

    def give_back(self) -> None: ...

    def line_up(self, lane: Lane) -> None:
        """`lane`, whose claim the caller holds, goes to a worker."""


def serve(lane: Lane) -> bool:
    """Perform the next job of `lane`, whose claim this thread holds. True if there is another: it holds it still."""
    job = lane.take()
    if job is not None:
        lane.reply(perform(job))
    # In this order no job is forgotten: whoever appends tries to claim after appending, we after releasing.
    lane.release()
    return lane.claim()


def perform(job: Job) -> Outcome:
    """Perform one job on this thread: the one place where whatever user code raises becomes an outcome."""
    lane, run = job.lane, job.run
    job.started = started = perf_counter()
    error = None
    if not lane.broken:
        try:
            lane.handler(run)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, judge decides
            error = raised
    return ended(job, error, started)


async def perform_async(job: Job) -> Outcome:
    """The same on the event loop, for handlers that are coroutine functions."""
    lane, run = job.lane, job.run
    job.started = started = perf_counter()
    error = None
    if not lane.broken:
        try:
            await lane.handler(run)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, judge decides
            error = raised
    return ended(job, error, started)


def ended(job: Job, error: BaseException | None, started: float) -> Outcome:
    if job.run.finished < len(job.run.records) or job.run.recalled:
        job.lane.broken = True
    return Outcome(job, error, perf_counter() - started)
