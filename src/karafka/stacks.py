"""Stacks as text: of errors, of threads, and of tasks down to the line where each waits."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType
from typing import IO, Any

# How many stacks of errors are remembered.
MOST = 256

# As `traceback` says it.
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"

# Of which it says more than a line, or guesses at what was meant.
_ELABORATE = (SyntaxError, NameError, AttributeError, ImportError)

_texts: dict[tuple[tuple[CodeType, int], ...], str] = {}


def traceback_of(error: BaseException) -> str:
    """What Python prints of `error`, with those that led to it. Any thread.

    The text of a stack takes up to a millisecond to make, and messages tend to fail where others did: it is remembered.
    """
    parts: list[str] = []
    told: set[int] = set()
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, BaseExceptionGroup) or id(one) in told:
            return "".join(traceback.format_exception(error))
        told.add(id(one))
        parts.append(_stack(one.__traceback__) + _words(one))
        if one.__cause__ is not None:
            parts.append(_CAUSE)
            one = one.__cause__
        elif one.__context__ is not None and not one.__suppress_context__:
            parts.append(_CONTEXT)
            one = one.__context__
        else:
            one = None
    return "".join(reversed(parts))


def _stack(stack: TracebackType | None) -> str:
    if stack is None:
        return ""
    frames: list[tuple[CodeType, int]] = []
    at: TracebackType | None = stack
    while at is not None:
        frames.append((at.tb_frame.f_code, at.tb_lasti))
        at = at.tb_next
    key = tuple(frames)
    if (text := _texts.get(key)) is None:
        if len(_texts) >= MOST:
            _texts.clear()
        text = _texts[key] = "".join(["Traceback (most recent call last):\n", *traceback.format_tb(stack)])
    return text


def _words(error: BaseException) -> str:
    """Its last line. Python's own way looks at the stacks of all that led to it again."""
    if isinstance(error, _ELABORATE) or hasattr(error, "__notes__"):
        return "".join(traceback.format_exception_only(error))
    kind = type(error)
    module = "" if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}."
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - the user's own
        said = "<exception str() failed>"
    return f"{module}{kind.__qualname__}{said and ': '}{said}\n"


def all_stacks(loop: asyncio.AbstractEventLoop | None = None) -> str:
    """All threads, by name, and all tasks of `loop`. Any thread."""
    return "\n\n".join([*_threads(None), *(_tasks(loop) if loop is not None else ())])


def stacks_of(threads: set[int], loop: asyncio.AbstractEventLoop | None = None) -> str:
    """Some threads, by their idents, and all tasks of `loop`."""
    return "\n\n".join([*_threads(threads), *(_tasks(loop) if loop is not None else ())])


def scratch() -> IO[str]:
    """A file that the interpreter may dump stacks to, and that needs no disk: a container's may be read-only."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("karafka-stacks"), "w+", errors="replace")
    return tempfile.TemporaryFile("w+", errors="replace")


def taken(dump: IO[str]) -> str:
    """What was written to `dump` since the last time."""
    dump.seek(0)
    text = dump.read()
    dump.seek(0)
    dump.truncate()
    return text


def _threads(wanted: set[int] | None) -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - Python's own way to see other threads
        if wanted is None or ident in wanted:
            stack = "".join(traceback.format_stack(frame)).rstrip()
            yield f"thread {names.get(ident, ident)}:\n{stack}"


def _tasks(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    for task in asyncio.all_tasks(loop):
        lines = "".join(traceback.format_list(traceback.StackSummary.extract((f, f.f_lineno) for f in _frames(task))))
        yield f"task {task.get_name()}:\n{lines.rstrip()}"


def _frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """A task's own stack ends at its outermost coroutine: each awaits the next, down to where it waits."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = (
            getattr(waiting, "cr_frame", None)
            or getattr(waiting, "gi_frame", None)
            or getattr(waiting, "ag_frame", None)
        )
        if frame is not None:
            yield frame
        waiting = (
            getattr(waiting, "cr_await", None)
            or getattr(waiting, "gi_yieldfrom", None)
            or getattr(waiting, "ag_await", None)
        )
