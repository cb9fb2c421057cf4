"""`karafka worker`, by Kafka: the app's jobs topics as subscriptions, and the handler that performs jobs.

A queue is a topic and a consumer group of its own, read without an order: so many jobs side by side as there are
workers, however few the partitions. All queues share the workers; a queue's weight is its share of those that wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextvars import copy_context
from inspect import iscoroutinefunction
from typing import Any

from karafka.app import App
from karafka.assignment import Assignment
from karafka.backends.envelope import Envelope, read
from karafka.backends.kafka import KafkaBackend
from karafka.config import Settings
from karafka.controllers import Controller
from karafka.errors import ConfigError, JobError
from karafka.messages import NO_HOOKS, Handler, Record, Run, Sends, offset_of
from karafka.performing import Background, Performing
from karafka.policy import DeadLetter, Inside, Policy
from karafka.routing import TASKS, Options, Route, Subscription, Topic
from karafka.workers import Worker, every, find, named

# Jobs that are performed while an older one is tried again, and remembered as that. One that fails for an hour must not
# hold up the others.
AHEAD = 1_000_000


def subscriptions(app: App, weights: Mapping[str, int] | None = None) -> tuple[Subscription, ...]:
    """What a worker of `app` is to read: the queues of `weights`, all there are otherwise.

    Raises `ConfigError` for a queue that no worker has, and where no route hands jobs to Kafka.
    """
    found: list[Subscription] = []
    routes = [
        (one.kafka, route.background)
        for one in app.subscriptions()
        for route in one.routes
        if route.background is not None and isinstance(route.background.backend, KafkaBackend)
    ]
    if not routes:
        raise ConfigError(
            "no route hands its messages over to a job queue that Kafka is: "
            'topic(…, backend="kafka"), or App(…, backend="kafka")'
        )
    chosen = _chosen([one for _, one in routes], weights)
    for kafka, backend in _distinct((kafka, one.backend) for kafka, one in routes):
        here = [one for its, one in routes if one.backend is backend and dict(its) == dict(kafka)]
        jobs = Jobs(here, backend.grave(app))
        found += [_subscription(app, kafka, backend, jobs, queue, chosen) for queue in chosen]
    return tuple(found)


def _chosen(routes: Collection[Background], weights: Mapping[str, int] | None) -> Mapping[str, int]:
    """Queues and their weights."""
    homes = [one.performing.controller.__module__ for one in routes]
    known = {one.worker.cls.queue for one in routes} | {one.queue for one in every(homes)}
    for queue in weights or ():
        if queue not in known:
            raise ConfigError(f"-q {queue}: no worker has that queue; there are {', '.join(sorted(known))}")
    return weights or dict.fromkeys(sorted(known), 1)


def _distinct(pairs: Iterable[tuple[Settings, Any]]) -> list[tuple[Settings, KafkaBackend]]:
    found: list[tuple[Settings, KafkaBackend]] = []
    for kafka, backend in pairs:
        if not any(dict(kafka) == dict(one) and backend is other for one, other in found):
            found.append((kafka, backend))
    return found


def _subscription(
    app: App, kafka: Settings, backend: KafkaBackend, jobs: Jobs, queue: str, weights: Mapping[str, int]
) -> Subscription:
    name = backend.topic(app, queue)
    asynchronous = iscoroutinefunction(jobs.handler)
    grave = DeadLetter(backend.grave(app), after=Worker.max_retries + 1)
    share = weights[queue] / min(weights.values())
    most = TASKS if asynchronous else app.config.concurrency
    topic = Topic(name, Job, Options(order=None, dead_letter=grave))
    route = Route(
        topic=topic,
        group=name,
        policy=Policy(
            retry=Worker.backoff, dead_letter=grave, lane=offset_of, width=max(1, round(most * share)), ahead=AHEAD
        ),
        handler=jobs.handler,
        hooks=NO_HOOKS,
        concurrency=None,
        asynchronous=asynchronous,
        inside=jobs.inside,
    )
    return Subscription(group=name, kafka=kafka, lines=(topic,), routes=(route,))


class Job(Controller[Any]):
    """Stands in a jobs topic's route for the controllers whose jobs they are."""

    def perform(self) -> None:
        raise NotImplementedError("jobs are performed by the controllers of their own routes")


