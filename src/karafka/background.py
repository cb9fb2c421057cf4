"""Background jobs where they are performed: the app's jobs topics as subscriptions of a server, and the app in worker
processes of other job queues.

By Kafka a queue is a topic, and a consumer group of its own, read without an order: so many jobs side by side as there
are workers, however few the partitions. All queues share the workers; a queue's weight is its share of them where
several have jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import replace
from functools import partial
from inspect import iscoroutinefunction
from threading import Lock
from typing import Any

from karafka.aio import LoopThread
from karafka.app import App
from karafka.assignment import Assignment
from karafka.backends.envelope import Envelope, key_of, read, read_plain
from karafka.backends.kafka import KafkaBackend
from karafka.backends.port import Backend
from karafka.config import Settings
from karafka.controllers import Controller
from karafka.errors import ConfigError, JobError
from karafka.instrumentation import LogListener
from karafka.lifespan import CLEANUP, Lifespan
from karafka.messages import NO_HOOKS, Handler, Record, Run, Sends, offset_of
from karafka.outbox import Confirmed
from karafka.performing import Background
from karafka.policy import Inside
from karafka.pool import WORKERS
from karafka.producer import Producer
from karafka.routing import TASKS, Options, Route, Subscription, Topic
from karafka.setbacks import in_words
from karafka.trials import Fate, Tried, decide, policy_of, tell, tell_buried, tried
from karafka.workers import Worker, every, find, named

# Jobs that are performed while an older one is tried again, and are remembered as that: one that fails for an hour is
# not to hold up the others.
AHEAD = 1_000_000
# How often who waits for a coroutine looks whether it is interrupted itself, in seconds.
LOOK = 0.2
# How long what was sent is waited for at the end.
FLUSH = 10.0


def subscriptions(app: App, weights: Mapping[str, int] | None = None) -> tuple[Subscription, ...]:
    """What a worker of `app` is to read: the queues of `weights`, all there are otherwise.

    Raises `ConfigError` for a queue that no worker has, and where no route hands jobs to Kafka.
    """
    routes = [one for one in backgrounds(app) if isinstance(one.backend, KafkaBackend)]
    if not routes:
        raise ConfigError(
            "no route hands its messages over to a job queue that Kafka is: "
            'topic(…, backend="kafka"), or App(…, backend="kafka")'
        )
    places = _places(app, routes)
    shares = _shares({queue for here in places for queue in queues_of(here)}, weights)
    found: list[Subscription] = []
    for here in places:
        # The jobs of all, for what looks like two clusters may be one by two names; where two are called alike, ours.
        jobs = Jobs(app, [*(one for one in routes if one.backend == here[0].backend), *here])
        found += (_subscription(app, here[0], jobs, one, shares[one]) for one in queues_of(here) if one in shares)
    return tuple(found)


def check_queues(app: App, backend: Backend, asked: Iterable[str]) -> None:
    """Raises `ConfigError` for a queue of `backend` that no worker has."""
    there = queues_of([one for one in backgrounds(app) if one.backend is backend])
    _check_queues(there, (one.removesuffix(backend.dead) for one in asked))


def has_jobs(app: App) -> bool:
    """Whether any of them are in Kafka."""
    return any(isinstance(one.backend, KafkaBackend) for one in backgrounds(app))


def topics(app: App, *, unselected: bool = False) -> list[tuple[Settings, str, str]]:
    """The topics that the app's job queues need: what their groups add to the settings, name, what it is for.

    With `unselected` also those of routes that this process has not.
    """
    found: dict[tuple[int, str], tuple[Settings, str, str]] = {}
    for at, here in enumerate(_places(app, backgrounds(app, unselected=unselected))):
        for queue in queues_of(here):
            for name, said in here[0].backend.topics(app, queue).items():
                found[at, name] = here[0].kafka, name, said
    return list(found.values())


def backgrounds(app: App, *, unselected: bool = False) -> list[Background]:
    """The routes of `app` that hand their messages over. Raises `ConfigError` for routes that cannot work."""
    routes = (route for one in app.subscriptions(unselected=unselected) for route in one.routes)
    return [route.background for route in routes if route.background is not None]


def _places(app: App, routes: Iterable[Background]) -> list[list[Background]]:
    """Together those whose jobs are in the same topics, those first that add nothing to the app's settings."""
    found: list[list[Background]] = []
    for one in sorted(routes, key=lambda one: bool(one.kafka)):
        for here in found:
            if one.backend == here[0].backend and _cluster(app, one) == _cluster(app, here[0]):
                here.append(one)
                break
        else:
            found.append([one])
    return found


