"""The event loop on a thread of its own: `async def perform` runs there, one loop per process."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from threading import Event, Thread
from time import monotonic
from typing import Any, TypeVar

from karafka.clock import NEVER
from karafka.contexts import AT_WORK, NOBODY, Baseline, Place, at_work, in_words
from karafka.jobs import Job, Lane, perform_async

T = TypeVar("T")

_log = logging.getLogger("karafka.aio")

# Seconds.
JUST_NOW = 0.25


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed (`karafka[uvloop]`), else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class LoopThread:
    """One event loop, run by one thread until `stop`. Any thread may call in.

    What runs there for a message begins in a copy of `context`.
    """

    def __init__(self, context: Context) -> None:
        self.loop = new_loop()
        self.context = context
        #: The tasks that serve lanes. The loop's.
        self.serving: set[asyncio.Task[None]] = set()
        #: What was at work last (`AT_WORK`), and when it ended.
        self.last: tuple[str, Place] | None = None
        self.ended = 0.0
        self._ready = Event()
        self._stopping = Event()
        self._wait = 0.0
        # Set from a question of `pulse` until the loop answers it.
        self._asked = Event()
        self._sent = 0.0
        self._answered = 0.0
        #: When the question before was answered.
        self.answered = 0.0
        self._thread = Thread(target=self._run, name="karafka-loop", daemon=True)

    @property
    def ident(self) -> int:
        return self._thread.ident or 0

    def pulse(self) -> float:
        """Since when the loop owes an answer (`monotonic`), infinity if it does not; asks it again. The watchdog's."""
        if not self._asked.is_set():
            self._asked.set()
            self.answered = self._answered
            with suppress(RuntimeError):  # closed: it has nothing to be late with
                self._sent = monotonic()
                self.loop.call_soon_threadsafe(self._answer)
        return self._sent if self._asked.is_set() else NEVER

    def _answer(self) -> None:
        self._answered = monotonic()
        self._asked.clear()

    def at_work(self) -> str:
        """Whose code holds the loop at this moment, or did until just now, and for which message; empty where that is
        not known. Any thread: one that waited for the GIL may come a moment too late.
        """
        if task := asyncio.current_task(self.loop):
            return at_work(task)
        last, ended = self.last, self.ended
        return in_words(*last) if last is not None and monotonic() - ended < JUST_NOW else ""

    def start(self) -> None:
        """Run the loop; returns when it does. Nothing happens if it runs already."""
        if self._thread.ident is None:
            self._thread.start()
            self._ready.wait()

    def begin(self, coroutine: Coroutine[Any, Any, T], context: Context) -> tuple[Future[T], Callable[[], object]]:
        """Run `coroutine` as a task in `context` itself: the answer, once it has ended, and what cancels it."""
        answer: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def ended(task: asyncio.Task[T]) -> None:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is None:
                answer.set_result(task.result())
            else:
                answer.set_exception(error)

        def begun() -> None:
            tasks.append(self.loop.create_task(coroutine, context=context))
            tasks[0].add_done_callback(ended)

        self.loop.call_soon_threadsafe(begun)
        return answer, lambda: self.loop.call_soon_threadsafe(lambda: tasks[0].cancel())  # noqa: PLW0108 - made by then

    def cancel(self, wait: float) -> None:
        """Cancel what serves lanes, and wait up to `wait` seconds for its end. Not on the loop's own thread."""
        if self._thread.is_alive():
            answer, _ = self.begin(_cancelled(self.serving, wait), Context())
            with suppress(TimeoutError):  # what blocks the loop is left
                answer.result(wait + 0.5)

    def stop(self, wait: float) -> None:
        """Cancel all that is left on the loop, let it clean up for `wait` seconds, and end the loop."""
        if self._thread.ident is None:
            self.loop.close()
        elif self._thread.is_alive():
            self._wait = wait
            self._stopping.set()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(wait + 0.5)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._ready.set)
        try:
            # A task that raises these two takes them through the loop; whoever awaits it is told as well, and their
            # verdict is the listener's. The loop goes on for everybody else.
            while not self._stopping.is_set():
                with suppress(SystemExit, KeyboardInterrupt):
                    self.loop.run_forever()
            with suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_until_complete(_cancelled(asyncio.all_tasks(self.loop), self._wait))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()


