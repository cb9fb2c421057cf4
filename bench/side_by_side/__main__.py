"""`python -m bench.side_by_side`: lanes beside what is possible, and beside bare threads or coroutines.

Each run is a process of its own, on a topic that was filled before. A figure without its ledger is refused: each
message performed once, those of a lane in order, all committed.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import click
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.console import Console
from rich.table import Table

from bench.side_by_side.scenarios import SCENARIOS, Item
from karafka.devbroker import Kafka

RESULTS = Path(__file__).parents[1] / "SIDE_BY_SIDE.md"
HEAD = ("", "of the ideal", "bare", "µs of CPU each", "bare", "besides")


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--bootstrap", help="A broker of yours; a Kafka of its own is started otherwise.")
@click.option("--only", multiple=True, type=click.Choice(list(SCENARIOS)), help="These rows; nothing is written then.")
def main(rounds: int, bootstrap: str | None, only: tuple[str, ...]) -> None:
    names = only or tuple(SCENARIOS)
    console = Console()
    if bootstrap is None:
        with tempfile.TemporaryDirectory() as folder, Kafka(Path(folder)) as kafka:
            rows = measured(console, kafka.bootstrap, rounds, names)
    else:
        rows = measured(console, bootstrap, rounds, names)
    table = Table(title=f"{rounds} rounds, medians (spread)")
    for column in HEAD:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if not only:
        write(rows, rounds)


def measured(console: Console, bootstrap: str, rounds: int, names: Sequence[str]) -> list[tuple[str, ...]]:
    """A row of the table for each scenario; rounds go through all of them in turn."""
    topics = {name: fill(bootstrap, SCENARIOS[name].items(), SCENARIOS[name].partitions) for name in names}
    answers: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            bare = ask("bare", name)
            group = f"bench-{uuid.uuid4().hex[:8]}"
            ours = ask("member", name, bootstrap, topics[name], group)
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


def fill(bootstrap: str, items: Sequence[Item], partitions: int) -> str:
    """A new topic with a message for each of `items`: its number."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})  # it lives for as long as it is named
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "queue.buffering.max.messages": 1_000_000}
    )
    for number, one in enumerate(items):
        producer.produce(topic, str(number).encode(), key=one.key.encode(), partition=one.partition)
    if left := producer.flush(60):
        raise SystemExit(f"filling failed: {left} are left")
    return topic


def ask(module: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", f"bench.side_by_side.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with status {done.returncode}:\n{done.stderr}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def uncommitted(bootstrap: str, topic: str, group: str, partitions: int) -> dict[int, int]:
    """By partition, what is not committed up to its end."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    kept = {one.partition: one.offset for one in consumer.committed(places, 10)}
    ends = {one.partition: consumer.get_watermark_offsets(one, 10)[1] for one in places}
    consumer.close()
    return {partition: kept[partition] for partition, end in ends.items() if kept[partition] != end}


def write(rows: Sequence[Sequence[str]], rounds: int) -> None:
    lines = ["# Side by side", "", "Written by the run; repeat it with `python -m bench.side_by_side`.", ""]
    lines += [
        f"Medians of {rounds} rounds, with their spread. *Of the ideal*: all workers always at work, or the longest"
    ]
    lines += ["lane. *Bare*: as many threads or coroutines that take the next message from a queue in memory, without"]
    lines += ["Kafka, order or promises, in the same round: what Python and this machine allow. Each run's ledger was"]
    lines += ["checked: each message performed once, those of a lane in order, all committed.", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|---|---:|---:|---:|---:|---|"]
    lines += ["| " + " | ".join(one) + " |" for one in rows]
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    lines += ["", f"{time.strftime('%Y-%m-%d')}, {machine}, confluent-kafka {version('confluent-kafka')}, Apache Kafka"]
    lines[-1] += " 4.3.1 on the same machine."
    RESULTS.write_text("\n".join(lines) + "\n")


main()
