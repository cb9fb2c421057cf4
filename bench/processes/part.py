"""What two processes do more than one where `perform` keeps a processor busy.

`karafka server --processes 1` and `2` in turn, beside as many bare loops with the same work. The rate is that of the
middle half, when all run and none is done.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGTERM
from statistics import median

from bench.ground import answered, filled, uncommitted
from bench.part import Ask, Found, Part, spread

RECORDS = 6_000
PARTITIONS = 8
HEAD = ("", "one, messages/s", "two, messages/s", "two to one")


def measure(ask: Ask) -> Found:
    """A row for what is ours, and one for the bare loops."""
    records = ask.records or RECORDS
    messages = ((number % PARTITIONS, None, b"%d" % number) for number in range(records))
    topic = filled(ask.bootstrap, PARTITIONS, messages)
    rates: dict[str, list[tuple[float, float]]] = {"karafka server": [], "bare": []}
    for turn in range(ask.rounds):
        bare = loops(1, records // 4), loops(2, records // 4)
        ours = served(ask.bootstrap, topic, records, 1), served(ask.bootstrap, topic, records, 2)
        rates["bare"].append(bare)
        rates["karafka server"].append(ours)
        ask.console.print(f"round {turn + 1}  {ours[1] / ours[0]:.2f} times one, bare {bare[1] / bare[0]:.2f}")
    return Found(
        said=(
            f"{records:,} messages of 2 ms of computing over {PARTITIONS} partitions; medians, with their spread.\n"
            "*Bare*: one or two loops with the same work, without Kafka, in the same round. Ledgers were checked:\n"
            "each message performed once, all committed."
        ),
        head=HEAD,
        rows=tuple(row(name, found) for name, found in rates.items()),
    )


def row(name: str, found: list[tuple[float, float]]) -> tuple[str, ...]:
    one, two = (f"{median(rates):,.0f}" for rates in zip(*found, strict=True))
    return name, one, two, spread([two / one for one, two in found])


def loops(count: int, each: int) -> float:
    """What `count` bare loops do in a second, together; `each` so many times."""
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda _: answered("bench.processes.bare", str(each)), range(count)))
    return sum(each / one["wall"] for one in answers)


def served(bootstrap: str, topic: str, records: int, processes: int) -> float:
    """What so many processes perform in a second, together."""
    group = f"bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger"
        ledger.touch()
        names = {"LEDGER": str(ledger), "GROUP": group, "BOOTSTRAP": bootstrap, "TOPIC": topic}
        environment = {**os.environ, **{f"BENCH_{name}": value for name, value in names.items()}}
        command = [sys.executable, "-m", "karafka", "server", "-A", "bench.processes.app:app"]
        command += ["--processes", str(processes), "--log-level", "warning"]
        with subprocess.Popen(command, env=environment) as server:
            until = time.monotonic() + 300
            while ledger.read_bytes().count(b"\n") < records and time.monotonic() < until:
                time.sleep(0.2)
            server.send_signal(SIGTERM)
        lines = [text.split() for text in ledger.read_text().splitlines()]
    if server.returncode or sorted(int(number) for number, _ in lines) != list(range(records)):
        raise SystemExit(f"status {server.returncode}, {len(lines)} performed of {records}")
    if left := uncommitted(bootstrap, topic, group, PARTITIONS):
        raise SystemExit(f"not committed to the end: {left}")
    times = sorted(float(at) for _, at in lines)
    first, last = records // 4, records * 3 // 4
    return (last - first) / (times[last] - times[first])


PART = Part(
    name="processes",
    title="Processes",
    measure=measure,
    goals="two ≥ 1.9 times one (not done below 1.8).",
)
