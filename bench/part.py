"""A part of the bench: what it measures, and what it found. Each is a package whose module `part` exports `PART`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

import msgspec
from rich.console import Console

#: What a run says of itself, by name: see `bench.ground.answered`.
Answer: TypeAlias = dict[str, float]

# In the order of the page.
NAMES = ("loops", "work", "lanes", "latency", "sending", "answers", "jobs", "processes", "start", "partitions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is wanted of a part: so many rounds, on the broker at `bootstrap`.

    `records` in place of the part's own number, for trials of the bench itself; `only` these rows, all where it is
    empty.
    """

    console: Console
    bootstrap: str
    rounds: int
    records: int | None = None
    only: tuple[str, ...] = ()


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of a plot: the median over rounds, the least and the most. Bars of one `series` have one colour."""

    said: str
    series: str
    middle: float
    least: float
    most: float


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """Bars on one axis, in the order from top to bottom; `axis` says what it counts and in which unit."""

    axis: str
    bars: tuple[Bar, ...]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a part found, as it is to read: the text above the table, the table, and what is plotted of it.

    `said` says what was measured, how often, and which ledger was checked; in Markdown.
    """

    said: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    plot: Plot | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`measure` runs rounds in turn, each run in a process of its own, and tells `Ask.console` of each.

    It raises `SystemExit` where a ledger does not add up: a figure without it is refused. `goals` in Markdown; `rows`
    are the names that `Ask.only` may have.
    """

    name: str
    title: str
    measure: Callable[[Ask], Found]
    goals: str = ""
    rows: tuple[str, ...] = ()


def bar(said: str, series: str, values: Sequence[float]) -> Bar:
    """The bar of one figure that was measured in each round."""
    return Bar(said=said, series=series, middle=median(values), least=min(values), most=max(values))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median over rounds, with the least and the most, as a table has it; a dash where there is nothing."""
    if not values:
        return "-"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
