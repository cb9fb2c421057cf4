"""Tells who watches this process from outside that it gets on: an orchestrator by a file, systemd by its watchdog."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from time import time

from karafka.errors import ConfigError
from karafka.notify import notify

# Seconds between beats of the file.
INTERVAL = 5.0


class Heartbeat(Thread):
    """Beats from `start` to `stop`, on a thread of its own: what holds the interpreter holds it, too.

    The file is as old as the last moment at which the process got on, so whoever looks says how old is too old. It is
    there while the process is at work. systemd is told only while that moment is less than half its time-out ago.
    """

    def __init__(self, file: str | None, behind: Callable[[], float]) -> None:
        """`behind`: for how many seconds the process has not got on; any thread. Raises `ConfigError`."""
        super().__init__(name="karafka-heartbeat", daemon=True)
        self._file = Path(file).absolute() if file is not None else None
        self._behind = behind
        self._patience = watchdog_timeout()
        self._stopped = Event()
        if self._file is not None:
            try:
                # One left behind by a process that was killed says nothing of this one.
                self._file.touch()
                self._file.unlink()
            except OSError as error:
                raise ConfigError(
                    f"--alive-file {self._file}: {error.strerror}: name one that can be written"
                ) from None

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._file is not None or self._patience is not None

    def run(self) -> None:
        pause = INTERVAL if self._patience is None else min(INTERVAL, self._patience / 4)
        self._beat()
        while not self._stopped.wait(pause):
            self._beat()
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()

    def _beat(self) -> None:
        behind = self._behind()
        if self._patience is not None and behind < self._patience / 2:
            notify("WATCHDOG=1")
        if self._file is not None:
            # A disk that is full for a moment ends nothing: the file grows old meanwhile.
            with suppress(OSError):
                self._file.touch()
                at = time() - behind
                os.utime(self._file, (at, at))

    def stop(self) -> None:
        """The end: the file goes. Any thread."""
        self._stopped.set()
        if self.is_alive():
            self.join(1.0)


def watchdog_timeout() -> float | None:
    """Seconds within which systemd wants to hear of this process (`WatchdogSec=`), as sd_watchdog_enabled(3)."""
    try:
        timeout = int(os.environ["WATCHDOG_USEC"]) / 1e6
        whose = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return timeout if timeout > 0 and whose == os.getpid() else None
