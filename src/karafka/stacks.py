"""Where everything stands: the stacks of threads, and of tasks down to the line where each waits, as text."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import IO, Any


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
