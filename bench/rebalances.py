"""`python -m bench.rebalances`: what members that come and go cost a group under each of Kafka's protocols.

Real servers share the partitions of a topic that messages flow into at an even rate, while members join, stop, are
killed, are restarted one after the other, or stop in the middle of a rebalance. The protocols run side by side, each
in groups of its own; medians and spreads go into REBALANCES.md. Every message must have been performed, or there is
no figure.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path
from signal import SIGTERM
from statistics import median

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.console import Console

from bench.ledger import Cost, Ledger, Stream, cost, owners
from karafka.devbroker import Kafka
from tests.brokers import configure_group
from tests.process.servers import Server, karafka

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "REBALANCES.md"
PARTITIONS = 12
# Messages a second, over all partitions.
RATE = 240
# Seconds after which a silent member is given up. Kafka's default is 45 for all three; the rest is left at defaults.
SESSION = 10
PROTOCOLS: Mapping[str, Mapping[str, object]] = {
    "eager": {"partition.assignment.strategy": "range", "session.timeout.ms": SESSION * 1000},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": SESSION * 1000},
    "consumer": {"group.protocol": "consumer"},
}
BRISK = 500
BROKER: Mapping[str, str] = {
    # Under KIP-848 the session of a member is the broker's to say.
    "group.consumer.session.timeout.ms": f"{SESSION}000",
    # A busy machine must not make the node fence itself.
    "broker.session.timeout.ms": "30000",
}
# For how long all must have been in order again, and how long that may take.
QUIET, PATIENCE = 1.5, 90.0
# How far into a rebalance the stop in its middle comes.
MIDDLE = 0.2

EVENTS = {
    "joins": "a member joins two",
    "restarts": "three members are restarted, one after the other",
    "stops": "one of three stops (SIGTERM)",
    "newcomer": "a member joins two, and stops in the middle of that",
    "elder": "a member joins two, and one of the two stops in the middle of that",
    "killed": "one of two is killed (-9)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A protocol; `static`: members have names of their own; `brisk`: they ask twice a second what is new."""

    protocol: str
    static: bool = False
    brisk: bool = False

    def __str__(self) -> str:
        return f"{self.protocol}{', static' if self.static else ''}{', brisk' if self.brisk else ''}"


