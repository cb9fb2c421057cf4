"""Real Apache Kafka on this machine: one KRaft node, without Docker, root or a Java of your own."""

from __future__ import annotations

import base64
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from karafka.devbroker import artifacts, leash, ports
from karafka.devbroker.artifacts import Progress, silent
from karafka.devbroker.folder import Folder
from karafka.errors import BrokerError, ConfigError

# One node replicates nothing; few internal partitions, quick groups, short sessions: made for one developer.
SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    # After a crash a new start waits for the old one's session, so not Kafka's 9 s; but where its session is too short
    # a broker on a busy machine fences itself.
    "broker.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "200",
    "auto.create.topics.enable": "true",
    "num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "group.consumer.min.session.timeout.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "100",
}

# The quick compiler alone: a start takes 3 s of processor instead of 5 and 40 MiB less memory, a million messages take
# no longer. A smaller heap saves nothing in all.
JVM = ("-Xmx512m", "-XX:TieredStopAtLevel=1")
FAILURE = re.compile(r"(?:Caused by: |Exception in thread \S+ )?[\w.$]+(?:Exception|Error): (.+)")


class Kafka:
    """One Apache Kafka node on 127.0.0.1, data and log in `folder`; a context manager, or `start` and `stop`.

    `karafka broker` runs one in the foreground, the tests share one. `port` 0 picks a free one, kept over restarts
    of the same object. `settings` are Kafka's broker settings by their own names, over `SETTINGS`. A topic that is
    written to or asked for appears with 4 partitions. Nothing is fetched, written or started before `start`.

    Owned by the thread that starts it, which must live as long as the broker: on Linux Java is killed with that
    thread, so that no kill -9 of this process leaves a broker behind.
    """

    def __init__(
        self,
        folder: Path | str,
        port: int = 0,
        *,
        settings: Mapping[str, str] | None = None,
        cluster: str | None = None,
    ) -> None:
        """`settings` by Kafka's names win over ours; `cluster` is the id that nodes of one cluster share."""
        self.folder = Folder(Path(folder))
        self._port = port
        self._settings = dict(settings or {})
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def bootstrap(self) -> str:
        """What clients want as `bootstrap.servers`. Known once started, and still after."""
        return f"{ports.HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Java's process. Raises `BrokerError` when none was started."""
        return self._java().pid

    def start(self, progress: Progress = silent, patience: float = 60) -> None:
        """Fetch Kafka if need be (`progress` hears of it), format empty data, start, return once it answers.

        Started again after `kill` or `stop`, it has the same port and data. If anything fails, or a
        KeyboardInterrupt comes, nothing is left running. Raises `ConfigError` (extra, port, folder) and
        `BrokerError` (network, damaged data, no answer in `patience` seconds, or what Kafka said as it died).
        """
        if not self.wait(0):
            raise BrokerError(f"the broker at {self.bootstrap} is running already", retriable=False)
        self.kill()  # what is left of one that ended by itself: its lock
        java = artifacts.java()
        with ExitStack() as undo:
            undo.callback(self.kill)
            self._lock = self.folder.lock()
            self._port = self._port or ports.free()
            if ports.taken(self._port):
                raise ConfigError(
                    f"port {self._port} is in use: stop what listens there, or choose another with --port"
                )
            self._run(java, artifacts.jars(progress), self._lock, patience)
            undo.pop_all()

    def stop(self, patience: float = 20) -> None:
        """Ask Kafka to stop (SIGTERM) and wait; after `patience` seconds, or at a KeyboardInterrupt, kill it."""
        try:
            if self._process is not None:
                self.thaw()
                self._process.terminate()
                self.wait(patience)
        finally:
            self.kill()

    def wait(self, timeout: float = float("inf")) -> bool:
        """Wait for Kafka to end by itself; whether it did within `timeout` seconds.

        Looks 20 times a second: `Popen.wait` would hold a KeyboardInterrupt back, and swallow a second one.
        """
        deadline = time.monotonic() + timeout
        while self._process is not None and self._process.poll() is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def kill(self) -> None:
        """Kill Kafka at once (SIGKILL), as a crash would; its data stays. Nothing happens if it is not running."""
        process, self._process = self._process, None
        lock, self._lock = self._lock, None
        if process is not None:
            process.kill()
            process.wait()
        if lock is not None:
            os.close(lock)

    def reset(self) -> None:
        """Forget the data. Raises `ConfigError` while a broker runs on the folder, this one included."""
        lock = self.folder.lock()
        try:
            self.folder.forget()
        finally:
            os.close(lock)

    def freeze(self) -> None:
        """Stop Kafka in its tracks (SIGSTOP): connections stay open, nothing answers. Returns once it stands still."""
        java = self._java()
        java.send_signal(signal.SIGSTOP)
        with suppress(ChildProcessError):  # it has ended, and is told of elsewhere
            os.waitpid(java.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Let a frozen Kafka go on."""
        self._java().send_signal(signal.SIGCONT)

    def last_words(self) -> str:
        """Why Kafka ended: the signal that killed it, or its log's last failure, or its last line."""
        if self._process is not None and (self._process.poll() or 0) < 0:
            return f"{signal.Signals(-self._process.returncode).name} killed it"
        lines = self.folder.log.read_text(errors="replace").splitlines() if self.folder.log.exists() else []
        causes = [match[1] for line in lines if (match := FAILURE.match(line))]
        return (causes or [line for line in lines if line.strip()] or ["its log is empty"])[-1].strip()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _java(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BrokerError("the broker is not running: start it first", retriable=False)
        return self._process

    def _run(self, java: Path, jars: list[Path], lock: int, patience: float) -> None:
        """Format when empty, start, wait for the answer. The caller kills what is left when this raises."""
        command = [str(java), *JVM, f"-Dlog4j2.configurationFile={self.folder.log4j}"]
        environment = {**os.environ, "CLASSPATH": os.pathsep.join(str(jar) for jar in jars)}

        def spawn(*main: str) -> subprocess.Popen[bytes]:
            return leash.spawn([*command, *main], log=self.folder.log, environment=environment, keep=lock)

        settings = self._complete()
        self.folder.put_log_aside()
        if self.folder.empty():
            self.folder.write(settings | {"log.dirs": str(self.folder.draft)})
            self._process = spawn(
                "kafka.tools.StorageTool", "format", "-t", self._cluster or identity(), "-c", str(self.folder.settings)
            )
            if not self.wait(patience) or self._process.returncode:
                raise BrokerError(f"Kafka could not format {self.folder.path}: {self.last_words()}", retriable=False)
            self.folder.keep()
        self.folder.write(settings | {"log.dirs": str(self.folder.data)})
        self._process = spawn("kafka.Kafka", str(self.folder.settings))
        self._await(patience)

    def _complete(self) -> dict[str, str]:
        """All settings of this start but the place of the data."""
        controller = ports.free()
        return {
            **SETTINGS,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{ports.HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.quorum.voters": f"1@{ports.HOST}:{controller}",
            **self._settings,
        }

    def _await(self, patience: float) -> None:
        """Return once Kafka is ready for groups. Raises `BrokerError` when it ends or stays silent."""
        deadline = time.monotonic() + patience
        while not ports.answers(self._port):
            if self.wait(0.05):
                raise BrokerError(
                    f"Kafka ended as it started: {self.last_words()} ({self.folder.log} says more). If its data is "
                    "damaged, `karafka broker --reset` forgets it and starts anew",
                    retriable=False,
                )
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"Kafka did not answer at {self.bootstrap} within {patience:g} s: {self.folder.log} may say why",
                    retriable=True,
                )


def identity() -> str:
    """A new cluster id as Kafka wants it: 16 random bytes in URL-safe base64, not beginning with a dash."""
    return base64.urlsafe_b64encode(b"k" + secrets.token_bytes(15)).decode().rstrip("=")
