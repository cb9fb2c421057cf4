"""A command on a terminal, as a person has it: typed at, read from."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.process.servers import PYTHON

DEADLINE = 30.0
# Makes the terminal that of its session, as a shell's is, so that Ctrl-C is a signal; then becomes the command.
TAKEN = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
# What only a terminal understands: colours, the cursor's moves, modes.
CONTROL = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>()][0-9A-Z]?)|\x07|\r")


class Terminal:
    """Made by `on_terminal`. The test's thread alone."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._end, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", TAKEN, *PYTHON, "-m", "karafka", *arguments],
            cwd=folder,
            env={
                **os.environ,
                "TERM": "xterm",
                "COLUMNS": "100",
                "LINES": "40",
                "PROMPT_TOOLKIT_NO_CPR": "1",
                **environment,
            },
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self.raw = ""

    @property
    def text(self) -> str:
        """What was printed so far, without what only a terminal understands."""
        return CONTROL.sub("", self.raw)

    def forbid_the_background(self) -> None:
        """As `stty tostop` does: a process that writes without being in the foreground is stopped."""
        modes = termios.tcgetattr(self._end)
        modes[3] |= termios.TOSTOP
        termios.tcsetattr(self._end, termios.TCSANOW, modes)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def shows(self, text: str, *, after: int = 0) -> int:
        """Wait for `text` behind place `after` of what is printed; the place behind it. Raises `TimeoutError`."""
        deadline = time.monotonic() + DEADLINE
        while (found := self.text.find(text, after)) < 0:
            if time.monotonic() > deadline or not self._read(0.1):
                raise TimeoutError(f"{text!r} is not shown:\n{self.text}")
        return found + len(text)

    def ended(self) -> int:
        """Wait for its end and for all it printed; the exit status."""
        deadline = time.monotonic() + DEADLINE
        while self._read(0.1):
            if time.monotonic() > deadline:
                raise TimeoutError(f"it does not end:\n{self.text}")
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)

    def _read(self, wait: float) -> bool:
        """Take what is there, waiting a little for it; False once nothing can come any more."""
        if not select.select([self._end], [], [], wait)[0]:
            return True
        try:
            some = os.read(self._end, 65_536)
        except OSError:  # the other end is closed
            return False
        self.raw += some.decode(errors="replace")
        return bool(some)


@contextmanager
def on_terminal(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """`karafka ARGUMENTS` in `folder`, killed at the end if it still runs."""
    terminal = Terminal(folder, arguments, environment or {})
    try:
        yield terminal
    finally:
        terminal.close()