class Group:
    """One round of one variant: its topic, its stream and its members."""

    def __init__(self, bootstrap: str, folder: Path, variant: Variant, stack: ExitStack) -> None:
        self._bootstrap, self._variant, self._stack = bootstrap, variant, stack
        self._topic = self._name = f"bench-{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": bootstrap})
        admin.create_topics([NewTopic(self._topic, PARTITIONS, 1)])[self._topic].result()
        if variant.brisk and variant.protocol == "consumer":
            # Here the pace is the broker's to say, for each group.
            configure_group(bootstrap, self._name, {"consumer.heartbeat.interval.ms": BRISK})
        self._ledger = Ledger(folder / self._name)
        self._stream = Stream(bootstrap, self._topic, PARTITIONS, RATE)
        self._lives = count()
        #: Members by their place in the group, and the name of each one's present life.
        self.members: dict[int, Server] = {}
        self._names: dict[int, str] = {}

    def flow(self) -> None:
        self._stream.start()

    # ── members ──────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, place: int) -> Server:
        self._names[place] = name = f"{place}.{next(self._lives)}"
        own: dict[str, object] = {"group.instance.id": f"member-{place}"} if self._variant.static else {}
        if self._variant.brisk and self._variant.protocol != "consumer":
            own["heartbeat.interval.ms"] = BRISK
        environment = {
            "BENCH_BOOTSTRAP": self._bootstrap,
            "BENCH_TOPIC": self._topic,
            "BENCH_GROUP": self._name,
            "BENCH_LEDGER": str(self._ledger.path),
            "BENCH_MEMBER": name,
            "BENCH_KAFKA": json.dumps({**PROTOCOLS[self._variant.protocol], **own}),
        }
        arguments = ("server", "-A", "bench.member", "--log-format", "json")
        server = self._stack.enter_context(karafka(ROOT, *arguments, environment=environment))
        self.members[place] = server
        return server

    def stop(self, place: int) -> None:
        """SIGTERM, and wait for the end, which must be clean."""
        server = self.members.pop(place)
        if (status := server.stop(SIGTERM, PATIENCE)) != 0:
            raise SystemExit(f"{self._variant}: a member ended with status {status}\n{server.heard}")

    def kill(self, place: int) -> None:
        self.members.pop(place).kill()

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────

    def works(self, place: int) -> None:
        """Wait until that member has performed something."""
        self._until(lambda: any(line.member == self._names[place] for line in self._ledger.since(0)))

    def settle(self) -> float:
        """Wait until members share the partitions evenly and nothing is late; when that was so."""
        since = math.inf
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() - since < QUIET:
            if time.monotonic() > deadline:
                return time.monotonic()
            time.sleep(0.02)
            since = min(since, time.monotonic()) if self._shared() else math.inf
        return time.monotonic()

    def _shared(self) -> bool:
        self._ledger.read()
        now = time.monotonic()
        found = owners(self._ledger.since(now - 0.5))
        if len(found) < PARTITIONS or any(len(one) > 1 for one in found.values()):
            return False
        shares = Counter(owner for one in found.values() for owner in one)
        if set(shares) != {self._names[place] for place in self.members}:
            return False
        return max(shares.values()) - min(shares.values()) <= 1

    def _until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._variant}: not within {PATIENCE} s")
            time.sleep(0.01)
            self._ledger.read()

    def under_way(self, before: Mapping[Server, int]) -> int:
        """Wait until a member that was there before gives partitions up; its place."""

        def giving() -> list[int]:
            return [
                place
                for place, server in self.members.items()
                if server in before and len(server.happened("revoked")) > before[server]
            ]

        self._until(lambda: bool(giving()))
        return giving()[0]

    def measured(self, event: Callable[[], object]) -> Cost:
        """What `event` costs, until all is in order again."""
        began = time.monotonic()
        event()
        until = self.settle()
        return cost(self._stream.sent, self._ledger.lines, began, until - QUIET / 2)

    def close(self) -> Cost:
        """Stop the stream, let all be performed, stop the members: the cost of the whole round."""
        self._stream.stop()
        sent = [len(times) for times in self._stream.sent]

        def done() -> bool:
            tops = Counter[int]()
            for line in self._ledger.lines:
                tops[line.partition] = max(tops[line.partition], line.sequence + 1)
            return all(tops[partition] == length for partition, length in enumerate(sent))

        self._until(done)
        for place in list(self.members):
            self.stop(place)
        self._ledger.read()
        return cost(self._stream.sent, self._ledger.lines, 1.0, math.inf)


# ── the events ───────────────────────────────────────────────────────────────────────────────────────────────────


def played(group: Group) -> Iterator[tuple[str, Cost | float]]:
    """One round: each event and what it cost. First, in seconds, from a process's start to its first message."""
    group.flow()
    began = time.monotonic()
    group.start(0)
    group.works(0)
    yield "first", time.monotonic() - began
    group.start(1)
    group.settle()
    yield "joins", group.measured(lambda: group.start(2))
    yield "restarts", group.measured(lambda: restart(group))
    yield "stops", group.measured(lambda: group.stop(2))
    yield "newcomer", group.measured(lambda: join_and_stop(group, elder=False))
    yield "elder", group.measured(lambda: join_and_stop(group, elder=True))
    yield "killed", group.measured(lambda: group.kill(max(group.members)))


def restart(group: Group) -> None:
    """As a rolling deployment does: the next one goes when the last one works."""
    for place in sorted(group.members):
        group.stop(place)
        group.start(place)
        group.works(place)


def join_and_stop(group: Group, *, elder: bool) -> None:
    before = {server: len(server.happened("revoked")) for server in group.members.values()}
    newcomer = max(group.members) + 1
    group.start(newcomer)
    giving = group.under_way(before)
    time.sleep(MIDDLE)
    group.stop(giving if elder else newcomer)


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────────

