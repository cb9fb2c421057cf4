"""The summary in the terminal."""

from __future__ import annotations

from rich.bar import Bar
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from summary import WEEKDAYS, Summary

WIDTH = 40
KINDS = 15


def report(summary: Summary, console: Console) -> None:
    console.rule(f"[bold]{escape(summary.repository)}")
    console.print(
        f"{summary.commits} commits, {summary.offenses} offenses, {summary.metrics} metrics", justify="center"
    )
    console.print(_bars("Offenses by kind", summary.by_kind[:KINDS]))
    if hidden := summary.by_kind[KINDS:]:
        console.print(f"  and {sum(count for _, count in hidden)} of {len(hidden)} more kinds: see the page")
    console.print(_hot_spots(summary))
    console.print(_bars("Commits by hour", [(f"{hour:02}:00", n) for hour, n in enumerate(summary.by_hour)]))
    console.print(_bars("Commits by weekday", list(zip(WEEKDAYS, summary.by_weekday, strict=True))))


def _bars(title: str, counts: list[tuple[str, int]]) -> Table:
    shown = _table(title)
    shown.add_column()
    shown.add_column(justify="right")
    shown.add_column(width=WIDTH)
    greatest = max((count for _, count in counts), default=1) or 1
    for name, count in counts:
        shown.add_row(escape(name), str(count), Bar(greatest, 0, count, width=WIDTH, color="cyan"))
    return shown


def _hot_spots(summary: Summary) -> Table:
    shown = _table("Hot spots")
    shown.show_header = True
    shown.add_column("file", overflow="fold")
    shown.add_column("commits", justify="right")
    shown.add_column("lines", justify="right")
    for path, commits, lines in summary.hot_spots:
        shown.add_row(escape(path), str(commits), str(lines))
    return shown


def _table(title: str) -> Table:
    return Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, show_header=False)
