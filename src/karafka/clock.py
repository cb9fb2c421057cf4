"""Time, passed in: the machine's, and one that tests move by hand."""

from __future__ import annotations

import time
from typing import Protocol

# When nothing is to happen, among times of `monotonic`.
NEVER = float("inf")


class Clock(Protocol):
    """Seconds. `monotonic` for waiting and measuring, `wall` (since 1970, UTC) for what people read."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


class SystemClock:
    """The machine's clock. Any thread."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


class ManualClock:
    """A clock that stands still until it is moved. Any thread may read it; one moves it."""

    def __init__(self, start: float = 1_000.0) -> None:
        self._now = start

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`."""
        self._now += seconds
