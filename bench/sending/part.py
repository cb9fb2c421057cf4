"""What sending costs: karafka's producer, the client alone, and others' where sends are awaited.

Each run is a topic and a process of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeAlias

from confluent_kafka import Consumer, TopicPartition

from bench.environments import interpreter
from bench.ground import answered, filled
from bench.part import Answer, Ask, Found, Part, Plot, bar, spread
from bench.sending.account import CHUNK, THREADS, WARM

RECORDS = 500_000
HEAD = ("", "karafka", "the bare client", "to the bare client", "µs of CPU each", "bare", "besides")
OURS, BARE = "bench.sending.ours", "bench.sending.bare"
PEER, REQUIREMENTS = "bench.sending.aiokafka_gather", ("aiokafka[lz4]==0.14.0",)
# Milliseconds that messages wait for others, where many are sent.
LINGER = 5
# Ways of the bare client to wait on several threads, and of how many of the records: most are slow.
BY_THREADS: Mapping[str, float] = {"flush": 1 / 50, "poll": 1 / 50, "event": 1 / 10}
# Seconds until what was sent without acknowledgement is there.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Run:
    """One way of sending, by its module and name; `share` of the records where it is slow, or where they are more."""

    module: str
    way: str
    share: float = 1.0
    acks: str = "all"
    linger: int = 0

    @property
    def python(self) -> str:
        """Its interpreter; its environment is made at first use."""
        return interpreter("aiokafka-sending", REQUIREMENTS if self.module == PEER else ())

    def count(self, records: int) -> int:
        return max(THREADS, int(records * self.share) // THREADS * THREADS)


@dataclass(frozen=True, slots=True)
class Figure:
    """What is read from a run's answer: by its key, with so many digits, messages/s where the key is `rate`."""

    key: str
    said: str
    digits: int

    def of(self, answer: Answer) -> float:
        return answer["delivered"] / answer["wall"] if self.key == "rate" else answer[self.key]

    def shown(self, answers: Sequence[Answer]) -> str:
        """The median over rounds, with the least and the most."""
        values = [self.of(one) for one in answers]
        middle, least, most = (f"{one:,.{self.digits}f}" for one in (median(values), min(values), max(values)))
        return f"{middle} ({least} to {most})"


# Of a row, by way, one for each round.
Answers: TypeAlias = dict[Run, list[Answer]]

RATE = Figure("rate", "messages/s", 0)
WAITS = (Figure("p50", "p50, ms", 3), Figure("p99", "p99, ms", 3))
GROWTH = (Figure("early", "MB when a tenth is sent", 1), Figure("grown", "MB more when all is", 1))


@dataclass(frozen=True, slots=True)
class Row:
    """What is ours, beside the best of `bare` in each round, and `others`; a line of the table for each figure."""

    said: str
    ours: Run
    bare: tuple[Run, ...]
    others: tuple[Run, ...] = ()
    figures: tuple[Figure, ...] = (RATE,)

    @property
    def runs(self) -> tuple[Run, ...]:
        return *self.bare, self.ours, *self.others


def _sync(acks: str, share: float, linger: int = 0) -> Row:
    run = partial(Run, share=share, acks=acks)
    bare = run(BARE, "flush"), run(BARE, "poll")
    said = f"`produce_sync`, one thread, `acks={acks}`" + (f", `linger.ms={linger}`, to 0" if linger else "")
    return Row(said, run(OURS, "sync", linger=linger), bare, figures=WAITS)


def _streams() -> dict[str, Row]:
    ways = {
        "kept": "`produce_async`, handles kept and waited for",
        "forgotten": "`produce_async`, handles dropped, then `flush`",
        "many": f"`produce_many_async`, {CHUNK:,} at once",
    }
    return {
        name + ("-linger" if linger else ""): Row(
            said + (f", `linger.ms={linger}`" if linger else ""),
            Run(OURS, name, linger=linger),
            (Run(BARE, "shared", linger=linger),),
            (Run(BARE, "least", linger=linger),),
        )
        for linger in (0, LINGER)
        for name, said in ways.items()
    }


ROWS: Mapping[str, Row] = {
    "sync": _sync("all", 1 / 100),
    "sync-linger": _sync("all", 1 / 100, LINGER),
    "sync-acks0": _sync("0", 1 / 25),
    "threads": Row(
        f"`produce_sync`, {THREADS} threads at once",
        Run(OURS, "threads", 1 / 10),
        tuple(Run(BARE, f"threads-{way}", share) for way, share in BY_THREADS.items()),
    ),
    **_streams(),
    "dicts": Row("`produce_async`, dicts, handles dropped", Run(OURS, "dicts"), (Run(BARE, "dicts"),)),
    "asyncio": Row(
        f"`await`, {CHUNK:,} at once",
        Run(OURS, "asyncio", 1 / 5),
        (Run(BARE, "asyncio", 1 / 5),),
        (Run(BARE, "AIOProducer", 1 / 50), Run(PEER, "aiokafka", 1 / 50)),
    ),
    "memory": Row("memory, handles dropped", Run(OURS, "memory", 20), (Run(BARE, "memory", 20),), figures=GROWTH),
}


