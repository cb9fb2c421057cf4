"""What commands show in rows: drawn on a terminal, in columns of plain text elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table as Drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`numbers` are the headings whose cells stand to the right; `styles` colour the rows, None for no colour.

    `whole`: no cell may be broken into lines, however narrow the terminal.
    """

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""
    numbers: frozenset[str] = frozenset()
    styles: Sequence[str | None] = ()
    whole: bool = False

    def plain(self) -> str:
        """For a pipe: columns, and nothing that only a terminal understands."""
        every = [self.headings, *self.rows]
        widths = [max(map(len, column)) for column in zip(*every, strict=True)]
        lines = (
            "  ".join(
                cell.rjust(width) if heading in self.numbers else cell.ljust(width)
                for heading, cell, width in zip(self.headings, row, widths, strict=True)
            ).rstrip()
            for row in every
        )
        return "\n".join([*([self.title] if self.title else []), *lines])

    def drawn(self) -> Drawn:
        """For a terminal."""
        # Imported here: it takes longer than all else that a command needs.
        from rich import box  # noqa: PLC0415
        from rich.table import Table as Drawn  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Drawn(
            title=self.title or None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            show_edge=False,
            pad_edge=False,
        )
        for heading in self.headings:
            right = heading in self.numbers
            table.add_column(heading, justify="right" if right else "left", no_wrap=self.whole, overflow="fold")
        for index, row in enumerate(self.rows):
            table.add_row(*map(Text, row), style=self.styles[index] if self.styles else None)
        return table


def show(*tables: Table) -> None:
    """Print them, with a line between, as the place they are printed to understands it, or NO_COLOR wishes."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        from rich.console import Console  # noqa: PLC0415

        console = Console()
        for index, table in enumerate(tables):
            console.print(*([] if index == 0 else [""]), table.drawn(), sep="\n")
    else:
        click.echo("\n\n".join(table.plain() for table in tables), nl=bool(tables))
