"""`karafka server` as a process of its own: started, listened to, signalled, ended.

A test writes an app, starts it with `serve`, and waits for events (its JSON log) or for what its controllers print;
every wait has a deadline and, when that passes, tells what the server said. Nothing here sleeps to synchronise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM, Signals
from threading import Condition, Thread
from typing import IO, Any, TypeVar

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from karafka import Producer
from tests.brokers import new_group, new_topic

DEADLINE = 30.0

Event = Mapping[str, Any]


@dataclass
class Heard:
    """What came from a process so far: lines of its stdout and stderr, and the events among them. Any thread."""

    said: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    changed: Condition = field(default_factory=Condition)

    def take(self, stream: IO[str], lines: list[str]) -> None:
        """Read `stream` to its end; runs on a thread of its own."""
        with stream:
            for line in stream:
                with self.changed:
                    lines.append(line.rstrip("\n"))
                    if lines is self.told and line.startswith("{"):
                        self.events.append(json.loads(line))
                    self.changed.notify_all()

    def __str__(self) -> str:
        return "\n".join(["── stdout", *self.said[-40:], "── stderr", *self.told[-40:]])


PYTHON = (sys.executable, "-W", "error")


class Server:
    """One running `karafka server`. Made by `serve`; the test's thread alone calls it."""

    def __init__(self, folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.heard = Heard()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        streams = ((self.process.stdout, self.heard.said), (self.process.stderr, self.heard.told))
        self._readers = [Thread(target=self.heard.take, args=one, daemon=True) for one in streams]
        for reader in self._readers:
            reader.start()

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────

    def until(self, true: Callable[[], bool], wish: object, timeout: float = DEADLINE) -> None:
        """Return as soon as `true` holds of what was heard. Raises `TimeoutError`, or `EOFError` if it ended before."""
        deadline = time.monotonic() + timeout
        with self.heard.changed:
            while not true():
                over = not any(reader.is_alive() for reader in self._readers)
                if over and not true():
                    raise EOFError(f"the server ended with status {self.process.wait()} before {wish}\n{self.heard}")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not within {timeout:g} s: {wish}\n{self.heard}")
                self.heard.changed.wait(0.05)

    def event(self, name: str, timeout: float = DEADLINE, **fields: object) -> Event:
        """Wait for the first event of that name with those fields."""
        found: list[Event] = []

        def true() -> bool:
            found.extend(one for one in self.heard.events if matches(one, name, fields))
            return bool(found)

        self.until(true, f"{name} {fields or ''}", timeout)
        return found[0]

    def happened(self, name: str, **fields: object) -> list[Event]:
        """All events of that name with those fields, so far."""
        return [one for one in list(self.heard.events) if matches(one, name, fields)]

    def says(self, line: str, timeout: float = DEADLINE) -> None:
        """Wait for a line on its stdout."""
        self.until(lambda: line in self.heard.said, f"the line {line!r}", timeout)

    def assigned(self, partitions: int = 1, timeout: float = DEADLINE) -> None:
        """Wait until it owns that many partitions, added up over its assignments."""
        self.until(
            lambda: sum(len(one["starts"]) for one in self.happened("assigned")) >= partitions,
            f"{partitions} partitions assigned",
            timeout,
        )

    # ── ending ───────────────────────────────────────────────────────────────────────────────────────────────

    def signal(self, number: Signals) -> None:
        self.process.send_signal(number)

    def ended(self, timeout: float = DEADLINE) -> int:
        """Wait for its end and for all it said; the exit status."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the server has not ended within {timeout:g} s\n{self.heard}") from None
        for reader in self._readers:
            reader.join(timeout)
        return status

    def press(self, number: Signals) -> int:
        """Signal it twice a second, as a person in a hurry would, until it ends; the exit status."""
        while self.process.poll() is None:
            self.signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)
        return self.ended()

    def stop(self, number: Signals = SIGTERM, timeout: float = DEADLINE) -> int:
        """Signal it and wait for its end; the exit status."""
        self.signal(number)
        return self.ended(timeout)

    def kill(self) -> None:
        """End it with -9, as a crash would; waits until it is gone. Nothing happens if it is."""
        self.process.kill()
        self.ended()


S = TypeVar("S", bound=Server)


@contextmanager
def karafka(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`karafka ARGUMENTS` in `folder`, killed at the end if it still runs."""
    with started(Server(folder, [*PYTHON, "-m", "karafka", *arguments], environment or {})) as server:
        yield server


@contextmanager
def program(folder: Path, source: str, *arguments: str) -> Iterator[Server]:
    """`source` as a program of the user's own, program.py in `folder`."""
    (folder / "program.py").write_text(source)
    with started(Server(folder, [*PYTHON, "program.py", *arguments], {})) as server:
        yield server


@contextmanager
def started(server: S) -> Iterator[S]:
    """`server`, killed at the end if it still runs."""
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def serve(folder: Path, source: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`karafka server` with `source` as app.py in `folder`, its log as JSON."""
    (folder / "app.py").write_text(source)
    with karafka(folder, "server", "--log-format", "json", *arguments, environment=environment) as server:
        yield server


def run(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """`karafka ARGUMENTS` to its end: exit status, stdout, stderr."""
    with karafka(folder, *arguments, environment=environment) as server:
        status = server.ended()
    return status, "\n".join(server.heard.said), "\n".join(server.heard.told)


def matches(event: Event, name: str, fields: Mapping[str, object]) -> bool:
    return event.get("event") == name and all(event.get(field) == value for field, value in fields.items())


# ── apps ─────────────────────────────────────────────────────────────────────────────────────────────────────────

HEAD = """\
import asyncio, os, signal, sys, time
from pathlib import Path
from karafka import *

# Whole lines, whichever threads write them: the real one writes word by word.
def print(*words, **_):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

say = print

"""


def app(bootstrap: str, group: str, body: str, *, kafka: Mapping[str, object] | None = None, **settings: object) -> str:
    """The text of an app.py: `app` for that group, then `body`. What it prints, `Server.says` waits for.

    Its sessions are short, so that a member that was killed is missed soon.
    """
    quick = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500, **(kafka or {})}
    made = {"bootstrap.servers": bootstrap, **quick}
    told = "".join(f", {name}={value!r}" for name, value in settings.items())
    return f"{HEAD}app = App({group!r}, kafka={made!r}{told})\n\n{body}"


# A `perform` that waits for the file `open`, and a second more: meanwhile the listener learns of what came before.
GATED = (
    "print('begun', self.params)",
    "while not Path('open').exists(): time.sleep(0.01)",
    "time.sleep(1)",
    "print('done', self.params)",
)


class Scene:
    """A topic, a group and a folder that no other test uses, and the small apps of a test on them."""

    def __init__(self, bootstrap: str, folder: Path, partitions: int = 1) -> None:
        self.bootstrap, self.folder, self.partitions = bootstrap, folder, partitions
        self.topic, self.group = new_topic(bootstrap, partitions), new_group()

    def app(self, *perform: str, asynchronous: bool = False, **settings: Any) -> str:
        """An app with one controller, whose `perform` is those lines. Settings are `App`'s."""
        return app(self.bootstrap, self.group, each(self.topic, *perform, asynchronous=asynchronous), **settings)

    def send(self, *payloads: object, partition: int = 0) -> None:
        send(self.bootstrap, self.topic, payloads, partition)

    @property
    def committed(self) -> list[int | None]:
        return committed(self.bootstrap, self.group, self.topic, self.partitions)


def each(topic: str, *perform: str, asynchronous: bool = False) -> str:
    """A controller for `topic` whose `perform` is those lines."""
    define = "async def" if asynchronous else "def"
    lines = "\n".join(f"        {line}" for line in perform)
    return f"@app.topic({topic!r})\nclass Each(Controller):\n    {define} perform(self):\n{lines}\n"


# ── the cluster's side ───────────────────────────────────────────────────────────────────────────────────────────


def send(bootstrap: str, topic: str, payloads: Sequence[object], partition: int = 0) -> None:
    """Send `payloads` to one partition, in order, each confirmed."""
    with Producer({"bootstrap.servers": bootstrap}) as producer:
        producer.produce_many_sync({"topic": topic, "payload": one, "partition": partition} for one in payloads)


def committed(bootstrap: str, group: str, topic: str, partitions: int = 1) -> list[int | None]:
    """The offsets that the group has committed, by partition; None where it has none."""
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, number) for number in range(partitions)])
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    answer = admin.list_consumer_group_offsets([asked])[group].result(30)
    offsets = {one.partition: one.offset for one in answer.topic_partitions or ()}
    return [offsets[number] if offsets.get(number, -1) >= 0 else None for number in range(partitions)]


def ends(bootstrap: str, topic: str, partitions: int = 1) -> list[int]:
    """The offset after the last message, by partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "asks-only", "log_level": 0})
    try:
        return [consumer.get_watermark_offsets(TopicPartition(topic, one), 30)[1] for one in range(partitions)]
    finally:
        consumer.close()
