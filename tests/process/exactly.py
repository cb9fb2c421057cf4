"""Servers that send results on exactly once, killed and started again, and who reads the results meanwhile."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Self

from confluent_kafka import Consumer, TopicPartition

from karafka.devbroker import Kafka
from tests.brokers import configure_group, new_group
from tests.process.servers import HEAD, PYTHON, Server, started
from tests.specs.exact import Line

BODY = """
@app.topic({source!r}, exactly_once=True, retry=Backoff(0.05, 0.5))
class Pass(Controller[int]):
    {define} perform(self):
        self.produce({target!r}, f"{{self.message.partition}} {{self.params}}")
"""
BATCHES = """
@app.topic({source!r}, exactly_once=True, retry=Backoff(0.05, 0.5), max_messages=20, max_wait=0.02)
class Pass(BatchController[int]):
    {define} perform(self):
        for one in self.messages:
            self.produce({target!r}, f"{{one.partition}} {{one.payload}}")
"""

# By how the group shares its partitions: a member's session is 3 s, so that one that was killed is missed soon.
SESSION = 3.0
_SESSIONS = {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 500}
MEMBERS: Mapping[str, Mapping[str, object]] = {
    "eager": {**_SESSIONS, "partition.assignment.strategy": "range"},
    "cooperative": {**_SESSIONS, "partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}
# What of that the broker says itself under the newer protocol (KIP-848).
_BROKERS = {"consumer.session.timeout.ms": 3_000, "consumer.heartbeat.interval.ms": 500}

# What Kafka's log says when it took a transaction for ended without having written its end (KAFKA-20734).
END_NOT_WRITTEN = "these partitions are likely deleted already and hence can be skipped"


def all_ended(own: Kafka) -> bool:
    """Whether Kafka has written the ends of all transactions, this time and the time before."""
    logs = own.folder.log, own.folder.log.with_name("kafka.previous.log")
    return not any(END_NOT_WRITTEN in log.read_text(errors="replace") for log in logs if log.exists())


class Servers:
    """Several `karafka server`s of one line, by number; each may be killed, stood still, started again."""

    def __init__(
        self,
        line: Line,
        folder: Path,
        kind: str,
        protocol: str = "cooperative",
        kafka: Mapping[str, object] | None = None,
    ) -> None:
        """`kind`: of `tests.specs.exact.KINDS`; `protocol`: of MEMBERS; `kafka`: further settings of the client."""
        if protocol == "consumer":
            configure_group(line.stage.bootstrap, line.group, _BROKERS)
        settings = {"bootstrap.servers": line.stage.bootstrap, **MEMBERS[protocol], **(kafka or {})}
        body = BATCHES if "batch" in kind else BODY
        define = "async def" if "async" in kind else "def"
        text = body.format(source=line.source, target=line.target, define=define)
        made = f"app = App({line.group!r}, kafka={settings!r}, drain_timeout=5.0)\n"
        (folder / "app.py").write_text(HEAD + made + text)
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

    def waited(self, strikes: Sequence[float]) -> list[float]:
        """For how long nothing new came, at most, after each of those moments and before the next. Of a wait into which
        the next one fell, that one has what is left of it.
        """
        longest = [0.0] * len(strikes)
        for begin, end in pairwise(self.times):
            if number := bisect(strikes, end):
                longest[number - 1] = max(longest[number - 1], end - max(begin, strikes[number - 1]))
        return longest

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
