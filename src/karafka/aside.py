"""A call on a thread of its own: it comes to its end whoever waits for it no longer, and holds up no exit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def aside(name: str, step: Callable[..., T], *arguments: Any) -> Future[T]:
    """`step(*arguments)`, on a daemon thread of that `name`."""
    taken: Future[T] = Future()
    Thread(target=_resolve, args=(taken, step, *arguments), name=name, daemon=True).start()
    return taken


def _resolve(future: Future[T], step: Callable[..., T], *arguments: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(step(*arguments))
    except BaseException as error:  # noqa: BLE001 - raised where it is awaited
        future.set_exception(error)
