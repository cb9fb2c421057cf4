"""What every loop answers, so that the runner can compare and check it."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass

import msgspec


class Video(msgspec.Struct):
    """The records' payload: 70 bytes of JSON."""

    id: int
    title: str


@dataclass(frozen=True, slots=True)
class Task:
    """What to read, from the command line."""

    bootstrap: str
    topic: str
    records: int
    group: str


def task() -> Task:
    bootstrap, topic, records, group = sys.argv[1:5]
    return Task(bootstrap, topic, int(records), group)


class Stopwatch:
    """Wall and processor time of this process, librdkafka's threads included, from the first message to the last."""

    def __init__(self) -> None:
        self._began = 0.0
        self._used = 0.0

    def start(self) -> None:
        self._used = _processor_time()
        self._began = time.perf_counter()

    def report(self, count: int, total: int) -> None:
        """Print the answer: `count` messages were read, their ids add up to `total`."""
        wall = time.perf_counter() - self._began
        used = _processor_time() - self._used
        print(json.dumps({"wall": wall, "cpu": used, "count": count, "total": total}), flush=True)


def _processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
