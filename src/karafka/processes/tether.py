"""A server that is started again when files change, and the process that does so: this end of the pipe between them.

Each byte in it says to stop. Its end says that the other process is gone, however that ended: then the server stops in
order, too.
"""

from __future__ import annotations

import os
import sys
from signal import SIGKILL, SIGTERM
from threading import Thread
from time import sleep

from karafka.events import SupervisorGone
from karafka.lifecycle import Phase
from karafka.processes.link import raised
from karafka.server import GRACE, LAST_FLUSH, Server

# The end of the pipe, and the address of the embedded broker, if there is one: "5:127.0.0.1:4711".
VARIABLE = "KARAFKA_RELOADED"


class Tether(Thread):
    """See the module. Started before the app is imported, so that nothing is left behind whatever that does."""

    def __init__(self, place: str) -> None:
        """`place`: what stands in the environment."""
        super().__init__(name="karafka-tether", daemon=True)
        end, _, self.broker = place.partition(":")
        self._end = int(end)
        self._server: Server | None = None
        self._told = 0
        os.set_inheritable(self._end, False)
        # Of a file that is changed twice in a second, at the same length, the interpreter would find the first
        # version's compiled code and take it for the second's.
        sys.dont_write_bytecode = True

    def attach(self, server: Server) -> None:
        """From here on it is `server` that is to stop."""
        self._server = server

    def run(self) -> None:
        while os.read(self._end, 1):
            self._told += 1
            # A Ctrl-C in the terminal told the server too, maybe long since: it stops once. A second one means it.
            if self._told > 1 or self._server is None or self._server.phase < Phase.STOPPING:
                raised(SIGTERM)
        self._leave()

    def _leave(self) -> None:
        patience = GRACE + LAST_FLUSH
        if self._server is not None:
            patience += self._server.app.config.shutdown_timeout
            said = "karafka server --reload, which started this process, is gone: it stops in order"
            self._server.app.events.tell(SupervisorGone(error=said))
        raised(SIGTERM)
        sleep(patience)
        raised(SIGKILL)
