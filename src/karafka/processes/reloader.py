"""`karafka server --reload`: the process that starts the server again when a file of the app's has changed.

It never imports the app, so that a broken one cannot end it: each server is a fresh interpreter, started as this
process was. A pipe tells it to stop, and its end that this process is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from watchfiles import PythonFilter, watch

from karafka.errors import ConfigError
from karafka.processes.tether import VARIABLE
from karafka.server import SIGNALS, STOPS

# Milliseconds: between looks at the server; how long changes that come together are gathered.
LOOK = 100
GATHER = 200

# Whether a change matters, by a name within the folder: not where tools keep their own (.venv, .git, __pycache__).
_matters = PythonFilter(extra_extensions=(".env",))
_log = logging.getLogger("karafka")


class Reloader:
    """See the module. `run` on the main thread; it has the process to itself, and the server has the same terminal."""

    def __init__(self, command: Sequence[str], folder: str, broker: str = "") -> None:
        """The server is started by `command` in `folder`, where files are watched; `broker` is an embedded one's."""
        self._command = command
        self._folder = folder
        self._broker = broker
        self._server: subprocess.Popen[bytes] | None = None
        # Of the last one that ended.
        self._status = 0
        # Whether a server is to be started, as soon as none runs.
        self._wanted = True
        # Whether a signal asked for the end. Set by its handler.
        self._stopping = False
        # For all servers, one after the other; this process alone holds the end that is written to.
        self._end, self._held = os.pipe()

    def run(self) -> int:
        """Run until a signal asks for the end; the exit status, the server's. Raises `ConfigError`."""
        for number in SIGNALS:
            signal.signal(number, self._heard)
        _log.info("a change of a .py or .env file in %s restarts the server", self._folder)
        status: int | None = None
        # All changes: where those that do not matter never end, the server is to be looked at meanwhile.
        looks = watch(
            self._folder,
            watch_filter=None,
            debounce=GATHER,
            rust_timeout=LOOK,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        while status is None:
            try:
                changes = next(looks)
            except OSError as error:  # there are more folders than the system watches, say
                raise ConfigError(f"--reload cannot watch {self._folder}: {error}") from None
            names = {(change, os.path.relpath(path, self._folder)) for change, path in changes}
            status = self.step(sorted({name for change, name in names if _matters(change, name)}))
        looks.close()
        return status

    def step(self, changed: Sequence[str]) -> int | None:
        """One look: files that matter and were `changed` since the last one; the exit status when that is the end."""
        if changed and not self._wanted and not self._stopping:
            self._wanted = True
            others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            _log.info("%s%s changed: the server starts again", changed[0], others)
            if self._server is not None:
                self._server.terminate()
        if self._server is not None and self._server.poll() is not None:
            self._ended(self._server.returncode)
        if self._server is None and self._stopping:
            return self._status
        if self._server is None and self._wanted:
            self._wanted = False
            self._start()
        return None

    def _start(self) -> None:
        self._server = subprocess.Popen(  # noqa: S603 - the command is ours
            self._command,
            cwd=self._folder,
            env={**os.environ, VARIABLE: f"{self._end}:{self._broker}"},
            pass_fds=(self._end,),
        )

    def _ended(self, status: int) -> None:
        self._server = None
        # As a shell has it where a signal was the end.
        self._status = status if status >= 0 else 128 - status
        if not self._wanted and not self._stopping:
            said = f"status {status}" if status >= 0 else signal.Signals(-status).name
            _log.warning("the server has ended by itself (%s): a change starts it again", said)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if number in STOPS:
            self._stopping = True
            os.write(self._held, b".")
        elif self._server is not None:
            self._server.send_signal(number)
