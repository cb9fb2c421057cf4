"""The rounds: a server lives for a moment, is killed with -9, is started again; at last one may finish. Then a verdict.

What is random is planned from a seed; what the machine does meanwhile is not, so a seed repeats the plan, not the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from signal import SIGTERM
from subprocess import TimeoutExpired
from threading import Event, Thread
from typing import Literal, TypeAlias

from karafka import Producer
from karafka.producer import Handle
from tests.brokers import new_group, new_topic, until
from tests.chaos.ledger import Life, Numbered, Tail, Verdict, judge
from tests.process.servers import Server, committed, ends, karafka

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
# The controllers of `consumer.py`.
VARIANTS = ("fast", "hook", "async", "batch")
# How long the last life may take for all that is left; one that hangs has lost what it did not perform.
PATIENCE = 120.0

Moment: TypeAlias = Literal["working", "starting", "stopping"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is told. `rate`: messages a second, over all partitions; `failing`: one in a hundred, once."""

    bootstrap: str
    rounds: int
    seed: int
    variants: Sequence[str] = VARIANTS
    failing: bool = True
    rate: int = 1_000
    # Short beside a life, or repeats of what should have been committed could not be told from the others.
    commit_interval: float = 0.25


@dataclass(frozen=True, slots=True)
class Plan:
    """One life: which controller, and that it is killed `wait` seconds after it began to work, start or stop."""

    variant: str
    moment: Moment
    wait: float


@dataclass(slots=True)
class Progress:
    """How far a run is, for whoever looks."""

    seed: int
    rounds: int
    plan: Plan | None = None
    kills: int = 0
    sent: int = 0
    performed: int = 0
    lives: list[Life] = field(default_factory=list)


def planned(chance: Random, variants: Sequence[str]) -> Plan:
    """Most lives are killed at work, after 0.3 to 2 s; some while they start, some while they stop."""
    variant = chance.choice(variants)
    moment: Moment = chance.choices(("working", "starting", "stopping"), (8, 1, 1))[0]
    longest = {"working": (0.3, 2.0), "starting": (0.0, 1.0), "stopping": (0.0, 0.1)}[moment]
    return Plan(variant, moment, chance.uniform(*longest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """One life of `consumer.py`: what its environment says."""

    bootstrap: str
    topic: str
    group: str
    ledger: Path
    life: int
    kafka: Mapping[str, object]
    variant: str = "fast"
    failing: bool = False
    commit_interval: float = 1.0

    def served(self) -> AbstractContextManager[Server]:
        """It runs, and is killed at the end if it still does."""
        environment = {
            "CHAOS_BOOTSTRAP": self.bootstrap,
            "CHAOS_TOPIC": self.topic,
            "CHAOS_GROUP": self.group,
            "CHAOS_LEDGER": str(self.ledger),
            "CHAOS_LIFE": str(self.life),
            "CHAOS_KAFKA": json.dumps(self.kafka),
            "CHAOS_VARIANT": self.variant,
            "CHAOS_FAILING": str(int(self.failing)),
            "CHAOS_COMMIT_INTERVAL": str(self.commit_interval),
        }
        arguments = ("server", "-A", "tests.chaos.consumer", "--log-format", "json")
        return karafka(ROOT, *arguments, environment=environment)


class Feeder:
    """Sends numbered messages to all partitions in turn, at an even rate, until it is stopped. A thread of its own."""

    def __init__(self, bootstrap: str, topic: str, rate: int) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap})
        self._topic = topic
        self._rate = rate
        self._handles: dict[int, list[Handle]] = {partition: [] for partition in range(PARTITIONS)}
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="chaos-feeder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def sent(self) -> int:
        return sum(map(len, self._handles.values()))

    def stop(self) -> dict[int, list[int]]:
        """Send no more. The confirmed offset of each sequence, by partition. Raises `DeliveryError`."""
        self._stopped.set()
        self._thread.join()
        offsets = {partition: [one.wait(30).offset for one in sent] for partition, sent in self._handles.items()}
        self._producer.close()
        return offsets

    def _run(self) -> None:
        began, sent = time.monotonic(), 0
        while not self._stopped.wait(0.005):
            due = int((time.monotonic() - began) * self._rate)
            for number in range(sent, due):
                handles = self._handles[number % PARTITIONS]
                payload = Numbered(len(handles))
                handles.append(self._producer.produce_async(self._topic, payload, partition=number % PARTITIONS))
            sent = due


