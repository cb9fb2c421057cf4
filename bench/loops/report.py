"""What every loop answers, so that the runner can compare and check it."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
        self._librdkafka: dict[str, float] = {}

    def start(self) -> None:
        self._librdkafka = _librdkafka()
        self._used = _processor_time()
        self._began = time.perf_counter()

    def report(self, count: int, total: int) -> None:
        """Print the answer: `count` messages were read, their ids add up to `total`."""
        wall = time.perf_counter() - self._began
        used = _processor_time() - self._used
        librdkafka = sum(took - self._librdkafka.get(thread, 0.0) for thread, took in _librdkafka().items())
        answer = {"wall": wall, "cpu": used, "librdkafka": librdkafka, "count": count, "total": total}
        print(json.dumps(answer), flush=True)


def _processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _librdkafka() -> dict[str, float]:
    """Processor time of each of librdkafka's threads, by their ids; none where there is no /proc.

    Source: proc_pid_stat(5): the name in parentheses, then, as the 12th and 13th field behind it, user and system time
    in ticks. librdkafka names its threads "rdk:main", "rdk:broker1" and so on.
    """
    found = {}
    for stat in Path("/proc/self/task").glob("*/stat"):
        with suppress(OSError):  # a thread that ends meanwhile
            name, _, fields = stat.read_text().partition("(")[2].rpartition(")")
            if name.startswith("rdk:"):
                found[stat.parent.name] = sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return found
