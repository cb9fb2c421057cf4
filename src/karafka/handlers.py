"""From a controller to a handler: what the engine calls with a `Run`, and all it knows of the application.

A handler walks its run, makes a controller for each message (or one for the batch), runs the hooks and `perform`,
and keeps `run.finished`. What it raises, the worker turns into an outcome: the message that was in hand is the first
that is not finished. Which handler a route has is decided once, here, and never by an `if` per message.
"""

# ruff: noqa: SLF001 - the slots of a controller are the engine's own

from __future__ import annotations

import asyncio
import dis
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from functools import partial
from inspect import isasyncgen, isawaitable, iscoroutine, iscoroutinefunction, isgenerator
from typing import Any, NoReturn

from karafka.contexts import AT_WORK, CAN_BE_TOLD, Baseline, on_set
from karafka.controllers import Abort, AnyController, BatchController, Context, Controller, Discard, ahead_of, hooks_of
from karafka.errors import ResponderError, words
from karafka.events import Aborted, Discarded, Unanswered
from karafka.messages import Batch, Handler, Message, Record, Run, offset_of
from karafka.policy import Asked, asked, leaves

# A run of so few messages is sooner done in a context for each than watched.
FEW = 8


def each_for(controller: type[AnyController], hooks: tuple[str, ...], context: Context, *, tells: bool) -> Each:
    """The handler of single messages; where it `tells`, it tells controllers of their failures."""
    if tells:
        return (FailingExpecting if _expecting(context) else Failing)(controller, hooks, context)
    return (Expecting if _expecting(context) else Each)(controller, hooks, context)


def batches_for(controller: type[AnyController], hooks: tuple[str, ...], context: Context, *, tells: bool) -> Batches:
    """The same of batches."""
    if tells:
        return (FailingExpectingBatches if _expecting(context) else FailingBatches)(controller, hooks, context)
    return (ExpectingBatches if _expecting(context) else Batches)(controller, hooks, context)


def _expecting(context: Context) -> bool:
    answering = context.answering
    return answering is not None and answering.missing != "ignore" and bool(answering.required)


def handler_for(controller: type[AnyController], context: Context) -> Handler:
    """The handler of `controller`: async where its `perform` is, parsed ahead where that can be seen to be the same."""
    hooks = hooks_of(controller)
    asynchronous = iscoroutinefunction(controller.perform)
    if issubclass(controller, BatchController):
        batches = batches_for(controller, hooks, context, tells=told_of_failure(controller))
        return batches.perform_async if asynchronous else batches.perform
    each = each_for(controller, hooks, context, tells=told_of_failure(controller))
    if asynchronous:
        return each.perform_async
    if told_of_failure(controller):
        return each.perform
    if CAN_BE_TOLD and not hooks and context.decode is not None and touches_params_first(controller.perform):
        ahead = ahead_of(controller, context, _answering(controller, context) if _expecting(context) else None)
        if ahead is not None:
            return Together(Ahead(ahead, context.decode, each), each).perform
    return each.perform


class Through:
    """Takes a controller through a message, or a batch: returns when that is finished, raises when it is not."""

    def __init__(self, controller: type[Any], hooks: tuple[str, ...], context: Context) -> None:
        self._context = context
        self._controller = controller
        self._hooks = hooks
        # Where the parser is a coroutine function.
        self._foretell = foretelling(context)

    def through(self, controller: Any) -> None:
        """Hooks and `perform`."""
        try:
            for hook in self._hooks:
                getattr(controller, hook)()
            if (answer := controller.perform()) is not None:
                refuse_unperformed(answer)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - raised again, unless it is a way to finish
            self._judged(controller, error)
        else:
            self._ended(controller)

    async def through_async(self, controller: Any) -> None:
        """The same on the event loop."""
        if self._foretell is not None:
            for message in self._messages(controller):
                await self._foretell(message)
        try:
            for hook in self._hooks:
                answer = getattr(controller, hook)()
                if isawaitable(answer):
                    await answer
            await controller.perform()
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - raised again, unless it is a way to finish
            self._judged(controller, error)
        else:
            self._ended(controller)

    def _messages(self, controller: Any) -> Iterable[Message[Any]]:
        """What is parsed ahead, where that must be awaited."""
        raise NotImplementedError

    def _judged(self, controller: Any, error: BaseException) -> None:
        """Return where it is finished all the same; raise what it is to be judged by otherwise."""
        raise NotImplementedError

    def _ended(self, controller: Any) -> None:
        """It has gone well, as far as user code says; raise why it is not finished all the same."""
        raise NotImplementedError


