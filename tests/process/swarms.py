"""`karafka server --processes N` as tests see it: which processes there are, and that none is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import Signals

import psutil

from tests.brokers import until
from tests.process.servers import DEADLINE, PYTHON, Server, started


class Swarm(Server):
    """A supervisor and its processes. Made by `swarm`."""

    def pid(self, process: int, timeout: float = DEADLINE) -> int:
        """Of the last one that bears that number."""
        self.event("process_started", process=process, timeout=timeout)
        return int(self.happened("process_started", process=process)[-1]["pid"])

    @property
    def pids(self) -> list[int]:
        """Of all that were ever started."""
        return [int(one["pid"]) for one in self.happened("process_started")]

    def runs(self, processes: int = 2, timeout: float = 2 * DEADLINE) -> None:
        """Wait until so many run, each with its share."""
        self.event("swarm_started", timeout, processes=processes)
        for process in range(1, processes + 1):
            self.shared(process)

    def shared(self, process: int, timeout: float = DEADLINE) -> None:
        """Wait until the last one that bears that number has partitions."""
        self.until(lambda: bool(self.shares().get(process)), f"process {process} has partitions", timeout)

    def shares(self) -> dict[int, set[str]]:
        """The partitions of each number, as far as was heard; of a number that two bear, of both."""
        shares: dict[int, set[str]] = {}
        for one in list(self.heard.events):
            mine = shares.setdefault(one.get("process", 0), set())
            match one.get("event"):
                case "assigned":
                    mine |= set(one["starts"])
                case "revoked":
                    mine -= set(one["positions"])
                case "process_died":
                    mine.clear()
        return shares

    def replaced(self, process: int, times: int = 1, timeout: float = 2 * DEADLINE) -> None:
        """Wait until so many were started in place of the first one of that number, and the last one runs."""
        name, wanted = {"process": process}, times + 1
        for event in ("process_started", "server_started"):
            wish = f"{wanted} times {event} of process {process}"
            self.until(lambda event=event: len(self.happened(event, **name)) >= wanted, wish, timeout)  # type: ignore[misc]

    def end_all(self) -> None:
        """Wait until none is left, as must happen by itself; none is after it."""
        try:
            until(lambda: not any(map(alive, self.pids)))
        finally:
            for pid in filter(alive, self.pids):
                psutil.Process(pid).kill()

    def signal_all(self, number: Signals) -> None:
        """As some tell the supervisor and all its processes at once."""
        for one in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children()]:
            one.send_signal(number)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and nobody waits for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def swarm(
    folder: Path, source: str, *arguments: str, processes: int = 2, environment: Mapping[str, str] | None = None
) -> Iterator[Swarm]:
    """`karafka server --processes N` with `source` as app.py in `folder`. At the end none of them may be left."""
    (folder / "app.py").write_text(source)
    command = [*PYTHON, "-m", "karafka", "server", "--log-format", "json", "--processes", str(processes), *arguments]
    with started(Swarm(folder, command, {"XDG_RUNTIME_DIR": str(folder), **(environment or {})})) as server:
        try:
            yield server
        finally:
            server.process.kill()
            server.end_all()
