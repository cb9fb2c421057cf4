"""`python -m bench.partitions`: the same messages over 1 to 1,000 partitions, and what idle ones cost.

Each run is a process of its own; rounds go through all numbers in turn. A figure without its ledger is refused: each
message performed once, all committed.
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

from karafka.devbroker import Kafka

RESULTS = Path(__file__).parents[1] / "PARTITIONS.md"
NUMBERS = (1, 10, 100, 1_000)
HEAD = ("partitions", "messages/s", "µs of CPU each", "times that of one", "idle, % of a core", "idle, MB")


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--records", default=500_000, show_default=True)
@click.option("--bootstrap", help="A broker of yours; a Kafka of its own is started otherwise.")
@click.option("--write/--no-write", default=True, help="Into PARTITIONS.md.")
def main(rounds: int, records: int, bootstrap: str | None, *, write: bool) -> None:
    console = Console()
    if bootstrap is None:
        with tempfile.TemporaryDirectory() as folder, Kafka(Path(folder)) as kafka:
            rows = measured(console, kafka.bootstrap, rounds, records)
    else:
        rows = measured(console, bootstrap, rounds, records)
    table = Table(title=f"{rounds} rounds, medians")
    for column in HEAD:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if write:
        save(rows, rounds, records)


def measured(console: Console, bootstrap: str, rounds: int, records: int) -> list[tuple[str, ...]]:
    """A row of the table for each number of partitions."""
    full = {number: fill(bootstrap, number, records) for number in NUMBERS}
    bare = {number: fill(bootstrap, number, 0) for number in NUMBERS}
    answers: dict[int, list[tuple[dict[str, float], dict[str, float]]]] = {number: [] for number in NUMBERS}
    for turn in range(rounds):
        for number in NUMBERS:
            work, idle = ask(bootstrap, full[number], number, records), ask(bootstrap, bare[number], number, 0)
            answers[number].append((work, idle))
            cost = work["cpu"] / records * 1e6
            said = f"{cost:6.2f} µs of processor each; idle {idle['idle']:.2%}, {idle['memory'] / 1e6:.0f} MB"
            console.print(f"round {turn + 1}  {number:>5} partitions  {records / work['wall']:>10,.0f}/s  {said}")
    rows: list[tuple[str, ...]] = []
    for number, found in answers.items():
        ratios = [one[0]["cpu"] / least[0]["cpu"] for one, least in zip(found, answers[NUMBERS[0]], strict=True)]
        rows.append(
            (
                f"{number:,}",
                f"{records / median(one['wall'] for one, _ in found):,.0f}",
                f"{median(one['cpu'] for one, _ in found) / records * 1e6:.2f}",
                f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{median(one['idle'] for _, one in found) * 100:.2f}",
                f"{median(one['memory'] for _, one in found) / 1e6:.1f}",
            )
        )
    return rows


def fill(bootstrap: str, partitions: int, records: int) -> str:
    """A new topic with so many records, spread evenly."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})  # it lives for as long as it is named
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "queue.buffering.max.messages": 2_000_000}
    )
    for number in range(records):
        producer.produce(topic, b"%d" % number, partition=number % partitions)
    if left := producer.flush(120):
        raise SystemExit(f"filling failed: {left} are left")
    return topic


def ask(bootstrap: str, topic: str, partitions: int, records: int) -> dict[str, float]:
    """One run. Ends the bench where its ledger does not add up."""
    group = f"bench-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", "bench.partitions.member", bootstrap, topic, group, str(partitions), str(records)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"{partitions} partitions ended with status {done.returncode}:\n{done.stderr}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if answer["count"] != records or answer["total"] != records * (records - 1) // 2:
        raise SystemExit(f"{partitions} partitions: the ledger does not add up: {answer}")
    if records and (kept := committed(bootstrap, topic, group, partitions)) != records:
        raise SystemExit(f"{partitions} partitions: {kept} committed of {records}")
    return answer


def committed(bootstrap: str, topic: str, group: str, partitions: int) -> int:
    """How many messages lie below what is committed."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    kept = consumer.committed([TopicPartition(topic, partition) for partition in range(partitions)], 30)
    consumer.close()
    return sum(one.offset for one in kept)


def save(rows: Sequence[Sequence[str]], rounds: int, records: int) -> None:
    lines = ["# Partitions", "", "Written by the run; repeat it with `python -m bench.partitions`.", ""]
    lines += [
        f"{records:,} messages without work, {rounds} rounds in turn, medians. *Times that of one* is the ratio of"
    ]
    lines += ["processor time within a round. Idle: another group on a topic without messages. Each run's ledger was"]
    lines += ["checked: each message performed once, all committed.", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|---:|---:|---:|---:|---:|---:|"]
    lines += ["| " + " | ".join(one) + " |" for one in rows]
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    lines += ["", f"{time.strftime('%Y-%m-%d')}, {machine}, confluent-kafka {version('confluent-kafka')}, Apache Kafka"]
    lines[-1] += " 4.3.1 on the same machine."
    RESULTS.write_text("\n".join(lines) + "\n")


main()
