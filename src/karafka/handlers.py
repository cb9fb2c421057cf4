"""From a controller to a handler: what the engine calls with a `Run`, and all it knows of the application.

A handler walks its run, makes a controller for each message (or one for the batch), runs the hooks and `perform`,
and keeps `run.finished`. What it raises, the worker turns into an outcome: the message that was in hand is the first
that is not finished. Which handler a route has is decided once, here, and never by an `if` per message.
"""

from __future__ import annotations

import dis
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from operator import methodcaller
from typing import Any, TypeAlias

from karafka.controllers import Abort, AnyController, BatchController, Context, Discard, bound, hooks_of
from karafka.events import Aborted, Discarded
from karafka.messages import Batch, Record, Run

SyncHandler: TypeAlias = Callable[[Run], None]
AsyncHandler: TypeAlias = Callable[[Run], Awaitable[None]]
Handler: TypeAlias = SyncHandler | AsyncHandler

_offset = methodcaller("offset")


def handler_for(controller: type[AnyController], context: Context) -> Handler:
    """The handler of `controller`: async where its `perform` is, parsed ahead where that can be seen to be the same."""
    hooks = hooks_of(controller)
    asynchronous = iscoroutinefunction(controller.perform)
    if issubclass(controller, BatchController):
        batches = Batches(bound(controller, context), hooks, context)
        return batches.perform_async if asynchronous else batches.perform
    each = Each(bound(controller, context), hooks, context)
    if asynchronous:
        return each.perform_async
    if not hooks and touches_params_first(controller.perform):
        return Ahead(bound(controller, context, ahead=True), each).perform
    return each.perform


class Each:
    """One controller for each message. Several workers at once, each with a run of its own."""

    def __init__(self, controller: type[Any], hooks: tuple[str, ...], context: Context) -> None:
        self.context = context
        self._controller = controller
        self._hooks = hooks

    def perform(self, run: Run) -> None:
        attempt = run.attempt
        for record in run:
            self.one(record, attempt)
            attempt = 1

    async def perform_async(self, run: Run) -> None:
        attempt = run.attempt
        for record in run:
            controller = self._made(record, attempt)
            attempt = 1
            try:
                for hook in self._hooks:
                    answer = getattr(controller, hook)()
                    if answer is not None:
                        await answer
                await controller.perform()
            except Abort as abort:
                self.aborted(record, abort)
            else:
                _raise_swallowed(controller)

    def one(self, record: Record, attempt: int) -> None:
        """Hooks and `perform` for one message. Returns when it is finished, raises when it is not."""
        controller = self._made(record, attempt)
        try:
            for hook in self._hooks:
                getattr(controller, hook)()
            controller.perform()
        except Abort as abort:
            self.aborted(record, abort)
        else:
            _raise_swallowed(controller)

    def aborted(self, record: Record, abort: Abort) -> None:
        _tell_aborted(self.context, self._controller, record, abort)

    def _made(self, record: Record, attempt: int) -> Any:
        controller = self._controller()
        controller._record = record  # noqa: SLF001 - the engine's own slots
        controller._attempt = attempt  # noqa: SLF001
        controller._message = None  # noqa: SLF001
        return controller


class Ahead:
    """The path of a message that is sacred: no hooks, and `params` is the first thing that `perform` touches.

    Payloads are parsed by iterators in C, one ahead of `perform`; `params` is then a plain slot. A payload that the
    parser refuses goes the careful way, through `Each`, where the error is raised at touch.
    """

    def __init__(self, controller: type[Any], each: Each) -> None:
        self._controller = controller
        self._each = each

    def perform(self, run: Run) -> None:
        if run.attempt > 1 or not run.records:
            self._each.perform(run)
            return
        each, made, decode = self._each, self._controller, self._each.context.decode
        value: Any = type(run.records[0]).value  # the record's own method, unbound: called by `map` without Python
        walk, ahead = run.walk(), iter(run.live())
        record = last = None
        try:
            while True:
                try:
                    for record, params in zip(walk, map(decode, map(value, ahead)), strict=False):
                        controller = made()
                        controller._record = record  # noqa: SLF001 - the engine's own slots
                        controller.params = params
                        controller.perform()
                        last = record
                except Abort as abort:
                    assert record is not None  # noqa: S101 - only perform raises it
                    each.aborted(record, abort)
                    last = record
                except Exception:
                    if record is not last:
                        raise
                    # The parser refused the message after `last`: both iterators have passed it.
                    if run.halted:
                        return
                    record = run.records[_after(last, run.records)]
                    each.one(record, 1)
                    last = record
                else:
                    return
        finally:
            run.finished = _after(last, run.records)


