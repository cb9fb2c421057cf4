"""Context variables: each message has its own, and they tell who is at work.

A context begins as a copy of the server's: that of the thread which started it, with what `on_start` set.
"""

from __future__ import annotations

import asyncio
import decimal
import gc
import weakref
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from functools import wraps
from typing import Any

from karafka.assignment import Assignment
from karafka.messages import Handler, Record, Run

Place = Record | Assignment | None

#: In the event loop: whose code runs, and for what. Tasks inherit it from the task that began them.
AT_WORK: ContextVar[tuple[str, Place]] = ContextVar("karafka-at-work")
NOBODY: tuple[str, Place] = ("", None)
_OWN: ContextVar[object] = ContextVar("karafka-own")


class Baseline:
    """The variables of the current context before user code runs in it."""

    __slots__ = ("_before", "_count", "_values")

    def __init__(self) -> None:
        # Made at first use, in whatever context that is: it is no sign that somebody set a variable. A run has its own.
        decimal.getcontext()
        _OWN.set(None)
        self._before = copy_context()
        self._count = len(self._before)
        self._values = [(name, value) for name, value in self._before.items() if name not in {_OWN, AT_WORK}]

    def fresh(self) -> Context:
        """A context with these variables, which no other shares. A copy costs 30 ns, and so does a call in it."""
        return self._before.copy()

    def changed(self) -> bool:
        """Whether a variable is not any more what it was then."""
        now = copy_context()
        if len(now) != self._count:
            return True
        for name, value in self._values:  # noqa: SIM110 - each message asks: a generator costs three times as much
            if now.get(name, _OWN) is not value:
                return True
        return False


def on_set(tell: Callable[[], None]) -> object:
    """Have `tell` called once, as soon as a variable is set in the current context; until then that costs nothing.

    A context's variables are an immutable map, which `set` replaces: the map of before dies, unless a copy of the
    context still has it. Nothing is told any more to who lets go of what this returns.
    """
    _OWN.set(object())  # a map that no other context shares
    (variables,) = gc.get_referents(copy_context())
    return weakref.ref(variables, lambda _dead: tell())


def _can_be_told() -> bool:
    heard: list[None] = []

    def probe() -> None:
        watch = on_set(lambda: heard.append(None))
        _OWN.set(object())
        del watch

    try:
        copy_context().run(probe)
    except (TypeError, ValueError):
        return False
    return bool(heard)


#: Whether this Python lets `on_set` tell.
CAN_BE_TOLD = _can_be_told()


def within(context: Context, handler: Handler) -> Handler:
    """`handler`, which is no coroutine function, each call in a copy of `context`."""

    @wraps(handler)
    def call(run: Run) -> None:
        context.copy().run(handler, run)

    return call


def at_work(task: asyncio.Task[Any] | None) -> str:
    """Whose code `task` is, or was begun by, and for which message; empty where that is not known. Any thread."""
    context = _context_of(task) if task is not None else None
    found = context.get(AT_WORK) if context is not None else None
    return in_words(*found) if found is not None else ""


def in_words(name: str, place: Place) -> str:
    """A value of `AT_WORK`."""
    match place:
        case None:
            return name
        case Assignment():
            return f"{name} of {place.topic}/{place.partition}"
        case record:
            return f"{name} at {record.topic()}/{record.partition()}/{record.offset()}"


def _context_of(task: asyncio.Task[Any]) -> Context | None:
    if (asked := getattr(task, "get_context", None)) is not None:  # Python 3.12
        context: Context = asked()
        return context
    return next((one for one in gc.get_referents(task) if isinstance(one, Context)), None)
