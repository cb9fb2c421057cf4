"""What order by key costs, against order by partition, where `perform` is done in a moment."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from statistics import median

from bench.ground import answered, filled, uncommitted
from bench.part import Answer, Ask, Found, Part, spread

RECORDS = 1_000_000
KEYS = 1_000
KINDS = ("partition", "key", "none")
HEAD = ("order", "messages/s", "µs of CPU each", "throughput to that by partition")


def measure(ask: Ask) -> Found:
    """A row for each kind of order."""
    kinds, records = ask.only or KINDS, ask.records or RECORDS
    topic = filled(ask.bootstrap, 1, ((0, b"key-%d" % (number % KEYS), b"%d" % number) for number in range(records)))
    answers: dict[str, list[Answer]] = {kind: [] for kind in kinds}
    for turn in range(ask.rounds):
        for kind in kinds:
            answer = run(kind, ask.bootstrap, topic, records)
            answers[kind].append(answer)
            said = f"{answer['cpu'] / records * 1e6:5.2f} µs of processor each"
            ask.console.print(f"round {turn + 1}  {kind:<10} {records / answer['wall']:>10,.0f}/s  {said}")
    return Found(
        said=(
            f"{records:,} messages without work, {KEYS:,} keys, one partition, 64 threads; medians. A ratio is of\n"
            "wall times within a round. Each run's ledger was checked: each message performed once, those of a key in\n"
            "order, all committed."
        ),
        head=HEAD,
        rows=tuple(row(kind, answers, records) for kind in kinds),
    )


def run(kind: str, bootstrap: str, topic: str, records: int) -> Answer:
    """One run; it checks its ledger itself, but for what is committed. Ends the bench where that does not add up."""
    group = f"bench-{uuid.uuid4().hex[:8]}"
    answer = answered("bench.lanes.member", kind, bootstrap, topic, group, str(records), str(KEYS))
    if left := uncommitted(bootstrap, topic, group, 1):
        raise SystemExit(f"{kind}: not committed to the end: {left}")
    return answer


def row(kind: str, answers: Mapping[str, Sequence[Answer]], records: int) -> tuple[str, ...]:
    found, base = answers[kind], answers.get(KINDS[0], ())
    ratios = [least["wall"] / one["wall"] for one, least in zip(found, base, strict=False)]
    return (
        kind,
        f"{records / median(one['wall'] for one in found):,.0f}",
        f"{median(one['cpu'] for one in found) / records * 1e6:.2f}",
        spread(ratios),
    )


PART = Part(
    name="lanes",
    title="Lanes without work",
    measure=measure,
    rows=KINDS,
    goals="by key ≥ 0.8 of order by partition (not done below 0.6).",
)
