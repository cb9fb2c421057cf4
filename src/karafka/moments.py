"""What is done in a moment, and so performed by the listener's own thread, between two of its turns.

To hand it to a worker and to hear of its end would take longer. The thread that has the turns keeps and performs it;
when it does not come back from that soon another one has them, and calls `leave`.
"""

from __future__ import annotations

from collections import deque

from karafka.jobs import Job, Lane, Pool, Seat, serve
from karafka.partition import MOMENT
from karafka.relay import Relay


class Moments:
    """The jobs of one turn: kept while it gives out, performed at its end, in a worker's seat."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._lanes: deque[Lane] = deque()
        self._seat: Seat | None = None
        # Whose seat it is, or is not to be had in this turn.
        self._pool: Pool | None = None
        # Seconds that all of it takes, as far as is known.
        self._load = 0.0

    def keeps(self, job: Job, pace: float | None) -> bool:
        """Whether this thread performs `job` itself. Its messages take `pace` seconds each, None if that is unknown."""
        if pace is None:
            return False
        load = self._load + pace * len(job.run.records)
        if load > MOMENT or not self._seated(job.lane.pool):
            return False
        job.lane.jobs.append(job)
        if job.lane.claim():  # else it has a worker
            self._lanes.append(job.lane)
            self._load = load
        return True

    @property
    def kept(self) -> bool:
        """Whether there is something to `perform`."""
        return self._seat is not None

    def perform(self) -> bool:
        """Serve the lanes that were kept, as a worker does. False if another thread has the turns by now."""
        seat, lanes, relay = self._seat, self._lanes, self._relay
        assert seat is not None  # noqa: S101 - whoever keeps a job has it
        while lanes:
            lane = lanes.popleft()
            baton = relay.put_down()
            more = serve(lane)
            if not relay.take_up(baton):
                if more:
                    seat.line_up(lane)
                seat.give_back()
                return False
            if more:
                lanes.append(lane)
        self._seat, self._load = None, 0.0
        seat.give_back()
        return True

    def leave(self) -> None:
        """Another thread did not come back. What it had not come to is the workers'; its seat it gives back itself."""
        seat, self._seat, self._load = self._seat, None, 0.0
        while seat is not None and self._lanes:
            seat.line_up(self._lanes.popleft())

    def _seated(self, pool: Pool) -> bool:
        if self._seat is None and self._relay.stands_by():
            self._seat, self._pool = pool.borrow(), pool
        return self._seat is not None and self._pool is pool
