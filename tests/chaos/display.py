"""What a run shows while it lasts: a table that lives in a terminal, elsewhere a line for each thing that begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from tests.chaos.faults import FAULTS
from tests.chaos.run import Progress


@contextmanager
def shown() -> Iterator[Callable[[Progress], object]]:
    console = Console()
    if not console.is_terminal:
        yield Lines()
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield lambda progress: live.update(screen(progress))


class Lines:
    """Says a line whenever what is under way has changed."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, progress: Progress) -> None:
        if progress.now != self._said:
            self._said = progress.now
            click.echo(" · ".join(f"{name} {value}" for name, value in figures(progress)))


def figures(progress: Progress) -> list[tuple[str, str]]:
    return [
        ("time", f"{time.monotonic() - progress.began:.0f} s"),
        ("round", str(progress.round)),
        ("sent", f"{progress.sent:,}"),
        ("performed", f"{progress.verdict.performed:,}"),
        ("again", f"{progress.verdict.duplicates:,}"),
        ("buried", f"{progress.verdict.buried:,}"),
        ("left", f"{progress.left:,}"),
        ("lost", f"{progress.passed:,}"),
        ("found", f"{sum(map(len, progress.verdict.findings.values())):,}"),
        ("now", progress.now),
    ]


def screen(progress: Progress) -> Group:
    """What each fault has done so far, and how the flow is."""
    faults = Table(title=f"chaos, seed {progress.settings.seed}, {progress.settings.protocol}")
    faults.add_column("fault")
    faults.add_column("what")
    faults.add_column("times", justify="right")
    faults.add_column("repeats", justify="right")
    under_way = progress.now.split(" + ")
    for name in progress.settings.faults:
        times, repeats = f"{progress.strikes[name]:,}", f"{progress.verdict.repeats[name]:,}"
        faults.add_row(name, FAULTS[name].said, times, repeats, style="bold" if name in under_way else "")
    flow = Table.grid(padding=(0, 2))
    for name, value in figures(progress):
        flow.add_row(f"[bold]{name}", value)
    return Group(faults, flow)
