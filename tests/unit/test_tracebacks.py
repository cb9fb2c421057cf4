"""Errors as text: as Python prints them, and cheap where many fail alike."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

import pytest

from karafka import stacks
from karafka.stacks import MOST, traceback_of


def plain(number: int = 0) -> None:
    raise ValueError(f"number {number}")


def noted() -> None:
    error = ValueError("plain")
    error.add_note("seen on a Tuesday")
    raise error


def caused() -> None:
    try:
        plain()
    except ValueError as error:
        raise RuntimeError("caused") from error


def in_the_midst() -> None:
    try:
        caused()
    except RuntimeError:
        raise KeyError("missing")  # noqa: B904 - as when something fails there


def hidden() -> None:
    try:
        plain()
    except ValueError:
        raise RuntimeError("alone") from None


def together() -> None:
    raise ExceptionGroup("two", [ValueError("one"), KeyError("other")])


def beneath_a_group() -> None:
    try:
        together()
    except ExceptionGroup as error:
        raise RuntimeError("a group led to it") from error


def deep() -> None:
    deep()


def in_a_circle() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    raise one


def unparsable() -> None:
    compile("def", "somewhere.py", "exec")


class WithoutWordsError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("none")


def without_words() -> None:
    raise WithoutWordsError


def silent() -> None:
    raise TimeoutError


def misspelt() -> None:
    "".joined()  # type: ignore[attr-defined]  # Python guesses at what was meant


def raised(call: Callable[[], None]) -> BaseException:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - each kind
        return error
    pytest.fail("nothing was raised")


@pytest.mark.parametrize(
    "call",
    [
        *(plain, noted, caused, in_the_midst, hidden, together, beneath_a_group, deep, in_a_circle, unparsable),
        *(without_words, silent, misspelt),
    ],
)
def test_it_is_what_python_prints(call: Callable[[], None]) -> None:
    """The first time, and from memory."""
    error = raised(call)
    expected = "".join(traceback.format_exception(error))
    assert traceback_of(error) == expected
    assert traceback_of(error) == expected


def test_one_that_was_never_raised() -> None:
    error = ValueError("made only")
    assert traceback_of(error) == "".join(traceback.format_exception(error)) == "ValueError: made only\n"


def test_the_same_stack_with_another_message() -> None:
    """What is remembered is where, not what."""
    errors = [raised(lambda number=number: plain(number)) for number in range(2)]  # type: ignore[misc]  # a default
    said = [traceback_of(error) for error in errors]
    assert said == ["".join(traceback.format_exception(error)) for error in errors]
    assert "number 0" in said[0]
    assert "number 1" in said[1]


def test_two_lines_of_one_function_are_two_places() -> None:
    def fail(*, first: bool) -> None:
        if first:
            raise ValueError("here")
        raise ValueError("there")

    for first in (True, False, True):
        error = raised(lambda first=first: fail(first=first))  # type: ignore[misc]  # a default
        assert traceback_of(error) == "".join(traceback.format_exception(error))


def test_memory_is_bounded() -> None:
    """However many places fail."""
    for number in range(2 * MOST):
        space: dict[str, Callable[[], None]] = {}
        exec(f"def fail():\n    raise ValueError({number})", space)
        traceback_of(raised(space["fail"]))
        assert len(stacks._texts) <= MOST


def test_the_second_time_costs_a_tenth_of_the_first() -> None:
    """A thousand messages that fail alike must not stop the thousands that do not."""
    error = raised(in_the_midst)
    began = time.process_time()
    for _ in range(200):
        traceback.format_exception(error)
    anew = time.process_time() - began
    traceback_of(error)
    began = time.process_time()
    for _ in range(200):
        traceback_of(error)
    assert time.process_time() - began < anew / 10