def _cluster(app: App, background: Background) -> frozenset[str]:
    """Which it is: by its brokers, in whatever order; other settings of a group make no other cluster."""
    servers = str(app.kafka_for(background.kafka)["bootstrap.servers"])
    return frozenset(one.strip() for one in servers.split(","))


def queues_of(routes: Collection[Background]) -> list[str]:
    """The queues of all workers that jobs of these routes may name, sorted."""
    return sorted({one.queue for one in Known(routes).workers})


def _check_queues(there: Collection[str], asked: Iterable[str]) -> None:
    for queue in asked:
        if queue not in there:
            raise ConfigError(f"-q {queue}: no worker has that queue; there are {', '.join(sorted(there))}")


def _shares(queues: Collection[str], weights: Mapping[str, int] | None) -> Mapping[str, float]:
    """How many workers each queue may have for one of the lightest."""
    _check_queues(queues, weights or ())
    if not weights:
        return dict.fromkeys(queues, 1.0)
    return {queue: weight / min(weights.values()) for queue, weight in weights.items()}


def _subscription(app: App, first: Background, jobs: Jobs, queue: str, share: float) -> Subscription:
    backend = first.backend
    assert isinstance(backend, KafkaBackend)  # noqa: S101 - no others are asked
    name = backend.topic(app, queue)
    asynchronous = iscoroutinefunction(jobs.handler)
    # Of a job that nobody here knows.
    policy = policy_of(Worker, backend.grave(app))
    topic = Topic(name, Job, Options(order=None, dead_letter=policy.dead_letter))
    most = TASKS if asynchronous else app.config.concurrency
    route = Route(
        topic=topic,
        group=name,
        policy=replace(policy, lane=offset_of, width=max(1, round(most * share)), ahead=AHEAD),
        handler=jobs.handler,
        hooks=NO_HOOKS,
        concurrency=None,
        asynchronous=asynchronous,
        inside=jobs.inside,
    )
    return Subscription(group=name, kafka=first.kafka, lines=(topic,), routes=(route,))


class Known:
    """Whose jobs a process can perform."""

    def __init__(self, routes: Collection[Background]) -> None:
        self._routes = {(one.group, one.route): one for one in routes}
        homes = frozenset[str]().union(*(one.homes for one in routes))
        # Of those that were made nobody else may have them.
        self._workers = {named(one): one for one in (*every(homes), *(one.worker.cls for one in routes))}

    @property
    def workers(self) -> Sequence[type[Worker]]:
        return tuple(self._workers.values())

    def awaits(self, worker: type[Worker]) -> bool:
        """Whether any of its jobs may be coroutines: those of its own routes, else of all, for hooks choose workers."""
        own = [one for one in self._routes.values() if one.worker.cls is worker] or self._routes.values()
        return any(one.performing.asynchronous for one in own)

    def of(self, envelope: Envelope) -> tuple[Background, type[Worker]]:
        """The route that a job belongs to, and the worker that it names. Raises `JobError`."""
        background = self._routes.get((envelope.group, envelope.route))
        worker = self._workers.get(envelope.worker) or find(envelope.worker)
        if background is None:
            raise JobError(
                f"the job {envelope.id} belongs to the route {envelope.route!r} of the group {envelope.group!r}, which "
                "this app has not, or not with this backend: was it taken out, or is this worker older than the server?"
            )
        if worker is None:
            raise JobError(
                f"the job {envelope.id} is to be performed as {envelope.worker} says, which is not in this process: "
                "was that class taken out, or is this worker older than the server?"
            )
        return background, worker


