"""`python -m bench.lanes`: what order by key costs, against order by partition, where `perform` is done in a moment.

Each run is a process of its own; rounds go through all kinds in turn. A figure without its ledger is refused: each
message performed once, those of a key in order, all committed.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from statistics import median

import click
from rich.console import Console

from bench.ground import answered, broker, filled, save, show, uncommitted

RESULTS = Path(__file__).parents[1] / "LANES.md"
KEYS = 1_000
KINDS = ("partition", "key", "none")
HEAD = ("order", "messages/s", "µs of CPU each", "throughput to that by partition")


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--records", default=1_000_000, show_default=True)
@click.option("--bootstrap", help="A broker of yours; a Kafka of its own is started otherwise.")
@click.option("--write/--no-write", default=True, help="Into LANES.md.")
def main(rounds: int, records: int, bootstrap: str | None, *, write: bool) -> None:
    console = Console()
    with broker(bootstrap) as address:
        rows = measured(console, address, rounds, records)
    show(console, f"{rounds} rounds, medians (spread)", HEAD, rows)
    if write:
        said = (
            f"{records:,} messages without work, {KEYS:,} keys, one partition, 64 threads; {rounds} rounds in turn,\n"
            "medians. A ratio is of wall times within a round. Each run's ledger was checked: each message performed\n"
            "once, those of a key in order, all committed."
        )
        save(RESULTS, "Lanes without work", "python -m bench.lanes", said, HEAD, rows)


def measured(console: Console, bootstrap: str, rounds: int, records: int) -> list[tuple[str, ...]]:
    """A row of the table for each kind of order."""
    topic = filled(bootstrap, 1, ((0, b"key-%d" % (number % KEYS), b"%d" % number) for number in range(records)))
    answers: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for turn in range(rounds):
        for kind in KINDS:
            group = f"bench-{uuid.uuid4().hex[:8]}"
            answer = answered("bench.lanes.member", kind, bootstrap, topic, group, str(records), str(KEYS))
            if left := uncommitted(bootstrap, topic, group, 1):
                raise SystemExit(f"{kind}: not committed to the end: {left}")
            answers[kind].append(answer)
            said = f"{answer['cpu'] / records * 1e6:5.2f} µs of processor each"
            console.print(f"round {turn + 1}  {kind:<10} {records / answer['wall']:>10,.0f}/s  {said}")
    return [row(kind, answers[kind], answers[KINDS[0]], records) for kind in KINDS]


def row(kind: str, found: list[dict[str, float]], base: list[dict[str, float]], records: int) -> tuple[str, ...]:
    ratios = [least["wall"] / one["wall"] for one, least in zip(found, base, strict=True)]
    return (
        kind,
        f"{records / median(one['wall'] for one in found):,.0f}",
        f"{median(one['cpu'] for one in found) / records * 1e6:.2f}",
        f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
    )


main()
