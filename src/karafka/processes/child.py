"""One process of several, as its supervisor sees it: started, heard, told, ended.

A fresh interpreter in a process group of its own, so that a Ctrl-C in the terminal reaches the supervisor alone; not in
a session, as with Kafka (`devbroker.leash`). The socket between the two says to each when the other is gone.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from karafka.processes.link import STACKS, VARIABLE
from karafka.processes.reports import Report
from karafka.stacks import scratch, taken

# Who waits for the supervisor is not told of each of its processes.
MINE = frozenset({VARIABLE, "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"})


class Child:
    """See the module. One thread's alone, its supervisor's."""

    def __init__(self, number: int, command: Sequence[str], folder: str) -> None:
        """Start `command` in `folder`. Raises `OSError`."""
        self.number = number
        #: The last report that came.
        self.report = Report()
        self._said = b""
        self._silent = False
        self._stacks = scratch()
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        try:
            with theirs:
                self._process = self._started(command, folder, theirs.fileno(), self._stacks.fileno())
        except OSError:
            self.close()
            raise
        self.pid = self._process.pid

    def _started(self, command: Sequence[str], folder: str, end: int, stacks: int) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name not in MINE}
        return subprocess.Popen(  # noqa: S603 - the command is ours
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            env={**environment, VARIABLE: f"{self.number}:{end}:{stacks}"},
            pass_fds=(end, stacks),
            process_group=0,
        )

    @property
    def source(self) -> int | None:
        """The file descriptor that may be read when it has something to say; None when it never will again."""
        return None if self._silent else self._socket.fileno()

    def hear(self) -> bool:
        """Take in what it has said; whether that was anything."""
        heard = b""
        with suppress(BlockingIOError):
            while not self._silent:
                try:
                    chunk = self._socket.recv(65_536)
                except ConnectionError:
                    chunk = b""
                self._silent = not chunk
                heard += chunk
        *lines, self._said = (self._said + heard).split(b"\n")
        for line in lines:
            with suppress(ValueError):  # one of another release, in the midst of a restart
                self.report = Report.read(line)
        return bool(lines)

    def tell(self, command: str) -> None:
        """Have it do what `link.Link` knows; it may be gone already."""
        with suppress(OSError):
            self._socket.send(f"{command}\n".encode())

    def dump(self) -> None:
        """Have its interpreter write all its stacks, for `stacks`, whatever it does."""
        self._process.send_signal(STACKS)

    def stacks(self) -> str:
        """What it has written."""
        return taken(self._stacks)

    def kill(self) -> None:
        self._process.kill()

    def status(self) -> int | None:
        """Its exit status once it has ended, below zero the signal that ended it; None before."""
        return self._process.poll()

    def close(self) -> None:
        """Give up what is kept of it, after its end."""
        self._socket.close()
        self._stacks.close()
