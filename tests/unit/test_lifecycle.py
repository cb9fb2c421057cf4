"""A phase that only moves forward."""

from __future__ import annotations

from karafka.lifecycle import Lifecycle, Phase


def test_it_goes_forward_once() -> None:
    """Two signals stop a server once."""
    lifecycle = Lifecycle()
    assert not lifecycle.stopping

    assert lifecycle.advance(Phase.RUNNING)
    assert lifecycle.advance(Phase.STOPPING)
    assert not lifecycle.advance(Phase.STOPPING)
    assert not lifecycle.advance(Phase.RUNNING)
    assert lifecycle.phase is Phase.STOPPING


def test_phases_may_be_passed_over() -> None:
    """A server that never ran stops too."""
    lifecycle = Lifecycle()

    assert lifecycle.advance(Phase.STOPPED)
    assert lifecycle.stopping


def test_stopping_says_whether_the_end_has_begun() -> None:
    """Or is past."""
    lifecycle, seen = Lifecycle(), []
    for phase in Phase:
        lifecycle.advance(phase)
        seen.append(lifecycle.stopping)

    assert seen == [False, False, False, True, True]


def test_waiting_for_what_is_reached_takes_no_time() -> None:
    """And says so; for what is not reached it gives up in time."""
    lifecycle = Lifecycle()
    lifecycle.advance(Phase.STOPPING)

    assert lifecycle.wait(Phase.RUNNING, 0)
    assert lifecycle.wait(Phase.STOPPING)
    assert not lifecycle.wait(Phase.STOPPED, 0)
