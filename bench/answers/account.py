"""What each way of answering is asked. Run as `python -m MODULE WAY BOOTSTRAP SOURCE TARGET RECORDS GROUP`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

# Sent before those that count: the connection is made, and the broker has taken a message there.
ANSWERED = b'{"id":-1}'


@dataclass(frozen=True, slots=True)
class Task:
    """What to answer, from the command line: the messages of `source`, to `target`."""

    bootstrap: str
    source: str
    target: str
    records: int
    group: str


def task() -> Task:
    bootstrap, source, target, records, group = sys.argv[2:7]
    return Task(bootstrap, source, target, int(records), group)
