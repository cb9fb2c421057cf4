"""How soon a started process performs its first message, how long imports take, and the memory of an idle server.

Beside the bare client, in the same round.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from statistics import median

import psutil
from confluent_kafka import Producer

from bench.ground import filled, uncommitted
from bench.part import Ask, Found, Part, spread

HEAD = ("", "karafka", "the bare client")
COMMANDS: Mapping[str, Sequence[str]] = {
    "karafka": ("-m", "karafka", "server", "-A", "bench.start.app:app", "--log-level", "warning"),
    "bare": ("-m", "bench.start.bare"),
}
# What is imported: said, ours, and with the bare client.
IMPORTS = (
    ("`import karafka`, `import confluent_kafka`, ms", "import karafka", "import confluent_kafka"),
    (
        "what an app names (`App`, `Controller`), `Consumer`, ms",
        "from karafka import App, Controller",
        "from confluent_kafka import Consumer",
    ),
)
# How often each is imported in a round.
TRIES = 10
# Seconds that a process may take to its first message, and for which it is idle before its memory is measured.
PATIENCE = 60.0
IDLE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """One process: milliseconds from its start until each moment, and the bytes of memory that it had at the end."""

    imported: float
    assigned: float
    performed: float
    memory: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two processes one after the other: the first of a new group, and one when that has committed and is empty."""

    new: Started
    again: Started


def measure(ask: Ask) -> Found:
    names = ask.only or PART.rows
    rows: list[tuple[str, ...]] = []
    if "import" in names:
        rows += imports(ask)
    if "start" in names:
        rows += starts(ask)
    return Found(
        said=(
            f"Imports: the time of `python -c` beyond that of `pass`, the median of {TRIES} in each round. Starts:\n"
            "from just before the process is started (`karafka server`, or a `poll` loop as in the client's examples)\n"
            "until the one message that waits in the topic is performed: of a new group, and of one that has read the\n"
            "topic before and is empty. The broker does not hold back a group's first rebalance\n"
            "(`group.initial.rebalance.delay.ms` 0; Kafka's default makes each of these starts 3 s longer). Memory:\n"
            f"resident, {IDLE:g} s later. Medians over rounds, with their spread. Every run's ledger was checked: the\n"
            "message performed once, and committed."
        ),
        head=HEAD,
        rows=tuple(rows),
    )


def imports(ask: Ask) -> list[tuple[str, ...]]:
    statements = ["pass", *(one for _, *both in IMPORTS for one in both)]
    found: dict[str, list[float]] = {statement: [] for statement in statements}
    for number in range(ask.rounds):
        times: dict[str, list[float]] = {statement: [] for statement in statements}
        for _ in range(TRIES):
            for statement in statements:
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", statement], check=True)
                times[statement].append(time.perf_counter() - began)
        for statement in statements:
            found[statement].append((median(times[statement]) - median(times["pass"])) * 1e3)
        said = ", ".join(f"{statement} {found[statement][-1]:.0f} ms" for statement in statements[1:])
        ask.console.print(f"round {number + 1}  {said}")
    return [(said, spread(found[ours], 0), spread(found[bare], 0)) for said, ours, bare in IMPORTS]


def starts(ask: Ask) -> list[tuple[str, ...]]:
    for command in COMMANDS.values():
        run(command, ask.bootstrap, 0.0)  # not counted: bytecode is written, and the broker makes what groups need
    found: dict[str, list[Pair]] = {who: [] for who in COMMANDS}
    for number in range(ask.rounds):
        for who, command in COMMANDS.items():
            pair = run(command, ask.bootstrap, IDLE)
            found[who].append(pair)
            new, again = pair.new.performed, pair.again.performed
            said = f"new group {new:.0f} ms, known group {again:.0f} ms, {pair.again.memory / 1e6:.1f} MB"
            ask.console.print(f"round {number + 1}  {who:<8} {said}")

    def row(said: str, figure: Callable[[Pair], float], digits: int) -> tuple[str, ...]:
        return said, *(spread([figure(one) for one in pairs], digits) for pairs in found.values())

    return [
        row("a new group: until the message is performed, ms", lambda one: one.new.performed, 0),
        row("of it, until all is imported", lambda one: one.new.imported, 0),
        row("of it, until the partition is assigned", lambda one: one.new.assigned, 0),
        row("a group that has read before: until the message is performed, ms", lambda one: one.again.performed, 0),
        row("of it, until all is imported", lambda one: one.again.imported, 0),
        row("of it, until the partition is assigned", lambda one: one.again.assigned, 0),
        row("memory while idle, MB", lambda one: one.again.memory / 1e6, 1),
    ]


def run(command: Sequence[str], bootstrap: str, idle: float) -> Pair:
    """Two starts on a topic and in a group of their own."""
    topic, group = filled(bootstrap, 1, [(0, None, b"0")]), f"bench-{uuid.uuid4().hex[:8]}"
    new = started(command, bootstrap, topic, group, 0, 0.0)
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, b"1", partition=0)
    if producer.flush(30):
        raise SystemExit("the second message was not sent")
    return Pair(new, started(command, bootstrap, topic, group, 1, idle))


def started(command: Sequence[str], bootstrap: str, topic: str, group: str, number: int, idle: float) -> Started:
    """Start a process, see it perform message `number` and be idle, stop it. Ends the bench when the ledger does not
    add up.
    """
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger"
        ledger.touch()
        names = {"LEDGER": str(ledger), "GROUP": group, "BOOTSTRAP": bootstrap, "TOPIC": topic}
        environment = {**os.environ, **{f"BENCH_{name}": value for name, value in names.items()}}
        began = time.time_ns()
        with subprocess.Popen([sys.executable, *command], env=environment) as process:
            until = time.monotonic() + PATIENCE
            while "performed" not in ledger.read_text() and process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(idle)
            memory = psutil.Process(process.pid).memory_info().rss if process.poll() is None else 0
            process.send_signal(SIGTERM)
        lines = [text.split() for text in ledger.read_text().splitlines()]
    performed = [int(one) for moment, one, _ in lines if moment == "performed"]
    if process.returncode or performed != [number]:
        raise SystemExit(f"status {process.returncode}, performed {performed}, but {number} was there")
    if left := uncommitted(bootstrap, topic, group, 1):
        raise SystemExit(f"not committed to the end: {left}")
    moments = {moment: (int(at) - began) / 1e6 for moment, _, at in lines}
    return Started(**moments, memory=memory)


PART = Part(
    name="start",
    title="Start",
    measure=measure,
    rows=("import", "start"),
    goals=(
        "`import karafka` < 100 ms (not done: 150 ms), from the start to the first message on an idle group < 0.5 s\n"
        "(1 s), memory while idle < 50 MB (60 MB)."
    ),
)