# ── by Kafka ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Job(Controller[Any]):
    """Stands in the route of a jobs topic for the controllers whose jobs they are."""

    def perform(self) -> None:
        raise NotImplementedError("jobs are performed by the controllers of their own routes")


class Jobs:
    """Takes jobs out of their envelopes and has them performed by the routes that they belong to. Any thread."""

    def __init__(self, app: App, routes: Collection[Background]) -> None:
        self.known = Known(routes)
        backend = next(iter(routes)).backend
        assert isinstance(backend, KafkaBackend)  # noqa: S101 - no others are asked
        self._grave = backend.grave(app)
        self._inside: dict[tuple[type, type[Worker]], Inside] = {}
        # For jobs of plain controllers beside those of the event loop; started with the first of them.
        self._threads = ThreadPoolExecutor(app.config.concurrency, f"{WORKERS}jobs")
        #: What the pool calls. Where any controller performs on the event loop all jobs come by it, and those of plain
        #: ones go on to a thread.
        self.handler: Handler = (
            self._perform_async if any(one.performing.asynchronous for one in routes) else self._perform
        )

    def _perform(self, run: Run) -> None:
        before, attempt = copy_context(), run.attempt
        for record in run:
            envelope = read(record.value())
            background, worker = self.known.of(envelope)
            inner, taken = _inner(run, record, attempt), background.performing.taken(envelope)
            before.copy().run(background.performing.perform, inner, taken, worker.time_limit)
            attempt = 1

    async def _perform_async(self, run: Run) -> None:
        attempt, task = run.attempt, asyncio.current_task()
        for record in run:
            envelope = read(record.value())
            background, worker = self.known.of(envelope)
            performing = background.performing
            inner, taken = _inner(run, record, attempt), performing.taken(envelope)
            if performing.asynchronous:
                # A task for each, and so a context.
                await asyncio.create_task(performing.perform_async(inner, taken, worker.time_limit))
            else:
                call = partial(copy_context().run, performing.perform, inner, taken, worker.time_limit)
                await asyncio.get_running_loop().run_in_executor(self._threads, call)
            if task is not None and task.cancelling():
                run.halt()
            attempt = 1

    def inside(self, record: Record) -> Inside | None:
        """Whose job `record` is; None where it cannot be told."""
        try:
            background, worker = self.known.of(read(record.value()))
        except JobError:
            return None
        controller = background.performing.controller
        if (controller, worker) not in self._inside:
            policy = policy_of(worker, self._grave)
            self._inside[controller, worker] = Inside(controller.__qualname__, policy)
        return self._inside[controller, worker]


def _inner(run: Run, record: Record, attempt: int) -> Run:
    """The run of one job out of `run`: for what it sends the job's offset waits."""
    inner = Run([], attempt)
    if run.outbox is not None:
        inner.outbox = Through(run.outbox, record.offset() or 0)
    return inner


class Through:
    """Takes what the message of a job sends, for the job: offsets of the topic that it came from mean nothing there."""

    def __init__(self, outbox: Sends, offset: int) -> None:
        self._outbox = outbox
        self._offset = offset

    @property
    def used(self) -> bool:
        return self._outbox.used

    @property
    def unsure(self) -> int | None:
        return self._outbox.unsure

    def send(self, offset: int, *letter: Any) -> None:  # noqa: ARG002 - that of the message in the envelope
        self._outbox.send(self._offset, *letter)

    def add(self, offset: int, letters: Iterable[tuple[Any, ...]]) -> None:  # noqa: ARG002
        self._outbox.add(self._offset, letters)

    def mark(self, at: int, offset: int, assignment: Assignment) -> bool:
        return self._outbox.mark(at, offset, assignment)

    def post_early(self, before: int) -> None:
        self._outbox.post_early(before)


# ── by queues with worker processes of their own ─────────────────────────────────────────────────────────────────


def _refuse_alike(routes: Iterable[Background]) -> None:
    seen: set[tuple[str, str]] = set()
    for one in routes:
        if (one.group, one.route) in seen:
            raise ConfigError(
                f"group {one.group!r} reads {one.route!r} on two clusters, whose jobs could not be told apart in "
                f"{one.backend.name}: give one of both groups another name"
            )
        seen.add((one.group, one.route))


