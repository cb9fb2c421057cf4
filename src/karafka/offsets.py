"""Which messages of a partition are finished, and so up to where it may be committed."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Offsets:
    """The finished prefix of one assignment of one partition. The listener's thread's alone.

    `base` is the offset the partition was assigned with: all below is somebody else's work.
    """

    __slots__ = ("committed", "finished")

    def __init__(self, base: int, committed: int | None = None) -> None:
        #: All below is finished.
        self.finished = base
        #: What the broker has confirmed, None before the first time.
        self.committed = committed

    def finish(self, position: int) -> None:
        """All below `position` is finished. Never goes back."""
        self.finished = max(self.finished, position)


class Scattered(Offsets):
    """The same where messages end out of order: the prefix, and ranges above it, with gaps between.

    What it costs goes by the number of gaps, not by the span. `above` are gaps and runs in turn, from `base` up, as
    they were kept with what was committed.
    """

    __slots__ = ("_ends", "_starts", "version")

    def __init__(self, base: int, committed: int | None = None, above: tuple[int, ...] = ()) -> None:
        super().__init__(base, committed)
        # Finished from each start up to before its end; apart from each other, and above the prefix.
        self._starts: list[int] = []
        self._ends: list[int] = []
        #: Changes with what `above` answers.
        self.version = 0
        at = base
        for gap, run in zip(above[::2], above[1::2], strict=False):
            self._starts.append(at + gap)
            self._ends.append(at + gap + run)
            at += gap + run

    def finish(self, position: int) -> None:
        if position <= self.finished:
            return
        starts, ends = self._starts, self._ends
        count = bisect_right(starts, position)
        if count:
            position = max(position, ends[count - 1])
            del starts[:count], ends[:count]
        self.finished = position
        if starts or count:
            self.version += 1

    def settle(self, start: int, end: int) -> None:
        """All from `start` up to before `end` is finished."""
        if start <= self.finished:
            self.finish(end)
            return
        starts, ends = self._starts, self._ends
        first, last = bisect_left(ends, start), bisect_right(starts, end)
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]
        self.version += 1

    def holds(self, offset: int) -> bool:
        """Whether the message at `offset` is finished."""
        if offset < self.finished:
            return True
        index = bisect_right(self._starts, offset) - 1
        return index >= 0 and offset < self._ends[index]

    @property
    def gaps(self) -> int:
        """How many ranges stand above the prefix."""
        return len(self._starts)

    def above(self, position: int) -> tuple[int, ...]:
        """Gaps and runs in turn, from `position` up, which is the prefix or beyond it."""
        said: list[int] = []
        for start, end in zip(self._starts, self._ends, strict=True):
            if start > position:
                said += (start - position, end - start)
                position = end
        return tuple(said)
