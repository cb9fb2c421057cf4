"""Which messages of a partition are finished, and so up to where it may be committed."""

from __future__ import annotations


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
