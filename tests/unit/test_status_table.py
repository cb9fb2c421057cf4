"""The table of `karafka status`, and the units that people write and read."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from karafka.checks import duration, size
from karafka.cli.status import cells, lasted, table
from karafka.errors import ConfigError

RUNNING = {
    "process": 1,
    "pid": 4711,
    "state": "running",
    "uptime": 7_500.4,
    "partitions": 12,
    "lag": 1_234_567,
    "rate": 2_345.6,
    "memory": 45_300_000,
    "handler": 0.4,
    "oldest": 71.2,
}
WAITING = {"process": 2, "pid": None, "state": "waiting"}
SUPERVISOR = {"client_id": "videos", "pid": 4700, "state": "running", "uptime": 90.0, "processes": [RUNNING, WAITING]}


def test_a_row_is_for_people() -> None:
    assert cells(RUNNING) == ("1", "4711", "running", "2h 05m", "12", "1,234,567", "2,346", "45 MB", "0.4s", "1m 11s")


def test_what_is_not_known_is_a_dash() -> None:
    assert cells(WAITING) == ("2", "-", "waiting", "-", "-", "-", "-", "-", "-", "-")
    assert cells({**RUNNING, "lag": None, "handler": 0.0, "oldest": 0.0})[5:] == ("-", "2,346", "45 MB", "-", "-")


def test_nothing_and_zero_are_not_the_same() -> None:
    assert cells({**RUNNING, "lag": 0, "partitions": 0, "rate": 0.0})[4:7] == ("0", "0", "0")


def test_for_a_pipe_it_is_columns_of_text() -> None:
    title, *lines = table(SUPERVISOR).plain().splitlines()

    assert title == "videos: running, up 1m 30s, supervisor pid 4700"
    assert lines == [
        "process   pid  state    uptime  parts        lag  msg/s  memory  handler  oldest",
        "      1  4711  running  2h 05m     12  1,234,567  2,346   45 MB     0.4s  1m 11s",
        "      2     -  waiting       -      -          -      -       -        -       -",
    ]


@pytest.mark.parametrize("width", [80, 140])
def test_on_a_terminal_it_is_a_table_with_all_of_it(width: int) -> None:
    written = io.StringIO()
    Console(file=written, width=width, force_terminal=True).print(table(SUPERVISOR).drawn())

    text = written.getvalue()
    assert all(cell in text for cell in ("4711", "running", "2h 05m", "1,234,567", "45 MB", "videos"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0s"),
        (59.94, "59.9s"),
        (59.99, "1m 00s"),
        (60, "1m 00s"),
        (3_599.9, "59m 59s"),
        (3_600, "1h 00m"),
        (86_399, "23h 59m"),
        (86_400, "1d 00h"),
        (1e7, "115d 17h"),
    ],
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert lasted(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("6h", 21_600), ("1.5d", 129_600), ("250ms", 0.25), (" 2 H ", 7_200)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("512MB", 512_000_000), ("512MiB", 512 * 2**20), ("2gb", 2_000_000_000), ("1.5 kB", 1_500), ("700", 700)],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "h", "6x", "-5s", "0", "0s", "1e3", "nan", "inf", "6h 5m", "٣h", "1" * 400])
def test_what_is_no_duration_is_refused_with_one_that_is(text: str) -> None:
    with pytest.raises(ConfigError, match="90s, 10m or 6h"):
        duration(text)


@pytest.mark.parametrize("text", ["", "MB", "5TBs", "-1MB", "0MB", "lots"])
def test_what_is_no_size_is_refused_with_one_that_is(text: str) -> None:
    with pytest.raises(ConfigError, match="512MB or 2GiB"):
        size(text)
