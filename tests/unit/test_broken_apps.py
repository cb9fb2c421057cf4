"""What is shown of an exception of the user's: lines of the user's, of libraries, and none of ours."""

from __future__ import annotations

import pytest

from karafka.checks import duration
from karafka.cli.load import traceback_of_users
from karafka.errors import ConfigError


def ours() -> None:
    """Raises from within the package."""
    duration("soon")


def told(error: BaseException) -> list[str]:
    """The files and lines that are shown."""
    return [line.strip() for line in traceback_of_users(error).splitlines() if line.strip().startswith("File ")]


def test_lines_of_ours_at_the_end_are_left_out() -> None:
    """The error itself says what is wrong."""
    with pytest.raises(ConfigError) as raised:
        ours()

    assert all(__file__ in line for line in told(raised.value))
    assert "90s, 10m or 6h" in traceback_of_users(raised.value).splitlines()[-1]


def test_so_are_those_of_what_led_to_it_and_of_a_group() -> None:
    def fail() -> None:
        try:
            ours()
        except ConfigError as error:
            raise ExceptionGroup("several", [error, ValueError("own")]) from error

    with pytest.raises(ExceptionGroup) as raised:
        fail()

    text = traceback_of_users(raised.value)
    assert "checks.py" not in text
    assert text.count("90s, 10m or 6h") == 2
    assert "ValueError: own" in text
    assert __file__ in text


def test_what_was_typed_is_shown_and_what_was_made_is_not() -> None:
    """A shell's lines are the user's; those that dataclasses make have no file."""
    source = "from dataclasses import dataclass\n@dataclass\nclass A:\n    one: int\nA()"

    with pytest.raises(TypeError) as typed:
        exec(compile(source, "<console>", "exec"), {})
    with pytest.raises(TypeError) as made:
        exec(compile(source, "<string>", "exec"), {})

    assert any('"<console>", line 5' in line for line in told(typed.value))
    assert not any("<string>" in line for line in told(made.value))
