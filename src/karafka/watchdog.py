"""Notices what is late while it still is: a listener's turn, the event loop, the process as a whole.

A thread of its own looks four times a second. What holds the GIL holds it too: it is told when the thread gets to look
again, with the stacks of that moment. Whoever held the GIL has handed it over, and has hardly gone on.

(The interpreter's `faulthandler` could look meanwhile, from C; but where it looks at threads that run, as they do when
a process wakes that was suspended or starved, the process dies of a segmentation fault.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from time import monotonic

from karafka.events import CaughtUp, Events, Late
from karafka.stacks import all_stacks

LOOK = 0.25
# Seconds that each may be late before it is told.
TURN, LOOP, PROCESS = 1.0, 0.5, 1.0


@dataclass(slots=True)
class Watched:
    """`pulse` answers when it beat last (`monotonic`; infinity while it need not); `stacks` what it does now; `at_work`
    whose code that is; `back` when it went on, where that is not its next beat.
    """

    what: str
    bound: float
    pulse: Callable[[], float]
    stacks: Callable[[], str]
    at_work: Callable[[], str]
    back: Callable[[], float] | None
    #: The beat that was told as late, and what was at work.
    told: float | None = None
    said: str = ""


class Watchdog:
    """See the module. `watch` before `start`; `start` and `stop` are the server's."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._watched: list[Watched] = []
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="karafka-watchdog", daemon=True)

    def watch(
        self,
        what: str,
        bound: float,
        pulse: Callable[[], float],
        stacks: Callable[[], str],
        at_work: Callable[[], str] = str,
        back: Callable[[], float] | None = None,
    ) -> None:
        self._watched.append(Watched(what, bound, pulse, stacks, at_work, back))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._stopped.set()
            self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            began = monotonic()
            if self._stopped.wait(LOOK):
                return
            now = monotonic()
            if now - began < LOOK + PROCESS:
                for one in self._watched:
                    self._look_at(one, now)
            # All of this round counts: whoever takes the interpreter while something else is told holds it up, too.
            by = monotonic() - began - LOOK
            if by >= PROCESS:
                # Whoever held the interpreter has hardly gone on: this thread waited for it.
                at_work = next(filter(None, (one.at_work() for one in self._watched)), "")
                self._events.tell(Late(what="the process", by=by, stacks=all_stacks(), at_work=at_work))

    def _look_at(self, one: Watched, now: float) -> None:
        beat = one.pulse()
        if one.told is not None and beat != one.told:
            went_on = one.back() if one.back is not None else min(beat, now)
            after, one.told = went_on - one.told, None
            self._events.tell(CaughtUp(what=one.what, after=after, at_work=one.said))
        if now - beat >= one.bound and one.told is None:
            one.told, one.said = beat, one.at_work()  # once, however long it lasts
            self._events.tell(Late(what=one.what, by=now - beat, stacks=one.stacks(), at_work=one.said))
