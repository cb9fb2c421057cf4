"""The same messages over 1 to 1,000 partitions, and what idle ones cost."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from bench.ground import answered, filled, uncommitted
from bench.part import Answer, Ask, Found, Part, Plot, bar, spread

RECORDS = 2_000_000
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


class Answers(NamedTuple):
    """Of one round: with messages and idle, ours and the client alone."""

    work: Answer
    idle: Answer
    bare_work: Answer
    bare_idle: Answer


def measure(ask: Ask) -> Found:
    """A row for each number of partitions."""
    numbers, records = tuple(map(int, ask.only)) or NUMBERS, ask.records or RECORDS
    full = {number: fill(ask.bootstrap, number, records) for number in numbers}
    empty = {number: fill(ask.bootstrap, number, 0) for number in numbers}
    answers: dict[int, list[Answers]] = {number: [] for number in numbers}
    for turn in range(ask.rounds):
        for number in numbers:
            found = Answers(
                run("member", ask.bootstrap, full[number], number, records),
                run("member", ask.bootstrap, empty[number], number, 0),
                run("bare", ask.bootstrap, full[number], number, records),
                run("bare", ask.bootstrap, empty[number], number, 0),
            )
            answers[number].append(found)
            rate = f"{records / found.work['wall']:>10,.0f}/s"
            ask.console.print(f"round {turn + 1}  {number:>5} partitions  {rate}  idle {found.idle['idle']:.2%}")
    return Found(
        said=(
            f"{records:,} messages without work; medians. *Times that of one*: the ratio of processor time within a\n"
            "round. *Bare*: the client alone in the same round, `consume(500)`, with our settings for fetching. Idle:\n"
            "another group on a topic without messages, for 5 s. Each run's ledger was checked: each message\n"
            "performed once, all committed."
        ),
        head=HEAD,
        rows=tuple(row(number, answers, records) for number in numbers),
        plot=Plot(
            axis="µs of processor for each message",
            bars=tuple(
                bar(f"{number:,} partitions", series, [one[which]["cpu"] / records * 1e6 for one in answers[number]])
                for number in numbers
                for series, which in (("karafka", 0), ("the client alone", 2))
            ),
        ),
    )


def fill(bootstrap: str, partitions: int, records: int) -> str:
    """A new topic with so many records, spread evenly."""
    return filled(bootstrap, partitions, ((number % partitions, None, b"%d" % number) for number in range(records)))


def run(who: str, bootstrap: str, topic: str, partitions: int, records: int) -> Answer:
    """One run. Ends the bench where its ledger does not add up."""
    group = f"bench-{uuid.uuid4().hex[:8]}"
    answer = answered(f"bench.partitions.{who}", bootstrap, topic, group, str(partitions), str(records))
    if answer["count"] != records or answer["total"] != records * (records - 1) // 2:
        raise SystemExit(f"{partitions} partitions, {who}: the ledger does not add up: {answer}")
    if who == "member" and (left := uncommitted(bootstrap, topic, group, partitions)):
        raise SystemExit(f"{partitions} partitions: not committed to the end: {left}")
    return answer


def row(number: int, answers: Mapping[int, Sequence[Answers]], records: int) -> tuple[str, ...]:
    found, least = answers[number], answers.get(NUMBERS[0], ())

    def times(which: int) -> str:
        return spread([one[which]["cpu"] / base[which]["cpu"] for one, base in zip(found, least, strict=False)])

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


PART = Part(
    name="partitions",
    title="Partitions",
    measure=measure,
    rows=tuple(map(str, NUMBERS)),
    goals=(
        "1,000 partitions cost ≤ 1.2 times what one does for each message (not done above 1.3); idle < 0.5 % of a\n"
        "core (1 %)."
    ),
)
