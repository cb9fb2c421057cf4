"""The processes that take part in the group: servers of ours, and one that is not. Real ones, ended by real signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Self, TypeAlias

from tests.chaos.messages import Order
from tests.process.servers import Server, karafka

ROOT = Path(__file__).parents[2]
# The controllers of `consumer.py`.
VARIANTS = ("fast", "hook", "async", "batch")

Protocol: TypeAlias = Literal["eager", "cooperative", "consumer"]
# How a group agrees on who has which partition.
PROTOCOLS: Mapping[Protocol, Mapping[str, str]] = {
    "eager": {"partition.assignment.strategy": "range"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """What one process, of ours or not, is told by its environment. `grave`: its dead letter topic, if it has one."""

    bootstrap: str
    topic: str
    group: str
    journal: str
    life: int
    kafka: Mapping[str, str | int] = field(default_factory=dict)
    variant: str = "fast"
    order: Order = "partition"
    grave: str = ""
    commit_interval: float = 1.0
    drain_timeout: float = 10.0
    shutdown_timeout: float = 60.0

    @property
    def environment(self) -> dict[str, str]:
        return {"CHAOS": json.dumps(asdict(self))}

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(**json.loads(text))

    def served(self) -> AbstractContextManager[Server]:
        """A server of ours runs, and is killed at the end if it still does."""
        arguments = ("server", "-A", "tests.chaos.consumer", "--log-format", "json")
        return karafka(ROOT, *arguments, environment=self.environment)


OURS = ("-W", "error", "-m", "karafka", "server", "-A", "tests.chaos.consumer")
NOT_OURS = ("-m", "tests.chaos.foreigner")


@dataclass(eq=False, slots=True)
class Member:
    """One process in the group; what it says is in the file `log`."""

    told: Consumer
    process: subprocess.Popen[bytes]
    log: Path
    #: Whether a fault is at it, so that no other one is, nor wonders about its end.
    taken: bool = False

    @property
    def life(self) -> int:
        return self.told.life

    @property
    def status(self) -> int | None:
        """How it ended, None while it lives."""
        return self.process.poll()

    def kill(self) -> None:
        """End it with -9, as a crash would, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    @property
    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


@contextmanager
def started(told: Consumer, program: tuple[str, ...], log: Path) -> Iterator[Member]:
    """It runs in a process group of its own, so that a Ctrl-C in the terminal is not for it; killed at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *program],
            cwd=ROOT,
            env={**os.environ, **told.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    member = Member(told, process, log)
    try:
        yield member
    finally:
        member.kill()
