"""A steady stream into all partitions of a topic, and what members made of it: values, and the figures drawn from them.

Times are the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import NamedTuple

from karafka import Producer
from karafka.delivery import Handle

# A message performed so long after it was produced was late: undisturbed it takes a tenth of that.
LATE = 0.5


class Line(NamedTuple):
    """One performance: the `sequence`-th message of a partition, by which member, when."""

    member: str
    partition: int
    sequence: int
    at: float

    def __str__(self) -> str:
        return f"{self.member} {self.partition} {self.sequence} {self.at!r}\n"

    @classmethod
    def parse(cls, text: str) -> Line:
        member, partition, sequence, at = text.split()
        return cls(member, int(partition), int(sequence), float(at))


class Ledger:
    """Reads the members' file as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        self.lines: list[Line] = []

    def read(self) -> None:
        """Take in what is new; a line that is not whole yet waits for the next time."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        self.lines += map(Line.parse, whole.decode().splitlines())

    def since(self, at: float) -> list[Line]:
        """What was performed from `at` on; members write in order, within a scheduler's moment of each other."""
        recent = []
        for line in reversed(self.lines):
            if line.at < at - 1:
                break
            if line.at >= at:
                recent.append(line)
        return recent


class Stream:
    """Sends numbered messages to all partitions in turn, at an even rate, until it is stopped. A thread of its own."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, rate: int) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap})
        self._topic = topic
        self._rate = rate
        self._handles: list[Handle] = []
        #: When each was produced, by partition and sequence.
        self.sent: list[list[float]] = [[] for _ in range(partitions)]
        self._stopped = Event()
        self._thread = Thread(target=self._run, name=f"stream-{topic}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send no more, and see all confirmed. Raises `DeliveryError`."""
        self._stopped.set()
        self._thread.join()
        for handle in self._handles:
            handle.wait(30)
        self._producer.close()

    def _run(self) -> None:
        # The first of each partition by itself: of several on their way to a new partition the client may lose one.
        for partition in range(len(self.sent)):
            self._send(partition)
            self._handles[-1].wait(30)
        began, sent = time.monotonic(), 0
        while not self._stopped.wait(0.005):
            due = int((time.monotonic() - began) * self._rate)
            for number in range(sent, due):
                self._send(number % len(self.sent))
            sent = due

    def _send(self, partition: int) -> None:
        times = self.sent[partition]
        self._handles.append(self._producer.produce_async(self._topic, len(times), partition=partition))
        times.append(time.monotonic())


@dataclass(frozen=True, slots=True)
class Cost:
    """What one event cost, in seconds and messages.

    `longest`, `typical`: how long messages waited at most in the partition that waited longest, and in the median one.
    `still`: partitions with late messages. `caught_up`: from the event until nothing was late any more.
    `repeated`: performances beyond the first. `lost`: messages never performed.
    """

    longest: float
    typical: float
    still: int
    caught_up: float
    repeated: int
    lost: int


def cost(sent: Sequence[Sequence[float]], lines: Sequence[Line], began: float, until: float) -> Cost:
    """Of the messages produced from just before `began` up to `until`; one not performed has waited until now."""
    first: dict[tuple[int, int], float] = {}
    times: Counter[tuple[int, int]] = Counter()
    for line in lines:
        place = line.partition, line.sequence
        times[place] += 1
        first.setdefault(place, line.at)
    now = time.monotonic()
    waits, done, repeated, lost = [], began, 0, 0
    for partition, moments in enumerate(sent):
        window = [number for number, moment in enumerate(moments) if began - 1 <= moment < until]
        wait = 0.0
        for number in window:
            at = first.get((partition, number))
            lost += at is None
            at = now if at is None else at
            wait = max(wait, at - moments[number])
            if at - moments[number] > LATE:
                done = max(done, at)
            repeated += max(0, times[partition, number] - 1)
        waits.append(wait)
    still = sum(wait > LATE for wait in waits)
    return Cost(max(waits), median(waits), still, done - began, repeated, lost)


def owners(lines: Sequence[Line]) -> Mapping[int, set[str]]:
    """Who performed what of each partition."""
    found: dict[int, set[str]] = {}
    for line in lines:
        found.setdefault(line.partition, set()).add(line.member)
    return found