class AppHost:
    """An app in a worker process of another job queue: see `karafka.backends.port.Host`."""

    def __init__(self, app: App, backend: Backend) -> None:
        """Raises `ConfigError` for routes that cannot work."""
        self._app = app
        routes = [one for one in backgrounds(app) if one.backend is backend]
        _refuse_alike(routes)
        self._known = Known(routes)
        self._producers: list[tuple[Background, Producer]] = []
        self._context = Context()
        self._loop: LoopThread | None = None
        self._lifespan: Lifespan | None = None
        self._lock = Lock()

    @property
    def workers(self) -> Sequence[type[Worker]]:
        return self._known.workers

    def awaits(self, worker: type[Worker]) -> bool:
        return self._known.awaits(worker)

    def start(self) -> None:
        LogListener(self._app.events)
        self._context = copy_context()
        self._lifespan = Lifespan(self._app, self._context, self._running_loop)
        self._lifespan.begin(lambda: False)
        self._context.run(self._app.setup)

    def perform(self, job: object, attempt: int, *, struck: type[BaseException] | None = None) -> None:
        envelope = read_plain(job)
        background, worker = self._known.of(envelope)
        performing, producer = background.performing, self._producer(background)
        record = performing.taken(envelope)

        async def one_async(run: Run) -> None:
            await performing.perform_async(run, record, worker.time_limit)
            run.finished = 1

        def one(run: Run) -> None:
            performing.perform(run, record, worker.time_limit, struck)
            run.finished = 1

        run = Run([record], attempt)
        if performing.asynchronous:
            self._await(Confirmed(one_async, producer).perform(run))
        else:
            self._fresh().run(Confirmed(one, producer).perform, run)

    def knows(self, job: object) -> bool:
        return self._whose(job) is not None

    def judge(self, job: object, attempt: int, error: BaseException, grave: str) -> Fate:
        whose, error = self._whose(job), tried(error)
        fate = decide(whose[2] if whose is not None else Worker, error, attempt)
        controller, key = "", None
        if whose is not None:
            controller, key = whose[1].performing.controller.__qualname__, key_of(whose[0])
        tell(self._app.events, Tried(job, attempt, controller, key), error, in_words(fate, grave))
        return fate

    def buried(self, job: object, grave: str) -> None:
        tell_buried(self._app.events, job, grave)

    def log(self) -> None:
        LogListener(self._app.events)

    def stop(self) -> None:
        if self._lifespan is not None:
            self._lifespan.end(lambda: False)
        if self._loop is not None:
            self._loop.stop(CLEANUP)
        for _, producer in self._producers:
            producer.close(FLUSH)
        self._app.close_producer(FLUSH)

    def _whose(self, job: object) -> tuple[Envelope, Background, type[Worker]] | None:
        try:
            envelope = read_plain(job)
            return envelope, *self._known.of(envelope)
        except JobError:
            return None

    def _fresh(self) -> Context:
        """The variables that the app began with, and over them those that the queue has set for this job."""
        context = self._context.copy()
        for variable, value in copy_context().items():
            context.run(variable.set, value)
        return context

    def _await(self, performing: Any) -> None:
        """Wait for a coroutine on the loop, in short waits: what interrupts this thread from outside is heard."""
        answer, cancel = self._running_loop().begin(performing, self._fresh())
        try:
            while not answer.done():
                with suppress(FutureTimeoutError):
                    answer.result(LOOK)
        except BaseException:
            cancel()
            raise
        answer.result()

    def _producer(self, background: Background) -> Producer:
        """That of the cluster which the messages of the route come from."""
        if not background.kafka:
            return self._app.producer
        with self._lock:
            for other, producer in self._producers:
                if dict(other.kafka) == dict(background.kafka):
                    return producer
            producer = self._app.producer_for(background.kafka)
            self._producers.append((background, producer))
            return producer

    def _running_loop(self) -> LoopThread:
        with self._lock:
            if self._loop is None:
                self._loop = LoopThread(self._context)
                self._loop.start()
            return self._loop
