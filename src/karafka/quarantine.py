"""Messages that kill the process: known by ends that nobody told of, named before they are tried again, buried.

Only for routes with `DeadLetter(crashes=True)`. While an owner is at work the commit's metadata says so; one that ends
in order takes it back. After two ends in a row that were not taken back a partition is suspect: its messages are
performed one by one, each after the broker has confirmed a commit that names it, and one suspect at a time in the
process. What was named and killed its process as often as the dead letter's `after` is buried unperformed. The
listener's thread's alone, but for `Token`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock

from karafka.commits import COUNT, Commits
from karafka.errors import CrashError
from karafka.events import Events, Suspected
from karafka.messages import Place, Record
from karafka.metadata import Memo
from karafka.partition import AHEAD, Partition, Setback, Suspicion
from karafka.setbacks import Setbacks

# How soon a suspect that has to wait for another one is looked at again.
TURN = 0.05


@dataclass(slots=True)
class Token:
    """Held by the one partition of the process whose suspect message is performed. Any listener's thread."""

    _holder: Partition | None = None
    _lock: Lock = field(default_factory=Lock)

    def claim(self, partition: Partition) -> bool:
        with self._lock:
            self._holder = self._holder or partition
            return self._holder is partition

    def release(self, partition: Partition) -> None:
        with self._lock:
            if self._holder is partition:
                self._holder = None


class Quarantine:
    """See the module. `wake_at(partition, time)` has the listener look at it again then."""

    def __init__(
        self,
        group: str,
        events: Events,
        token: Token,
        commits: Commits,
        setbacks: Setbacks,
        wake_at: Callable[[Partition, float], None],
    ) -> None:
        self._group = group
        self._events = events
        self._token = token
        self._commits = commits
        self._setbacks = setbacks
        self._wake_at = wake_at
        # What was kept of partitions that this process lost and outlived.
        self._outlived: dict[Place, Memo] = {}

    def begin(self, partition: Partition) -> None:
        """A new assignment: count how the last one ended; nothing is given out before the broker knows of this one."""
        grave = partition.policy.dead_letter
        kept = partition.memo
        if grave is None or not grave.crashes:
            partition.memo = replace(kept.cleared(), open=False)
            return
        outlived = self._outlived.pop(partition.place, None)
        crashed = kept.open and kept != outlived
        crashes = kept.crashes + crashed
        named = kept if crashed else replace(kept, named=-1, times=0)
        partition.memo = replace(named, open=True, crashes=crashes)
        span = COUNT + max(
            AHEAD * partition.policy.max_messages, partition.policy.ahead if partition.policy.lane else 0
        )
        partition.suspicion = Suspicion(after=grave.after, clear_at=partition.assignment.offset + span)
        self._commits.note(partition)
        if partition.suspect:
            topic, number = partition.place
            said = f"{crashes} processes in a row ended without a word while at work on it: its messages go one by one"
            self._events.tell(Suspected(group=self._group, topic=topic, partition=number, crashes=crashes, error=said))

    def lets(self, partition: Partition, now: float) -> bool:
        """Whether something of `partition` may be given out now; what must happen before that is set going."""
        suspicion = partition.suspicion
        if suspicion is None:
            return True
        if suspicion.noted != partition.memo:
            self._commits.note(partition)
            return False
        record = partition.first
        if not partition.suspect or record is None or partition.due(now) > now:
            return True
        if partition.out:
            return False
        if not self._token.claim(partition):
            self._wake_at(partition, now + TURN)
            return False
        offset = record.offset() or 0
        if suspicion.named != offset:
            self._name(partition, suspicion, record, offset)
            return False
        return True

    def _name(self, partition: Partition, suspicion: Suspicion, record: Record, offset: int) -> None:
        """Say which message is next, before it is performed; or bury it, if it has killed often enough."""
        killed = partition.memo.times if partition.memo.named == offset else 0
        if killed >= suspicion.after:
            self._token.release(partition)
            error = CrashError(f"{killed} processes died while it was performed, and nothing else that is suspect")
            self._setbacks.bury(partition, Setback(record, killed, error, alone=True))
            return
        suspicion.named = offset
        partition.memo = replace(partition.memo, named=offset, times=killed + 1)
        self._commits.note(partition)

    def settled(self, partition: Partition) -> None:
        """Something of `partition` is back."""
        self._token.release(partition)

    def close(self, partition: Partition) -> None:
        """`partition` is given up in order: the last commit takes back that somebody is at work."""
        if partition.suspicion is not None:
            partition.memo = replace(partition.memo.cleared(), open=False)

    def lose(self, partition: Partition) -> None:
        """`partition` is lost, and this process lives: if it comes back, nobody died."""
        self._token.release(partition)
        if partition.suspicion is not None and partition.suspicion.noted is not None:
            self._outlived[partition.place] = partition.suspicion.noted