def measure(ask: Ask) -> Found:
    """Lines for each row. What is compared runs one after the other."""
    names, records = ask.only or tuple(ROWS), ask.records or RECORDS
    pythons = {run: run.python for name in names for run in ROWS[name].runs}
    send(Run(BARE, "shared"), sys.executable, ask.bootstrap, records)  # not counted: the broker compiles itself
    answers: dict[str, Answers] = {name: {run: [] for run in ROWS[name].runs} for name in names}
    for number in range(ask.rounds):
        for name in names:
            for run in ROWS[name].runs:
                answer = send(run, pythons[run], ask.bootstrap, records)
                answers[name][run].append(answer)
                said = (
                    f"{RATE.of(answer):>9,.0f}/s  {answer['cpu'] / answer['delivered'] * 1e6:6.2f} µs of processor each"
                )
                ask.console.print(f"round {number + 1}  {name:<16} {named(run):<26} {said}")
    streams = [name for name in names if RATE in ROWS[name].figures]
    return Found(
        said=(
            f"50 bytes each to one partition, {WARM:,} before those that count; both have karafka's settings\n"
            "(`acks=all`, `enable.idempotence`, lz4, `linger.ms` 0) but for what a row names. Streams are of\n"
            f"{records:,} messages, until all are confirmed. *The bare client*: the best of its ways in each round,\n"
            "where there are several (*besides*); streams by `produce(…, on_delivery=…)` with one callback for all,\n"
            "`poll(0)` after each 1,000 and `poll` where the queue is full; awaited by a thread that polls and ends\n"
            "futures, as in its examples. *Least* is the bare client with the least that a handle can be in Python:\n"
            "an object for each message, which is called with its end and keeps partition, offset and latency.\n"
            f"Memory is resident, of {records * 20:,} messages. Medians over rounds,\n"
            "with their spread; a ratio is of two runs of one round. Every run's ledger was checked: each message\n"
            "confirmed to its sender, and as many at the topic's end as were sent.\n"
            f"Beside us: {REQUIREMENTS[0].replace('==', ' ')}."
        ),
        head=HEAD,
        rows=tuple(line(ROWS[name], figure, answers[name]) for name in names for figure in ROWS[name].figures),
        plot=Plot(
            axis="messages/s, to those of the bare client",
            bars=tuple(
                bar(ROWS[name].said.replace("`", ""), "karafka", ratios(ROWS[name], RATE, answers[name]))
                for name in streams
            ),
        )
        if streams
        else None,
    )


def send(run: Run, python: str, bootstrap: str, records: int) -> Answer:
    """One run's answer. Ends the bench where its ledger does not add up."""
    # A message of its own first: of several on their way to a new partition the client may lose one.
    topic, count = filled(bootstrap, 1, [(0, None, b"the first")]), run.count(records)
    place = run.way, bootstrap, topic, str(count), run.acks, str(run.linger)
    answer = answered(run.module, *place, python=python)
    there = kept(bootstrap, topic, 1 + WARM + count)
    if answer["delivered"] != count or there != 1 + WARM + count:
        raise SystemExit(f"{named(run)}: {count} sent after {1 + WARM}, {answer['delivered']} confirmed, {there} there")
    return answer


def kept(bootstrap: str, topic: str, wanted: int) -> int:
    """How many messages the topic has, once they are as many as `wanted`, or after `PATIENCE` seconds."""
    consumer, by = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench"}), time.monotonic() + PATIENCE
    while (end := consumer.get_watermark_offsets(TopicPartition(topic, 0), 10)[1]) < wanted and time.monotonic() < by:
        time.sleep(0.05)
    consumer.close()
    return end


def line(row: Row, figure: Figure, answers: Answers) -> tuple[str, ...]:
    def cost(found: Sequence[Answer]) -> str:
        return f"{median(one['cpu'] / one['delivered'] for one in found) * 1e6:.2f}"

    best = [better(figure, found) for found in zip(*(answers[run] for run in row.bare), strict=True)]
    others = row.others + (row.bare if len(row.bare) > 1 else ())
    besides = [f"{run.way} {median(map(figure.of, answers[run])):,.{figure.digits}f}" for run in others]
    if all("threads" in one for one in answers[row.ours]):
        counts = (f"{run.way} {max(one['threads'] for one in answers[run]):.0f}" for run in row.others)
        ours = max(one["threads"] for one in answers[row.ours])
        besides.append(f"threads: karafka {ours:.0f}, {', '.join(counts)}")
    return (
        f"{row.said}: {figure.said}",
        figure.shown(answers[row.ours]),
        figure.shown(best),
        "-" if figure in GROWTH else spread(ratios(row, figure, answers)),
        cost(answers[row.ours]),
        cost(best),
        ", ".join(besides),
    )


def ratios(row: Row, figure: Figure, answers: Answers) -> list[float]:
    """Of each round, ours to the bare client's best."""
    rounds = zip(answers[row.ours], *(answers[run] for run in row.bare), strict=True)
    return [figure.of(ours) / figure.of(better(figure, bare)) for ours, *bare in rounds]


def better(figure: Figure, answers: Sequence[Answer]) -> Answer:
    """The answer of the best way in one round: most messages, or least of all else."""
    return (max if figure is RATE else min)(answers, key=figure.of)


def named(run: Run) -> str:
    """For those who wait, and for errors."""
    return f"{'karafka' if run.module == OURS else 'beside it'} {run.way}"


PART = Part(
    name="sending",
    title="Sending",
    measure=measure,
    rows=tuple(ROWS),
    goals=(
        "`produce_sync` p50 ≤ 1.15 times the bare client's, under 1 ms (`acks=0`: under 0.1 ms); 8 threads ≥ 1.0 of\n"
        "its best; `produce_async` ≥ 0.8 with handles dropped, ≥ 0.6 with handles kept; `produce_many_async` ≥ 0.9;\n"
        "memory flat."
    ),
)