class Jobs:
    """Takes jobs out of their envelopes and has them performed by the routes that they belong to. Any thread."""

    def __init__(self, routes: Collection[Background], grave: str) -> None:
        self._routes = {(one.group, one.route): one.performing for one in routes}
        # Of those that were made nobody else may have them.
        self._workers = {named(one.worker.cls): one.worker.cls for one in routes}
        self._grave = grave
        self._inside: dict[tuple[type, type[Worker]], Inside] = {}
        #: What the pool calls. Where any controller performs on the event loop all jobs come by it, and those of plain
        #: ones go on to a thread.
        self.handler: Handler = (
            self._perform_async if any(one.asynchronous for one in self._routes.values()) else self._perform
        )

    def _perform(self, run: Run) -> None:
        before, attempt = copy_context(), run.attempt
        for record in run:
            envelope, performing, worker = self._found(record)
            inner = _inner(run, record, attempt)
            before.copy().run(performing.perform, inner, envelope, worker.time_limit)
            attempt = 1

    async def _perform_async(self, run: Run) -> None:
        attempt, task = run.attempt, asyncio.current_task()
        for record in run:
            envelope, performing, worker = self._found(record)
            inner = _inner(run, record, attempt)
            if performing.asynchronous:
                # A task for each, and so a context.
                await asyncio.create_task(performing.perform_async(inner, envelope, worker.time_limit))
            else:
                await asyncio.to_thread(performing.perform, inner, envelope, worker.time_limit)
            if task is not None and task.cancelling():
                run.halt()
            attempt = 1

    def inside(self, record: Record) -> Inside | None:
        """Whose job `record` is; None where it cannot be told."""
        try:
            _, performing, worker = self._found(record)
        except JobError:
            return None
        known = performing.controller, worker
        if known not in self._inside:
            grave = DeadLetter(self._grave, after=worker.max_retries + 1)
            policy = Policy(retry=worker.backoff, dead_letter=grave)
            self._inside[known] = Inside(performing.controller.__qualname__, policy)
        return self._inside[known]

    def _found(self, record: Record) -> tuple[Envelope, Performing, type[Worker]]:
        """Raises `JobError`."""
        envelope = read(record.value())
        performing = self._routes.get((envelope.group, envelope.route))
        worker = self._workers.get(envelope.worker) or find(envelope.worker)
        if performing is None:
            raise JobError(
                f"the job {envelope.id} belongs to the route {envelope.route!r} of the group {envelope.group!r}, which "
                "this app has not, or not with this backend: was it taken out, or is this worker older than the server?"
            )
        if worker is None:
            raise JobError(
                f"the job {envelope.id} is to be performed as {envelope.worker} says, which is not in this process: "
                "was that class taken out, or is this worker older than the server?"
            )
        return envelope, performing, worker


def _inner(run: Run, record: Record, attempt: int) -> Run:
    """The run of one job out of `run`: what it sends, the job's offset waits for."""
    inner = Run([], attempt)
    if run.outbox is not None:
        inner.outbox = Through(run.outbox, record.offset() or 0)
    return inner


class Through:
    """Takes what a job's message sends, for the job itself: offsets of another topic mean nothing there."""

    def __init__(self, outbox: Sends, offset: int) -> None:
        self._outbox = outbox
        self._offset = offset

    @property
    def used(self) -> bool:
        return self._outbox.used

    @property
    def unsure(self) -> int | None:
        return self._outbox.unsure

    def add(self, offset: int, rows: Iterable[Any]) -> None:  # noqa: ARG002 - that of the message in the envelope
        self._outbox.add(self._offset, rows)

    def mark(self, at: int, offset: int, assignment: Assignment) -> bool:
        return self._outbox.mark(at, offset, assignment)

    def post_early(self, before: int) -> None:
        self._outbox.post_early(before)
