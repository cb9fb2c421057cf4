"""The process that starts several servers and watches them: signals and reports in, orders out.

It consumes nothing itself. What is to be done decides `Swarm`; here is what waits: for signals, for what processes
say, for their ends, for whoever asks how they are.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from karafka.app import App
from karafka.clock import SystemClock
from karafka.errors import ConfigError
from karafka.events import StatusHidden
from karafka.lifecycle import Phase
from karafka.notify import notify
from karafka.processes import runtime
from karafka.processes.child import Child
from karafka.processes.members import Limits, Member, Slot
from karafka.processes.swarm import Swarm
from karafka.routing import Subscription
from karafka.server import STOPS, Server

SIGNALS = STOPS | {signal.SIGTSTP, signal.SIGTTIN, signal.SIGHUP, signal.SIGCHLD}
# How long whoever asks waits for processes that do not answer.
LOOK = 3.0
# Who says nothing for so long is shown to be silent.
SILENT = 5.0


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who asked how the processes are, for the `time`-th time, and is answered at `due` at the latest."""

    socket: socket.socket
    time: int
    due: float


class Supervisor:
    """See the module. `run` on the main thread; it has the process to itself."""

    def __init__(
        self,
        app: App,
        reading: Sequence[Subscription],
        size: int,
        command: Sequence[str],
        folder: str,
        limits: Limits,
        *,
        static: bool,
    ) -> None:
        """`size` processes that read `reading`, each by `command` in `folder`.

        Raises `ConfigError` for what cannot work, with one process or with several.
        """
        for one in Server(app, reading).subscriptions:
            if "group.instance.id" in app.kafka_for(one.kafka):
                raise ConfigError(
                    f"group {one.group!r} sets 'group.instance.id', which {size} processes cannot all bear: "
                    "leave it out, and give each its own with --static-membership"
                )
        self._app = app
        self._command = command
        self._folder = folder
        self._began = self._turned = monotonic()
        self._visitors: list[Visitor] = []
        self._visits = 0
        self._told = Phase.STARTING
        # Whether it was started in a terminal, and is to outlive it (nohup).
        self._terminal = _terminal()
        self._stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._swarm = Swarm(
            app.config.client_id,
            size,
            limits,
            spawn=self._spawn,
            events=app.events,
            clock=SystemClock(),
            static=static,
            timeout=app.config.shutdown_timeout,
        )

    @property
    def behind(self) -> float:
        """Seconds since it last looked after its processes. Any thread."""
        return monotonic() - self._turned

    def run(self) -> int:
        """Run until told to stop, or until it makes no sense; the exit status, the worst of the processes'."""
        with ExitStack() as stack:
            signals = stack.enter_context(_signals())
            door = self._opened(stack)
            while self._swarm.status is None:
                self._turned = monotonic()
                self._wait(self._swarm.turn(), signals, door)
                self._answer()
                self._notify()
                if os.getpid() == 1:
                    self._bury_strays()
            self._answer()
        return self._swarm.status

    def _spawn(self, number: int) -> Child:
        return Child(number, self._command, self._folder)

    def _wait(self, timeout: float, signals: socket.socket, door: socket.socket | None) -> None:
        """Until something happens, or `timeout` seconds; signals and visitors are dealt with."""
        poll = select.poll()
        sources = [signals.fileno(), *(one.process.source for one in self._swarm.members)]
        for source in sources if door is None else [*sources, door.fileno()]:
            if source is not None:
                poll.register(source, select.POLLIN)
        due = (visitor.due - monotonic() for visitor in self._visitors)
        ready = {source for source, _ in poll.poll(max(0.0, min([timeout, *due])) * 1_000)}
        if signals.fileno() in ready:
            for number in signals.recv(4_096):
                self._do(signal.Signals(number))
        if door is not None and door.fileno() in ready:
            self._greet(door)

    def _do(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGHUP if self._terminal and not _terminal():
                # Not somebody who wants a restart, but the terminal that was closed.
                if not self._stays:
                    self._swarm.stop("the terminal is gone")
            case signal.SIGHUP:
                self._swarm.restart()
            case signal.SIGTSTP:
                self._swarm.quiet(number.name)
            case signal.SIGTTIN:
                self._swarm.show_stacks()
            case _ if number in STOPS:
                self._swarm.stop(number.name)

    def _notify(self) -> None:
        """Tell whoever started us how far we are; once each."""
        phase = self._swarm.phase
        if self._told < Phase.RUNNING <= phase:
            notify("READY=1")
        if self._told < Phase.STOPPING <= phase:
            notify("STOPPING=1")
        self._told = phase

    def _bury_strays(self) -> None:
        """Process 1 of a container inherits the children of those that died, and has to see to their ends."""
        mine = {one.process.pid for one in self._swarm.members}
        with suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid in mine:
                    return  # its turn will come
                os.waitpid(ended.si_pid, 0)

    # ── whoever asks how they are ────────────────────────────────────────────────────────────────────────────

    def _opened(self, stack: ExitStack) -> socket.socket | None:
        try:
            return stack.enter_context(runtime.opened())
        except OSError as error:
            self._app.events.tell(StatusHidden(reason=str(error)))
            return None

    def _greet(self, door: socket.socket) -> None:
        with suppress(BlockingIOError):
            visitor, _ = door.accept()
            self._visits += 1
            self._visitors.append(Visitor(visitor, self._visits, monotonic() + LOOK))
            for member in self._swarm.members:
                member.process.tell(f"look {self._visits}")

    def _answer(self) -> None:
        """Answer those whose question all processes have answered, or who have waited long enough."""
        now = monotonic()
        for visitor in list(self._visitors):
            waits = any(one.runs and one.process.report.looked < visitor.time for one in self._swarm.members)
            if not waits or now >= visitor.due or self._swarm.status is not None:
                self._visitors.remove(visitor)
                with visitor.socket, suppress(OSError):
                    visitor.socket.settimeout(LOOK)
                    visitor.socket.sendall(json.dumps(self._status(now)).encode())

    def _status(self, now: float) -> dict[str, Any]:
        return {
            "client_id": self._swarm.client_id,
            "pid": os.getpid(),
            "state": self._swarm.phase.name.lower(),
            "uptime": now - self._began,
            "processes": [row for slot in self._swarm.slots for row in _rows(slot, now)],
        }


def _rows(slot: Slot, now: float) -> list[dict[str, Any]]:
    """How those are that bear a number; if none does, that it is waited for."""
    if not slot.members:
        return [{"process": slot.number, "pid": None, "state": "waiting"}]
    return [_row(slot.number, member, now) for member in slot.members]


def _row(number: int, member: Member, now: float) -> dict[str, Any]:
    report = member.process.report
    state = "stopping" if member.asked else report.phase.name.lower()
    return {
        "process": number,
        "pid": member.process.pid,
        "state": "silent" if now - member.heard > SILENT else state,
        "uptime": now - member.began,
        "partitions": report.partitions,
        "lag": report.lag,
        "rate": report.rate,
        "memory": report.memory,
        "handler": report.handler,
        "oldest": report.oldest,
    }


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Signals as bytes of their numbers, in a socket.

    Afterwards they are ignored, which the interpreter leaves as it is: one that comes while it ends, with all said and
    done, changes the exit status no more.
    """
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.setblocking(False)
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _heard)
        # The processes inherit it: they write in the terminal's background, where `stty tostop` would stop them.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            yield mine
        finally:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS - {signal.SIGCHLD}:
                signal.signal(number, signal.SIG_IGN)


def _heard(_number: int, _frame: object) -> None:
    """Its byte is in the socket already."""


def _terminal() -> bool:
    """Whether this process has a terminal that may be closed over it."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
