"""One loop, and the thread whose turn it is to run it.

The thread that runs the loop may put the baton down to do something that should take a moment. When it does not come
back for it soon, another thread takes the baton up and goes on with the loop; whoever comes back then finds it gone,
and ends.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread, current_thread
from time import monotonic

# Seconds between two looks at whether who put the baton down has come back: the loop stands still for twice as long.
LOOK = 0.01


class Relay:
    """See the module. `run` is the loop: True at its end, False at once when `take_up` said that the baton is gone."""

    def __init__(self, name: str, run: Callable[[], bool]) -> None:
        self._name = name
        self._run = run
        # Held by the thread that runs the loop, unless it has put it down. Each thread has another one, so that who was
        # relieved does not come back while its successor is away.
        self._baton = _held()
        self._holder = self._thread(self._hold)
        self._relief: Thread | None = None
        # How often the baton was put down, and whether it lies there now; the holder's.
        self._count = 0
        self._down = False
        # Set while somebody puts the baton down now and then: the relief looks.
        self._called = Event()
        self._ended = Event()

    @property
    def ident(self) -> int:
        """The thread that runs the loop, 0 before it does."""
        return self._holder.ident or 0

    def start(self) -> None:
        """Run the loop on a thread of its own. Once."""
        self._holder.start()

    def stands_by(self) -> bool:
        """Whether there is another thread to go on with the loop. By the thread that runs it, before it goes away."""
        if self._relief is None:
            relief = self._thread(self._relieve)
            try:
                relief.start()
            except RuntimeError:  # the system has no more threads
                return False
            self._relief = relief
        return True

    def put_down(self) -> Lock:
        """Leave the loop to who stands by, unless this thread comes back soon and takes up what this returns."""
        self._count += 1
        self._down = True
        if not self._called.is_set():
            self._called.set()
        baton = self._baton
        baton.release()
        return baton

    def take_up(self, baton: Lock) -> bool:
        """Whether the loop still is this thread's, which put `baton` down. If not it must touch nothing of it."""
        if not baton.acquire(blocking=False):
            return False
        self._down = False
        return True

    def join(self, timeout: float) -> bool:
        """Wait for the end of the loop and its threads; False when `timeout` seconds passed before. True if it never
        began.
        """
        by = monotonic() + timeout
        if self._holder.ident is None:
            return True
        if not self._ended.wait(timeout):
            return False
        for thread in (self._holder, self._relief):
            if thread is not None:
                thread.join(max(0.0, by - monotonic()))
        return not self._holder.is_alive()

    def _thread(self, run: Callable[[], None]) -> Thread:
        return Thread(target=run, name=self._name, daemon=True)

    def _hold(self) -> None:
        ended = True
        try:
            ended = self._run()
        finally:
            if ended:
                self._ended.set()
                self._called.set()  # for the relief to see it

    def _relieve(self) -> None:
        while self._called.wait() and not self._ended.is_set():
            count = self._count
            if self._ended.wait(LOOK):
                return
            if self._count != count:
                continue  # it came back, and went again
            if not self._down:
                # In this order no absence goes unseen: whoever goes counts first, and calls after.
                self._called.clear()
                if self._count != count:
                    self._called.set()
            elif self._baton.acquire(blocking=False):
                self._baton, self._down = _held(), False
                self._relief, self._holder = None, current_thread()
                self._hold()
                return


def _held() -> Lock:
    baton = Lock()
    baton.acquire()
    return baton
