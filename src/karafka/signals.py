"""Signals held back for a moment, so that what is called meanwhile comes to its end.

Python hears signals on the main thread, wherever it goes on there. A handler that raises, as that of Ctrl-C does, then
ends whatever runs: also what a client in C has called, which loses both the call and the exception.
"""

from __future__ import annotations

from _signal import getsignal, signal, valid_signals  # type: ignore[import-not-found]  # those of `signal`, in C
from collections.abc import Callable
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], Any]

NUMBERS: tuple[int, ...] = tuple(sorted(valid_signals()))


class _Known:
    """Which signals have a handler in Python, as of the last time; to ask each is what costs."""

    def __init__(self) -> None:
        self._all: list[Any] = []
        self._pythons: tuple[tuple[int, Handler], ...] = ()

    def now(self) -> tuple[tuple[int, Handler], ...]:
        found = list(map(getsignal, NUMBERS))
        if found != self._all:
            # What is not Python's is a number, or None.
            self._pythons = tuple((at, one) for at, one in zip(NUMBERS, found, strict=True) if callable(one))
            self._all = found
        return self._pythons


_KNOWN = _Known()


class Held:
    """`with Held():` what is signalled meanwhile is heard at its end; a second time, where something hangs, at once.

    On other threads than the main one there is nothing to do.
    """

    __slots__ = ("_came", "_former")

    def __init__(self) -> None:
        self._came: list[tuple[Handler, int, FrameType | None]] = []
        self._former: dict[int, Handler] = {}

    def __enter__(self) -> None:
        if current_thread() is not main_thread():
            return
        try:
            for number, former in _KNOWN.now():
                self._former[number] = former
                signal(number, self._hear)
        except ValueError:  # the main thread of an interpreter beside the main one: nothing is heard there
            self._former.clear()
        except BaseException:
            self._give_back()
            raise

    def __exit__(self, *_: object) -> None:
        if self._former:
            self._give_back()
        if self._came:
            self._pass_on()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        former = self._former[number]
        if any(number == before for _, before, _ in self._came):
            former(number, frame)
        else:
            self._came.append((former, number, frame))

    def _give_back(self) -> None:
        raised: BaseException | None = None
        while self._former:
            number, former = next(iter(self._former.items()))
            try:
                if getsignal(number) == self._hear:  # nobody has set another one
                    signal(number, former)
                del self._former[number]
            except BaseException as error:  # noqa: BLE001 - of one given back before; raised once all are
                raised = error
        if raised is not None:
            raise raised

    def _pass_on(self) -> None:
        handler, number, frame = self._came.pop(0)
        try:
            handler(number, frame)
        finally:
            if self._came:
                self._pass_on()
