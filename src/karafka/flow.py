"""How much is in hand, within bounds of messages, bytes and memory: what is fetched, who is paused, who stands still.

Pausing costs: the client drops what it fetched ahead for the partition, and fetches it again later. So a partition is
paused when it holds enough for a while, and fetched again at half of that; what is done in a moment is only not
added to. The listener's thread's alone.
"""

from __future__ import annotations

from collections.abc import Collection

from karafka.client import Consumer
from karafka.clock import NEVER
from karafka.events import Events, HeldUp, Paused, Resumed, Stalled
from karafka.partition import RUN_TIME, Partition

# Messages asked for at once while work is out: more come from one call only at the cost of the processor's cache.
FETCH = 2_000
# The same with none out: who fetched them may perform them, too, while they are in its cache. (Of 2,000 each takes
# 0.07 us more.)
SHORT_FETCH = 1_000


class Flow:
    """See the module. `memory` in bytes, `stall_after` in seconds; `group` for the events."""

    def __init__(self, client: Consumer, events: Events, group: str, memory: int, stall_after: float) -> None:
        self._client = client
        self._events = events
        self._group = group
        self._memory = memory
        self._stall_after = stall_after
        # Sets, as dicts that keep their order: what has messages in hand, what is not fetched.
        self._holding: dict[Partition, None] = {}
        self._paused: dict[Partition, None] = {}
        self._over = False
        #: Whether nothing is to be fetched any more.
        self.quiet = False
        # As measured: bytes of a message.
        self._mean = 0.0
        # What had messages in hand when it was looked at whether they get on; when that is looked at again.
        self._held: dict[Partition, None] = {}
        self._stall_tick = 0.0
        #: Since when the message that is the oldest unfinished one of its partition for longest is that; infinity where
        #: none is in hand. As of the last look. Any thread may ask.
        self.oldest = NEVER

    def received(self, partition: Partition, count: int, size: int) -> None:
        """`count` messages of `size` bytes in all came for `partition`."""
        self._holding[partition] = None
        self._mean = size / count

    def limit(self, *, busy: bool) -> int:
        """How many messages to ask for: few when they are large. `busy`: whether work is out."""
        limit = FETCH if busy else SHORT_FETCH
        if self._mean * limit < self._memory / 8:
            return limit
        return max(1, int(self._memory / 8 / self._mean))

    def enough(self, busy: Collection[Partition]) -> bool:
        """Whether `busy` partitions, or those that could be, hold enough that is done in a moment: fetching more would
        only fill memory.

        Each is judged by its own pace: one that takes long must not stop the polling.
        """
        count = size = 0
        load = 0.0
        for partition in busy:
            if partition.pace is None:
                return False
            count += partition.count
            size += partition.size
            load += partition.load
        return load <= RUN_TIME and (count >= 2 * FETCH or size >= self._memory / 2)

    def spare(self, busy: Collection[Partition]) -> float:
        """Seconds for which the workers of all `busy` partitions have enough to begin, whatever comes back."""
        return min((partition.spare for partition in busy), default=0.0)

    def hush(self, partition: Partition) -> None:
        """Fetch nothing more of `partition`: the server is quiet."""
        self.quiet = True
        if not partition.paused:
            self._pause(partition)

    def stalls(self, now: float) -> None:
        """Tell of partitions that have messages in hand and do not get on."""
        if now < self._stall_tick:
            return
        self._stall_tick = now + min(1.0, self._stall_after / 4)
        before, self._held = self._held, {partition: None for partition in self._holding if partition.count}
        for partition in self._held:
            if partition not in before:
                partition.stood_at = -1
            waited = partition.stalled(now, self._stall_after)
            if partition.held_up != partition.told_held_up:
                self._tell_held_up(partition, now)
            if waited is not None:
                topic, number = partition.place
                event = Stalled(
                    group=self._group, topic=topic, partition=number, offset=partition.in_progress, waited=waited
                )
                self._events.tell(event)
        self.oldest = min((partition.stood_since for partition in self._held), default=NEVER)

    def check(self, partition: Partition) -> None:
        """`partition` changed: pause it if it holds enough for a while, fetch it again when there is room."""
        if self.quiet:
            return
        full = partition.full
        if not partition.paused and full and (partition.held_up or partition.pace is None or partition.load > RUN_TIME):
            self._pause(partition)
        elif partition.paused and partition.drained and not self._over:
            self._resume(partition)

    def turn(self) -> None:
        """Over the budget, the partitions that hold most are paused first; all go on at half of it."""
        self._holding = {partition: None for partition in self._holding if partition.count}
        held = sum(partition.size for partition in self._holding)
        if held > self._memory:
            self._over = True
            # Those that are paused already shrink by themselves; of the others as many as it takes, the largest first.
            left = held - sum(partition.size for partition in self._paused)
            for partition in sorted(self._holding, key=lambda one: one.size, reverse=True):
                if left <= self._memory:
                    break
                if not partition.paused:
                    self._pause(partition)
                    left -= partition.size
        elif self._over and held <= self._memory / 2:
            self._over = False
        if self._over:
            # Whoever holds far less than its share goes on, however long the others take over theirs.
            fair = self._memory / 2 / max(1, len(self._holding))
            ready = [one for one in self._paused if one.drained and one.size <= fair / 2]
        else:
            ready = [one for one in self._paused if one.drained]
        for partition in ready if not self.quiet else ():
            self._resume(partition)

    def _tell_held_up(self, partition: Partition, now: float) -> None:
        partition.told_held_up = partition.held_up
        if not partition.held_up:
            return
        topic, number = partition.place
        offset = partition.in_progress
        ahead, waited = partition.received - offset, now - partition.stood_since
        said = (
            f"offset {offset} is not finished for {waited:.0f} s, and {ahead} beyond it were received: they wait for it"
        )
        event = HeldUp(
            group=self._group, topic=topic, partition=number, offset=offset, ahead=ahead, waited=waited, error=said
        )
        self._events.tell(event)

    def forget(self, partition: Partition) -> None:
        """Not ours any more."""
        self._holding.pop(partition, None)
        self._paused.pop(partition, None)

    def _pause(self, partition: Partition) -> None:
        partition.paused = True
        self._paused[partition] = None
        self._client.pause([partition.place])
        topic, number = partition.place
        count, size = partition.count, partition.size
        self._events.tell(Paused(group=self._group, topic=topic, partition=number, count=count, size=size))

    def _resume(self, partition: Partition) -> None:
        partition.paused = False
        self._paused.pop(partition, None)
        self._client.resume([partition.place])
        topic, number = partition.place
        self._events.tell(Resumed(group=self._group, topic=topic, partition=number))
