"""`python -m bench.partitions`: the same messages over 1 to 1,000 partitions, and what idle ones cost.

Each run is a process of its own; rounds go through all numbers in turn. A figure without its ledger is refused: each
message performed once, all committed.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeAlias

import click
from rich.console import Console

from bench.ground import answered, broker, filled, save, show, uncommitted

Answer: TypeAlias = dict[str, float]

RESULTS = Path(__file__).parents[1] / "PARTITIONS.md"
NUMBERS = (1, 10, 100, 1_000)
HEAD = (
    "partitions",
    "messages/s",
    "µs of CPU each",
    "times that of one",
    "bare, µs",
    "times that of one",
    "idle, % of a core",
    "bare, %",
    "idle, MB",
)


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--records", default=2_000_000, show_default=True)
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
            "processor time within a round. *Bare*: the client alone in the same round, `consume(500)`, with our\n"
            "settings for fetching. Idle: another group on a topic without messages, for 5 s. Each run's ledger was\n"
            "checked: each message performed once, all committed."
        )
        save(RESULTS, "Partitions", "python -m bench.partitions", said, HEAD, rows)


def measured(console: Console, bootstrap: str, rounds: int, records: int) -> list[tuple[str, ...]]:
    """A row of the table for each number of partitions."""
    full = {number: fill(bootstrap, number, records) for number in NUMBERS}
    bare = {number: fill(bootstrap, number, 0) for number in NUMBERS}
    answers: dict[int, list[Answers]] = {number: [] for number in NUMBERS}
    for turn in range(rounds):
        for number in NUMBERS:
            found = Answers(
                ask("member", bootstrap, full[number], number, records),
                ask("member", bootstrap, bare[number], number, 0),
                ask("bare", bootstrap, full[number], number, records),
                ask("bare", bootstrap, bare[number], number, 0),
            )
            answers[number].append(found)
            rate = f"{records / found.work['wall']:>10,.0f}/s"
            console.print(f"round {turn + 1}  {number:>5} partitions  {rate}  idle {found.idle['idle']:.2%}")
    return [row(number, answers[number], answers[NUMBERS[0]], records) for number in NUMBERS]


class Answers(NamedTuple):
    """Of one round: with messages and idle, ours and the client alone."""

    work: Answer
    idle: Answer
    bare_work: Answer
    bare_idle: Answer


def row(number: int, found: Sequence[Answers], least: Sequence[Answers], records: int) -> tuple[str, ...]:
    def times(which: int) -> str:
        ratios = [one[which]["cpu"] / base[which]["cpu"] for one, base in zip(found, least, strict=True)]
        return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    def cost(which: int) -> str:
        return f"{median(one[which]['cpu'] for one in found) / records * 1e6:.2f}"

    return (
        f"{number:,}",
        f"{records / median(one.work['wall'] for one in found):,.0f}",
        cost(0),
        times(0),
        cost(2),
        times(2),
        f"{median(one.idle['idle'] for one in found) * 100:.2f}",
        f"{median(one.bare_idle['idle'] for one in found) * 100:.2f}",
        f"{median(one.idle['memory'] for one in found) / 1e6:.1f}",
    )


def fill(bootstrap: str, partitions: int, records: int) -> str:
    """A new topic with so many records, spread evenly."""
    return filled(bootstrap, partitions, ((number % partitions, None, b"%d" % number) for number in range(records)))


def ask(who: str, bootstrap: str, topic: str, partitions: int, records: int) -> Answer:
    """One run. Ends the bench where its ledger does not add up."""
    group = f"bench-{uuid.uuid4().hex[:8]}"
    answer = answered(f"bench.partitions.{who}", bootstrap, topic, group, str(partitions), str(records))
    if answer["count"] != records or answer["total"] != records * (records - 1) // 2:
        raise SystemExit(f"{partitions} partitions, {who}: the ledger does not add up: {answer}")
    if who == "member" and (left := uncommitted(bootstrap, topic, group, partitions)):
        raise SystemExit(f"{partitions} partitions: not committed to the end: {left}")
    return answer


main()
