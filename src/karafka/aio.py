"""The event loop on a thread of its own: `async def perform` runs there, one loop per process."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from time import monotonic

from karafka.jobs import Job, Lane, perform_async


class LoopThread:
    """One event loop, run by one thread until `stop`. Any thread may call in."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._ready = Event()
        self._stopping = Event()
        # Set from a question of `pulse` until the loop answers it.
        self._asked = Event()
        self._sent = 0.0
        self._thread = Thread(target=self._run, name="karafka-loop", daemon=True)

    @property
    def ident(self) -> int:
        return self._thread.ident or 0

    def pulse(self) -> float:
        """When the loop answered last (`monotonic`); asks it again. One thread calls it, the watchdog."""
        if not self._asked.is_set():
            self._asked.set()
            with suppress(RuntimeError):  # closed: it has nothing to be late with
                self._sent = monotonic()
                self.loop.call_soon_threadsafe(self._asked.clear)
        return self._sent if self._asked.is_set() else float("inf")

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Cancel what still runs and end the loop; waits a second at most."""
        if self._thread.is_alive():
            self._stopping.set()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(1.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._ready.set)
        try:
            while not self._stopping.is_set():
                # A task that raises these two takes them through the loop; whoever awaits it is told as well, and
                # their verdict is the listener's. The loop goes on for everybody else.
                with suppress(SystemExit, KeyboardInterrupt):
                    self.loop.run_forever()
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()


class LoopPool:
    """Serves lanes as tasks on a loop, at most `limit` side by side (None: as many as there are lanes).

    `submit` is any thread's; all else happens on the loop's.
    """

    def __init__(self, thread: LoopThread, limit: int | None = None) -> None:
        self._thread = thread
        self._limit = limit
        self._waiting: deque[Lane] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        # How many tasks serve: a task is in the set for a moment longer.
        self._serving = 0
        self._stopped = False

    def submit(self, job: Job) -> None:
        lane = job.lane
        lane.jobs.append(job)
        if lane.claim():
            self._thread.loop.call_soon_threadsafe(self._enter, lane)

    def stop(self) -> None:
        """What still runs is cancelled by the loop's thread; from now on that is meant."""
        self._stopped = True

    def _enter(self, lane: Lane) -> None:
        if self._limit is not None and self._serving >= self._limit:
            self._waiting.append(lane)
        else:
            self._spawn(lane)

    async def _serve(self, lane: Lane) -> None:
        """One job of `lane`, then the next lane that waits; see `ThreadPool._serve` for the order of the last lines."""
        job = lane.take()
        if job is not None:
            lane.reply(await perform_async(job))
        lane.release()
        if lane.claim():
            self._waiting.append(lane)
        self._serving -= 1
        if self._waiting:
            self._spawn(self._waiting.popleft())

    def _spawn(self, lane: Lane) -> None:
        self._serving += 1
        task = self._thread.loop.create_task(self._serve(lane))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, lane))

    def _ended(self, lane: Lane, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() and not self._stopped:
            # Before it began, by user code that cancels all tasks there are: nobody would hear of its job.
            self._serving -= 1
            self._enter(lane)