class Batches:
    """One controller for the whole run, which is the batch: finished as a whole, or not."""

    def __init__(self, controller: type[Any], hooks: tuple[str, ...], context: Context) -> None:
        self._context = context
        self._controller = controller
        self._hooks = hooks

    def perform(self, run: Run) -> None:
        if not run.live():
            return
        controller = self._made(run)
        try:
            for hook in self._hooks:
                getattr(controller, hook)()
            controller.perform()
        except Abort as abort:
            _tell_aborted(self._context, self._controller, run.records[0], abort)
        else:
            _raise_swallowed_in(controller)
        run.finished = len(run.records)

    async def perform_async(self, run: Run) -> None:
        if not run.live():
            return
        controller = self._made(run)
        try:
            for hook in self._hooks:
                answer = getattr(controller, hook)()
                if answer is not None:
                    await answer
            await controller.perform()
        except Abort as abort:
            _tell_aborted(self._context, self._controller, run.records[0], abort)
        else:
            _raise_swallowed_in(controller)
        run.finished = len(run.records)

    def _made(self, run: Run) -> Any:
        controller = self._controller()
        controller.messages = Batch(run.records, self._context.parse, self._context.group, run.attempt)
        return controller


def touches_params_first(perform: Callable[..., Any]) -> bool:
    """Whether `self.params` is read before anything in `perform` can branch, call or raise otherwise.

    Then parsing ahead parses exactly what would have been parsed. Read from the bytecode; where it is not plain,
    the answer is no, and payloads are parsed at touch.
    """
    code = getattr(perform, "__code__", None)
    if code is None or not code.co_varnames:
        return False
    myself, before = code.co_varnames[0], None
    for instruction in dis.get_instructions(perform):
        if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            return False
        name = instruction.opname
        if name.startswith(("CALL", "PRECALL", "RETURN", "RAISE", "YIELD", "IMPORT", "STORE_SUBSCR", "STORE_ATTR")):
            return False
        if name.startswith("LOAD_ATTR") and instruction.argval == "params":
            return bool(before == myself)
        before = instruction.argval if name.startswith("LOAD_FAST") else None
    return False


def _after(last: Record | None, records: list[Record]) -> int:
    """How many of `records` lie up to and with `last`; offsets rise, with gaps."""
    if last is None:
        return 0
    if last is records[-1]:
        return len(records)
    return bisect_left(records, last.offset() or 0, key=_offset) + 1


def _raise_swallowed(controller: Any) -> None:
    """A parse error stays with its message: where user code swallowed it, the message is judged by it all the same."""
    message = controller._message  # noqa: SLF001
    if message is not None and message.error is not None:
        raise message.error


def _raise_swallowed_in(controller: Any) -> None:
    if (error := controller.messages.error) is not None:
        raise error


def _tell_aborted(context: Context, controller: type[Any], record: Record, abort: Abort) -> None:
    kind = Discarded if isinstance(abort, Discard) else Aborted
    context.events.tell(
        kind(
            group=context.group,
            topic=record.topic() or "",
            partition=record.partition() or 0,
            offset=record.offset() or 0,
            controller=controller.__qualname__,
            reason=abort.reason,
        )
    )
