"""`make bench`: all parts in turn, or those that are named; what each found goes into its section of RESULTS.md.

Rounds go through all rows of a part in turn (A B C A B C …), each run in a process of its own. A figure without its
ledger is refused: each message was performed once, and what is ours has committed up to the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import click
from rich.console import Console

from bench import page
from bench.environments import interpreter
from bench.ground import broker
from bench.part import NAMES, Ask, Part


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(NAMES))
@click.option("--rounds", default=5, show_default=True)
@click.option(
    "--records", type=int, help="In place of each part's own number, to try the bench; nothing is written then."
)
@click.option("--bootstrap", help="A broker of yours; a Kafka of its own is started for each part otherwise.")
@click.option("--only", multiple=True, metavar="ROW", help="This row, and others so named; nothing is written then.")
def main(parts: Sequence[str], rounds: int, records: int | None, bootstrap: str | None, only: tuple[str, ...]) -> None:
    chosen = [part(name) for name in parts or NAMES]
    rows = [row for one in chosen for row in one.rows]
    if unknown := set(only) - set(rows):
        raise click.BadParameter(f"no row is named {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    writes = not only and records is None
    if writes:
        interpreter(*page.PLOTTER)  # so that it does not fail when all is measured
    console = Console()
    for one in chosen:
        wanted = tuple(row for row in one.rows if row in only)
        if only and not wanted:
            continue
        with broker(bootstrap) as address:  # the same for a part that runs alone and for one behind others
            ask = Ask(console=console, bootstrap=address, rounds=rounds, records=records, only=wanted)
            console.rule(one.title)
            found = one.measure(ask)
        page.show(console, f"{one.title}, {rounds} rounds", found)
        if writes:
            page.keep(page.section(one, found, rounds, page.OWN_KAFKA if bootstrap is None else page.GIVEN_KAFKA))


def part(name: str) -> Part:
    """The part of that name. The others are not imported: what they need may be missing."""
    found: Part = import_module(f"bench.{name}.part").PART
    return found


main()