async def _cancelled(tasks: set[asyncio.Task[Any]], wait: float) -> None:
    """Cancel `tasks`, and wait for their end, however that is, up to `wait` seconds."""
    if left := {one for one in tasks if one.cancel()}:
        await asyncio.wait(left, timeout=wait)


class LoopPool:
    """Serves lanes as tasks on a loop, at most `limit` side by side (None: as many as there are lanes).

    `submit` and `stop` are any thread's; all else happens on the loop's.
    """

    #: No other thread performs what belongs on the loop.
    lends = False

    def __init__(self, thread: LoopThread, limit: int | None = None) -> None:
        self._thread = thread
        self._limit = limit
        self._waiting: deque[Lane] = deque()
        # Claimed by other threads and not seen by the loop yet; whether it was called to see them.
        self._incoming: deque[Lane] = deque()
        self._called = False
        # Made to serve a lane, and not come to it yet.
        self._unbegun: dict[asyncio.Task[None], Lane] = {}
        # How many tasks serve: the thread's set has them for a moment longer.
        self._serving = 0
        # Who ended a job last: of whoever does so twice in a row nobody knows that it let others have their turn.
        self._served_last: asyncio.Task[None] | None = None
        self._stopped = Event()

    def submit(self, job: Job) -> None:
        lane = job.lane
        lane.jobs.append(job)
        if lane.claim():
            self._incoming.append(lane)
            # One call for all that come until the loop looks: each costs a system call.
            if not self._called:
                self._called = True
                self._thread.loop.call_soon_threadsafe(self._enter)

    def borrow(self) -> None: ...

    def stop(self) -> None:
        """Begin nothing more: what still runs is cancelled by the loop's thread."""
        self._stopped.set()

    def _enter(self) -> None:
        # In this order none is forgotten: whoever appends after the last look calls again.
        self._called = False
        while self._incoming:
            self._admit(self._incoming.popleft())

    def _admit(self, lane: Lane) -> None:
        if self._limit is not None and self._serving >= self._limit:
            self._waiting.append(lane)
        else:
            self._spawn(lane)

    async def _serve(self, lane: Lane) -> None:
        """One job of `lane`, then of the next lane that waits: a task costs 10 µs, so it goes on for as long as none
        leaves a variable behind. See `ThreadPool._serve` for the order of what follows a job.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it is one
        self._unbegun.pop(task, None)
        AT_WORK.set(NOBODY)
        thread, before = self._thread, Baseline()
        while not self._stopped.is_set():
            if (job := lane.take()) is not None:
                outcome = await perform_async(job)
                thread.last, thread.ended = AT_WORK.get(), monotonic()
                if self._stopped.is_set() and outcome.error is not None:
                    _tell_late(outcome.error)
                lane.reply(outcome)
            lane.release()
            if lane.claim():
                self._waiting.append(lane)
            if self._waiting and self._served_last is task:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)  # it did not wait: the others' turn
            self._served_last = task
            if not self._waiting:
                break
            lane = self._waiting.popleft()
            if before.changed() or task.cancelling():
                self._spawn(lane)
                break
        self._serving -= 1

    def _spawn(self, lane: Lane) -> None:
        self._serving += 1
        task = self._thread.loop.create_task(self._serve(lane), context=self._thread.context.copy())
        self._thread.serving.add(task)
        task.add_done_callback(self._ended)
        self._unbegun[task] = lane

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._thread.serving.discard(task)
        # It was cancelled before it began, by user code that cancels all tasks there are: nobody would hear of its job.
        if (lane := self._unbegun.pop(task, None)) is not None and not self._stopped.is_set():
            self._serving -= 1
            self._admit(lane)


def _tell_late(error: BaseException) -> None:
    """No listener hears of it any more."""
    if not isinstance(error, asyncio.CancelledError):
        _log.error("%s raised, after it was cancelled by the stop", at_work(asyncio.current_task()), exc_info=error)
