"""A Celery app's jobs where they are performed: in the processes, or threads, of Celery's own worker program.

All jobs are one task, which Celery acknowledges once it has ended well, was sent again, or was given up: to the queue
`QUEUE.dead`, from where it can be performed again.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from functools import partial
from threading import RLock
from time import sleep, time
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from celery import Celery, signals
from celery.concurrency.prefork import TaskPool as Forking
from celery.exceptions import Ignore, Reject, Terminated, TimeLimitExceeded
from celery.exceptions import Retry as SentAgain
from celery.worker import state
from celery.worker.request import Request

from karafka.backends.celery_post import TASK, Post, keeping
from karafka.backends.port import Host
from karafka.errors import ConfigError, EnqueueError, TimeLimitError, words
from karafka.policy import TEXT_LIMIT, Retry
from karafka.workers import Worker, find

_log = logging.getLogger("karafka.celery")

# What ends the name of the queue of those that were given up.
DEAD = ".dead"
# A job that has not been interrupted by then, so many seconds after its time limit, waits in C: a signal is sent; so
# many later its process is killed.
SIGNALLED, KILLED = 1.0, 10.0
# How long a pool's process may take to open what the app's hooks open, in seconds. Celery kills it after 4 otherwise.
OPENING = 60.0
# How often a worker tries to send a job again that failed, and the seconds between.
TRIES, PAUSE = 5, 1.0
# The worker's exit status where its app could not start.
NOT_STARTED = 1


class GivenUpError(Exception):
    """How a task ends whose job was given up: Celery, and what listens to it, takes it for failed."""


class Jobs:
    """Those of one Celery app. In each process: made as the apps are declared, begun by Celery's signals."""

    _known: ClassVar[WeakKeyDictionary[Celery, Jobs]] = WeakKeyDictionary()

    @classmethod
    def of(cls, app: Celery, post: Post, grace: float) -> Jobs:
        """Of several backends of one Celery app they are the same."""
        if app not in cls._known:
            cls._known[app] = cls(app, post, grace)
        return cls._known[app]

    def __init__(self, app: Celery, post: Post, grace: float) -> None:
        self._grace = grace
        self._app, self._post = app, post
        self._makers: list[Callable[[], Host]] = []
        self._hosts: list[Host] = []
        self._lock = RLock()
        # Celery's worker program, and the process that it is; None where it does not run.
        self._worker: Any = None
        self._main = 0
        # The process in which the apps were begun.
        self._begun = 0
        self._logs, self._logged = True, False
        # Of all processes of the worker: whether one could not begin.
        self._failed = mmap.mmap(-1, 1)
        app.task(
            name=TASK,
            bind=True,
            shared=False,
            typing=False,
            Request=JobRequest,
            jobs=self,
            acks_late=True,
            acks_on_failure=True,
            acks_on_timeout=True,
            reject_on_worker_lost=True,
            retry_on_worker_lost=False,
            ignore_result=True,
            store_errors_even_if_ignored=False,
            max_retries=None,
            throws=(GivenUpError,),
        )(_perform)
        for sent, receiver in (
            (signals.worker_init, self._on_init),
            (signals.worker_process_init, self._on_process),
            (signals.worker_ready, self._on_ready),
            (signals.worker_process_shutdown, self._on_process_end),
            (signals.worker_shutdown, self._on_end),
        ):
            sent.connect(receiver, weak=False)

    def add(self, host: Callable[[], Host]) -> None:
        self._makers.append(host)

    @property
    def workers(self) -> Sequence[type[Worker]]:
        return [worker for host in self.hosts for worker in host.workers]

    @property
    def hosts(self) -> Sequence[Host]:
        """Of the apps whose jobs these are. Raises `ConfigError`."""
        with self._lock:
            if len(self._hosts) < len(self._makers):
                self._hosts = [make() for make in self._makers]
            return self._hosts

    def run(self, queues: Sequence[str], concurrency: int) -> int:
        """Celery's worker program for those queues, to its end. The exit status."""
        self._logs = False
        # The command has set it up.
        signals.setup_logging.connect(_leave_logging, weak=False)
        arguments = ["--quiet", "worker", "--queues", ",".join(queues), "--concurrency", str(concurrency)]
        self._app.start(arguments)
        return int((self._worker and self._worker.exitcode) or 0)

    # ── signals of Celery's worker ───────────────────────────────────────────────────────────────────────────────

    def _on_init(self, sender: Any, **_: Any) -> None:
        """Before the first process is forked: what is declared wrongly is told at once, and ends the worker."""
        if sender.app is not self._app:
            return
        self._worker, self._main = sender, os.getpid()
        try:
            self.hosts  # noqa: B018 - they are made
        except ConfigError as error:
            raise SystemExit(f"karafka: {error}") from None
        conf, connect = self._app.conf, self._app.connection_for_read
        conf.worker_proc_alive_timeout = max(conf.worker_proc_alive_timeout, OPENING)
        # What it has, or puts back into Redis's lists, it notes as the server does.
        self._app.connection_for_read = lambda *at, **named: keeping(connect(*at, **named), self._grace)

    def _on_process(self, **_: Any) -> None:
        """In each process of a pool; of the pool `solo` in the main one."""
        if self._worker is not None:
            self._begin()

    def _on_ready(self, sender: Any, **_: Any) -> None:
        """In the main process, which performs jobs itself where its pool has no others."""
        if self._worker is not None and sender.app is self._app:
            self._log_events()
            _log.info("%s is ready: queues %s", sender.hostname, ", ".join(sorted(self._app.amqp.queues.consume_from)))
            if not isinstance(sender.pool, Forking):
                self._begin()

    def _on_process_end(self, **_: Any) -> None:
        self._end()

    def _on_end(self, sender: Any, **_: Any) -> None:
        if sender is self._worker:
            self._end()
            if self._failed[0]:
                sender.exitcode = NOT_STARTED

    def _begin(self) -> None:
        """Begin the apps in this process, once. Where one cannot, the worker stops in order, with a status.

        A process that was not forked has heard of nothing before its first job.
        """
        with self._lock:
            if self._begun == os.getpid():
                return
            self._begun = os.getpid()
            self._log_events()
            try:
                for host in self.hosts:
                    host.start()
            except Exception as error:  # noqa: BLE001 - hooks may raise anything
                _log.critical("the worker stops, for its app cannot start: %s", words(error))
                self._failed[0] = 1
                if self._begun == self._main:
                    raise SystemExit(NOT_STARTED) from None
                os.kill(self._main or os.getppid(), signal.SIGTERM)

    def _end(self) -> None:
        with self._lock:
            if self._begun == os.getpid():
                self._begun = 0
                for host in self.hosts:
                    host.stop()

    def _log_events(self) -> None:
        if self._logs and not self._logged:
            self._logged = True
            for host in self.hosts:
                host.log()

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def perform(self, request: Any, job: object) -> None:
        """One try of a job. Raises what Celery is to make of it."""
        if self._failed[0]:
            raise Reject("its app could not start here", requeue=True)
        self._begin()
        attempt = request.retries + 1
        try:
            self._host(job).perform(job, attempt)
        except (Exception, BaseExceptionGroup, CancelledError, GeneratorExit, SystemExit) as error:
            said = f"{type(error).__name__}: {words(error)}"
            after = self.settle(request, job, error, TRIES)
            if after is None:
                raise GivenUpError(f"given up after try {attempt}: {said}") from error
            raise SentAgain(f"tried again in {after:.1f} s: {said}", when=after) from error

    def settle(self, request: Any, job: object, error: BaseException, tries: int = 1) -> float | None:
        """Have a job that failed performed again: in how many seconds; None where it was given up.

        Raises `Reject` where the broker did not take that: Celery puts it back, or has it noted as this worker's, so
        that it comes back by the visibility timeout.
        """
        host, queue, attempt = self._host(job), _queue(request), request.retries + 1
        grave = f"{queue}{DEAD}"
        fate = host.judge(job, attempt, error, grave)
        send = partial(self._post.send, job=job, id=request.id, shadow=request.shadow)
        if isinstance(fate, Retry):
            priority = self._post.ranked(request.delivery_info.get("priority") or 0)
            _insist(partial(send, queue, retries=attempt, after=fate.after, priority=priority), tries)
            return fate.after
        _insist(partial(send, grave, headers=_why(error, attempt)), tries)
        host.buried(job, grave)
        return None

    def _host(self, job: object) -> Host:
        """The app that knows it; any where none does."""
        first, *others = self.hosts
        return next((one for one in (first, *others) if one.knows(job)), first) if others else first


