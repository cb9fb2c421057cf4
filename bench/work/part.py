"""Slow work beside what is possible, and beside bare threads or coroutines that do the same."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from statistics import median
from typing import TypeAlias

from bench.ground import answered, filled, uncommitted
from bench.part import Answer, Ask, Bar, Found, Part, Plot, bar, spread
from bench.work.scenarios import SCENARIOS, Scenario, scaled

HEAD = ("", "of the ideal", "bare", "µs of CPU each", "bare", "besides")

#: Of one round: ours, and the bare one.
Pair: TypeAlias = tuple[Answer, Answer]


def measure(ask: Ask) -> Found:
    """A row for each scenario."""
    scenarios = {name: scaled(name, ask.records) for name in ask.only or SCENARIOS}
    topics = {name: fill(ask.bootstrap, scenario) for name, scenario in scenarios.items()}
    answers: dict[str, list[Pair]] = {name: [] for name in scenarios}
    for number in range(ask.rounds):
        for name, scenario in scenarios.items():
            bare = answered("bench.work.bare", name, str(scenario.count))
            ours = run(name, scenario, ask.bootstrap, topics[name])
            answers[name].append((ours, bare))
            ask.console.print(f"round {number + 1}  {name:<11} {ours['wall']:.3f} s, bare {bare['wall']:.3f} s")
    return Found(
        said=(
            "Medians, with their spread. *Of the ideal*: all workers always at work, or the longest lane. *Bare*: as\n"
            "many threads or coroutines that take the next message from a queue in memory, without Kafka, order,\n"
            "failures or promises, in the same round: what Python and this machine allow. Each run's ledger was\n"
            "checked: each message performed once, those of a lane in order, all committed."
        ),
        head=HEAD,
        rows=tuple(row(scenarios[name], answers[name]) for name in scenarios),
        plot=Plot(
            axis="share of the ideal",
            bars=tuple(one for name in scenarios for one in bars(scenarios[name], answers[name])),
        ),
    )


def fill(bootstrap: str, scenario: Scenario) -> str:
    """A new topic with a message for each item: its number."""
    items = enumerate(scenario.items())
    messages = ((one.partition, one.key.encode(), str(number).encode()) for number, one in items)
    return filled(bootstrap, scenario.partitions, messages)


def run(name: str, scenario: Scenario, bootstrap: str, topic: str) -> Answer:
    """One run; it checks its ledger itself, but for what is committed. Ends the bench where that does not add up."""
    group = f"bench-{uuid.uuid4().hex[:8]}"
    answer = answered("bench.work.member", name, bootstrap, topic, group, str(scenario.count))
    if left := uncommitted(bootstrap, topic, group, scenario.partitions):
        raise SystemExit(f"{name}: not committed to the end: {left}")
    return answer


def shares(scenario: Scenario, answers: Sequence[Pair], which: int) -> list[float]:
    """Of the ideal, in each round; nothing for the bare ones where messages fail: nothing fails there."""
    if which and scenario.failing:
        return []
    ideal = scenario.ideal(scenario.items())
    return [ideal / one[which]["wall"] for one in answers]


def row(scenario: Scenario, answers: Sequence[Pair]) -> tuple[str, ...]:
    items = scenario.items()

    def cost(which: int) -> str:
        return f"{median(one[which]['cpu'] for one in answers) / len(items) * 1e6:.1f}"

    besides = ""
    if scenario.hot:
        others = sum(one.takes for one in items) * (1 - scenario.hot) / scenario.workers
        took = median(one["others"] for one, _ in answers)
        besides = f"the other keys done after {took / others:.1f} times their ideal, {others:.2f} s"
    if scenario.failing:
        besides = f"tried again at most {median(one['late'] for one, _ in answers) * 1e3:.0f} ms late"
    ours, bare = (spread(shares(scenario, answers, which)) for which in (0, 1))
    return scenario.said, ours, bare, cost(0), cost(1), besides


def bars(scenario: Scenario, answers: Sequence[Pair]) -> list[Bar]:
    found = ((series, shares(scenario, answers, which)) for which, series in enumerate(("karafka", "bare")))
    return [bar(scenario.said, series, values) for series, values in found if values]


PART = Part(
    name="work",
    title="Work side by side",
    measure=measure,
    rows=tuple(SCENARIOS),
    goals=(
        "5 ms of 1,000 keys on 64 threads ≥ 0.97 of the ideal (not done below 0.93); 50 ms in 1,000 coroutines ≥ 0.95\n"
        "(0.9)."
    ),
)
