"""A process that is one of several, and its supervisor: this end of the socket that both keep.

It reports twice a second, does as it is told, and stops in order when its supervisor is gone. What it is told it makes
signals of, to itself: one way for everybody to stop a server.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Lock, Thread, main_thread
from time import monotonic, sleep

from karafka import mapped
from karafka.confluent import ConfluentTopics
from karafka.errors import BrokerError
from karafka.events import SupervisorGone
from karafka.lifecycle import Phase
from karafka.messages import Place
from karafka.processes.reports import Account, Report, memory
from karafka.server import GRACE, LAST_FLUSH, Server
from karafka.stacks import all_stacks

# Which of several processes this is, and its ends of the socket and of the stacks' file: "2:5:6".
VARIABLE = "KARAFKA_PROCESS"
# Seconds between reports.
INTERVAL = 0.5
# How long brokers may take to say where partitions end.
ENDS_TIMEOUT = 2.0
# On which the interpreter itself writes all stacks, whatever holds the GIL. Ignored where nobody asked for it.
STACKS = signal.SIGURG


_log = logging.getLogger("karafka")


class Link(Thread):
    """See the module. Started before the app is imported, so that a supervisor is not waited for in vain."""

    def __init__(self, place: str) -> None:
        """`place`: what the supervisor has put into the environment."""
        super().__init__(name="karafka-link", daemon=True)
        number, end, stacks = map(int, place.split(":"))
        #: Which of them this process is, from 1.
        self.number = number
        for inherited in (end, stacks):
            os.set_inheritable(inherited, False)
        self._socket = socket.socket(fileno=end)
        self._sending = Lock()
        self._server: Server | None = None
        self._account: Account | None = None
        self._looking = Lock()
        self._topics: dict[int, ConfluentTopics] = {}
        # To be quiet, if there is no server yet as soon as there is one.
        self._hush = False
        # A second stop: until the first one is over, or the process.
        self._hurry = False
        faulthandler.register(STACKS, file=stacks, all_threads=True)

    def attach(self, server: Server) -> None:
        """From here on reports are of `server`."""
        self._account = Account(server.app.events)
        self._server = server
        self._quiet()

    def instance(self, client_id: str) -> str:
        """The name of this process in its groups, which whoever takes its place bears too."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{client_id}-{socket.gethostname()}")
        return f"{name[:200]}-{self.number}"

    def say(self) -> None:
        """Report now. Any thread; whether anybody hears it is seen elsewhere."""
        with self._sending, suppress(OSError):
            self._socket.sendall(self._report().line())

    def _report(self) -> Report:
        if self._server is None or self._account is None:
            return Report(memory=memory())
        return self._account.report(monotonic(), self._server.ages)

    # ── its thread ───────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        said, due = b"", 0.0
        while True:
            if monotonic() >= due:
                due = monotonic() + INTERVAL
                self._turn()
            if not poll.poll(max(0.0, due - monotonic()) * 1_000):
                continue
            try:
                heard = self._socket.recv(4096)
            except OSError:
                heard = b""
            if not heard:
                break
            *lines, said = (said + heard).split(b"\n")
            for line in lines:
                self._do(line.decode())
        self._leave()

    def _turn(self) -> None:
        self.say()
        if self._hurry and self._phase is Phase.STOPPING:
            # Again and again: one at the heels of the first is taken for its echo.
            raised(signal.SIGTERM)

    @property
    def _phase(self) -> Phase:
        return self._account.phase if self._account is not None else Phase.STARTING

    def _do(self, command: str) -> None:
        match command.split():
            case ["stop"]:
                # Whoever told the supervisor may have told this process too: it stops once.
                self._stop()
            case ["hurry"]:
                self._hurry = True
                self._stop()
            case ["quiet"]:
                self._hush = True
                self._quiet()
            case ["stacks"]:
                if self._phase is Phase.STARTING:
                    _log.warning("stacks of all threads:\n%s", all_stacks())
                else:
                    raised(signal.SIGTTIN)
            case ["look", time]:
                Thread(target=self._look, args=(int(time),), name="karafka-lag", daemon=True).start()

    def _quiet(self) -> None:
        if self._hush and self._server is not None:
            self._server.quiet("SIGTSTP")

    def _stop(self) -> None:
        if self._phase < Phase.STOPPING:
            raised(signal.SIGTERM)

    def _leave(self) -> None:
        """The supervisor is gone: stop in order, and, whatever hangs, end."""
        patience = GRACE + LAST_FLUSH
        if self._server is not None:
            patience += self._server.app.config.shutdown_timeout
            if self._phase < Phase.STOPPING:
                said = "the supervisor of this process is gone: it stops in order"
                self._server.app.events.tell(SupervisorGone(error=said))
        self._stop()
        sleep(patience)
        raised(signal.SIGKILL)

    # ── lag: asked for by `karafka status` alone ─────────────────────────────────────────────────────────────

    def _look(self, time: int) -> None:
        if self._account is not None:
            with self._looking, suppress(BrokerError):
                self._account.look(self._ends, time)
        self.say()

    def _ends(self, group: str, places: Sequence[Place]) -> Mapping[Place, int]:
        ends: dict[Place, int] = {}
        for one in self._server.subscriptions if self._server is not None else ():
            # A group may read several clusters, a listener each.
            mine = [place for place in places if one.group == group and one.route_for(place.topic) is not None]
            if self._server is not None and mine:
                if id(one) not in self._topics:
                    app = self._server.app
                    self._topics[id(one)] = mapped.topics(app.kafka_for(one.kafka), app.names)
                ends |= self._topics[id(one)].ends(mine, ENDS_TIMEOUT)
        return ends


def raised(number: signal.Signals) -> None:
    """Raise a signal in this process. Any thread."""
    # To the main thread itself: on another one it would wait for whatever call the main thread is in.
    signal.pthread_kill(main_thread().ident or 0, number)