Figures = dict[Variant, dict[str, list[Cost]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    bootstrap: str
    rounds: int
    protocols: list[str]
    results: Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.rebalances", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bootstrap", help=f"a broker of yours; its group.consumer.session.timeout.ms: {SESSION}000")
    parser.add_argument("--only", nargs="*", choices=PROTOCOLS, default=list(PROTOCOLS), help="protocols to run")
    parser.add_argument("--results", type=Path, default=RESULTS)
    told = parser.parse_args()
    with ExitStack() as stack:
        if not told.bootstrap:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            told.bootstrap = stack.enter_context(Kafka(folder, settings=BROKER)).bootstrap
        run(Asked(told.bootstrap, told.rounds, told.only, told.results))


def run(asked: Asked) -> None:
    console = Console()
    figures: Figures = {
        variant: {name: [] for name in EVENTS}
        for protocol in asked.protocols
        for variant in (
            Variant(protocol=protocol),
            Variant(protocol=protocol, brisk=True),
            Variant(protocol=protocol, static=True),
        )
    }
    firsts: dict[Variant, list[float]] = {variant: [] for variant in figures}

    def lane(protocol: str) -> None:
        for number in range(asked.rounds):
            for variant in figures:
                if variant.protocol != protocol:
                    continue
                with prepared(asked.bootstrap, variant) as group:
                    for event, found in played(group):
                        if isinstance(found, float):
                            firsts[variant].append(found)
                        else:
                            figures[variant][event].append(found)
                        console.print(f"round {number + 1}  {variant!s:<20} {event:<10} {found}", highlight=False)
                    whole = group.close()
                    if whole.lost:
                        raise SystemExit(f"{variant}: {whole.lost} messages were never performed")

    with ThreadPoolExecutor(len(asked.protocols)) as lanes:
        for done in [lanes.submit(lane, protocol) for protocol in asked.protocols]:
            done.result()
    asked.results.write_text(page(figures, firsts, asked.rounds))
    console.print(f"written: {asked.results}")


@contextmanager
def prepared(bootstrap: str, variant: Variant) -> Iterator[Group]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        yield Group(bootstrap, Path(folder), variant, stack)


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────


def page(figures: Figures, firsts: Mapping[Variant, list[float]], rounds: int) -> str:
    lines = ["# Rebalances", "", "Written by the run; repeat it with `python -m bench.rebalances`.", ""]
    lines += [
        f"{PARTITIONS} partitions, {RATE} messages a second in all, {rounds} rounds; the protocols side by side, each",
        "in groups of its own. Members are `karafka server` processes with the client's defaults, but for a session of",
        f"{SESSION} s (45 by default). *Static*: each has a `group.instance.id`. *Brisk*: a heartbeat each",
        f"{BRISK / 1000:g} s (`heartbeat.interval.ms`, 3 s by default; under `consumer` it is the broker's to say, by",
        "the group's `consumer.heartbeat.interval.ms`, 5 s). Medians, with the spread over rounds.",
        "",
        "- **longest wait**: how long a message waited from being produced to being performed, at most",
        "- **median wait**: the same, in the median partition",
        f"- **still**: how many of the {PARTITIONS} partitions had messages that waited more than 0.5 s",
        "- **caught up**: from the event until no message waited more than 0.5 s any more",
        "- **repeated**: messages performed more than once",
        "",
        "Every message of every round was performed.",
    ]
    for event, words in EVENTS.items():
        lines += ["", f"## {words[0].upper()}{words[1:]}", ""]
        head = ("", "longest wait, s", "median wait, s", "still", "caught up, s", "repeated")
        lines += ["| " + " | ".join(head) + " |", "|---|---:|---:|---:|---:|---:|"]
        for variant, measured in figures.items():
            found = measured[event]
            cells = [
                spread(one.longest for one in found),
                spread(one.typical for one in found),
                f"{median(one.still for one in found):g}",
                spread(one.caught_up for one in found),
                counts(one.repeated for one in found),
            ]
            lines += [f"| {variant} | " + " | ".join(cells) + " |"]
    lines += ["", "## From a process's start to its first message, alone in a new group", "", "| | s |", "|---|---:|"]
    lines += [f"| {variant} | {spread(times)} |" for variant, times in firsts.items()]
    lines += ["", f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}), "]
    lines[-1] += f"Python {platform.python_version()}, confluent-kafka {version('confluent-kafka')}, Apache Kafka 4.3.1"
    lines[-1] += f" on the same machine, whose load was {os.getloadavg()[2]:.0f} when this was written."
    return "\n".join(lines) + "\n"


def spread(values: Iterable[float]) -> str:
    """The median, and the least and greatest."""
    found = sorted(values)
    return f"{median(found):.1f} ({found[0]:.1f} to {found[-1]:.1f})"


def counts(values: Iterable[int]) -> str:
    found = sorted(values)
    return f"{median(found):g} ({found[0]} to {found[-1]})"


if __name__ == "__main__":
    main()
