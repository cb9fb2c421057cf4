"""An app with a job queue, as processes: `karafka server` and `karafka worker`, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from signal import SIGTERM, Signals
from types import TracebackType
from typing import Any, Self

import psutil

from tests.brokers import new_group, until
from tests.jobs.queues import Queue
from tests.process.servers import DEADLINE, Server, app, started
from tests.specs import visible
from tests.specs.run import Stage

# Controllers say what became of a message by sending it here; a worker that retries does so quickly.
HELP = """
class ApplicationWorker(Worker):
    backoff = Backoff(0.05, 0.2)


class ApplicationController(Controller):
    def tell(self, what, **more):
        self.produce({results!r}, {{"what": what, "id": self.message.id, **more}})
"""


class Family(Server):
    """A process that may have others."""

    @property
    def children(self) -> list[psutil.Process]:
        if self.process.poll() is not None:
            return []
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: Signals = SIGTERM, timeout: float = 2 * DEADLINE) -> int:
        """As a server's; a process of Celery's now and then waits half a minute for its command to hear of a job."""
        return super().stop(number, timeout)

    def kill(self) -> None:
        """All of them at once, as a machine that loses its power would."""
        children = self.children
        self.process.kill()
        for one in children:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.ended()


class Yard:
    """One app. `body` is its text, with `{source}` and `{results}` for the names of topics: routes say
    `backend=BACKEND`. Processes are killed at the end if they still run.
    """

    def __init__(
        self, stage: Stage, folder: Path, queue: Queue, body: str, *, partitions: int = 1, **settings: object
    ) -> None:
        self.stage, self.queue, self.folder, self.partitions = stage, queue, folder, partitions
        self.source, self.results = stage.topic(partitions), stage.topic(1)
        self.group = new_group()
        queue.ready(self.group)
        self._settings = {"commit_interval": 0.1, "drain_timeout": 5.0, **settings}
        self.write(body)
        self._stack = ExitStack()
        self.all: list[Family] = []

    def write(self, body: str) -> None:
        """The app's text is that from now on: for processes that are started."""
        text = self.queue.declares + HELP.format(results=self.results)
        text += body.replace("{source}", repr(self.source)).replace("{results}", repr(self.results))
        (self.folder / "app.py").write_text(app(self.stage.bootstrap, self.group, text, **self._settings))  # type: ignore[arg-type]  # as App takes them

    def start(self, command: str, *arguments: str) -> Family:
        """`karafka server`, `karafka worker`, as a process of its own."""
        more = self.queue.arguments if command == "worker" else ()
        words = [*self.queue.python, "-m", "karafka", command, "--log-format", "json", *more, *arguments]
        self.all.append(self._stack.enter_context(started(Family(self.folder, words, self.queue.environment))))
        return self.all[-1]

    def server(self, *arguments: str) -> Family:
        server = self.start("server", *arguments)
        server.event("server_started")
        return server

    def worker(self, *arguments: str) -> Family:
        return self.start("worker", *arguments)

    def send(self, *payloads: Any, partition: int = 0, **more: Any) -> None:
        """Payloads that are no text or bytes as JSON."""
        made = [one if isinstance(one, str | bytes | None) else json.dumps(one) for one in payloads]
        self.stage.send(self.source, made, partition=partition, **more)

    def told(self, what: str | None = None) -> list[dict[str, Any]]:
        """What controllers told so far, in order."""
        said = [json.loads(one) for one in self.raw() if one is not None and one.startswith(b"{")]
        return [one for one in said if what in {None, one["what"]}]

    def raw(self) -> list[bytes | None]:
        """The payloads there, as they are."""
        return [one.value() for one in visible.read(self.stage.bootstrap, self.results)]

    def results_seen(self) -> set[str]:
        return {one.decode() for one in self.raw() if one is not None}

    def dead(self) -> list[dict[str, Any]]:
        """Jobs that were given up."""
        return self.queue.dead(self.group)

    def refused(self, worker: Server, said: str = "") -> None:
        """Wait until `worker` has told that it cannot perform a job."""
        worker.until(lambda: any("JobError" in line and said in line for line in worker.heard.told), "a JobError")

    def heard(self, what: str, count: int = 1, timeout: float = 30) -> list[dict[str, Any]]:
        """Wait until that was told so often."""
        try:
            until(lambda: len(self.told(what)) >= count, timeout)
        except TimeoutError:
            raise AssertionError(f"{what} was told {len(self.told(what))} times, not {count}: {self.told()}") from None
        return self.told(what)

    def committed(self) -> list[int | None]:
        return visible.committed(self.stage.bootstrap, self.group, self.source, self.partitions)

    def handed_over(self, *ends: int, timeout: float = 30) -> None:
        """Wait until the server has committed that."""
        until(lambda: self.committed() == list(ends), timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for one in self.all:
                print(one.heard)
        self._stack.close()


def offsets(told: Iterable[dict[str, Any]]) -> list[tuple[int, int]]:
    """Partition and offset of the messages that were told of, sorted, each once."""
    found = {tuple(map(int, one["id"].rsplit("/", 2)[1:])) for one in told}
    return sorted((partition, offset) for partition, offset in found)