class Each(Through):
    """A controller and a context of variables for each message. Several workers at once, each with a run of its own."""

    def __init__(self, controller: type[Any], hooks: tuple[str, ...], context: Context) -> None:
        super().__init__(controller, hooks, context)
        # Whether its coroutines leave variables behind, so that each message has a task of its own.
        self._apart = False

    def perform(self, run: Run) -> None:
        """Called in a context of its own: a run of one message needs no other."""
        if len(run.records) == 1:
            for record in run.walk():
                self.one(run, record, run.attempt)
                run.finished = 1
            return
        before, attempt = Baseline(), run.attempt
        for record in run:
            before.fresh().run(self.one, run, record, attempt)
            attempt = 1

    async def perform_async(self, run: Run) -> None:
        """Messages share a task, and its context, for as long as none leaves a variable behind: a task costs 10 µs.

        A run of one message leaves that to whoever gave it the task.
        """
        if len(run.records) == 1:
            for record in run.walk():
                await self.one_async(run, record, run.attempt)
                run.finished = 1
            return
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        AT_WORK.set((self._controller.__qualname__, None))
        before, attempt = Baseline(), run.attempt
        for record in run:
            if self._apart:
                await loop.create_task(self.one_async(run, record, attempt), context=before.fresh())
            else:
                await self.one_async(run, record, attempt)
                self._apart = self._apart or before.changed()
            if task is not None and task.cancelling():
                run.halt()  # by a message, or by the stop: it must not strike the next one
            attempt = 1

    def one(self, run: Run, record: Record, attempt: int) -> None:
        """Hooks and `perform` for one message. Returns when it is finished, raises when it is not."""
        self.through(self.made(run, record, attempt))

    async def one_async(self, run: Run, record: Record, attempt: int) -> None:
        """The same on the event loop."""
        AT_WORK.set((self._controller.__qualname__, record))
        await self.through_async(self.made(run, record, attempt))

    def _messages(self, controller: Any) -> Iterable[Message[Any]]:
        return (controller.message,)

    def aborted(self, record: Record, abort: Abort) -> None:
        _tell_aborted(self._context, self._controller, record, abort)

    def _judged(self, controller: Any, error: BaseException) -> None:
        """Return where the message is finished all the same; raise what it is to be judged by otherwise."""
        if (abort := dropped(error)) is not None:
            self.aborted(controller._record, abort)
            return
        message = controller._message
        _raise_first(message.error if message is not None else None, error)

    def _ended(self, controller: Any) -> None:
        """A parse error stays with its message: where user code swallowed it, it is judged by that all the same."""
        message = controller._message
        if message is not None and message.error is not None:
            raise message.error

    def made(self, run: Run, record: Record, attempt: int) -> Any:
        """A controller for `record`."""
        controller = self._controller()
        controller._context = self._context
        controller._run = run
        controller._record = record
        controller._attempt = attempt
        controller._message = None
        return controller


