"""Servers that send results on exactly once, killed and started again, and who reads the results meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Self

from confluent_kafka import Consumer, TopicPartition

from karafka.devbroker import Kafka
from tests.brokers import new_group
from tests.process.servers import PYTHON, Server, app, started
from tests.specs.exact import Line

BODY = """
@app.topic({source!r}, exactly_once=True, retry=Backoff(0.05, 0.5){options})
class Pass(Controller[int]):
    {define} perform(self):
        self.produce({target!r}, f"{{self.message.partition}} {{self.params}}")
"""
BATCHES = """
@app.topic({source!r}, exactly_once=True, retry=Backoff(0.05, 0.5), max_messages=20, max_wait=0.02{options})
class Pass(BatchController[int]):
    {define} perform(self):
        for one in self.messages:
            self.produce({target!r}, f"{{one.partition}} {{one.payload}}")
"""

# What Kafka's log says when it took a transaction for ended without having written its end (KAFKA-20734).
END_NOT_WRITTEN = "these partitions are likely deleted already and hence can be skipped"


def all_ended(own: Kafka) -> bool:
    """Whether Kafka has written the ends of all transactions, this time and the time before."""
    logs = own.folder.log, own.folder.log.with_name("kafka.previous.log")
    return not any(END_NOT_WRITTEN in log.read_text(errors="replace") for log in logs if log.exists())


class Servers:
    """Several `karafka server`s of one line, by number; each may be killed, stood still, started again."""

    def __init__(self, line: Line, folder: Path, kind: str, kafka: dict[str, object]) -> None:
        body = BATCHES if "batch" in kind else BODY
        define = "async def" if "async" in kind else "def"
        text = body.format(source=line.source, target=line.target, define=define, options="")
        source = app(line.stage.bootstrap, line.group, text, kafka=kafka, drain_timeout=5.0)
        (folder / "app.py").write_text(source)
        self._folder = folder
        self._stack = ExitStack()
        self.now: dict[int, Server] = {}
        self.all: list[Server] = []

    def start(self, number: int) -> Server:
        command = [*PYTHON, "-m", "karafka", "server", "--log-format", "json"]
        server = self._stack.enter_context(started(Server(self._folder, command, {})))
        self.now[number] = server
        self.all.append(server)
        return server

    def happened(self, name: str) -> int:
        """How often that was told, by all there were."""
        return sum(len(one.happened(name)) for one in self.all)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Reader:
    """Reads what is committed on the target, as it comes; a thread of its own. When each message came is kept."""

    def __init__(self, line: Line) -> None:
        self._client = Consumer(
            {
                "bootstrap.servers": line.stage.bootstrap,
                "group.id": new_group(),
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
                "log_level": 0,
            }
        )
        self._client.assign([TopicPartition(line.target, number, 0) for number in range(line.results)])
        self.times: list[float] = []
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.is_set():
            found = [one for one in self._client.consume(1_000, 0.02) if one.error() is None]
            self.times.extend([monotonic()] * len(found))
        self._client.close()

    def stall(self, since: float, until: float) -> float:
        """The longest time without anything new, of those that began or lasted between two moments."""
        return max((end - begin for begin, end in self._pauses() if end >= since and begin <= until), default=0.0)

    def _pauses(self) -> Iterator[tuple[float, float]]:
        times = self.times.copy()
        yield from pairwise(times)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
