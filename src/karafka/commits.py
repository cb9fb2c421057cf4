"""What the broker is to remember: which partitions have news for it, and the one commit under way.

Commits are explicit and asynchronous, one in flight, each built from the live partitions of the turn that sends it:
the broker does not fence a member that commits what is not its own. The listener's thread's alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from karafka.client import Answer, Consumer
from karafka.errors import BrokerError
from karafka.events import CommitFailed, Committed, Events
from karafka.messages import Place
from karafka.partition import Partition, State

# A commit that is not answered by then is given up, and said so.
TIMEOUT = 10.0
# After so many finished messages a commit does not wait for its interval.
COUNT = 10_000
# With nothing left to do it need not wait for its interval, only not follow at each message's heel.
IDLE_SHARE = 0.1


class Commits:
    """See the module. `interval` in seconds; `group` for the events."""

    def __init__(self, client: Consumer, events: Events, group: str, interval: float, now: float) -> None:
        self._client = client
        self._events = events
        self._group = group
        self._interval = interval
        self._last = now
        self._finished = 0
        self._wanted: dict[Partition, None] = {}
        self._flight: dict[Place, tuple[Partition, int]] = {}
        self._flown_at = now

    def want(self, partition: Partition, finished: int = 0) -> None:
        """`partition` has something to commit; `finished` messages more than before."""
        self._wanted[partition] = None
        self._finished += finished

    def forget(self, partition: Partition) -> None:
        """Not ours any more: an answer about it means nothing."""
        self._wanted.pop(partition, None)
        if self._flight.get(partition.place, (None, 0))[0] is partition:
            del self._flight[partition.place]

    @property
    def in_flight(self) -> bool:
        return bool(self._flight)

    def wait(self, now: float) -> float:
        """Seconds until an idle listener has a commit to send; infinity if it has none."""
        if not self._wanted or self._flight:
            return float("inf")
        return max(0.0, self._last + self._interval * IDLE_SHARE - now)

    def turn(self, now: float, busy: Iterable[Partition], *, idle: bool) -> None:
        """Send a commit if one is due: each interval, after many messages, or soon when all is done (`idle`).

        `busy` are partitions whose running jobs have made progress that counts too.
        """
        if self._flight and now - self._flown_at > TIMEOUT:
            places = tuple(self._flight)
            for partition, _ in self._flight.values():
                self._wanted[partition] = None
            self._flight.clear()
            self._tell_failed(places, f"a commit was not answered within {TIMEOUT:g} s")
        if self._flight:
            return
        waited = now - self._last
        soon = idle and bool(self._wanted) and waited >= self._interval * IDLE_SHARE
        if waited >= self._interval or self._finished >= COUNT or soon:
            self.send([*self._wanted, *busy], now)

    def send(self, partitions: Iterable[Partition], now: float) -> None:
        """Ask for the finished prefix of each of `partitions`, which are ours in this turn, to be remembered."""
        self._last, self._finished = now, 0
        flight: dict[Place, tuple[Partition, int]] = {}
        for partition in partitions:
            self._wanted.pop(partition, None)
            if partition.state is not State.REVOKED and (position := partition.committable) is not None:
                flight[partition.place] = (partition, position)
        self._pass_markers(flight)
        if not flight:
            return
        self._flown_at = now
        try:
            self._client.commit({place: position for place, (_, position) in flight.items()})
        except BrokerError as error:
            self._wanted |= {partition: None for partition, _ in flight.values()}
            self._tell_failed(tuple(flight), str(error))
        else:
            self._flight |= flight

    def _pass_markers(self, flight: dict[Place, tuple[Partition, int]]) -> None:
        """Behind the last message there may be markers of transactions, which nobody ever receives.

        With nothing in hand the client's position is past them; committing that leaves no lag that nobody can work off.
        """
        idle = [place for place, (partition, _) in flight.items() if partition.count == 0 and partition.positioned]
        if not idle:
            return
        for place, position in self._client.position(idle).items():
            partition, finished = flight[place]
            if position > finished:
                partition.offsets.finish(position)
                flight[place] = (partition, position)

    def answered(self, answer: Answer) -> None:
        """The broker's word: what it keeps is told; what it refused is still ours to commit, as far as is known."""
        kept: dict[tuple[str, int], int] = {}
        refused: dict[str, list[Place]] = {}
        for place, code in answer.results.items():
            partition, position = self._flight.pop(place, (None, 0))
            if partition is None:
                continue
            if code is None:
                partition.offsets.committed = position
                kept[place] = position
            else:
                self._wanted[partition] = None
                refused.setdefault(code, []).append(place)
        if kept:
            self._events.tell(Committed(group=self._group, offsets=kept))
        for code, places in refused.items():
            self._tell_failed(tuple(places), f"a commit was refused: {code}")

    def _tell_failed(self, places: tuple[Place, ...], reason: str) -> None:
        self._events.tell(CommitFailed(group=self._group, places=places, error=f"{reason}; the next one carries it"))
