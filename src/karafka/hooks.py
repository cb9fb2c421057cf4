"""The hooks of a partition, `on_assigned`, `on_revoked`, `on_shutdown`: called on workers, around what is performed.

A partition is `welcome`d before its first message is given out, and has its `farewell` after the last one is back, even
if that is long after it was lost. What is out of an assignment that has ended is kept here: the next assignment of
the same place begins when all of it is back. The listener's thread's alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from karafka.errors import words
from karafka.events import Events, HookFailed
from karafka.jobs import Job, Lane, Outcome
from karafka.messages import Handler, Place, Run
from karafka.partition import Partition
from karafka.policy import Backoff, End, Policy, judge
from karafka.setbacks import Work
from karafka.stacks import traceback_of


@dataclass(slots=True)
class Departed:
    """What is left of assignments of one place that have ended: jobs that are out, and farewells to come after them."""

    jobs: set[Job] = field(default_factory=set)
    partitions: deque[Partition] = field(default_factory=deque)


class Hooks:
    """See the module. `put` is the listener's inbox; `ended(status, reason)` asks for the end of the process."""

    def __init__(
        self,
        group: str,
        events: Events,
        *,
        work: Callable[[str], Work | None],
        put: Callable[[Outcome], None],
        ended: Callable[[int, str], None],
    ) -> None:
        self._group = group
        self._events = events
        self._work = work
        self._put = put
        self._ended = ended
        self._departed: dict[Place, Departed] = {}

    @property
    def running(self) -> dict[Place, int]:
        """Where work of assignments that have ended runs on, each with the offset it began at."""
        return {
            place: min((job.run.records[0].offset() or 0 for job in departed.jobs if job.run.records), default=0)
            for place, departed in self._departed.items()
            if departed.jobs
        }

    @property
    def out(self) -> list[Job]:
        """The jobs that are out of assignments that have ended. Any thread: a glance."""
        return [job for departed in list(self._departed.values()) for job in list(departed.jobs)]

    def expect(self, partition: Partition) -> None:
        """A new assignment: what is to be called for it, and whether it must wait for the one before."""
        if (work := self._work(partition.place.topic)) is not None:
            partition.welcome = work.hooks.assigned
        partition.waits = partition.place in self._departed

    def welcome(self, partition: Partition) -> None:
        """Call `on_assigned`; nothing is given out before it has returned."""
        if partition.welcome is not None:
            self._call(partition, partition.welcome)

    def farewell(self, partition: Partition) -> None:
        """Its last message is back: call `on_revoked`, once, if it was welcomed."""
        self._leave(partition, "revoked")

    def shutdown(self, partition: Partition) -> None:
        """The server stops, or goes quiet: call `on_shutdown`, once, instead of `on_revoked`."""
        self._leave(partition, "shutdown")

    def _leave(self, partition: Partition, which: str) -> None:
        work = self._work(partition.place.topic)
        if partition.taken_leave or work is None:
            return
        partition.taken_leave = True
        hook = work.hooks.revoked if which == "revoked" else work.hooks.shutdown
        if hook is not None and partition.welcome is None and not partition.waits:
            self._call(partition, hook)

    def depart(self, partition: Partition) -> None:
        """The assignment has ended: what is out counts for nothing, but the next one waits for it."""
        departed = self._departed.setdefault(partition.place, Departed())
        departed.jobs.update(partition.out)
        if partition.calling is not None:
            departed.jobs.add(partition.calling)
        departed.partitions.append(partition)
        self._free(partition.place)

    def returned(self, outcome: Outcome) -> Place | None:
        """What does not count as performed is back. The place whose next assignment may begin, if one may now."""
        job, partition = outcome.job, outcome.job.ticket
        if partition.calling is job:
            self._called(partition, outcome)
        departed = self._departed.get(partition.place)
        if departed is None or job not in departed.jobs:
            return None
        departed.jobs.discard(job)
        return partition.place if self._free(partition.place) else None

    def _free(self, place: Place) -> bool:
        """Whether nothing is left of former assignments; farewells follow what was out, one by one."""
        departed = self._departed[place]
        while not departed.jobs and departed.partitions:
            partition = departed.partitions.popleft()
            self.farewell(partition)
            if partition.calling is not None:
                departed.jobs.add(partition.calling)
        if departed.jobs:
            return False
        del self._departed[place]
        return True

    def _call(self, partition: Partition, hook: Handler) -> None:
        work = self._work(partition.place.topic)
        assert work is not None  # noqa: S101 - whoever has hooks is routed
        job = Job(Run([], assignment=partition.assignment), partition, Lane(hook, work.pool, self._put), 0)
        partition.calling = job
        work.pool.submit(job)

    def _called(self, partition: Partition, outcome: Outcome) -> None:
        partition.calling = None
        error = outcome.error
        if error is None:
            partition.welcome, partition.tried = None, 0
            return
        topic, number = partition.place
        name = getattr(outcome.job.lane.handler, "__name__", "hook")
        verdict = "it is not called again"
        if partition.welcome is not None:
            partition.tried += 1
            partition.again_after = (partition.policy.retry or Backoff()).delay(partition.tried)
            verdict = f"tried again in {partition.again_after:.1f} s"
        if isinstance(end := judge(Policy(), error, 1), End):
            verdict = f"ends the process with status {end.status}"
            self._ended(end.status, f"{type(error).__name__} was raised in {name} of {topic}/{number}")
        text = traceback_of(error)
        event = HookFailed(
            group=self._group,
            topic=topic,
            partition=number,
            hook=name,
            verdict=verdict,
            error=f"{type(error).__name__}: {words(error)}",
            traceback=text,
        )
        self._events.tell(event)
