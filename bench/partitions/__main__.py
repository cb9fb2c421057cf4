"""`python -m bench.partitions`: the same messages over 1 to 1,000 partitions, and what idle ones cost.

Each run is a process of its own; rounds go through all numbers in turn. A figure without its ledger is refused: each
message performed once, all committed.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from statistics import median

import click
from rich.console import Console

from bench.ground import answered, broker, filled, save, show, uncommitted

RESULTS = Path(__file__).parents[1] / "PARTITIONS.md"
NUMBERS = (1, 10, 100, 1_000)
HEAD = ("partitions", "messages/s", "µs of CPU each", "times that of one", "idle, % of a core", "idle, MB")


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--records", default=500_000, show_default=True)
@click.option("--bootstrap", help="A broker of yours; a Kafka of its own is started otherwise.")
@click.option("--write/--no-write", default=True, help="Into PARTITIONS.md.")
def main(rounds: int, records: int, bootstrap: str | None, *, write: bool) -> None:
    console = Console()
    with broker(bootstrap) as address:
        rows = measured(console, address, rounds, records)
    show(console, f"{rounds} rounds, medians", HEAD, rows)
    if write:
        said = (
            f"{records:,} messages without work, {rounds} rounds in turn, medians. *Times that of one*: the ratio of\n"
            "processor time within a round. Idle: another group on a topic without messages. Each run's ledger was\n"
            "checked: each message performed once, all committed."
        )
        save(RESULTS, "Partitions", "python -m bench.partitions", said, HEAD, rows)


def measured(console: Console, bootstrap: str, rounds: int, records: int) -> list[tuple[str, ...]]:
    """A row of the table for each number of partitions."""
    full = {number: fill(bootstrap, number, records) for number in NUMBERS}
    bare = {number: fill(bootstrap, number, 0) for number in NUMBERS}
    answers: dict[int, list[tuple[dict[str, float], dict[str, float]]]] = {number: [] for number in NUMBERS}
    for turn in range(rounds):
        for number in NUMBERS:
            work, idle = ask(bootstrap, full[number], number, records), ask(bootstrap, bare[number], number, 0)
            answers[number].append((work, idle))
            cost = work["cpu"] / records * 1e6
            said = f"{cost:6.2f} µs of processor each; idle {idle['idle']:.2%}, {idle['memory'] / 1e6:.0f} MB"
            console.print(f"round {turn + 1}  {number:>5} partitions  {records / work['wall']:>10,.0f}/s  {said}")
    rows: list[tuple[str, ...]] = []
    for number, found in answers.items():
        ratios = [one[0]["cpu"] / least[0]["cpu"] for one, least in zip(found, answers[NUMBERS[0]], strict=True)]
        rows.append(
            (
                f"{number:,}",
                f"{records / median(one['wall'] for one, _ in found):,.0f}",
                f"{median(one['cpu'] for one, _ in found) / records * 1e6:.2f}",
                f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{median(one['idle'] for _, one in found) * 100:.2f}",
                f"{median(one['memory'] for _, one in found) / 1e6:.1f}",
            )
        )
    return rows


def fill(bootstrap: str, partitions: int, records: int) -> str:
    """A new topic with so many records, spread evenly."""
    return filled(bootstrap, partitions, ((number % partitions, None, b"%d" % number) for number in range(records)))


def ask(bootstrap: str, topic: str, partitions: int, records: int) -> dict[str, float]:
    """One run. Ends the bench where its ledger does not add up."""
    group = f"bench-{uuid.uuid4().hex[:8]}"
    answer = answered("bench.partitions.member", bootstrap, topic, group, str(partitions), str(records))
    if answer["count"] != records or answer["total"] != records * (records - 1) // 2:
        raise SystemExit(f"{partitions} partitions: the ledger does not add up: {answer}")
    if left := uncommitted(bootstrap, topic, group, partitions):
        raise SystemExit(f"{partitions} partitions: not committed to the end: {left}")
    return answer


main()
