"""Worker threads: they serve lanes in turn, a job at a time."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Thread

from karafka.jobs import Job, Lane, Seat, serve

# How the names of worker threads begin.
WORKERS = "karafka-worker-"


class ThreadPool:
    """`size` threads, started by the server. A lane that has been served goes behind all that wait.

    Any thread submits, and may perform itself in a seat that it borrows: no more than `size` jobs are performed at
    once. Threads are daemons: past a stop's time-out the process ends without them.
    """

    lends = True

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self.name = name
        self._ready: SimpleQueue[Lane | None] = SimpleQueue()
        # One for each job that may be performed now.
        self._seats: SimpleQueue[None] = SimpleQueue()
        for _ in range(size):
            self._seats.put(None)
        self._threads: list[Thread] = []

    def submit(self, job: Job) -> None:
        lane = job.lane
        lane.jobs.append(job)
        if lane.claim():
            self._ready.put(lane)

    def borrow(self) -> Seat | None:
        try:
            self._seats.get_nowait()
        except Empty:
            return None
        return self

    def give_back(self) -> None:
        self._seats.put(None)

    def line_up(self, lane: Lane) -> None:
        self._ready.put(lane)

    def start(self) -> None:
        """Start the threads. Called once, by the server."""
        for number in range(self.size):
            thread = Thread(target=self._work, name=f"{WORKERS}{self.name}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let each thread end after the job it is at; does not wait."""
        for _ in self._threads:
            self._ready.put(None)

    def _work(self) -> None:
        while (lane := self._ready.get()) is not None:
            self._seats.get()
            more = serve(lane)
            self._seats.put(None)
            if more:
                self._ready.put(lane)
