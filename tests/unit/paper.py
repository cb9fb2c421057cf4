"""A job queue on paper: what a server hands over to it, and what a worker makes of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from inspect import iscoroutinefunction
from typing import Any, ClassVar

import msgspec

from karafka import App, ConfigError, Producer, Worker
from karafka.backends.envelope import Envelope, read, text_of
from karafka.backends.port import Backend, Host, Send
from karafka.controllers import AnyController
from karafka.events import Event
from karafka.messages import Handler, Record, Run
from karafka.outbox import Confirmed
from karafka.performing import Background
from karafka.routing import Route, topic
from tests.unit.house import Letter

KAFKA = {"bootstrap.servers": "nowhere:9092"}


class Paper(Backend):
    """Keeps what is handed over, as the text that crosses."""

    name: ClassVar[str] = "paper"
    waits: ClassVar[bool] = False

    def __init__(self) -> None:
        self.jobs: list[bytes] = []
        self.workers: list[type[Worker]] = []
        #: What `enqueue` raises.
        self.failing: Exception | None = None
        #: What its worker processes are given of each app.
        self.hosts: list[Callable[[], Host]] = []

    def attach(self, host: Callable[[], Host]) -> None:
        self.hosts.append(host)

    def check(self, where: str, worker: type[Worker]) -> None:
        if worker.priority != 0:
            raise ConfigError(f"{where}: {worker.__qualname__} has a priority, which paper has not")

    def enqueue(self, app: Any, envelope: Envelope, worker: type[Worker], send: Send) -> None:
        if self.failing is not None:
            raise self.failing
        self.jobs.append(text_of(envelope))
        self.workers.append(worker)


class SlowPaper(Paper):
    """An event loop must not call it."""

    waits: ClassVar[bool] = True

    def enqueue(self, app: Any, envelope: Envelope, worker: type[Worker], send: Send) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            super().enqueue(app, envelope, worker, send)
        else:
            raise AssertionError("called by the event loop")


class Shop:
    """An app with one route whose messages are performed in the background: both ends of it."""

    def __init__(self, controller: type[AnyController], queue: Paper | None = None, **options: Any) -> None:
        self.queue = queue or Paper()
        self.app = App("shop", KAFKA)
        self.told: list[Event] = []
        self.app.events.on(Event, self.told.append)
        self.app.routes.draw(topic("videos", controller, backend=self.queue, **options))
        self.route: Route = self.app.subscriptions()[0].routes[0]
        assert self.route.background is not None
        self.background: Background = self.route.background
        self.producer = Producer.recorder()

    def serve(self, *records: Record | bytes | None) -> tuple[int, BaseException | None]:
        """Have the server handle a run of these, or of these payloads: how many are finished, and what was raised."""
        made = [
            Letter("videos", 0, at, one) if isinstance(one, bytes | None) else one for at, one in enumerate(records)
        ]
        run = Run(made)
        error = self._raised(self.route.handler, run)
        return run.finished, error

    def work(self, at: int = 0, *, attempt: int = 1, limit: float | None = None) -> BaseException | None:
        """Have a worker try the job that was handed over as the `at`-th: what was raised."""
        performing = self.background.performing

        async def one_async(run: Run) -> None:
            await performing.perform_async(run, record, limit)
            run.finished = 1

        def one(run: Run) -> None:
            performing.perform(run, record, limit)
            run.finished = 1

        try:
            record = performing.taken(read(self.queue.jobs[at]))
        except Exception as error:  # noqa: BLE001 - it is looked at
            return error
        return self._raised(one_async if performing.asynchronous else one, Run([record], attempt))

    def _raised(self, handler: Handler, run: Run) -> BaseException | None:
        """What a handler raises, with all that it sends sent."""
        perform: Any = Confirmed(handler, self.producer).perform
        try:
            if iscoroutinefunction(handler):
                asyncio.run(perform(run))
            else:
                copy_context().run(perform, run)
        except Exception as error:  # noqa: BLE001 - it is looked at
            return error
        return None

    @property
    def carried(self) -> list[Any]:
        """The jobs' params, as they cross."""
        return [msgspec.json.decode(one)["params"] for one in self.queue.jobs]
