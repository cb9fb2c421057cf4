"""`python -m bench.side_by_side`: lanes beside what is possible, and beside bare threads or coroutines.

Each run is a process of its own, on a topic that was filled before. A figure without its ledger is refused: each
message performed once, those of a lane in order, all committed.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click
from rich.console import Console

from bench.ground import answered, broker, filled, save, show, uncommitted
from bench.side_by_side.scenarios import SCENARIOS, Scenario

RESULTS = Path(__file__).parents[1] / "SIDE_BY_SIDE.md"
HEAD = ("", "of the ideal", "bare", "µs of CPU each", "bare", "besides")


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--bootstrap", help="A broker of yours; a Kafka of its own is started otherwise.")
@click.option("--only", multiple=True, type=click.Choice(list(SCENARIOS)), help="These rows; nothing is written then.")
def main(rounds: int, bootstrap: str | None, only: tuple[str, ...]) -> None:
    names = only or tuple(SCENARIOS)
    console = Console()
    with broker(bootstrap) as address:
        rows = measured(console, address, rounds, names)
    show(console, f"{rounds} rounds, medians (spread)", HEAD, rows)
    if not only:
        said = (
            f"Medians of {rounds} rounds, with their spread. *Of the ideal*: all workers always at work, or the\n"
            "longest lane. *Bare*: as many threads or coroutines that take the next message from a queue in memory,\n"
            "without Kafka, order, failures or promises, in the same round: what Python and this machine allow.\n"
            "Each run's ledger was checked: each message performed once, those of a lane in order, all committed."
        )
        save(RESULTS, "Side by side", "python -m bench.side_by_side", said, HEAD, rows)


def measured(console: Console, bootstrap: str, rounds: int, names: Sequence[str]) -> list[tuple[str, ...]]:
    """A row of the table for each scenario; rounds go through all of them in turn."""
    topics = {name: fill(bootstrap, SCENARIOS[name]) for name in names}
    answers: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            bare = answered("bench.side_by_side.bare", name)
            group = f"bench-{uuid.uuid4().hex[:8]}"
            ours = answered("bench.side_by_side.member", name, bootstrap, topics[name], group)
            if left := uncommitted(bootstrap, topics[name], group, SCENARIOS[name].partitions):
                raise SystemExit(f"{name}: not committed to the end: {left}")
            answers[name].append((ours, bare))
            console.print(f"round {number + 1}  {name:<11} {ours['wall']:.3f} s, bare {bare['wall']:.3f} s")
    return [row(name, answers[name]) for name in names]


def row(name: str, answers: Sequence[tuple[dict[str, float], dict[str, float]]]) -> tuple[str, ...]:
    scenario = SCENARIOS[name]
    items = scenario.items()
    ideal = scenario.ideal(items)

    def shares(which: int) -> str:
        if which and scenario.failing:
            return "-"  # nothing fails there
        found = [ideal / one[which]["wall"] for one in answers]
        return f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})"

    def cost(which: int) -> str:
        return f"{median(one[which]['cpu'] for one in answers) / len(items) * 1e6:.1f}"

    besides = ""
    if scenario.hot:
        others = sum(one.takes for one in items) * (1 - scenario.hot) / scenario.workers
        took = median(one["others"] for one, _ in answers)
        besides = f"the other keys done after {took / others:.1f} times their ideal, {others:.2f} s"
    if scenario.failing:
        besides = f"tried again at most {median(one['late'] for one, _ in answers) * 1e3:.0f} ms late"
    return scenario.said, shares(0), shares(1), cost(0), cost(1), besides


def fill(bootstrap: str, scenario: Scenario) -> str:
    """A new topic with a message for each item: its number."""
    items = enumerate(scenario.items())
    messages = ((one.partition, one.key.encode(), str(number).encode()) for number, one in items)
    return filled(bootstrap, scenario.partitions, messages)


main()
