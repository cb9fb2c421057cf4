"""Worker threads: they serve lanes in turn, a job at a time."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Thread

from karafka.jobs import Job, Lane, perform

# How the names of worker threads begin.
WORKERS = "karafka-worker-"


class ThreadPool:
    """`size` threads, started by the first job. A lane that has been served goes behind all that wait.

    Any thread submits. Threads are daemons: past a stop's time-out the process ends without them.
    """

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self.name = name
        self._ready: SimpleQueue[Lane | None] = SimpleQueue()
        self._threads: list[Thread] = []

    def submit(self, job: Job) -> None:
        lane = job.lane
        lane.jobs.append(job)
        if lane.claim():
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
            self._serve(lane)

    def _serve(self, lane: Lane) -> None:
        """One job of `lane`; then the lane goes to the end of the queue, if more of it waits."""
        job = lane.take()
        if job is not None:
            lane.reply(perform(job))
        # In this order, no job is forgotten: whoever appends tries to claim after appending, we after releasing.
        lane.release()
        if lane.claim():
            self._ready.put(lane)
