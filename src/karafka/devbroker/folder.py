"""The folder of a development broker: its lock, its data, its settings and its log."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from karafka.errors import BrokerError, ConfigError

LOG4J = """\
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
"""


class Folder:
    """Where one broker keeps everything; at most one broker at a time, which holds `lock`.

    `kafka-data`, `kafka.log` and `kafka.previous.log` (what this run and the last one said), settings that are
    written anew at each start. Owned by the `Kafka` that made it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.data, self.draft = self.path / "kafka-data", self.path / "kafka-data.draft"
        self.log = self.path / "kafka.log"
        self.settings, self.log4j = self.path / "server.properties", self.path / "log4j2.properties"

    def lock(self) -> int:
        """A file descriptor that holds the folder for as long as it is open anywhere.

        Raises `ConfigError` when another broker holds it, or when the folder cannot be written.
        """
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                (self.path / ".gitignore").write_text("*\n")
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError(
                f"the broker's folder {self.path} cannot be written ({error.strerror}): choose another with --folder"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 20).decode() or "unknown"
            os.close(lock)
            raise ConfigError(
                f"another broker runs on {self.path} (process {holder}): stop that one, or choose another --folder"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock

    def empty(self) -> bool:
        """Whether there is no data yet. Raises `BrokerError` when there is some that Kafka cannot own."""
        shutil.rmtree(self.draft, ignore_errors=True)
        if not self.data.is_dir() or not any(self.data.iterdir()):
            return True
        meta = self.data / "meta.properties"
        text = meta.read_text(errors="replace") if meta.is_file() else ""
        missing = [name for name in ("cluster.id", "node.id", "version") if f"{name}=" not in text]
        if missing:
            raise BrokerError(
                f"the broker's data in {self.data} is damaged ({meta.name} lacks {missing[0]}): "
                "`karafka broker --reset` forgets it and starts anew",
                retriable=False,
            )
        return False

    def forget(self) -> None:
        """Remove the data; the caller holds the lock. Raises `ConfigError` when it cannot be removed."""
        try:
            shutil.rmtree(self.data)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(
                f"the broker's data in {self.data} cannot be removed ({error.strerror}): remove it by hand"
            ) from error

    def keep(self) -> None:
        """What was formatted as a draft becomes the data, in one step."""
        self.forget()
        self.draft.replace(self.data)

    def write(self, settings: Mapping[str, str]) -> None:
        """Write what Kafka reads at its start."""
        self.settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self.log4j.write_text(LOG4J)

    def put_log_aside(self) -> None:
        """Begin a new log; the one of the last run stays beside it until the next."""
        if self.log.exists():
            self.log.replace(self.log.with_name("kafka.previous.log"))
