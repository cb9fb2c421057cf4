"""`python -m bench.processes`: what two processes do more than one where `perform` keeps a processor busy.

`karafka server --processes 1` and `2` in turn, beside as many bare loops with the same work. The rate is that of the
middle half, when all run and none is done. A figure without its ledger is refused: each message performed once, all
committed.
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

import click
from rich.console import Console

from bench.ground import answered, broker, filled, save, show, uncommitted

RESULTS = Path(__file__).parents[1] / "PROCESSES.md"
PARTITIONS = 8
HEAD = ("", "one, messages/s", "two, messages/s", "two to one")


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--records", default=6_000, show_default=True)
@click.option("--bootstrap", help="A broker of yours; a Kafka of its own is started otherwise.")
@click.option("--write/--no-write", default=True, help="Into PROCESSES.md.")
def main(rounds: int, records: int, bootstrap: str | None, *, write: bool) -> None:
    console = Console()
    with broker(bootstrap) as address:
        rows = measured(console, address, rounds, records)
    show(console, f"{rounds} rounds, medians (spread)", HEAD, rows)
    if write:
        said = (
            f"{records:,} messages of 2 ms of computing over {PARTITIONS} partitions; {rounds} rounds in turn.\n"
            "*Bare*: one or two loops with the same work, without Kafka, in the same round. Ledgers were checked:\n"
            "each message performed once, all committed."
        )
        save(RESULTS, "Processes", "python -m bench.processes", said, HEAD, rows)


def measured(console: Console, bootstrap: str, rounds: int, records: int) -> list[tuple[str, ...]]:
    topic = filled(bootstrap, PARTITIONS, ((number % PARTITIONS, None, b"%d" % number) for number in range(records)))
    rates: dict[str, list[tuple[float, float]]] = {"karafka server": [], "bare": []}
    for turn in range(rounds):
        bare, ours = (loops(1), loops(2)), (served(bootstrap, topic, records, 1), served(bootstrap, topic, records, 2))
        rates["bare"].append(bare)
        rates["karafka server"].append(ours)
        console.print(f"round {turn + 1}  {ours[1] / ours[0]:.2f} times one, bare {bare[1] / bare[0]:.2f}")
    return [row(name, found) for name, found in rates.items()]


def row(name: str, found: list[tuple[float, float]]) -> tuple[str, ...]:
    ratios = [two / one for one, two in found]
    spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return name, f"{median(one for one, _ in found):,.0f}", f"{median(two for _, two in found):,.0f}", spread


def loops(count: int, each: int = 1_500) -> float:
    """What `count` bare loops do in a second, together."""
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


main()
