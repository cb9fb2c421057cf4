"""`make bench`: rounds of all loops in turn (A B C A B C …), each a process; medians and ratios into RESULTS.md.

A figure without its ledger is refused: each loop must have read every record once (their ids add up), and ours must
have committed up to the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.console import Console
from rich.table import Table

from karafka.devbroker import Kafka

LOOPS = {
    "consume": "bare `consume(500)`",
    "poll": "bare `poll`",
    "perform": "karafka `perform`",
    "batch": "karafka batches",
}
OURS = ("perform", "batch")
AGAINST = "consume"
RESULTS = Path(__file__).parent / "RESULTS.md"


@dataclass(frozen=True, slots=True)
class Figure:
    """One loop in one round: `wall` and `cpu` in seconds for all records."""

    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bootstrap", help="a broker of yours; a Kafka of its own is started otherwise")
    parser.add_argument("--only", nargs="*", choices=LOOPS, default=list(LOOPS), help="loops to run")
    asked = parser.parse_args()
    if asked.bootstrap:
        run(asked.bootstrap, asked.records, asked.rounds, asked.only)
        return
    with tempfile.TemporaryDirectory() as folder, Kafka(Path(folder)) as kafka:
        run(kafka.bootstrap, asked.records, asked.rounds, asked.only)


def run(bootstrap: str, records: int, rounds: int, loops: list[str]) -> None:
    console = Console()
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    size = fill(bootstrap, topic, records)
    console.print(f"{records:,} records of {size} bytes in one partition; {rounds} rounds of {', '.join(loops)}")
    figures: dict[str, list[Figure]] = {loop: [] for loop in loops}
    for number in range(rounds):
        for loop in loops:
            figure = measure(loop, bootstrap, topic, records)
            figures[loop].append(figure)
            rate, cost = records / figure.wall, figure.cpu / records * 1e6
            console.print(f"round {number + 1}  {loop:<8} {rate:>12,.0f}/s  {cost:6.2f} µs of processor each")
    show(console, figures, records, size)


def fill(bootstrap: str, topic: str, records: int) -> int:
    """Make `topic` with one partition and its records; the size of a record in bytes."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    failed: list[str] = []
    title = "a video whose title has some length to it"
    value = b""
    for number in range(records):
        value = json.dumps({"id": number, "title": title}).encode()[:-2].ljust(68, b" ") + b'"}'
        while True:
            try:
                producer.produce(
                    topic, value, on_delivery=lambda error, _: failed.append(str(error)) if error else None
                )
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    if failed:
        raise SystemExit(f"filling failed: {failed[0]}")
    return len(value)


def measure(loop: str, bootstrap: str, topic: str, records: int) -> Figure:
    """Run one loop. Ends the bench when its ledger does not add up: a figure without it is none."""
    group = f"{loop}-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", f"bench.loops.{loop}", bootstrap, topic, str(records), group]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        raise SystemExit(f"{loop} answered nothing (status {done.returncode}):\n{done.stderr}") from None
    wanted = records * (records - 1) // 2
    if answer["count"] != records or answer["total"] != wanted:
        raise SystemExit(
            f"{loop}: the ledger does not add up: {answer}, wanted {records} messages adding up to {wanted}"
        )
    if loop in OURS and (end := committed(bootstrap, group, topic)) != records:
        raise SystemExit(f"{loop}: committed up to {end}, but {records} were performed")
    return Figure(answer["wall"], answer["cpu"])


def committed(bootstrap: str, group: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    (place,) = consumer.committed([TopicPartition(topic, 0)], 10)
    consumer.close()
    return place.offset


def show(console: Console, figures: dict[str, list[Figure]], records: int, size: int) -> None:
    """The table, to the terminal and into RESULTS.md. A ratio is the median of the ratios within each round."""
    table = Table(title="per message, JSON, one field read")
    head = ("", "messages/s", "µs of CPU each", f"ratio to {AGAINST}", "spread")
    for column in head:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    rows = []
    for loop, measured in figures.items():
        ratios = [base.wall / one.wall for base, one in zip(figures.get(AGAINST, measured), measured, strict=True)]
        rows.append(
            (
                LOOPS[loop],
                f"{records / statistics.median(one.wall for one in measured):,.0f}",
                f"{statistics.median(one.cpu for one in measured) / records * 1e6:.2f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            )
        )
        table.add_row(*rows[-1])
    console.print(table)
    rounds = len(next(iter(figures.values())))
    lines = ["# Results", "", "Written by the run; repeat it with `make bench`.", ""]
    lines += [f"{records:,} records of {size} bytes (JSON), one partition, one process each, {rounds} rounds in turn."]
    lines += ["Every run's ledger was checked: each record read once, and ours committed up to the end."]
    lines += ["Bare `poll` is the client's own example; bare `consume(500)` also sets `fetch.queue.backoff.ms` to 10."]
    lines += ["A ratio is the median, over the rounds, of wall times within one round.", ""]
    lines += ["| " + " | ".join(head) + " |", "|---|---:|---:|---:|---:|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}), "]
    lines[-1] += f"Python {platform.python_version()}, confluent-kafka {version('confluent-kafka')}, Apache Kafka 4.3.1"
    lines[-1] += " on the same machine."
    RESULTS.write_text("\n".join(lines) + "\n")


main()
