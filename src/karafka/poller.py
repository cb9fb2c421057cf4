"""One client's delivery reports: whose turn it is to serve them.

The client tells of the end of a message only to a thread that asks, and one does at a time, the holder of the turn. A
sender that waits for its message asks itself, so that no other thread need wake. One that has sent many looks now and
then, so that it need not share the interpreter with a thread that does. For all else there is the polling thread: it
serves reports as they come while somebody waits for one (`prompt`), otherwise every `GLANCE` seconds.

Messages linger in the client (`linger.ms`), so that they travel together; where somebody waits for one, none does.

What the client calls while Ctrl-C is heard is never called again: whoever serves on the main thread hears it after.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from _thread import allocate_lock
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from threading import Event, Lock, Thread, get_ident
from typing import Any

from karafka.client import Effect, Sender, Trouble
from karafka.clock import NEVER
from karafka.delivery import Failure, Fault, Handle, Untold
from karafka.errors import ConfigError, DeliveryError, DeliveryTimeoutError
from karafka.events import DeliveryFailed, Events, ProducerReplaced, ProducerTroubled
from karafka.signals import Held

_log = logging.getLogger("karafka.producer")

# How long one call that asks for reports may wait for one: how late a stop, or Ctrl-C, may be.
POLL = 0.1
# How long at a time somebody who waits for a message sees to it that none lingers.
HASTE = 0.005
# How often reports are served that nobody waits for.
GLANCE = 0.02
# How often an idle client is asked for news.
IDLE = 1.0
# How long the reason for which clients are given up, one after the other, is told only once; and for how long a trouble
# is not heard of before it is told again.
AGAIN = 60.0
# A client that has not delivered in time is replaced once it is so old.
OLD = 30.0
# How long ending the client may take.
CLOSE_TIMEOUT = 5.0


@dataclass(slots=True)
class Tally:
    """What holds over all clients of a producer: how many messages were not delivered; why one was given up last."""

    failed: int = 0
    _said: str = ""
    _said_at: float = 0.0

    def news(self, reason: str) -> bool:
        """Whether that is worth telling: not what was told a moment ago, of the client before."""
        now = time.monotonic()
        fresh = reason != self._said or now - self._said_at > AGAIN
        if fresh:
            self._said, self._said_at = reason, now
        return fresh


# All that run, for forks.
RUNNING: weakref.WeakSet[Poller] = weakref.WeakSet()
# When each trouble was heard last, by code and topic, and by who is told.
HEARD: weakref.WeakKeyDictionary[Events, dict[tuple[str, str | None], float]] = weakref.WeakKeyDictionary()


class Poller:
    """See the module. Any thread. What fails is told to `events`; where nobody listens, nor waits, to the log."""

    def __init__(self, client: Sender, events: Events, lost: Callable[[Poller], object], tally: Tally) -> None:
        """`lost(self)` is called when the client is of no more use: nobody is to send by it. `tally` outlives it."""
        self.client = client
        #: How many messages were not delivered.
        self.failures = 0
        self.last_error: DeliveryError | None = None
        #: Why it takes nothing new; empty while it does.
        self.over = ""
        self._events = events
        self._lost = lost
        self._tally = tally
        self._turn = Lock()
        # Who serves right now.
        self._server = 0
        self._served_at = 0.0
        self._wanted = Event()
        # User code to be called, and the thread that calls it while there is some.
        self._calls: deque[Callable[[], object]] = deque()
        self._called = Event()
        self._calling = Lock()
        self._caller: Thread | None = None
        self._started = False
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Wakes] = weakref.WeakKeyDictionary()
        self._unheard: Counter[tuple[str, str]] = Counter()
        # Whether a message was not confirmed in time: the client may have lost the cluster for good, without a word.
        self._doubtful = False
        self._born = time.monotonic()
        # What somebody waits for who does not ask for reports himself, and whether the polling thread is told.
        self._awaited: deque[Handle] = deque()
        self._prompted = False
        self._failing = False
        # How many messages were given up.
        self._left = 0
        self._ended = False
        self._retired = False
        self._gone = Event()
        self._thread = Thread(target=self._run, name="karafka-producer", daemon=True)

    def start(self) -> None:
        self._started = True
        self._thread.start()
        RUNNING.add(self)

    # ── for those who wait ───────────────────────────────────────────────────────────────────────────────────

    def wait(self, handle: Handle, timeout: float | None) -> None:
        """Return when `handle` has ended, or after `timeout` seconds."""
        by = time.monotonic() + timeout if timeout is not None else NEVER
        handle.attend()
        self.refuse_here("wait")
        # To hasten goes on until the messages of all have ended, so only for a moment: then this one is on its way. And
        # again, since one whose leader was not known then is not.
        turns = cycle(((self.client.hasten, HASTE), (self.client.serve, POLL)))
        while not handle.done and not self.over and (left := by - time.monotonic()) > 0:
            serve, most = next(turns)
            if not self._in_turn(serve, min(most, left)):
                break
        if handle.done:
            return
        ended = allocate_lock()
        ended.acquire()
        handle.watch(ended.release)
        self.prompt(handle)
        # In short waits: a signal that comes as the main thread lies down, or to another thread, wakes nobody.
        while (left := by - time.monotonic()) > 0 and not ended.acquire(timeout=min(POLL, left)):
            pass

    @property
    def serves_here(self) -> bool:
        """Whether this is called from a listener, or what else the client calls: where it is served."""
        return self._server == get_ident()

    def refuse_here(self, call: str) -> None:
        """Raises `ConfigError` where `call` would wait for its own thread."""
        if self.serves_here:
            raise ConfigError(
                f"{call} in a listener to a producer's events, or in a callback of its client: those run where reports "
                "are served, and it would wait for itself; let it go on without waiting, or on a thread of its own"
            )

    def watch(self, handle: Handle, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """What ends when `handle` does. Called on the thread of `loop`."""
        ended: asyncio.Future[None] = loop.create_future()
        wakes = self._loops.get(loop)
        if wakes is None:
            wakes = self._loops[loop] = Wakes(loop)
        handle.watch(lambda: wakes.end(ended))
        self.prompt(handle)
        return ended

    def prompt(self, handle: Handle) -> None:
        """Somebody waits for `handle`: until it has ended, reports are served as they come."""
        if self.late(handle):
            return
        self._awaited.append(handle)
        if not self._prompted:
            self._prompted = True
            self._wanted.set()

    def late(self, handle: Handle) -> bool:
        """Whether nobody serves any more: what has not ended never will, so it fails."""
        if self._ended:
            handle.fail(Failure(Fault.PURGED, "", self.over, retriable=False))
        return self._ended

    def call(self, callback: Callable[[], object]) -> None:
        """Have user code called on a thread of its own: whoever serves may hold locks, or be waited for."""
        self._calls.append(callback)
        self._called.set()
        with self._calling:
            if self._started and self._caller is None:
                self._caller = Thread(target=self._call, name="karafka-callbacks", daemon=True)
                self._caller.start()

    def judge(self, error: Any) -> Failure | None:
        """What the client's `error` means; None if the message was delivered, without an offset."""
        return self.client.judge(error)

    def failed(self, handle: Handle, error: DeliveryError, *, heard: bool) -> None:
        """`handle` has failed; whether somebody waits for it."""
        self.failures += 1
        self._tally.failed += 1
        self.last_error = error
        self._doubtful = self._doubtful or isinstance(error, DeliveryTimeoutError)
        if isinstance(handle, Untold):
            return
        if self._events.wants(DeliveryFailed):
            self._events.tell(
                DeliveryFailed(
                    topic=handle.topic,
                    key=handle.key,
                    label=handle.label,
                    kind=type(error).__name__,
                    code=error.code,
                    retriable=error.retriable,
                    error=str(error),
                )
            )
        elif not heard:
            self._unheard[handle.topic, str(error).partition(" was not delivered: ")[2]] += 1

    def see_through(self, handle: Handle) -> None:
        """It was accepted as the client was about to end: it has ended when this returns."""
        self._gone.wait(2 * CLOSE_TIMEOUT)
        self.late(handle)

    # ── for those who send ───────────────────────────────────────────────────────────────────────────────────

    def glance(self) -> None:
        """Serve what is due, unless another does."""
        self._in_turn(self.client.serve, 0.0)

    def make_room(self, patience: float) -> None:
        """Wait so long, or less, for reports: they make room in the client's queue."""
        if not self._in_turn(self.client.serve, patience):
            time.sleep(0.001)

    # ── its end ──────────────────────────────────────────────────────────────────────────────────────────────

    def flush(self, timeout: float) -> int:
        """Wait until all that was accepted has ended; how many messages have not after `timeout` seconds."""
        self.refuse_here("flush")
        by = time.monotonic() + timeout
        self.glance()  # what the client has to say of itself is counted as waiting until it is heard
        while (left := self.client.waiting()) and not self._ended and (now := time.monotonic()) < by:
            self._in_turn(self.client.hasten, min(POLL, by - now), patience=min(POLL, by - now))
        return left

    def give_up(self, reason: str) -> int:
        """All that is on its way fails now, because of `reason`, and nothing new is taken; how many that were."""
        fault = Fault.CLIENT_FAILED if self._failing else Fault.PURGED
        self.over = self.over or reason
        with Held(), self._turn:
            if not self._ended:
                before = self.failures
                given_up = Failure(fault, "", self.over, retriable=self._failing)
                self.client.purge(given_up)
                by = time.monotonic() + CLOSE_TIMEOUT
                while self.client.waiting() and time.monotonic() < by:
                    self._serve(self.client.serve, GLANCE)
                    self.client.purge(given_up)  # what a sender had in hand meanwhile
                self._left = self.failures - before
                self._ended = True
        self._gone.set()
        self._wanted.set()
        return self._left

    def end(self, reason: str, *, quiet: bool = False) -> None:
        """The client is of no more use, as it said itself: what is on its way fails, soon."""
        if not self.over:
            self._failing = True
            self.over = f"the client is of no more use: {reason}"
            if not quiet and self._tally.news(reason):
                self._events.tell(ProducerReplaced(error=self.over))
        self._lost(self)
        self._wanted.set()

    def retire(self) -> None:
        """Nobody will send any more: end when all that was accepted has."""
        # Nothing else: the collector may call this inside whatever this thread does.
        self._retired = True

    def join(self, timeout: float) -> None:
        """Wait for the end of the polling thread, and with it of the client."""
        if get_ident() != self._thread.ident and self._thread.is_alive():
            self._thread.join(timeout)

    def leave_behind(self) -> None:
        """This is another process than the one that made it (a fork): the client's threads are not here.

        To let the client go would wait for them for ever.
        """
        self.client.leave_behind()
        self.over = "the process was forked after it was accepted: the parent sends it"
        self._ended = True
        self._calls.clear()
        self._called, self._calling, self._caller = Event(), Lock(), None
        self._turn, self._gone, self._wanted = Lock(), Event(), Event()
        self._gone.set()

    # ── serving ──────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while not self._ended:
            waiting = self.client.waiting()
            if self._doubtful and not waiting and time.monotonic() - self._born > OLD:
                self.end("it has not delivered in time")
            if self.over or (self._retired and not waiting):
                self.give_up("the producer is gone")
                break
            asked = self._wanted.wait(GLANCE if waiting else IDLE)
            self._wanted.clear()
            if self._prompted:
                self._serve_as_they_come()
            elif asked or time.monotonic() - self._served_at > GLANCE:
                self.glance()
        RUNNING.discard(self)
        self.client.close()
        self._called.set()
        if (caller := self._caller) is not None:
            caller.join(CLOSE_TIMEOUT)

    def _serve_as_they_come(self) -> None:
        while True:
            self._prompted = False  # before the last look: who comes after it prompts anew
            if not self._somebody_waits() or not self.client.waiting() or self.over:
                return
            self._prompted = True
            self._in_turn(self.client.hasten, POLL, patience=POLL)

    def _somebody_waits(self) -> bool:
        """Whether what is awaited has not all ended. The polling thread's alone."""
        awaited = self._awaited
        while awaited:
            if not awaited[0].done:
                awaited.rotate(-1)  # so that one which takes long does not keep those behind it, which have ended
                return True
            awaited.popleft()
        return False

    def _in_turn(self, serve: Callable[[float], None], timeout: float, *, patience: float = 0.0) -> bool:
        """Serve for `timeout` seconds at most. Whether the turn was to be had, at once or within `patience` seconds."""
        with Held():
            if not self._turn.acquire(timeout=patience):
                return False
            try:
                self._serve(serve, timeout)
            finally:
                self._turn.release()
        return True

    def _serve(self, serve: Callable[[float], None], timeout: float) -> None:
        """With the turn, and signals held: hear what there is."""
        self._server, self._served_at = get_ident(), time.monotonic()
        try:
            serve(timeout)
            self._hear()
        except Exception:  # noqa: BLE001 - told, with its traceback
            # Of a stats_cb, say, which the client passes on: others wait for this thread.
            _log.exception("what a producer's client calls raised")
        finally:
            self._server = 0

    def _hear(self) -> None:
        for trouble in self.client.news():
            if trouble.effect is Effect.END:
                if not self.over:
                    self.end(f"{trouble.text} ({trouble.code})")
            elif self._is_news(trouble):
                self._events.tell(ProducerTroubled(code=trouble.code, error=trouble.text))
        if self._unheard:
            unheard, self._unheard = self._unheard, Counter()
            for (topic, reason), count in unheard.items():
                shown = "a message" if count == 1 else f"{count} messages"
                _log.error("%s to %r not delivered, and nobody waits to hear of it: %s", shown, topic, reason)

    def _is_news(self, trouble: Trouble) -> bool:
        """Whether it was not heard for a while, of any client whose troubles are told to the same listeners."""
        heard, cause, now = HEARD.setdefault(self._events, {}), (trouble.code, trouble.topic), time.monotonic()
        before, heard[cause] = heard.get(cause, -NEVER), now
        return now - before >= AGAIN

    def _call(self) -> None:
        """The thread of user code: it ends when there has been none for a while."""
        while True:
            self._called.clear()
            self._run_calls()
            if not self._ended and self._called.wait(IDLE):
                continue
            with self._calling:
                if not self._calls:
                    self._caller = None
                    return

    def _run_calls(self) -> None:
        while self._calls:
            try:
                self._calls.popleft()()
            except BaseException:  # noqa: BLE001 - the user's: what comes behind it is called all the same
                _log.exception("a callback of a message raised")


class Wakes:
    """Wakes those who await on one event loop: once for all whose messages ended meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._ended: deque[asyncio.Future[None]] = deque()
        self._coming = False

    def end(self, future: asyncio.Future[None]) -> None:
        """Any thread."""
        self._ended.append(future)
        loop = self._loop()
        if not self._coming and loop is not None:
            self._coming = True
            with suppress(RuntimeError):  # the loop has been closed: nobody awaits any more
                loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._coming = False
        while self._ended:
            future = self._ended.popleft()
            if not future.done():  # whoever awaited may have been cancelled
                future.set_result(None)
