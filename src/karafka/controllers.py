"""What users subclass: `Controller` for a message, `BatchController` for a batch, and the hooks.

A controller lives for one message (or batch) on one worker. It is thin: the engine holds it and never is it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from inspect import Parameter, isasyncgenfunction, isawaitable, iscoroutinefunction, isgeneratorfunction, signature
from types import new_class
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    NoReturn,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from karafka.application import Application
from karafka.assignment import COMMIT_TIMEOUT, Assignment, TransactedAssignment
from karafka.contexts import AT_WORK
from karafka.errors import ConfigError, ResponderError
from karafka.events import Events
from karafka.letters import Headers, Moment
from karafka.messages import Batch, Handler, Message, Parse, PartitionHooks, Record, Run, Sends
from karafka.policy import Asked, AskedBurial, AskedRetry
from karafka.responders import Responder
from karafka.workers import Worker

T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])

PARTITION_HOOKS = ("on_assigned", "on_revoked", "on_shutdown")
_HOOK = "__karafka_before_enqueue__"


class Abort(Asked):
    """Raise it to drop a message on purpose: it counts as finished, `perform` is not run, an event says so."""


class Discard(Abort):
    """The same from inside `perform`, as a decision on the message: `self.discard(reason)`."""


def before_enqueue(method: Method) -> Method:
    """A method to run before `perform`, in the order of declaration, inherited ones first.

    It may `raise Abort` to drop the message. It runs again whenever its message does: after a failure, a crash.
    """
    setattr(method, _HOOK, True)
    return method


# What becomes of a message that was performed without an answer, though its responder has to send something.
Missing: TypeAlias = Literal["error", "warn", "ignore"]


@dataclass(frozen=True, slots=True)
class Answering:
    """How the controllers of a route answer."""

    responder: type[Responder]
    missing: Missing = "error"
    #: Whether `perform` is a coroutine function, and whether `respond` is.
    awaits: bool = False
    awaited: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """The topics that each answer sends to."""
        return tuple(topic.name for topic in self.responder.topics.values() if topic.required)


class Answered:
    """What an async perform may await where its answer was given at once."""

    def __await__(self) -> Iterator[None]:
        return NO_STEPS


# It has no more of them, however often it is asked.
NO_STEPS: Iterator[None] = iter(())
ANSWERED = Answered()


@dataclass(frozen=True, slots=True)
class Context:
    """What the controllers of one route share: made once, when the route's handler is."""

    group: str
    parse: Parse
    decode: Parse | None
    events: Events
    app: Application
    answering: Answering | None = None


