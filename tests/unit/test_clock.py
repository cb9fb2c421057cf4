"""Time, passed in."""

from __future__ import annotations

import time

from karafka.clock import ManualClock, SystemClock


def test_a_manual_clock_stands_until_it_is_moved() -> None:
    """Both its faces show the same."""
    clock = ManualClock(10.0)
    assert (clock.monotonic(), clock.wall()) == (10.0, 10.0)

    clock.advance(2.5)
    assert (clock.monotonic(), clock.wall()) == (12.5, 12.5)


def test_the_machine_s_clock_is_the_machine_s() -> None:
    """Seconds; `wall` since 1970."""
    assert abs(SystemClock().monotonic() - time.monotonic()) < 5
    assert abs(SystemClock().wall() - time.time()) < 5