class Chaos:
    """One run in `folder`, where the ledger stays. `tell` hears of progress, on this thread."""

    def __init__(self, settings: Settings, folder: Path, tell: Callable[[Progress], object] = lambda _: None) -> None:
        self.settings = settings
        self.ledger = folder / "ledger"
        self._tail = Tail(self.ledger)
        self.progress = Progress(settings.seed, settings.rounds)
        self._tell = tell
        self._chance = Random(settings.seed)
        self._topic = new_topic(settings.bootstrap, PARTITIONS)
        self._group = new_group()
        self._lives: list[Life] = self.progress.lives
        self._unclean: list[str] = []

    def run(self) -> Verdict:
        """All rounds, the last life, the verdict. A server that does not start, or ends by itself, ends the rounds."""
        feeder = Feeder(self.settings.bootstrap, self._topic, self.settings.rate)
        feeder.start()
        try:
            for _ in range(self.settings.rounds):
                self._round(planned(self._chance, self.settings.variants))
                self._count(feeder)
        except (EOFError, TimeoutError) as error:
            self._unclean.append(f"life {len(self._lives)}: {error}")
            self._died("", clean=False)
        finally:
            sent = feeder.stop()
        self._last(sent)
        self._count(feeder)
        return self._judged(sent)

    def _count(self, feeder: Feeder) -> None:
        self._tail.read()
        self.progress.sent, self.progress.performed = feeder.sent, len(self._tail.lines)
        self._tell(self.progress)

    def _judged(self, sent: Mapping[int, Sequence[int]]) -> Verdict:
        bootstrap, topic = self.settings.bootstrap, self._topic
        verdict = judge(
            sent=sent,
            lines=self._tail.lines,
            lives=self._lives,
            committed=dict(enumerate(committed(bootstrap, self._group, topic, PARTITIONS))),
            ends=dict(enumerate(ends(bootstrap, topic, PARTITIONS))),
            commit_interval=self.settings.commit_interval,
        )
        verdict.unclean += self._unclean
        return verdict

    def _round(self, plan: Plan) -> None:
        self.progress.plan = plan
        self._tell(self.progress)
        with self._born(plan.variant) as server:
            if plan.moment != "starting":
                server.assigned(PARTITIONS)
            status = None
            if plan.moment == "stopping":
                # Some work first: else there is nothing to stop.
                lives_on(server, self._chance.uniform(0.3, 1.0))
                server.signal(SIGTERM)
                status = passes(server, plan.wait)
            else:
                lives_on(server, plan.wait)
            server.kill()
            # A stop may be quicker than its killer.
            self._died(plan.variant, clean=status == 0)

    def _last(self, sent: Mapping[int, Sequence[int]]) -> None:
        """One more life, as long as it needs, that ends in order."""
        plan = Plan(self._chance.choice(self.settings.variants), "stopping", PATIENCE)
        self.progress.plan = plan
        self._tell(self.progress)
        with self._born(plan.variant) as server:
            try:
                until(lambda: self._tail.reached(sent) or server.process.poll() is not None, PATIENCE)
            except TimeoutError:
                self._unclean.append(f"the last server had not performed all that was sent within {PATIENCE:g} s")
            status = server.stop()
            if status != 0:
                self._unclean.append(f"the last server ended with status {status}, not 0\n{server.heard}")
            self._died(plan.variant, clean=status == 0)

    def _born(self, variant: str) -> AbstractContextManager[Server]:
        life = Consumer(
            bootstrap=self.settings.bootstrap,
            topic=self._topic,
            group=self._group,
            ledger=self.ledger,
            life=len(self._lives),
            variant=variant,
            failing=self.settings.failing,
            commit_interval=self.settings.commit_interval,
            # A static member: its next life gets its partitions at once, not when the dead one's session has passed.
            kafka={"group.instance.id": "chaos", "session.timeout.ms": 6000},
        )
        return life.served()

    def _died(self, variant: str, *, clean: bool) -> None:
        self._lives.append(Life(len(self._lives), variant, time.monotonic(), clean))
        self.progress.kills += not clean


def lives_on(server: Server, seconds: float) -> None:
    """Let it work. Raises `EOFError` when it ends by itself."""
    if (status := passes(server, seconds)) is not None:
        raise EOFError(f"the server ended by itself, with status {status}\n{server.heard}")


def passes(server: Server, seconds: float) -> int | None:
    """Wait for so long; its status if it ended meanwhile, None if it lives."""
    try:
        return server.process.wait(seconds)
    except TimeoutExpired:
        return None
