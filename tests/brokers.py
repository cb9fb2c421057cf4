"""The brokers that tests share, and fresh names on them."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from karafka.devbroker import Kafka

RUN = "KARAFKA_TEST_RUN"


@dataclass(frozen=True, slots=True)
class Running:
    """A broker that somebody else stops."""

    bootstrap: str


class Run:
    """The folder of one test run, with the one real Kafka in it: started on first need by whichever worker asks.

    A keeper, a process of its own, holds Kafka: workers come and go. It lives as long as the pipe `alive` is open
    for writing, which is as long as the process that began the run lives, however that one ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._alive, self._address, self._log = folder / "alive", folder / "bootstrap", folder / "keeper.log"

    @classmethod
    @contextmanager
    def begun(cls) -> Iterator[Run]:
        """A new run, named to this process's children in the environment. At the end Kafka is gone, and the folder."""
        run = cls(Path(tempfile.mkdtemp(prefix="karafka-tests-")))
        os.environ[RUN] = str(run.folder)
        os.mkfifo(run._alive)
        alive = os.open(run._alive, os.O_RDWR)
        try:
            yield run
        finally:
            os.close(alive)
            with locked(run.folder / "keeper"):  # the keeper holds this until Kafka has stopped
                shutil.rmtree(run.folder)

    @classmethod
    def current(cls) -> Run:
        """The run that this process belongs to."""
        return cls(Path(os.environ[RUN]))

    def kafka(self) -> Running:
        """The run's Kafka, started if this is the first to ask. Raises `RuntimeError` with what the keeper said."""
        with locked(self.folder / "first"):
            if not self._address.exists():
                log = (os.POSIX_SPAWN_OPEN, 1, str(self._log), os.O_WRONLY | os.O_CREAT, 0o600)
                command = [sys.executable, __file__, str(self.folder)]
                actions = [log, (os.POSIX_SPAWN_DUP2, 1, 2)]
                keeper = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions, setpgroup=0)
                until(lambda: self._address.exists() or os.waitpid(keeper, os.WNOHANG) != (0, 0), timeout=150)
            if not self._address.exists():
                raise RuntimeError(f"no Kafka for the tests: {self._log.read_text()}")
        return Running(self._address.read_text())

    def keep(self) -> None:
        """The keeper's whole life: start Kafka, say where, wait for the end of the run, stop it."""
        with locked(self.folder / "keeper"), self._alive.open("rb") as alive, Kafka(self.folder / "kafka") as kafka:
            draft = self._address.with_suffix(".draft")
            draft.write_text(kafka.bootstrap)
            draft.replace(self._address)
            alive.read()


def create(admin: AdminClient, topic: NewTopic, *, again: bool = False) -> None:
    """Create `topic`; `again` if the client dropped the broker it had asked, as it does when it learns its name."""
    try:
        admin.create_topics([topic])[topic.topic].result(30)
    except KafkaException as error:
        match error.args[0].code():
            case KafkaError.TOPIC_ALREADY_EXISTS if again:
                pass
            case KafkaError._DESTROY_BROKER:
                create(admin, topic, again=True)
            case _:
                raise


def new_topic(
    bootstrap: str, partitions: int = 1, config: Mapping[str, str] | None = None, name: str | None = None
) -> str:
    """A topic, of a name never used before unless it is told one, ready to be written and read, replicated as the
    cluster does by default. Real Kafka only: the mock creates none.
    """
    name = name or f"topic-{uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    create(admin, NewTopic(name, partitions, config=dict(config or {})))
    until(lambda: len(admin.list_topics(name, timeout=10).topics[name].partitions) == partitions)
    return name


def new_group() -> str:
    """A consumer group of a name never used before."""
    return f"group-{uuid4().hex[:12]}"


def configure_group(bootstrap: str, group: str, settings: Mapping[str, int]) -> None:
    """Set what the broker has to say of a group: under KIP-848 its sessions and heartbeats. Real Kafka only."""
    set_ = AlterConfigOpType.SET
    entries = [ConfigEntry(name, str(value), incremental_operation=set_) for name, value in settings.items()]
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    (answer,) = admin.incremental_alter_configs([resource]).values()
    answer.result(30)


def until(true: Callable[[], bool], timeout: float = 30) -> None:
    """Return as soon as `true` says so. Raises `TimeoutError` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {timeout} s")
        time.sleep(0.02)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file lock at `path`, waiting for whoever holds it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    Run(Path(sys.argv[1])).keep()
