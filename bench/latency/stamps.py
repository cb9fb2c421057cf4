"""Messages that say when they were sent, and the account that each reader keeps of them: one for all that are compared.

Times are `time_ns`: all processes are on one machine.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from math import ceil
from threading import Event

import msgspec

# Seconds that one run may take beyond those in which messages are sent.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Task:
    """What to read, from the command line: `warm` messages that do not count, then so many `counted` ones."""

    kind: str
    bootstrap: str
    topic: str
    group: str
    rate: int
    warm: int
    counted: int

    @property
    def timeout(self) -> float:
        """Seconds after which no more messages are waited for."""
        return (self.warm + self.counted) / self.rate + PATIENCE


def task() -> Task:
    kind, bootstrap, topic, group, *numbers = sys.argv[1:8]
    return Task(kind, bootstrap, topic, group, *map(int, numbers))


class Stamp(msgspec.Struct):
    """The payload: the how-manieth message it is, and when it was sent."""

    id: int
    sent: int


class Account:
    """What was read when. One thread at a time notes."""

    def __init__(self, asked: Task) -> None:
        self._warm = asked.warm
        self._all = asked.warm + asked.counted
        self._ids: list[int] = []
        self._waits: list[int] = []
        self._cpu = 0.0
        #: Set with the last one.
        self.done = Event()

    def note(self, stamp: Stamp, at: int) -> None:
        """It was there `at` that time."""
        self._ids.append(stamp.id)
        self._waits.append(at - stamp.sent)
        count = len(self._ids)
        if count == self._warm:
            self._cpu = time.process_time()
        elif count == self._all:
            self._cpu = time.process_time() - self._cpu
            self.done.set()

    def verdict(self) -> dict[str, float]:
        """Milliseconds, and seconds of processor time. Raises `SystemExit` where the ledger does not add up."""
        if self._ids != list(range(self._all)):
            read, different = len(self._ids), len(set(self._ids))
            raise SystemExit(f"{self._all} sent, {read} read, {different} different ones; or not in order")
        waits = sorted(self._waits[self._warm :])

        def percentile(share: float) -> float:
            return waits[ceil(len(waits) * share) - 1] / 1e6

        return {
            "p50": percentile(0.5),
            "p99": percentile(0.99),
            "p999": percentile(0.999),
            "max": percentile(1.0),
            "cpu": self._cpu,
        }
