"""All loops over the same records: ours, the bare client's, and other frameworks'."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.environments import interpreter
from bench.ground import answered, filled, uncommitted
from bench.part import Ask, Found, Part, Plot, bar

RECORDS = 2_000_000
HEAD = ("", "messages/s", "µs of CPU each", "of it librdkafka", "to the tuned client", "spread")
MSGSPEC = "msgspec==0.22.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One way to read the records; `share` of them where it is slow. Others' have an environment of their own.

    `against` is the loop that does the same with the bare client: what a user would write instead.
    """

    said: str
    module: str
    share: float = 1.0
    environment: str = ""
    requirements: tuple[str, ...] = ()
    ours: bool = False
    against: str = "consume"


def _faststream(client: str, extra: str, batch: str, share: float) -> Loop:
    said = f"FastStream on {client}, {'batches of 500' if batch else 'a message each'}"
    module = f"bench.peers.faststream_{client}{batch}"
    requirements = (f"faststream[{extra}]==0.7.8", MSGSPEC)
    return Loop(said=said, module=module, share=share, environment=f"faststream-{client}", requirements=requirements)


LOOPS: Mapping[str, Loop] = {
    "consume": Loop(said="the bare client, tuned: `consume(500)`", module="bench.loops.consume"),
    "consume-dict": Loop(said="the bare client, tuned, to dicts", module="bench.loops.consume_untyped"),
    "poll": Loop(said="the bare client as in its examples: `poll`", module="bench.loops.poll", share=0.25),
    "perform": Loop(said="karafka, `perform` for each message", module="bench.loops.perform", ours=True),
    "perform-dict": Loop(
        said="karafka, `perform` for each message, dicts",
        module="bench.loops.perform_untyped",
        ours=True,
        against="consume-dict",
    ),
    "batch": Loop(said="karafka, batches of 500", module="bench.loops.batch", ours=True),
    "aiokafka": Loop(
        said="aiokafka, `getmany`",
        module="bench.peers.aiokafka_getmany",
        environment="aiokafka",
        requirements=("aiokafka==0.14.0", MSGSPEC),
    ),
    "faststream-aiokafka": _faststream("aiokafka", "kafka", "", 0.05),
    "faststream-aiokafka-batch": _faststream("aiokafka", "kafka", "_batch", 0.25),
    "faststream-confluent": _faststream("confluent", "confluent", "", 0.025),
    "faststream-confluent-batch": _faststream("confluent", "confluent", "_batch", 0.25),
    "quix": Loop(
        said="Quix Streams",
        module="bench.peers.quix",
        share=0.25,
        environment="quix",
        requirements=("quixstreams==3.28.1", MSGSPEC),
    ),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One loop in one round: seconds for each record; of wall, of processor, and of it librdkafka's threads'."""

    wall: float
    cpu: float
    librdkafka: float


def measure(ask: Ask) -> Found:
    """A row for each loop."""
    names, records = ask.only or tuple(LOOPS), ask.records or RECORDS
    pythons = {name: interpreter(LOOPS[name].environment, LOOPS[name].requirements) for name in names}
    topic = filled(ask.bootstrap, 1, values(records))
    figures: dict[str, list[Figure]] = {name: [] for name in names}
    for number in range(ask.rounds):
        for name in names:
            figure = run(LOOPS[name], pythons[name], ask.bootstrap, topic, records)
            figures[name].append(figure)
            said = f"{1 / figure.wall:>12,.0f}/s  {figure.cpu * 1e6:7.2f} µs of processor each"
            ask.console.print(f"round {number + 1}  {name:<26} {said}")
    ratios = {name: compared(figures, name) for name in names}
    return Found(
        said=(
            f"{records:,} records of 70 bytes (JSON; of slow loops fewer), one partition, one process each, one\n"
            "field of each read. Every run's ledger was checked: each record read once, and ours committed up to the\n"
            "end. A ratio is the median, over the rounds, of rates within one round. The tuned client also sets\n"
            "`fetch.queue.backoff.ms` to 10: with the default, as in the client's examples, a queue that was full is\n"
            "looked at again after a second, which is most of what `poll` takes here (for 500,000 records 3.3 s, and\n"
            "0.6 s with 10). Karafka's, the client's and aiokafka's payloads are typed (msgspec) but where it says\n"
            "dicts, the others' are dicts, as is their way. Karafka with dicts is compared with the tuned client that\n"
            "makes dicts, all others with the typed one.\n"
            f"Beside us: {peers()}."
        ),
        head=HEAD,
        rows=tuple(row(name, figures[name], ratios[name]) for name in names),
        plot=Plot(
            axis="messages/s, to those of the tuned client",
            bars=tuple(
                bar(LOOPS[name].said.replace("`", ""), "karafka" if LOOPS[name].ours else "others", ratios[name])
                for name in names
                if ratios[name]
            ),
        ),
    )


def values(records: int) -> Iterator[tuple[int, None, bytes]]:
    """Their ids count up from 0."""
    for number in range(records):
        value = json.dumps({"id": number, "title": "a video whose title has some length to it"}).encode()
        yield 0, None, value[:-2].ljust(68, b" ") + b'"}'


def run(loop: Loop, python: str, bootstrap: str, topic: str, records: int) -> Figure:
    """Run one loop. Ends the bench when its ledger does not add up: a figure without it is none."""
    group, count = f"bench-{uuid.uuid4().hex[:8]}", int(records * loop.share)
    answer = answered(loop.module, bootstrap, topic, str(count), group, python=python)
    wanted = count * (count - 1) // 2
    if answer["count"] != count or answer["total"] != wanted:
        raise SystemExit(f"{loop.module}: {answer}, but {count} messages add up to {wanted}")
    if loop.ours and (left := uncommitted(bootstrap, topic, group, 1)):
        raise SystemExit(f"{loop.module}: not committed to the end: {left}")
    return Figure(answer["wall"] / count, answer["cpu"] / count, answer["librdkafka"] / count)


def compared(figures: Mapping[str, Sequence[Figure]], name: str) -> list[float]:
    """Of each round the rate to that of the loop it is compared with; nothing where that was not measured."""
    base = figures.get(LOOPS[name].against, ())
    return [least.wall / one.wall for one, least in zip(figures[name], base, strict=False)]


def row(name: str, found: Sequence[Figure], ratios: Sequence[float]) -> tuple[str, ...]:
    librdkafka = median(one.librdkafka for one in found) * 1e6
    return (
        LOOPS[name].said,
        f"{1 / median(one.wall for one in found):,.0f}",
        f"{median(one.cpu for one in found) * 1e6:.2f}",
        f"{librdkafka:.2f}" if librdkafka else "-",
        rounded(median(ratios)) if ratios else "-",
        f"{rounded(min(ratios))} to {rounded(max(ratios))}" if ratios else "-",
    )


def peers() -> str:
    """Their versions."""
    names = (requirement for loop in LOOPS.values() for requirement in loop.requirements)
    return ", ".join(dict.fromkeys(name.replace("==", " ") for name in names))


def rounded(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}"


PART = Part(
    name="loops",
    title="Loops",
    measure=measure,
    rows=tuple(LOOPS),
    goals=(
        "`perform` ≥ 0.85 of the tuned client, typed and with dicts (not done below 0.70), ≥ 1.8 times\n"
        "`poll` (1.4), ≥ 45 times FastStream, ≥ 6 times Quix Streams; batches ≥ 0.97 of the tuned client (0.9)."
    ),
)
