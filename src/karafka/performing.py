"""A route's messages in the background: handed to a job queue by the server, performed by a worker.

`Enqueue` is the handler that the server has in the place of the controller's own; `Performing` is what a worker calls
for each job. Both make controllers as `Each` does: hooks run in the server alone, `perform` in the worker alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from time import time
from typing import Any

from karafka.application import Application
from karafka.backends.envelope import Carried, Envelope, packed, unpacking
from karafka.backends.port import Backend
from karafka.config import Settings
from karafka.contexts import AT_WORK
from karafka.controllers import AnyController, Context, hooks_of, payload_type
from karafka.errors import TimeLimitError
from karafka.handlers import Each, each_for, tell_failure, tell_failure_async
from karafka.interchangers import Interchanger
from karafka.limits import TimeLimits
from karafka.messages import Handler, Record, Run
from karafka.naming import Found
from karafka.workers import Worker, check_worker, named

_LIMITS = TimeLimits()


@dataclass(frozen=True, slots=True)
class Background:
    """How the messages of a route are performed in the background."""

    group: str
    #: Its topic, or its pattern between slashes.
    route: str
    #: What the group adds to the app's settings of the client.
    kafka: Settings
    backend: Backend
    worker: Found[Worker]
    interchanger: Interchanger
    performing: Performing


class Enqueue(Each):
    """Hands messages over: `before_enqueue` here, all else where the job is performed. Several workers at once."""

    def __init__(self, controller: type[Any], context: Context, background: Background) -> None:
        super().__init__(controller, hooks_of(controller), context)
        if not self._hooks:
            self._foretell = None  # nobody looks at the payload here
        self._background = background
        self._app: Application = context.app
        self._of = payload_type(controller)

    @property
    def handler(self) -> Handler:
        """A coroutine function where `perform` is one: then hooks may give back what is to be awaited."""
        return self.perform_async if iscoroutinefunction(self._controller.perform) else self.perform

    def perform(self, run: Run) -> None:
        """Called in a context of its own, which is enough where no code of the user's runs."""
        if self._hooks:
            super().perform(run)
            return
        for record in run:
            self.through(self.made(run, record, 1))

    def through(self, controller: Any) -> None:
        try:
            for hook in self._hooks:
                getattr(controller, hook)()
            give = self._ready(controller)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - raised again, unless it is a way to finish
            self._judged(controller, error)
            return
        self._ended(controller)
        give()

    async def through_async(self, controller: Any) -> None:
        if self._foretell is not None:
            await self._foretell(controller.message)
        try:
            for hook in self._hooks:
                answer = getattr(controller, hook)()
                if isawaitable(answer):
                    await answer
            give = self._ready(controller)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - raised again, unless it is a way to finish
            self._judged(controller, error)
            return
        self._ended(controller)
        if self._background.backend.waits:
            await asyncio.to_thread(give)
        else:
            give()

    def _ready(self, controller: Any) -> Callable[[], None]:
        """The job of its message, packed; what hands it over."""
        background, record = self._background, controller._record  # noqa: SLF001 - the slots are the engine's own
        worker = background.worker.cls
        if controller.worker is not self._controller.worker:
            where = f"{self._controller.__qualname__}: self.worker"
            worker = check_worker(where, controller.worker)
            background.backend.check(where, worker)
        message = controller._message  # noqa: SLF001
        parsed = message is not None and message.parsed
        envelope = packed(
            record,
            message.payload if parsed else None,
            parsed=parsed,
            of=self._of,
            interchanger=background.interchanger,
            enqueued=time(),
            group=background.group,
            route=background.route,
            worker=named(worker),
        )
        send = partial(controller._run.outbox.send, record.offset() or 0)  # noqa: SLF001
        return partial(background.backend.enqueue, self._app, envelope, worker, send)


class Performing:
    """Performs the jobs of one route, each alone. Several workers at once."""

    def __init__(self, controller: type[AnyController], context: Context, interchanger: Interchanger) -> None:
        of = payload_type(controller)
        context = replace(context, parse=unpacking(context.parse, of), decode=None)
        # Told of failures here: the time limit is that of the try alone.
        self._each = each_for(controller, (), context, tells=False)
        self._interchanger = interchanger
        self.controller = controller
        self.asynchronous = iscoroutinefunction(controller.perform)

    def taken(self, envelope: Envelope) -> Record:
        """The message out of its envelope. Raises `ParseError`."""
        return Carried(envelope, self._interchanger)

    def perform(self, run: Run, record: Record, limit: float | None, struck: type[BaseException] | None = None) -> None:
        """One try of a job, which may take `limit` seconds. `run` says which try, and takes what it sends. `struck`:
        another watches the time, and raises that in this thread when it is over.

        Raises what `perform` raises, `ParseError`, `TimeLimitError`.
        """
        controller = self._each.made(run, record, run.attempt)
        through = partial(self._each.through, controller)
        try:
            if struck is not None:
                _struck(through, limit, struck)
            elif limit is None:
                through()
            else:
                _LIMITS.call(through, limit)
        except (Exception, BaseExceptionGroup) as error:
            tell_failure(controller, error)
            raise

    async def perform_async(self, run: Run, record: Record, limit: float | None) -> None:
        """The same on the event loop, in a task of its own."""
        controller = self._each.made(run, record, run.attempt)
        AT_WORK.set((self.controller.__qualname__, record))
        try:
            await self._within(limit, self._each.through_async(controller))
        except (Exception, BaseExceptionGroup) as error:
            await tell_failure_async(controller, error)
            raise

    @staticmethod
    async def _within(limit: float | None, performing: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(limit) as timeout:
                await performing
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise TimeLimitError(f"it took longer than its time_limit of {limit:g} s") from error


def _struck(through: Callable[[], None], limit: float | None, struck: type[BaseException]) -> None:
    try:
        through()
    except struck as error:
        raise TimeLimitError(f"it took longer than its time_limit of {limit:g} s") from error