def _insist(send: Callable[[], None], tries: int) -> None:
    for left in reversed(range(tries)):
        try:
            send()
        except EnqueueError as error:
            if not left:
                _log.error("a job that failed could not be sent again, it comes back: %s", words(error))
                raise Reject(words(error), requeue=True) from error
            sleep(PAUSE)
        else:
            return


def _perform(task: Any, job: object = None, *_: Any, **__: Any) -> None:
    task.jobs.perform(task.request, job)


def _queue(request: Any) -> str:
    """Where its job came from; of one that was given up before, where it came from at first."""
    name: str = request.delivery_info["routing_key"]
    return name.removesuffix(DEAD)


def _why(error: BaseException, attempt: int) -> dict[str, str]:
    return {
        "karafka-error": f"{type(error).__module__}.{type(error).__qualname__}",
        "karafka-reason": words(error)[:TEXT_LIMIT],
        "karafka-attempts": str(attempt),
        "karafka-buried-at": f"{time():.3f}",
    }


def _leave_logging(**_: Any) -> None:
    """Connected, it has Celery leave logging as it is."""


class JobRequest(Request):  # type: ignore[misc]  # it is untyped
    """A job in a worker's main process, which alone hears of the end of the process that performed it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        worker = find(self.name)
        if worker is not None and worker.time_limit is not None:
            soft = worker.time_limit + SIGNALLED
            self.time_limits = (soft + KILLED, soft)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - as Celery calls it
        """Its time limit has passed; where it is not the soft one, its process is killed."""
        if soft or state.should_terminate:
            super().on_timeout(soft, timeout)
        else:
            self._lost(TimeLimitExceeded(timeout))

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:  # noqa: FBT001, FBT002
        """Its process has gone, or the task has ended as it should not. After `on_timeout`, or before, too."""
        error = exc_info.exception
        if state.should_terminate or isinstance(error, SETTLED) or self._already_cancelled or self._already_revoked:
            super().on_failure(exc_info, send_failed_event, return_ok)
        else:
            self._lost(getattr(error, "exc", None) or error)

    def _lost(self, error: BaseException) -> None:
        """A failed try like any other, so that a job which kills its process each time comes to an end."""
        if self.acknowledged:
            return
        if isinstance(error, TimeLimitExceeded):
            error = TimeLimitError("it could not be interrupted at its time limit, so its process was killed")
        state.task_ready(self)
        try:
            self.task.jobs.settle(self._context, self._payload[0][0], error)
        except Reject as rejected:
            self.reject(requeue=rejected.requeue)
        else:
            self.acknowledge()


# How a task ends that needs nothing more; the last where a person has revoked it.
SETTLED = (GivenUpError, SentAgain, Reject, Ignore, Terminated)
