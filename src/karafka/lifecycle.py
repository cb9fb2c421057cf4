"""A phase that only moves forward; and the end of a process that waits for nothing."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from enum import IntEnum
from threading import Condition
from typing import NoReturn


class Phase(IntEnum):
    """What a server, a listener or a producer is doing; each is passed through once at most."""

    STARTING = 0
    RUNNING = 1
    #: Takes nothing new, and keeps what it has, its partitions too.
    QUIET = 2
    STOPPING = 3
    STOPPED = 4


class Lifecycle:
    """STARTING, RUNNING, QUIET, STOPPING, STOPPED: forward only. Any thread, but no signal handler (it locks)."""

    def __init__(self) -> None:
        self._phase = Phase.STARTING
        self._moved = Condition()

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def stopping(self) -> bool:
        """Whether the end has begun (or is past)."""
        return self._phase >= Phase.STOPPING

    def advance(self, phase: Phase) -> bool:
        """Go to `phase`; False if already there or past it, so two signals stop a server once."""
        with self._moved:
            moved = phase > self._phase
            self._phase = max(phase, self._phase)
            self._moved.notify_all()
        return moved

    def wait(self, phase: Phase, timeout: float | None = None) -> bool:
        """Wait until `phase` is reached; False when `timeout` seconds passed before."""
        with self._moved:
            return self._moved.wait_for(lambda: self._phase >= phase, timeout)


def leave(status: int) -> NoReturn:
    """End the process at once, whatever hangs. What was logged and printed is out, if somebody still reads it."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)
