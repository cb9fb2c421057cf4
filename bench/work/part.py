"""Slow work beside what is possible, and beside bare threads or coroutines that do the same."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from statistics import median
from typing import TypeAlias

from bench.ground import answered, filled, uncommitted
from bench.part import Answer, Ask, Bar, Found, Part, Plot, bar, spread
from bench.work.java import WARM
from bench.work.java import answered as java_answered
from bench.work.scenarios import SCENARIOS, Scenario, scaled

# By columns: karafka's, the bare ones', and Java's for what its consumer can do as well.
SERIES = ("karafka", "bare", "Java")
JAVA = ("key", "slow")
HEAD = ("", *("of the ideal", "bare", "Java"), *("µs of CPU each", "bare", "Java"), "besides")

#: Of one round: an answer for each of `SERIES`, or for the first two.
Round: TypeAlias = tuple[Answer, ...]


def measure(ask: Ask) -> Found:
    """A row for each scenario."""
    scenarios = {name: scaled(name, ask.records) for name in ask.only or SCENARIOS}
    topics = {name: fill(ask.bootstrap, scenario) for name, scenario in scenarios.items()}
    answers: dict[str, list[Round]] = {name: [] for name in scenarios}
    for number in range(ask.rounds):
        for name, scenario in scenarios.items():
            found = turn(name, scenario, ask.bootstrap, topics[name])
            answers[name].append(found)
            walls = (f"{series} {one['wall']:.3f} s" for series, one in zip(SERIES, found, strict=False))
            ask.console.print(f"round {number + 1}  {name:<11} {', '.join(walls)}")
    return Found(
        said=(
            "Medians, with their spread. *Of the ideal*: all workers always at work, or the longest lane. *Bare*: as\n"
            "many threads or coroutines that take the next message from a queue in memory, without Kafka, order,\n"
            "failures or promises, in the same round: what Python and this machine allow. *Java*: Confluent's\n"
            "Parallel Consumer 0.5.3.3, its last release, on the same topic, measured when one JVM reads it for the\n"
            f"{WARM + 1}th time and all is compiled (its first reading takes four to five times the processor time).\n"
            "Each run's ledger was checked: each message performed once, those of a lane in order, all committed."
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


def turn(name: str, scenario: Scenario, bootstrap: str, topic: str) -> Round:
    """One run of each. They check their ledgers themselves, but for what is committed. Ends the bench where that does
    not add up.
    """
    bare = answered("bench.work.bare", name, str(scenario.count))
    groups = [f"bench-{uuid.uuid4().hex[:8]}" for _ in ("ours", "java")]
    ours = answered("bench.work.member", name, bootstrap, topic, groups[0], str(scenario.count))
    java: tuple[Answer, ...] = ()
    if name in JAVA:
        takes = [one.takes for one in scenario.items()]
        java = (java_answered(takes, scenario.workers, bootstrap, topic, groups[1]),)
    for group in groups[: 1 + len(java)]:
        if left := uncommitted(bootstrap, topic, group, scenario.partitions):
            raise SystemExit(f"{name}: not committed to the end: {left}")
    return ours, bare, *java


def shares(scenario: Scenario, answers: Sequence[Round], which: int) -> list[float]:
    """Of the ideal, in each round; nothing where it was not measured, nor for bare ones where messages fail: nothing
    fails there.
    """
    if which >= len(answers[0]) or (which and scenario.failing):
        return []
    ideal = scenario.ideal(scenario.items())
    return [ideal / one[which]["wall"] for one in answers]


def row(scenario: Scenario, answers: Sequence[Round]) -> tuple[str, ...]:
    items = scenario.items()

    def cost(which: int) -> str:
        if which >= len(answers[0]):
            return "-"
        return f"{median(one[which]['cpu'] for one in answers) / len(items) * 1e6:.1f}"

    besides = ""
    if scenario.hot:
        others = sum(one.takes for one in items) * (1 - scenario.hot) / scenario.workers
        took = median(ours["others"] for ours, *_ in answers)
        besides = f"the other keys done after {took / others:.1f} times their ideal, {others:.2f} s"
    if scenario.failing:
        besides = f"tried again at most {median(ours['late'] for ours, *_ in answers) * 1e3:.0f} ms late"
    every = range(len(SERIES))
    return scenario.said, *(spread(shares(scenario, answers, which)) for which in every), *map(cost, every), besides


def bars(scenario: Scenario, answers: Sequence[Round]) -> list[Bar]:
    found = ((series, shares(scenario, answers, which)) for which, series in enumerate(SERIES))
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
