"""Signals that come while they are held are heard after; nothing else is changed by that."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from signal import SIGINT, SIGTERM, SIGUSR1, SIGUSR2, raise_signal
from types import FrameType

import pytest

from karafka.signals import Held


class Loud(Exception):  # noqa: N818 - what a handler raises
    """A handler's."""


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Whom SIGUSR1 and SIGTERM told; SIGUSR2's handler raises."""
    told: list[int] = []

    def hear(number: int, _frame: FrameType | None) -> None:
        told.append(number)

    def shout(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        raise Loud(number)

    before = {number: signal.getsignal(number) for number in (SIGUSR1, SIGUSR2, SIGTERM)}
    signal.signal(SIGUSR1, hear)
    signal.signal(SIGTERM, hear)
    signal.signal(SIGUSR2, shout)
    yield told
    for number, handler in before.items():
        signal.signal(number, handler)


def test_each_is_heard_once_when_they_are_held_no_more(heard: list[int]) -> None:
    with Held():
        raise_signal(SIGTERM)
        raise_signal(SIGUSR1)
        assert heard == []
    assert heard == [SIGTERM, SIGUSR1]


def test_what_a_handler_raises_comes_out_behind_it(heard: list[int]) -> None:
    """Of several that raise, each is heard."""
    done = []

    def three() -> None:
        with Held():
            raise_signal(SIGUSR2)
            raise_signal(SIGINT)
            raise_signal(SIGUSR1)
            done.append(True)

    with pytest.raises(KeyboardInterrupt) as raised:
        three()
    assert done
    assert isinstance(raised.value.__context__, Loud)
    assert heard == [SIGUSR2, SIGUSR1]


def test_an_error_of_the_block_is_not_lost() -> None:
    def fails() -> None:
        with Held():
            raise_signal(SIGINT)
            raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt) as raised:
        fails()
    assert isinstance(raised.value.__context__, ZeroDivisionError)


def test_a_second_one_of_the_kind_is_heard_at_once() -> None:
    """Somebody presses Ctrl-C again: what is called hangs."""
    at_once = []

    def hangs() -> None:
        with Held():
            raise_signal(SIGINT)
            try:
                raise_signal(SIGINT)
            except KeyboardInterrupt:
                at_once.append(True)

    with pytest.raises(KeyboardInterrupt):
        hangs()
    assert at_once


def test_handlers_are_as_they_were(heard: list[int]) -> None:
    """Those of C, and those that are none, too."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    for _ in range(2):
        with Held():
            pass
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_a_handler_that_is_set_meanwhile_stays(heard: list[int]) -> None:
    def other(number: int, _frame: FrameType | None) -> None:
        heard.append(-number)

    with Held():
        signal.signal(SIGUSR1, other)
    raise_signal(SIGUSR1)
    assert heard == [-SIGUSR1]


def test_one_that_is_set_later_is_held_too(heard: list[int]) -> None:
    with Held():
        pass

    def other(number: int, _frame: FrameType | None) -> None:
        heard.append(-number)

    signal.signal(SIGUSR1, other)
    with Held():
        raise_signal(SIGUSR1)
        assert heard == []
    assert heard == [-SIGUSR1]


def test_on_another_thread_there_is_nothing_to_hold(heard: list[int]) -> None:
    before = signal.getsignal(SIGUSR1)
    found: list[object] = []

    def run() -> None:
        with Held():
            found.append(signal.getsignal(SIGUSR1))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before]
    assert heard == []
