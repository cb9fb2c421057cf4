"""`make bench`: rounds of all loops in turn (A B C A B C …), each a process; medians and ratios into RESULTS.md.

A figure without its ledger is refused: each loop must have read every record once (their ids add up), and ours must
have committed up to the end.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
from rich.console import Console

from bench.environments import interpreter
from bench.ground import answered, broker, filled, save, show, uncommitted

RESULTS = Path(__file__).parent / "RESULTS.md"
AGAINST = "consume"
HEAD = ("", "messages/s", "µs of CPU each", "to the tuned client", "spread")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One way to read the records; `share` of them where it is slow. Others' have an environment of their own."""

    said: str
    module: str
    share: float = 1.0
    environment: str = ""
    requirements: tuple[str, ...] = ()
    ours: bool = False


CONFLUENT = ("faststream-confluent", ("faststream[confluent]==0.7.8", "msgspec==0.22.0"))
AIOKAFKA = ("faststream-aiokafka", ("faststream[kafka]==0.7.8", "msgspec==0.22.0"))


def _faststream(client: str, batch: str, share: float, environment: tuple[str, tuple[str, ...]]) -> Loop:
    said = f"FastStream on {client}, {'batches of 500' if batch else 'a message each'}"
    module = f"bench.peers.faststream_{client}{batch}"
    return Loop(said=said, module=module, share=share, environment=environment[0], requirements=environment[1])


LOOPS: Mapping[str, Loop] = {
    "consume": Loop(said="the bare client, tuned: `consume(500)`", module="bench.loops.consume"),
    "poll": Loop(said="the bare client as in its examples: `poll`", module="bench.loops.poll", share=0.25),
    "perform": Loop(said="karafka, `perform` for each message", module="bench.loops.perform", ours=True),
    "batch": Loop(said="karafka, batches of 500", module="bench.loops.batch", ours=True),
    "aiokafka": Loop(
        said="aiokafka, `getmany`",
        module="bench.peers.aiokafka_getmany",
        environment="aiokafka",
        requirements=("aiokafka==0.14.0", "msgspec==0.22.0"),
    ),
    "faststream-aiokafka": _faststream("aiokafka", "", 0.05, AIOKAFKA),
    "faststream-aiokafka-batch": _faststream("aiokafka", "_batch", 0.25, AIOKAFKA),
    "faststream-confluent": _faststream("confluent", "", 0.025, CONFLUENT),
    "faststream-confluent-batch": _faststream("confluent", "_batch", 0.25, CONFLUENT),
    "quix": Loop(
        said="Quix Streams",
        module="bench.peers.quix",
        share=0.25,
        environment="quix",
        requirements=("quixstreams==3.28.1", "msgspec==0.22.0"),
    ),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One loop in one round: seconds for each record, of wall and of processor time."""

    wall: float
    cpu: float


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--records", default=2_000_000, show_default=True)
@click.option("--bootstrap", help="A broker of yours; a Kafka of its own is started otherwise.")
@click.option("--only", multiple=True, type=click.Choice(list(LOOPS)), help="These rows; nothing is written then.")
def main(rounds: int, records: int, bootstrap: str | None, only: tuple[str, ...]) -> None:
    names = only or tuple(LOOPS)
    console = Console()
    pythons = {name: interpreter(LOOPS[name].environment, LOOPS[name].requirements) for name in names}
    with broker(bootstrap) as address:
        topic = filled(address, 1, values(records))
        figures: dict[str, list[Figure]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names:
                figure = measure(LOOPS[name], pythons[name], address, topic, records)
                figures[name].append(figure)
                said = f"{1 / figure.wall:>12,.0f}/s  {figure.cpu * 1e6:7.2f} µs of processor each"
                console.print(f"round {number + 1}  {name:<26} {said}")
    rows = [row(name, figures[name], figures.get(AGAINST, figures[name])) for name in names]
    show(console, f"{rounds} rounds, medians", HEAD, rows)
    if not only:
        said = (
            f"{records:,} records of 70 bytes (JSON; of slow loops fewer), one partition, one process each, one field\n"
            f"of each read; {rounds} rounds in turn. Every run's ledger was checked: each record read once, and ours\n"
            "committed up to the end. A ratio is the median, over the rounds, of rates within one round. The tuned\n"
            "client also sets `fetch.queue.backoff.ms` to 10; karafka's, the client's and aiokafka's payloads are\n"
            "typed (msgspec), the others' are dicts, as is their way."
        )
        save(RESULTS, "Results", "make bench", said, HEAD, rows)


def values(records: int) -> Iterator[tuple[int, None, bytes]]:
    """Their ids count up from 0."""
    for number in range(records):
        value = json.dumps({"id": number, "title": "a video whose title has some length to it"}).encode()
        yield 0, None, value[:-2].ljust(68, b" ") + b'"}'


def measure(loop: Loop, python: str, bootstrap: str, topic: str, records: int) -> Figure:
    """Run one loop. Ends the bench when its ledger does not add up: a figure without it is none."""
    group, count = f"bench-{uuid.uuid4().hex[:8]}", int(records * loop.share)
    answer = answered(loop.module, bootstrap, topic, str(count), group, python=python)
    wanted = count * (count - 1) // 2
    if answer["count"] != count or answer["total"] != wanted:
        raise SystemExit(f"{loop.module}: {answer}, but {count} messages add up to {wanted}")
    if loop.ours and (left := uncommitted(bootstrap, topic, group, 1)):
        raise SystemExit(f"{loop.module}: not committed to the end: {left}")
    return Figure(answer["wall"] / count, answer["cpu"] / count)


def row(name: str, found: Sequence[Figure], base: Sequence[Figure]) -> tuple[str, ...]:
    ratios = [least.wall / one.wall for one, least in zip(found, base, strict=True)]
    return (
        LOOPS[name].said,
        f"{1 / median(one.wall for one in found):,.0f}",
        f"{median(one.cpu for one in found) * 1e6:.2f}",
        f"{median(ratios):.3f}" if median(ratios) < 0.1 else f"{median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
    )


main()
