"""What each way of sending is asked, and what it answers: one for all that are compared.

Run as `python -m MODULE WAY BOOTSTRAP TOPIC COUNT ACKS LINGER`, the answer in JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

# 50 bytes, and the dict that they are in JSON.
PAYLOAD = b'{"id":12345,"title":"a video about one thing now"}'
VIDEO = {"id": 12345, "title": "a video about one thing now"}
# So many are sent before those that count: connections are made, and what is first is done. At once where awaited.
WARM = 1_000
THREADS = 8
# So many are awaited at once, and sent by one `produce_many_async`.
CHUNK = 10_000


@dataclass(frozen=True, slots=True)
class Task:
    """What to send, from the command line: `WARM` messages, then `count`. `linger` in milliseconds."""

    way: str
    bootstrap: str
    topic: str
    count: int
    acks: str
    linger: int

    @property
    def chunks(self) -> list[int]:
        """How many messages at once, until all are sent."""
        return [min(CHUNK, self.count - first) for first in range(0, self.count, CHUNK)]


def task() -> Task:
    way, bootstrap, topic, count, acks, linger = sys.argv[1:7]
    return Task(way, bootstrap, topic, int(count), acks, int(linger))


class Watch:
    """Wall and processor time of this process, the client's threads included, from its making on."""

    def __init__(self) -> None:
        self._used, self._began = time.process_time(), time.perf_counter()

    def stop(self, delivered: int, **besides: float) -> None:
        """Print the answer: so many were confirmed, and what is to be told beside it."""
        wall, cpu = time.perf_counter() - self._began, time.process_time() - self._used
        print(json.dumps({"wall": wall, "cpu": cpu, "delivered": delivered, **besides}), flush=True)


def percentiles(waits: Sequence[int]) -> dict[str, float]:
    """In milliseconds, of nanoseconds."""
    ordered = sorted(waits)
    return {name: ordered[ceil(len(ordered) * share) - 1] / 1e6 for name, share in (("p50", 0.5), ("p99", 0.99))}