class _Base:
    """What both kinds of controller have. The fields of the engine's live in slots, users' in their own dict."""

    __slots__ = ("__weakref__", "_context", "_responded", "_run")
    _context: Context
    _run: Run
    # Whether it has answered; not there before.
    _responded: bool
    #: Who performs its messages, where their route has a backend and names nobody. A `before_enqueue` hook may set
    #: another for its own: `self.worker = UrgentWorker`.
    worker: type[Worker] | None = None

    @classmethod
    def setup(cls, app: Any) -> None:
        """Override to prepare what all instances share; called once per process, before the first message."""

    @classmethod
    def on_assigned(cls, partition: Assignment) -> Any:
        """Override to prepare what a partition needs: runs on a worker before its first message, until it succeeds.

        `def`, or `async def` where `perform` is.
        """

    @classmethod
    def on_revoked(cls, partition: Assignment) -> Any:
        """Override to clear up when a partition goes: runs on a worker, after the last of its messages that ran."""

    @classmethod
    def on_shutdown(cls, partition: Assignment) -> Any:
        """Override to clear up when the server stops, or goes quiet: runs on a worker, instead of `on_revoked`."""

    def after_failure(self, error: BaseException) -> Any:
        """Override to be told of each try that failed, by the controller that failed: `error` is why. Not called for
        what was decided: `retry`, `bury`, `discard`.
        """

    @property
    def app(self) -> Application:
        """The `App` that the route belongs to: its `state`, `producer`, `config`, `events`."""
        return self._context.app

    def produce(
        self,
        topic: str,
        payload: Any,
        *,
        key: str | bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: Moment = None,
        label: Any = None,
    ) -> None:
        """Send a message once this one (or this batch) is performed; it is finished when the brokers have confirmed
        that. Nothing is waited for here. A perform that fails has sent nothing; what is not delivered fails as perform
        does. On a route with `exactly_once=True` it is one transaction with the offset.

        Arguments as of `Producer.produce_async`. Raises `InvalidMessageError` for what can never be sent.
        """
        outbox = self._run.outbox or self._nowhere()
        outbox.send(self._offset, topic, payload, key, headers, partition, timestamp, label)

    def respond_with(self, *args: Any, **options: Any) -> Any:
        """Answer by the route's responder: its `respond` is called with these arguments. In `async def` await it.

        What it sends goes the way of `produce`. Again and again, if you like: each is an answer of its own. Raises
        `ResponderError` where the responder does not do as it declares; then nothing of it is sent.
        """
        answering = self._context.answering
        if answering is None:
            raise ResponderError(
                f"{type(self).__qualname__} has no responder: name one, topic(…, responder=YourResponder), or write "
                "the class that belongs to it by its name"
            )
        responder, outbox = answering.responder(), self._run.outbox or self._nowhere()
        if answering.awaited:
            return self._answer(responder, outbox, args, options)
        outbox.add(self._offset, responder.answer(args, options))
        self._responded = True
        return ANSWERED if answering.awaits else None

    async def _answer(
        self, responder: Responder, outbox: Sends, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        outbox.add(self._offset, await responder.answer_async(args, options))
        self._responded = True

    def _nowhere(self) -> NoReturn:
        raise RuntimeError("there is no server here that would send what this message sends")

    @property
    def _offset(self) -> int:
        raise NotImplementedError

    def abort(self, reason: str = "") -> NoReturn:
        """Drop the message (or batch) on purpose: it counts as finished. For hooks; in `perform` see `discard`."""
        raise Abort(reason)

    def discard(self, reason: str = "") -> NoReturn:
        """Give the message (or batch) up: it counts as finished, an event says so, even if it could not be parsed."""
        raise Discard(reason)

    def retry(self, after: float, reason: str = "") -> NoReturn:
        """Try again after `after` seconds; it counts as a try, and its partition waits."""
        raise AskedRetry(after, reason)

    def bury(self, reason: str = "") -> NoReturn:
        """Send the message to the dead letter topic now. Where the route has none it is tried again like a failure."""
        raise AskedBurial(reason)

    def commit(self, timeout: float = COMMIT_TIMEOUT) -> bool:
        """Have what is finished in this partition committed, and wait up to `timeout` seconds for the broker's word.

        False: not ours any more, or no answer in time. In `async def` use `await self.commit_async()`.
        """
        return self._ours().commit(timeout)

    async def commit_async(self, timeout: float = COMMIT_TIMEOUT) -> bool:
        """`commit` for `async def perform`."""
        return await self._ours().commit_async(timeout)

    def pause(self, until: float | datetime) -> bool:
        """After the message (or batch) in hand perform nothing of this partition for `until` seconds, or until then.

        Other partitions go on. A later pause replaces it; it outlasts retries, but not the assignment.
        """
        ours = self._ours().pause(until)
        self._run.recall()
        return ours

    def seek(self, to: int | datetime) -> bool:
        """Once the message (or batch) in hand has ended, however, go on at that offset, or time; and commit that.

        False when the partition is not ours any more.
        """
        ours = self._ours().seek(to)
        self._run.recall()
        return ours

    @property
    def revoked(self) -> bool:
        """Whether the partition is being taken away, or is gone: what is done from here on another may do again."""
        return self._ours().revoked

    def _ours(self) -> Assignment:
        return _assignment(self._run)

    def _mark(self, assignment: Assignment, offset: int) -> bool:
        outbox = self._run.outbox
        if outbox is None or not outbox.used or isinstance(assignment, TransactedAssignment):
            return assignment.mark(offset)
        return outbox.mark(self._offset, offset, assignment)


class Controller(_Base, Generic[T]):
    """Business logic for one message: subclass it and write `perform`.

    `Controller[Video]` declares the payload's type: `params` is then a `Video` (dataclass, msgspec Struct,
    TypedDict). `Controller[Video | None]` takes tombstones too. `Controller` alone gives what JSON gives.
    """

    __slots__ = ("_attempt", "_message", "_record")
    _record: Record
    _parsed_ahead: ClassVar[bool] = False

    @property
    def message(self) -> Message[T]:
        """The message with key, headers, offset and the rest; the same object at each touch."""
        message: Message[T] | None = getattr(self, "_message", None)
        if message is None:
            context = self._context
            attempt, ours = getattr(self, "_attempt", 1), self._run.assignment
            message = Message(self._record, context.parse, context.group, attempt, ours)
            if self._parsed_ahead:
                message._payload = self.params  # noqa: SLF001 - parsed once, however it is reached
                message._spoil = self._run.spoil  # noqa: SLF001 - nobody looks at each message
            self._message = message
        return message

    @property
    def params(self) -> T:
        """The parsed payload, decoded at first touch, once. Raises `ParseError`."""
        return self.message.payload

    @property
    def _offset(self) -> int:
        return self._record.offset() or 0

    def mark(self, message: Message[Any] | None = None) -> bool:
        """`message` (this one, if not told) and all before it in its partition are finished, whatever comes after.

        True while the partition is ours, False once it is not. After `self.produce` it counts once perform has ended
        and what was sent is confirmed.
        """
        if message is None:
            return self._mark(self._ours(), self._record.offset() or 0)
        return self._mark(_assignment(message), message.offset)

    def perform(self) -> Any:
        """The business logic; `def` or `async def`. What it raises is tried again, as the route's policy says."""
        raise NotImplementedError


class BatchController(_Base, Generic[T]):
    """Business logic for several messages of a partition at once: up to `max_messages`, gathered for `max_wait`."""

    __slots__ = ("messages",)
    #: The batch: a sequence of `Message[T]`, with all payloads as `messages.payloads`.
    messages: Batch[T]

    @property
    def params(self) -> list[T]:
        """All payloads, parsed at first touch, once. Raises `ParseError`."""
        return self.messages.payloads

    @property
    def _offset(self) -> int:
        return self.messages.first

    def mark(self, message: Message[Any]) -> bool:
        """`message` and all before it in its partition are finished: a failure gives again only what comes after it.

        True while the partition is ours, False once it is not. After `self.produce` it counts once perform has ended
        and what was sent is confirmed.
        """
        return self._mark(_assignment(message), message.offset)

    def perform(self) -> Any:
        """The business logic for the whole batch; `def` or `async def`."""
        raise NotImplementedError


def _assignment(holder: Run | Message[Any]) -> Assignment:
    if holder.assignment is None:
        raise RuntimeError("there is no partition outside of a server: nothing to mark, commit, pause or seek")
    return holder.assignment


AnyController = Controller[Any] | BatchController[Any]


def check_controller(controller: object) -> type[AnyController]:
    """`controller`, if it can be routed to: a subclass of ours, with a `perform`, made without arguments."""
    if not isinstance(controller, type) or not issubclass(controller, Controller | BatchController):
        raise ConfigError(
            f"{controller!r} cannot be routed to: a subclass of Controller or BatchController is expected"
        )
    name, perform = controller.__qualname__, controller.perform
    if perform in {Controller.perform, BatchController.perform}:
        raise ConfigError(f"{name} has no perform: write `def perform(self) -> None` (or async def) with its logic")
    if not callable(perform):
        raise ConfigError(f"{name}.perform is {perform!r}: write `def perform(self) -> None` (or async def)")
    if isgeneratorfunction(perform) or isasyncgenfunction(perform):
        raise ConfigError(f"{name}.perform has a yield, so that calling it would do nothing: take the yield out")
    if _wanted(perform) > 1:
        raise ConfigError(f"{name}.perform wants arguments: it gets none but self; the payload is self.params")
    if controller.__init__ is not object.__init__ and _wanted(controller):
        raise ConfigError(
            f"{name}.__init__ wants arguments, but the engine makes a controller for each message without any: "
            "prepare what is shared in the class method setup(cls, app)"
        )
    if not iscoroutinefunction(perform):
        for hook in (*hooks_of(controller), *PARTITION_HOOKS, "after_failure"):
            if iscoroutinefunction(getattr(controller, hook)):
                raise ConfigError(f"{name}.{hook} is async, but its perform is not: make both async, or neither")
    return controller


def _wanted(function: Callable[..., Any]) -> int:
    """How many arguments `function` cannot do without."""
    optional = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
    wanted = signature(function).parameters.values()
    return sum(one.default is Parameter.empty and one.kind not in optional for one in wanted)


def partition_hooks(controller: type[AnyController]) -> PartitionHooks:
    """Those of its hooks for partitions that it overrides."""
    hooks = {}
    for name in PARTITION_HOOKS:
        if getattr(controller, name).__func__ is not getattr(_Base, name).__func__:
            hooks[name.removeprefix("on_")] = _hook(controller, name)
    return PartitionHooks(**hooks)


def _hook(controller: type[AnyController], name: str) -> Handler:
    hook = getattr(controller, name)

    def call(run: Run) -> None:
        hook(run.assignment)

    async def call_async(run: Run) -> None:
        AT_WORK.set((chosen.__name__, run.assignment))
        answer = hook(run.assignment)
        if isawaitable(answer):
            await answer

    chosen: Handler = call_async if iscoroutinefunction(controller.perform) else call
    chosen.__name__ = f"{controller.__qualname__}.{name}"
    return chosen


def hooks_of(controller: type) -> tuple[str, ...]:
    """The names of its `before_enqueue` methods, in order of declaration, inherited ones first."""
    names: dict[str, None] = {}
    for base in reversed(controller.__mro__):
        for name, member in vars(base).items():
            if getattr(member, _HOOK, False):
                names[name] = None
    return tuple(names)


def payload_type(controller: type[AnyController]) -> Any:
    """The type between the brackets of `Controller[…]`, or `Any`; also through generic classes of the user's between.

    A name in quotes is looked up in the module of the class that names it. Raises `ConfigError`, naming the class, for
    a name that is not there.
    """
    found = _argument(controller)
    return Any if found is None or isinstance(found[0], TypeVar) else _resolved(*found)


def _argument(cls: Any) -> tuple[Any, type] | None:
    """What stands for the payload's type in `cls`, and the class that says so; None for a plain `Controller`."""
    bases = vars(cls).get("__orig_bases__", cls.__bases__)
    # What a class says itself comes before what it inherits.
    kinds: tuple[Any, ...] = (Controller, BatchController)
    for base in sorted(bases, key=lambda one: get_origin(one) not in kinds):
        origin = get_origin(base) or base
        if not isinstance(origin, type) or not issubclass(origin, _Base):
            continue
        arguments = get_args(base)
        if origin in kinds:
            return (arguments[0], cls) if arguments else None
        inherited = _argument(origin)
        if inherited is not None and isinstance(inherited[0], TypeVar) and arguments:
            # A generic class between: its own parameter, as filled in here.
            place = getattr(origin, "__parameters__", ()).index(inherited[0])
            return arguments[place], cls
        if inherited is not None:
            return inherited
    return None


def _resolved(of: Any, base: type) -> Any:
    """`of` with the names in quotes looked up in the module of `base`."""
    if of is None:
        return None
    holder = type("Holder", (), {"__annotations__": {"of": of}})
    try:
        return get_type_hints(holder, globalns=vars(sys.modules[base.__module__]), include_extras=True)["of"]
    except Exception as error:  # noqa: BLE001 - the user's expression: whatever it raises is told as such
        name = getattr(of, "__forward_arg__", of)
        raise ConfigError(
            f"{base.__qualname__} is a Controller[{name!r}], but {name!r} is not found: {error}"
        ) from None


def ahead_of(
    controller: type[AnyController], context: Context, perform: Callable[[Any], None] | None = None
) -> type[Any] | None:
    """`controller` for a handler that parses ahead: a subclass with the route's context, and a slot for `params`; with
    another `perform`, if one is given.

    Reading `params` then costs what an attribute costs. None where that would not be the same: the class has a
    `params` of its own, or something to say about its subclasses.
    """
    if controller.params is not Controller.params or _func(controller) is not _func(Controller):
        return None
    space = {
        "__slots__": ("params",),
        "__module__": controller.__module__,
        "__qualname__": controller.__qualname__,
        "_context": context,
        "_parsed_ahead": True,
    }
    if perform is not None:
        space["perform"] = perform
    return new_class(controller.__name__, (controller,), exec_body=lambda body: body.update(space))


def _func(controller: type[Any]) -> Any:
    return getattr(controller.__init_subclass__, "__func__", None)