class Ahead:
    """The path of a message that is sacred: no hooks, and `params` is the first thing that `perform` touches.

    Payloads are parsed by iterators in C, one ahead of `perform`; `params` is then a plain slot. A payload that the
    parser refuses goes the careful way, through `Each`, where the error is raised at touch.
    """

    def __init__(self, controller: type[Any], decode: Callable[[Any], Any], each: Each) -> None:
        self._controller = controller
        self._decode = decode
        self._each = each

    def perform(self, run: Run) -> None:
        each, made, decode = self._each, self._controller, self._decode
        value: Any = type(run.records[0]).value  # the record's own method, unbound: called by `map` without Python
        walk, ahead = run.walk(), iter(run.live())
        record = last = None
        try:
            while True:
                try:
                    for record, params in zip(walk, map(decode, map(value, ahead)), strict=False):
                        controller = made()
                        controller._run = run
                        controller._record = record
                        controller.params = params
                        if (answer := controller.perform()) is not None:
                            refuse_unperformed(answer)
                        last = record
                except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - raised again, or a way to finish
                    if record is not last:
                        if (abort := dropped(error)) is None or record is None:
                            _raise_first(run.spoiled, error)
                        run.spoiled = None
                        each.aborted(record, abort)
                    else:
                        # The parser refused the message after `last`: both iterators have passed it.
                        if run.halted:
                            return
                        record = run.records[_after(last, run.records)]
                        each.one(run, record, 1)
                    last = record
                else:
                    if run.spoiled is None:
                        return
                    done = _after(last, run.records) - 1
                    last = run.records[done - 1] if done else None
                    raise run.spoiled
        finally:
            run.finished = _after(last, run.records)

    def perform_few(self, run: Run) -> None:
        """The same without what a long run saves: each message in a context of its own."""
        before = copy_context()
        for record in run.walk():
            before.copy().run(self._one, run, record)
            run.finished += 1

    def _one(self, run: Run, record: Record) -> None:
        controller = self._controller()
        controller._run = run
        controller._record = record
        try:
            controller.params = self._decode(record.value())
        except Exception:  # noqa: BLE001 - raised again where it is touched
            self._each.one(run, record, 1)
            return
        try:
            if (answer := controller.perform()) is not None:
                refuse_unperformed(answer)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - raised again, or a way to finish
            if (abort := dropped(error)) is None:
                _raise_first(run.spoiled, error)
            run.spoiled = None
            self._each.aborted(record, abort)
        if run.spoiled is not None:
            raise run.spoiled


class Together:
    """`Ahead`, all messages of a run in one context; until a `perform` sets a variable of it.

    That ends the run after its message: the rest is given out again, and from then on each message has a context of
    its own. Where user code holds a copy of the context it is noticed when the copy goes, at the latest after the run.
    """

    def __init__(self, ahead: Ahead, each: Each) -> None:
        self._ahead = ahead
        self._each = each
        self._apart = self._watched = False

    def perform(self, run: Run) -> None:
        """Called in a context of its own. The first run is watched, however short: it may tell."""
        if self._apart or run.attempt > 1 or not run.records:
            self._each.perform(run)
            return
        if self._watched and len(run.records) <= FEW:
            self._ahead.perform_few(run)
            return
        before = Baseline()
        watch = on_set(partial(self._part, run))
        try:
            self._ahead.perform(run)
        finally:
            del watch
            self._watched = True
            self._apart = self._apart or before.changed()

    def _part(self, run: Run) -> None:
        self._apart = True
        run.halt()


