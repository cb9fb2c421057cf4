"""Time limits of what runs on a worker's thread: one that takes longer is interrupted, where Python can be.

That is between two of its own steps: a call that waits in C (a socket, a lock, `time.sleep`) ends first. What runs as a
task is cancelled instead, by asyncio's own means, and needs nothing of this.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from threading import Event, RLock, Thread, get_ident
from time import monotonic
from typing import TypeVar

from karafka.errors import TimeLimitError

T = TypeVar("T")

# How often it is looked whether somebody is over time, in seconds.
LOOK = 0.1

# Who is struck may clean up. Who has not ended after so many seconds is struck again: it may have caught that, or it
# came where Python ignores what is raised.
AGAIN = 5.0

# A call by `ctypes` that keeps the GIL. Takes a thread's number and a type of exception.
_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc


class _Struck(BaseException):
    """Raised in a thread that is over time. Not an `Exception`: what user code catches of those is its own."""


class _Timed:
    """One call under a limit. Whoever strikes holds its lock, and so does who ends it: then nobody strikes. The timed
    thread may be struck with the lock in its hand, so that it may have to take it twice: an `RLock`.
    """

    __slots__ = ("deadline", "ended", "lock", "over", "struck", "thread")

    def __init__(self, deadline: float) -> None:
        self.thread = get_ident()
        self.deadline = deadline
        #: Its function has come to its end; and what was on its way to it has, too.
        self.over = self.ended = False
        self.struck = False
        self.lock = RLock()

    def strike(self) -> None:
        """Interrupt it, if it is not over. The watching thread's."""
        if self.lock.acquire(blocking=False):  # else it is ending
            try:
                if not self.over:
                    self.struck = True
                    self.deadline += AGAIN
                    _raise_in(ctypes.c_ulong(self.thread), ctypes.py_object(_Struck))
            finally:
                self.lock.release()

    def end(self) -> None:
        """It is over: nothing strikes any more once this has returned. The timed thread's, which is struck here too, by
        what was on its way: then it has to call it again.
        """
        with self.lock:
            struck = self.struck
        if struck:
            _feel()
        self.ended = True


def _feel() -> None:
    """What this thread was struck by and has not felt is felt here. To take it back, by null, would leave the
    interpreter looking for it at each step, for good: it is looked for until one is found.
    """
    with suppress(_Struck):
        while True:
            _raise_in(ctypes.c_ulong(get_ident()), ctypes.py_object(_Struck))


class TimeLimits:
    """Watches calls on any threads, by a thread of its own that is started with the first."""

    def __init__(self) -> None:
        self._timed: dict[_Timed, None] = {}
        self._thread: Thread | None = None
        self._lock = RLock()
        self._stopping = Event()

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """What `function` gives, called on this thread. Raises `TimeLimitError` where it was cut off."""
        if self._thread is None:
            self._start()
        timed = _Timed(monotonic() + seconds)
        done: list[T] = []
        try:
            try:
                self._timed[timed] = None
                done.append(function())
            finally:
                # Before anything is called: from here on nobody begins to strike.
                timed.over = True
                timed.end()
        except _Struck as struck:
            # One strike may have been waiting to be felt, and another one under way.
            while not timed.ended:
                try:
                    timed.end()
                except _Struck:
                    continue
            if not done:
                raise TimeLimitError(f"it took longer than its time_limit of {seconds:g} s") from struck
        finally:
            self._timed.pop(timed, None)
        return done[0]

    def stop(self) -> None:
        """End the thread that watches."""
        self._stopping.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._watch, name="karafka-time-limits", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK):
            now = monotonic()
            for timed in list(self._timed):
                if timed.deadline <= now:
                    timed.strike()
