"""Each message answered, and committed once its answer is confirmed: karafka, and the client alone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from statistics import median

from confluent_kafka import Consumer, TopicPartition

from bench.answers.account import ANSWERED
from bench.ground import answered, filled, uncommitted
from bench.loops.part import values
from bench.part import Answer, Ask, Found, Part, Plot, bar, spread

RECORDS = 500_000
HEAD = ("", "messages/s", "µs of CPU each", "to the bare loop", "bare", "µs of CPU each, bare")
# Messages that the bare loop takes at once: the better one of each round counts.
SIZES = ("500", "2000")
ROWS: Mapping[str, str] = {
    "produce": "`self.produce` in `perform`",
    "responder": "a responder with one required topic",
    "async": "the same, awaited in `async def perform`",
    "batch": "`self.produce`, batches of 500",
}
# Seconds that reading the answers may take.
PATIENCE = 60.0


def measure(ask: Ask) -> Found:
    """A row for each way; in each round the bare loop runs before them."""
    names, records = ask.only or tuple(ROWS), ask.records or RECORDS
    source = filled(ask.bootstrap, 1, values(records))
    run("bare", SIZES[0], ask.bootstrap, source, records)  # not counted: the broker compiles itself
    bare: list[Answer] = []
    ours: dict[str, list[Answer]] = {name: [] for name in names}
    for number in range(ask.rounds):
        found = [run("bare", size, ask.bootstrap, source, records) for size in SIZES]
        bare.append(min(found, key=lambda one: one["wall"]))
        for size, answer in zip(SIZES, found, strict=True):
            ask.console.print(f"round {number + 1}  {'bare, ' + size:<12} {said(answer)}")
        for name in names:
            ours[name].append(run("ours", name, ask.bootstrap, source, records))
            ask.console.print(f"round {number + 1}  {name:<12} {said(ours[name][-1])}")
    return Found(
        said=(
            f"{records:,} records of 70 bytes (JSON, typed), one partition, one process each; each is answered by one\n"
            "message, a dict, to one partition of another topic; from the first message received to the last offset\n"
            "committed. *The bare loop* consumes a batch (of 500, and of 2,000: the better one of each round),\n"
            "produces one message for each, flushes, and commits without waiting for that. Both producers have\n"
            "karafka's settings (`acks=all`, `enable.idempotence`, lz4, `linger.ms` 0). Medians over rounds, with\n"
            "their spread; a ratio is of two runs of one round. Every run's ledger was checked: each answer there,\n"
            "once and in order, and each offset committed."
        ),
        head=HEAD,
        rows=tuple(row(name, ours[name], bare) for name in names),
        plot=Plot(
            axis="messages/s, to those of the bare loop",
            bars=tuple(bar(ROWS[name].replace("`", ""), "karafka", ratios(ours[name], bare)) for name in names),
        ),
    )


def run(module: str, way: str, bootstrap: str, source: str, records: int) -> Answer:
    """One run's answer. Ends the bench where its ledger does not add up."""
    target, group = filled(bootstrap, 1, [(0, None, ANSWERED)]), f"bench-{uuid.uuid4().hex[:8]}"
    answer = answered(f"bench.answers.{module}", way, bootstrap, source, target, str(records), group)
    if left := uncommitted(bootstrap, source, group, 1):
        raise SystemExit(f"{module} {way}: not committed to the end: {left}")
    numbers = answers(bootstrap, target, records + 2)
    if numbers != [-1, -1, *range(records)]:
        raise SystemExit(f"{module} {way}: {records} messages, {len(numbers) - 2} answers, or not in order")
    return answer


def answers(bootstrap: str, target: str, wanted: int) -> list[int]:
    """What the answers are to, in the order of the log."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "fetch.queue.backoff.ms": 10})
    consumer.assign([TopicPartition(target, 0, 0)])
    numbers: list[int] = []
    while len(numbers) < wanted and (found := consumer.consume(10_000, PATIENCE if not numbers else 5.0)):
        numbers += [json.loads(one.value() or b"")["id"] for one in found]
    consumer.close()
    return numbers


def said(answer: Answer) -> str:
    count = answer["count"]
    return f"{count / answer['wall']:>10,.0f}/s  {answer['cpu'] / count * 1e6:6.2f} µs of processor each"


def row(name: str, ours: Sequence[Answer], bare: Sequence[Answer]) -> tuple[str, ...]:
    def rate(found: Sequence[Answer]) -> str:
        return f"{median(one['count'] / one['wall'] for one in found):,.0f}"

    def cost(found: Sequence[Answer]) -> str:
        return f"{median(one['cpu'] / one['count'] for one in found) * 1e6:.2f}"

    return (ROWS[name], rate(ours), cost(ours), spread(ratios(ours, bare)), rate(bare), cost(bare))


def ratios(ours: Sequence[Answer], bare: Sequence[Answer]) -> list[float]:
    """Of each round."""
    return [least["wall"] / one["wall"] for one, least in zip(ours, bare, strict=True)]


PART = Part(
    name="answers",
    title="Answers",
    measure=measure,
    rows=tuple(ROWS),
    goals="≥ 0.5 of the bare loop (not done below 0.35).",
)