class Batches(Through):
    """One controller for a batch, which is finished as a whole, or not."""

    def perform(self, run: Run) -> None:
        """Called in a context of its own; of several batches each has one."""
        size, length = run.batch, len(run.records)
        if length <= size:
            if run.live():
                self._one(run, run.records, run.attempt)
                run.finished = length
            return
        before, attempt = copy_context(), run.attempt
        for start in range(0, length, size):
            if not run.live():
                return  # it was halted: the others come back
            batch = run.records[start : start + size]
            before.copy().run(self._one, run, batch, attempt)
            run.finished = start + len(batch)
            attempt = 1

    def _one(self, run: Run, records: list[Record], attempt: int) -> None:
        self.through(self._made(run, records, attempt))

    async def perform_async(self, run: Run) -> None:
        if not run.live():
            return
        AT_WORK.set((self._controller.__qualname__, run.records[0]))
        await self.through_async(self._made(run, run.records, run.attempt))
        run.finished = len(run.records)

    def _messages(self, controller: Any) -> Iterable[Message[Any]]:
        batch: Batch[Any] = controller.messages
        return batch

    def _judged(self, controller: Any, error: BaseException) -> None:
        """Return where the batch is finished all the same; raise what it is to be judged by otherwise."""
        if (abort := dropped(error)) is not None:
            _tell_aborted(self._context, self._controller, controller.messages.records[0], abort)
            return
        _raise_first(controller.messages.error, error)

    def _ended(self, controller: Any) -> None:
        """A parse error stays with its batch."""
        if (error := controller.messages.error) is not None:
            raise error

    def _made(self, run: Run, records: list[Record], attempt: int) -> Any:
        controller, context = self._controller(), self._context
        controller._context = context
        controller._run = run
        controller.messages = Batch(records, context.parse, context.group, attempt, run.assignment, context.decode)
        return controller


class Expecting(Each):
    """`Each`, where every message is to be answered by the route's responder."""

    def _ended(self, controller: Any) -> None:
        message = controller._message
        if message is not None and message.error is not None:
            raise message.error
        if not getattr(controller, "_responded", False):
            _see_unanswered(self._context, controller, controller._record)


class ExpectingBatches(Batches):
    """`Batches`, where every batch is to be answered."""

    def _ended(self, controller: Any) -> None:
        super()._ended(controller)
        if not getattr(controller, "_responded", False):
            run = controller._run
            _see_unanswered(self._context, controller, run.records[run.finished])


class Telling(Through):
    """What stands before `Each` or `Batches` where the controller is told of each try that failed."""

    def through(self, controller: Any) -> None:
        try:
            super().through(controller)
        except (Exception, BaseExceptionGroup) as error:
            tell_failure(controller, error)
            raise

    async def through_async(self, controller: Any) -> None:
        try:
            await super().through_async(controller)
        except (Exception, BaseExceptionGroup) as error:
            await tell_failure_async(controller, error)
            raise


class Failing(Telling, Each):
    """See `Telling`."""


class FailingExpecting(Telling, Expecting):
    """See `Telling`."""


class FailingBatches(Telling, Batches):
    """See `Telling`."""


class FailingExpectingBatches(Telling, ExpectingBatches):
    """See `Telling`."""


def told_of_failure(controller: type[AnyController]) -> bool:
    """Whether it has an `after_failure` of its own."""
    return controller.after_failure not in {Controller.after_failure, BatchController.after_failure}


def tell_failure(controller: Any, error: BaseException) -> None:
    """Call `after_failure`, unless it was no failure but a decision. What that raises hides nothing: it is noted."""
    if asked(error) is None:
        try:
            controller.after_failure(error)
        except Exception as raised:  # noqa: BLE001 - user code
            _note(error, raised)


async def tell_failure_async(controller: Any, error: BaseException) -> None:
    if asked(error) is None:
        try:
            answer = controller.after_failure(error)
            if isawaitable(answer):
                await answer
        except Exception as raised:  # noqa: BLE001 - user code
            _note(error, raised)


def _note(error: BaseException, raised: Exception) -> None:
    error.add_note(f"after_failure of it failed too: {type(raised).__name__}: {words(raised)}")


def _answering(controller: type[Any], context: Context) -> Callable[[Any], None]:
    """The `perform` of a controller whose every message is to be answered, for `Ahead`, which does not look."""
    plain = controller.perform

    def perform(self: Any) -> None:
        if (answer := plain(self)) is not None:
            refuse_unperformed(answer)
        if not getattr(self, "_responded", False):
            _see_unanswered(context, self, self._record)

    return perform


