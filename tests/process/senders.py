"""Programs that send, as processes of their own, and all that is on a topic afterwards.

A program is a script that begins with `HEAD`: `producer(…)` makes a producer, `say` tells the test. It is run to its
end, with a deadline; one that hangs tells first, on stderr, where each of its threads stands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.brokers import new_group, new_topic
from tests.process.servers import Server, started

# From 3.12 on Python warns that a fork beside threads may end badly; that ours does not is what is tested.
PYTHON = (sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning")
# How long a program may take: then it tells where it stands, and ends.
PATIENCE = 50

HEAD = """\
import asyncio, faulthandler, os, signal, sys, threading, time
from pathlib import Path
from karafka import *

# Whoever calls it tells where it stands, and is gone, unless it ends within so many seconds. For children too.
def deadline(patience):
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(patience)

deadline({patience})
BOOTSTRAP, TOPIC = {bootstrap!r}, {topic!r}

# Whole lines, whichever threads and processes write them.
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

# Settings in Kafka's names, `_` for `.`.
def producer(**kafka):
    named = {{name.replace("_", "."): value for name, value in kafka.items()}}
    return Producer({{"bootstrap.servers": BOOTSTRAP, **named}}, max_wait_on_full=5)

"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its status, what it said on stdout and told on stderr, the seconds it took."""

    status: int
    said: list[str]
    told: str
    took: float


class Post:
    """A topic that no other test uses, and a folder for the programs that send to it."""

    def __init__(self, bootstrap: str, folder: Path, topic: str = "") -> None:
        self.bootstrap, self.folder = bootstrap, folder
        self.topic = topic or new_topic(bootstrap)

    def write(self, body: str, name: str = "program.py") -> None:
        """Write a program down."""
        head = HEAD.format(patience=PATIENCE, bootstrap=self.bootstrap, topic=self.topic)
        (self.folder / name).write_text(head + body)

    @contextmanager
    def program(self, body: str) -> Iterator[Server]:
        """A program that runs, and is killed at the end if it still does."""
        self.write(body)
        with self.python("program.py") as server:
            yield server

    @contextmanager
    def python(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
        """Python with those arguments, killed at the end if it still runs."""
        with started(Server(self.folder, [*PYTHON, *arguments], environment or {})) as server:
            yield server

    def run(self, body: str, status: int = 0) -> Ended:
        """A program to its end, which must be with that status."""
        began = monotonic()
        with self.program(body) as server:
            ended = server.ended(PATIENCE + 10)
        assert ended == status, str(server.heard)
        return Ended(ended, server.heard.said, "\n".join(server.heard.told), monotonic() - began)

    def payloads(self) -> list[str]:
        """The payloads of all messages on the topic, in order, as text."""
        return [payload.decode() for payload in self.messages().values()]

    def messages(self) -> dict[int, bytes]:
        """All messages that are on the topic now: payloads by their offsets."""
        return messages(self.bootstrap, self.topic)


def messages(bootstrap: str, topic: str, partition: int = 0) -> dict[int, bytes]:
    """All messages that are in a partition now: payloads by their offsets."""
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": new_group(),
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    found: dict[int, bytes] = {}
    try:
        reader.assign([TopicPartition(topic, partition, 0)])
        by = monotonic() + 30
        while monotonic() < by:
            for one in reader.consume(10_000, 0.5):
                error = one.error()
                if error is None:
                    found[one.offset() or 0] = one.value() or b""
                elif error.code() == KafkaError._PARTITION_EOF:
                    return found
    finally:
        reader.close()
    raise TimeoutError(f"{topic} was not read to its end within 30 s")
