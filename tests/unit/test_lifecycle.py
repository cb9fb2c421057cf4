"""A phase that only moves forward."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


HANGS = """
import threading
from karafka.lifecycle import leave
threading.Thread(target=threading.Event().wait).start()
input()
print("out")
leave(3)
"""


@contextmanager
def hanging() -> Iterator[subprocess.Popen[str]]:
    """A process that prints, leaves once it is told to, and would hang otherwise."""
    pipe = subprocess.PIPE
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen([sys.executable, "-c", HANGS], stdin=pipe, stdout=pipe, text=True, env=buffered) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_process_leaves_at_once_and_what_it_has_printed_is_out() -> None:
    with hanging() as process:
        said, _ = process.communicate("\n", timeout=20)
        assert (process.returncode, said) == (3, "out\n")


def test_it_leaves_at_once_also_where_nobody_reads_that() -> None:
    """`karafka server | head`, say."""
    with hanging() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(20) == 3