def _see_unanswered(context: Context, controller: Any, record: Record) -> None:
    """It has ended well, but without an answer: the message is not finished, unless the route says otherwise."""
    answering, name = context.answering, type(controller).__qualname__
    assert answering is not None  # noqa: S101 - else nobody looks
    responder = answering.responder.__qualname__
    if answering.missing == "error":
        required = ", ".join(map(repr, answering.required))
        said = f"{name} has not answered: {responder} has to send to {required}"
        way = 'self.respond_with(…), or topic(…, responder_missing="ignore") where no answer is needed'
        raise ResponderError(f"{said}, by {way}", problems=[said])
    context.events.tell(
        Unanswered(
            group=context.group,
            topic=record.topic() or "",
            partition=record.partition() or 0,
            offset=record.offset() or 0,
            controller=name,
            responder=responder,
        )
    )


def foretelling(context: Context) -> Callable[[Message[Any]], Awaitable[None]] | None:
    """Parses a message ahead where that must be awaited: what comes of it is given, or raised, when it is touched."""
    parse = context.parse
    if not iscoroutinefunction(parse):
        return None

    async def foretell(message: Message[Any]) -> None:
        try:
            payload = await parse(message.raw)
        except Exception as error:  # noqa: BLE001 - it is the message's
            message._parse = partial(_raise, error)
        else:
            message._parse = lambda _raw: payload

    return foretell


def _raise(error: Exception, _raw: bytes | None) -> NoReturn:
    raise error


# What may stand before `self.params` without a chance that it is not reached, or that something else happens first.
_HARMLESS = ("RESUME", "NOP", "CACHE", "PUSH_NULL", "COPY_FREE_VARS", "MAKE_CELL", "EXTENDED_ARG", "LOAD_")


def touches_params_first(perform: Callable[..., Any]) -> bool:
    """Whether `self.params` is read before anything in `perform` can branch or call.

    Then parsing ahead parses exactly what would have been parsed. Read from the bytecode; where it is not plain,
    the answer is no, and payloads are parsed at touch.
    """
    code = getattr(perform, "__code__", None)
    if code is None or not code.co_varnames:
        return False
    myself, before = code.co_varnames[0], None
    for instruction in dis.get_instructions(perform):
        name = instruction.opname
        if not name.startswith(_HARMLESS):
            return False
        if name.startswith("LOAD_ATTR") and instruction.argval == "params":
            return bool(before == myself)
        before = instruction.argval if name.startswith("LOAD_FAST") else None
    return False


def refuse_unperformed(answer: Any) -> None:
    """`perform` gave something back: what must be awaited or walked to happen has not happened."""
    if isawaitable(answer) or isgenerator(answer) or isasyncgen(answer):
        kind = type(answer).__name__
        if iscoroutine(answer):
            answer.close()
        raise TypeError(
            f"perform gave a {kind} back, so nothing was performed: is it an async def behind a decorator that is not?"
        )


def _after(last: Record | None, records: list[Record]) -> int:
    """How many of `records` lie up to and with `last`; offsets rise, with gaps."""
    if last is None:
        return 0
    if last is records[-1]:
        return len(records)
    return bisect_left(records, last.offset() or 0, key=offset_of) + 1


def dropped(error: BaseException) -> Abort | None:
    """The wish to drop the message, if that is what user code asks for; with what failed beside it in a group."""
    wish = asked(error)
    if not isinstance(wish, Abort):
        return None
    others = [one for one in leaves(error) if not isinstance(one, Asked)]
    if not others:
        return wish
    beside = "; ".join(f"{type(one).__name__}: {words(one)}" for one in others)
    kind = Discard if isinstance(wish, Discard) else Abort
    return kind(f"{wish.reason} (beside it failed: {beside})".lstrip())


def _raise_first(unparsed: Exception | None, error: BaseException) -> NoReturn:
    """Raise what user code asks for, from within a group too; or what could not be parsed before, whatever name user
    code gave it: that never will be; or `error`.
    """
    wish = asked(error)
    if isinstance(wish, Asked) and not all(isinstance(one, Asked) for one in leaves(error)):
        raise error  # done as asked, and what failed beside it is told
    first = wish if wish is not None else unparsed if unparsed is not None else error
    if first is error:
        raise error
    raise first from error


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
