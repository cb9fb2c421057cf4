"""The processes of a swarm as values: who bears which number, and when one hangs or is worn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from karafka.clock import NEVER
from karafka.lifecycle import Phase
from karafka.processes.reports import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a process is to be replaced. Seconds and bytes; infinity where there is no limit.

    `hang`: nothing was heard of it, or a listener's turn takes, so long. `handler`: a job runs so long. These two kill;
    past `age` and `memory` it is replaced in order.
    """

    hang: float = 60.0
    handler: float = NEVER
    age: float = NEVER
    memory: float = NEVER

    def hung(self, silent: float, report: Report) -> str | None:
        """Why a process that said nothing for `silent` seconds, and this before, is to be killed."""
        if silent > self.hang:
            return f"nothing was heard of it for {silent:.0f} s"
        if report.turn > self.hang:
            return f"a listener of it has not got on for {report.turn:.0f} s"
        if report.handler > self.handler:
            return f"a handler runs for {report.handler:.0f} s, longer than --max-handler-age"
        return None

    def worn(self, age: float, report: Report) -> str | None:
        """Why a process that was started `age` seconds ago is to be replaced."""
        if age > self.age:
            return f"it is {age:.0f} s old, more than --max-age"
        if report.memory > self.memory:
            return f"it takes {report.memory / 1e6:.0f} MB, more than --max-memory"
        return None


class Process(Protocol):
    """One of the processes; `child.Child` is one."""

    number: int
    pid: int
    report: Report

    @property
    def source(self) -> int | None: ...

    def hear(self) -> bool: ...

    def tell(self, command: str) -> None: ...

    def dump(self) -> None: ...

    def stacks(self) -> str: ...

    def kill(self) -> None: ...

    def status(self) -> int | None: ...

    def close(self) -> None: ...


@dataclass(eq=False, slots=True)
class Member:
    """A process that is there, and what is to become of it."""

    process: Process
    began: float
    heard: float
    #: Why it is to be replaced; nothing if it is not.
    outdated: str = ""
    #: Whether it was told to stop, and when.
    asked: bool = False
    asked_at: float = 0.0
    #: Why it is killed, and when.
    doom: str = ""
    kill_at: float = NEVER

    @property
    def runs(self) -> bool:
        return self.process.report.phase is not Phase.STARTING and not self.asked


@dataclass(eq=False, slots=True)
class Slot:
    """One number: who bears it; and the one before, while two do in the midst of a replacement."""

    number: int
    member: Member | None = None
    before: Member | None = None
    #: Whether the new one has to work before the one before is told to stop: it did.
    demanding: bool = False
    start_at: float = 0.0
    #: Deaths in a row, each soon after the start.
    failures: int = 0
    #: Whether the last one ended, before it worked, with the status of what is configured wrong.
    blamed: bool = False

    @property
    def members(self) -> list[Member]:
        return [one for one in (self.before, self.member) if one is not None]

    @property
    def steady(self) -> bool:
        """Whether one alone bears the number, and runs."""
        return self.before is None and self.member is not None and self.member.runs
