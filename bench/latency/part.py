"""How long from produce to perform, where messages come steadily to one partition, beside the bare client's loops.

Each run is a topic, a group, a sender and a reader of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from bench.ground import answered, filled, uncommitted
from bench.part import Answer, Ask, Found, Part, Plot, bar, spread

# Messages a second, and how many are not counted and counted.
RATE = 1_000
WARM = 2_000
COUNTED = 10_000
AGAINST = "poll"
HEAD = ("", "p50, ms", "p99, ms", "p99.9, ms", "longest, ms", "p50 to `poll`", "p99 to `poll`", "µs of CPU each")

# Those that are ours, and the client alone; each by its kind.
OURS: Mapping[str, str] = {
    "perform": "karafka, `perform`",
    "async": "karafka, `async def perform`",
    "batch": "karafka, batches, `max_wait=0`",
}
BARE: Mapping[str, str] = {
    "poll": "the bare client as in its examples: `poll`",
    "poll-ours": "the same, with karafka's settings for fetching",
    "consume": "the bare client, tuned for throughput: `consume(500, 0.2)`",
}
ROWS: Mapping[str, str] = {**BARE, **OURS}
# It waits for all 500 or the time-out: next to its bars the others could not be seen.
UNPLOTTED = "consume"


def measure(ask: Ask) -> Found:
    names, counted = ask.only or tuple(ROWS), ask.records or COUNTED
    run(AGAINST, ask.bootstrap, counted)  # not counted: a broker that was just started has not compiled itself yet
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    for number in range(ask.rounds):
        for name in names:
            answer = run(name, ask.bootstrap, counted)
            answers[name].append(answer)
            said = (
                f"p50 {answer['p50']:7.3f} ms  p99 {answer['p99']:7.3f} ms  cpu {answer['cpu'] / counted * 1e6:4.0f} µs"
            )
            late = f"sent up to {answer['late'] * 1e3:.1f} ms late"
            ask.console.print(f"round {number + 1}  {name:<10} {said}, {late}")
    return Found(
        said=(
            f"{RATE:,} messages a second to one partition, from a process of its own that sends each when it is due\n"
            f"(`linger.ms` 0); {counted:,} count, after {WARM:,} that do not. From just before `produce` to the first\n"
            "line of `perform`, or to the return of `poll`. *The bare client* has its defaults (`fetch.wait.max.ms`\n"
            "500); karafka sets that to 50 and `fetch.queue.backoff.ms` to 10, and so does the second row. All fetch\n"
            "at the first byte (`fetch.min.bytes` 1), and decode with msgspec; `async def` runs on uvloop where it is\n"
            "installed, as here. Percentiles are of a run, figures the median over rounds, a ratio is of two runs of\n"
            "one round. Every run's ledger was checked: each message read once, in order, and ours committed to the\n"
            "end. `consume` waits for all 500 or its time-out, and is left out of the plot."
        ),
        head=HEAD,
        rows=tuple(row(name, answers[name], answers.get(AGAINST, ()), counted) for name in names),
        plot=Plot(
            axis="ms from produce to perform",
            bars=tuple(
                bar(name, percentile, [one[percentile] for one in answers[name]])
                for name in names
                if name != UNPLOTTED
                for percentile in ("p50", "p99")
            ),
        ),
    )


def run(name: str, bootstrap: str, counted: int) -> Answer:
    """What the reader and the sender of one run say. Ends the bench where the ledger does not add up."""
    topic, group = filled(bootstrap, 1, ()), f"bench-{uuid.uuid4().hex[:8]}"
    place = bootstrap, topic, group, str(RATE)
    module = "bench.latency.member" if name in OURS else "bench.latency.bare"
    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(answered, module, name, *place, str(WARM), str(counted))
        sending = pool.submit(answered, "bench.latency.sender", *place, str(WARM + counted))
    answer = {**reading.result(), **sending.result()}
    if name in OURS and (left := uncommitted(bootstrap, topic, group, 1)):
        raise SystemExit(f"{name}: not committed to the end: {left}")
    return answer


def row(name: str, found: Sequence[Answer], base: Sequence[Answer], counted: int) -> tuple[str, ...]:
    def waits(percentile: str) -> str:
        return f"{median(one[percentile] for one in found):.2f}"

    def ratio(percentile: str) -> str:
        return spread([one[percentile] / least[percentile] for one, least in zip(found, base, strict=True)])

    return (
        ROWS[name],
        *map(waits, ("p50", "p99", "p999", "max")),
        *(map(ratio, ("p50", "p99")) if base else ("-", "-")),
        f"{median(one['cpu'] for one in found) / counted * 1e6:.0f}",
    )


PART = Part(
    name="latency",
    title="Latency",
    measure=measure,
    rows=tuple(ROWS),
    goals="p50 of `perform` ≤ 1.2 times that of the bare `poll` loop, p99 ≤ 1.5 times (not done above 1.5 and 2).",
)
