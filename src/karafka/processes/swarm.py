"""Which of several processes are to be started, replaced, stopped or killed, and when.

Each has its number. In each turn what is there is compared with what should be there, and one step is made for each
number. Nothing here does more than tell processes what to do: they are started by `spawn`, time is a clock's.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TypeAlias

from karafka import events as told
from karafka.clock import NEVER, Clock
from karafka.events import Events
from karafka.lifecycle import Phase
from karafka.policy import Backoff
from karafka.processes.members import Limits, Member, Process, Slot
from karafka.server import DIED, ECHO, GRACE, HURRY, LAST_FLUSH, STOPPED, TIMED_OUT
from karafka.troubles import MISCONFIGURED

# Who dies sooner is not replaced at once, but after a delay that grows.
YOUNG = 10.0
DELAYS = Backoff(1, 30, jitter=0)
# Seconds past the time-out, or past a second signal, after which a process that still is there is killed.
LATE = GRACE + LAST_FLUSH + 5.0
LATE_HURRIED = HURRY + 4.0
# How long a process that is to be killed has to write its stacks.
LAST_WORDS = 0.5
# Seconds between looks at what nobody tells, at most.
TICK = 1.0
# How long partitions may be on their way, after a replacement, before the next.
SETTLE = 10.0
# Who was not looked at for so long could not be heard either: this process stood still.
BLIND = 5.0
# The worst first.
WORST = (MISCONFIGURED, DIED, TIMED_OUT)

# Why a process is replaced that is not worn.
RESTART = "SIGHUP"


Spawn: TypeAlias = Callable[[int], Process]


class Swarm:
    """See the module. `turn` again and again, after whatever happened. One thread's alone.

    `static`: each number has a name of its own in the groups, so that one process must have ended before the next may
    bear it. `timeout`: seconds that work may go on after a stop.
    """

    def __init__(
        self,
        client_id: str,
        size: int,
        limits: Limits,
        *,
        spawn: Spawn,
        events: Events,
        clock: Clock,
        static: bool,
        timeout: float,
    ) -> None:
        self.client_id = client_id
        self.slots = [Slot(number) for number in range(1, size + 1)]
        #: The exit status, once all have ended.
        self.status: int | None = None
        self._limits = limits
        self._spawn = spawn
        self._events = events
        self._clock = clock
        self._static = static
        self._timeout = timeout
        self._looked = clock.monotonic()
        # Whether all ran at once by now; whether any ever worked.
        self._started = self._worked = False
        # The number that is being replaced, one at a time; since when all are to be, because somebody said so.
        self._replacing: Slot | None = None
        # How many partitions all had before; since when the new one works.
        self._holding, self._proved_at = 0, NEVER
        self._restart_since: float | None = None
        # Why they are to be quiet, and whether they are.
        self._quiet = ""
        self._hushed = False
        self._stop_since: float | None = None
        self._statuses: list[int] = []

    @property
    def members(self) -> list[Member]:
        return [member for slot in self.slots for member in slot.members]

    @property
    def _held(self) -> int:
        """How many partitions they have, all together."""
        return sum(member.process.report.partitions for member in self.members)

    @property
    def phase(self) -> Phase:
        if self._stop_since is not None:
            return Phase.STOPPING
        if self._quiet:
            return Phase.QUIET
        return Phase.RUNNING if self._started else Phase.STARTING

    # ── what people ask for ──────────────────────────────────────────────────────────────────────────────────

    def restart(self) -> None:
        """Replace all that are there now, one after the other; whoever waits to be started is started at once."""
        if self.phase > Phase.RUNNING:
            said = "what is quiet or stops is not started again"
            self._events.tell(told.RestartGivenUp(error=said))
            return
        self._restart_since = self._clock.monotonic()
        for slot in self.slots:
            slot.failures, slot.start_at = 0, 0.0
            for member in slot.members:
                member.outdated = RESTART

    def quiet(self, reason: str) -> None:
        """Have all take nothing new, and keep their partitions. None is started any more."""
        if self._quiet or self._stop_since is not None:
            return
        self._quiet = reason
        self._replacing = self._restart_since = None
        for member in self.members:
            member.process.tell("quiet")

    def stop(self, reason: str) -> None:
        """Have all stop, side by side; asked again, do not wait for work. What is asked twice at once is asked once."""
        now = self._clock.monotonic()
        if self._stop_since is None:
            self._stop(reason, now)
        elif now - self._stop_since > ECHO:
            for member in self.members:
                member.process.tell("hurry")
                member.kill_at = min(member.kill_at, now + LATE_HURRIED)

    def show_stacks(self) -> None:
        """Have all tell where they stand."""
        for member in self.members:
            member.process.tell("stacks")

    # ── its turn ─────────────────────────────────────────────────────────────────────────────────────────────

    def turn(self) -> float:
        """Do what is to be done now; in how many seconds again, if nothing happens before."""
        now = self._clock.monotonic()
        blind = now - self._looked > BLIND
        self._looked = now
        for slot in self.slots:
            for member in slot.members:
                if member.process.hear() or blind:
                    member.heard = now
                self._look_at(slot, member, now)
        if self._stop_since is not None:
            self._await_all()
        elif self._quiet:
            self._hush(now)
        else:
            for slot in self.slots:
                if slot.member is None and slot.start_at <= now:
                    self._start(slot, now)
            self._replace(now)
            self._tell_started()
        return self._patience(now)

    def _look_at(self, slot: Slot, member: Member, now: float) -> None:
        status = member.process.status()
        self._worked = self._worked or member.process.report.works
        if status is not None:
            self._ended(slot, member, status, now)
        elif member.kill_at <= now:
            if member.doom:
                self._kill(member)
            else:
                self._doom(member, f"it has not stopped within {now - member.asked_at:.0f} s", now)
        elif not member.doom and (why := self._limits.hung(now - member.heard, member.process.report)):
            self._doom(member, why, now)
        elif member.runs and not member.outdated:
            member.outdated = self._limits.worn(now - member.began, member.process.report) or ""
            if member.outdated:
                # One that is worn as soon as it runs would be replaced for ever, without a pause.
                self._count(slot, now - member.began < YOUNG, now)

    def _patience(self, now: float) -> float:
        due = [member.kill_at for member in self.members]
        due += [slot.start_at for slot in self.slots if slot.member is None and self.phase <= Phase.RUNNING]
        return max(0.0, min(TICK, *(one - now for one in due))) if due else TICK

    # ── starting and replacing ───────────────────────────────────────────────────────────────────────────────

    def _start(self, slot: Slot, now: float) -> bool:
        try:
            process = self._spawn(slot.number)
        except OSError as error:
            delay = self._count(slot, True, now)
            said = f"cannot be started: {error}; tried again in {delay:g} s"
            self._events.tell(told.ProcessDied(process=slot.number, pid=None, status=None, after=delay, error=said))
            return False
        slot.member = Member(process, began=now, heard=now)
        self._events.tell(told.ProcessStarted(process=slot.number, pid=process.pid))
        return True

    def _tell_started(self) -> None:
        if not self._started and all(slot.steady for slot in self.slots):
            self._started = True
            self._events.tell(told.SwarmStarted(client_id=self.client_id, processes=len(self.slots)))

    def _replace(self, now: float) -> None:
        """One at a time, and the next only when the one before works."""
        if self._replacing is not None and self._replaced(self._replacing, now):
            self._replacing = None
        if self._replacing is not None or not all(slot.steady for slot in self.slots):
            return
        slot = next((one for one in self.slots if one.member is not None and one.member.outdated), None)
        if slot is not None and slot.start_at <= now:
            self._begin_to_replace(slot, now)
        elif slot is None and self._restart_since is not None:
            self._events.tell(told.SwarmRestarted(waited=now - self._restart_since))
            self._restart_since = None

    def _begin_to_replace(self, slot: Slot, now: float) -> None:
        member = slot.member
        assert member is not None  # noqa: S101 - all are steady
        self._replacing, slot.demanding = slot, member.process.report.works
        self._holding, self._proved_at = self._held, NEVER
        self._events.tell(told.ProcessOutdated(process=slot.number, pid=member.process.pid, reason=member.outdated))
        if self._static:
            self._ask(member, now)
        else:
            # The next one first: should it not work, nothing is lost.
            slot.before, slot.member = member, None
            if not self._start(slot, now):
                self._fall_back(slot, "no process can be started")

    def _replaced(self, slot: Slot, now: float) -> bool:
        """Whether the new one of `slot` has proved itself, and the one before is gone; see to it."""
        member, before = slot.member, slot.before
        proved = member is not None and member.runs and (member.process.report.works or not slot.demanding)
        if before is not None and not before.asked:
            if member is not None and member.outdated == RESTART:
                self._ask(member, now)  # it was overtaken by another restart
            elif proved:
                self._ask(before, now)
        if not proved or slot.before is not None:
            return False
        # What the one before had is on its way to somebody here; or to another machine, of which nobody tells.
        self._proved_at = min(self._proved_at, now)
        return self._held >= self._holding or now - self._proved_at > SETTLE

    def _fall_back(self, slot: Slot, why: str) -> None:
        """The new one of `slot` did not come to work: a restart goes no further."""
        if slot.member is None:
            slot.member, slot.before = slot.before, None
        self._replacing = None
        if self._restart_since is not None:
            self._restart_since = None
            for member in self.members:
                if member.outdated == RESTART:
                    member.outdated = ""
            said = f"{why}: what is not replaced yet goes on as it is"
            self._events.tell(told.RestartGivenUp(error=said))

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, member: Member, now: float) -> None:
        """Have it stop; when it takes too long it is killed."""
        if not member.asked:
            member.asked, member.asked_at = True, now
            member.kill_at = min(member.kill_at, now + self._timeout + LATE)
            member.process.tell("stop")

    def _doom(self, member: Member, why: str, now: float) -> None:
        member.doom, member.kill_at = why, now + LAST_WORDS
        member.process.dump()

    def _kill(self, member: Member) -> None:
        member.kill_at = NEVER
        process = member.process
        self._events.tell(
            told.ProcessHung(process=process.number, pid=process.pid, error=member.doom, stacks=process.stacks())
        )
        process.kill()

    def _ended(self, slot: Slot, member: Member, status: int, now: float) -> None:
        process = member.process
        process.hear()  # its last words
        process.close()
        new = member is slot.member
        if new:
            slot.member, slot.before = slot.before, None  # the one before goes on, if there is one
        else:
            slot.before = None
        if self._stop_since is not None:
            self._statuses.append(_counted(member, status))
        if member.asked:
            self._events.tell(told.ProcessEnded(process=slot.number, pid=process.pid, status=status))
        else:
            self._died(slot, member, status, now, new=new)

    def _died(self, slot: Slot, member: Member, status: int, now: float, *, new: bool) -> None:
        works, lived = member.process.report.works, now - member.began
        slot.blamed = status == MISCONFIGURED and not works
        delay: float | None = self._count(slot, lived < YOUNG or slot.blamed, now)
        hopeless = self.phase <= Phase.RUNNING and slot.blamed and self._hopeless
        if hopeless or self.phase > Phase.RUNNING or slot.member is not None:
            delay = None
        said = f"(pid {member.process.pid}) {_how(status)} after {lived:.1f} s"
        if delay is not None:
            said += f"; another takes its place {f'in {delay:g} s' if delay else 'at once'}"
        self._events.tell(
            told.ProcessDied(process=slot.number, pid=member.process.pid, status=status, after=delay, error=said)
        )
        if hopeless:
            self._statuses.append(MISCONFIGURED)
            self._stop("what is configured cannot work", now)
        elif slot is self._replacing and new and not works:
            self._fall_back(slot, f"the new process {slot.number} {_how(status)} before it worked")

    @property
    def _hopeless(self) -> bool:
        """Whether starting others cannot help, as far as can be known: none works, and none ever did or will."""
        working = any(member.process.report.works for member in self.members)
        return not working and (not self._worked or all(slot.blamed for slot in self.slots))

    def _count(self, slot: Slot, young: bool, now: float) -> float:  # noqa: FBT001 - what it counts
        """Seconds until `slot` may be filled anew: none, unless the one before was `young`."""
        slot.failures = slot.failures + 1 if young else 0
        delay = DELAYS.delay(slot.failures) if young else 0.0
        slot.start_at = now + delay
        return delay

    def _hush(self, now: float) -> None:
        members = self.members
        if not members:
            self._stop("none is left", now)
        elif not self._hushed and all(one.process.report.phase >= Phase.QUIET for one in members):
            self._hushed = True
            self._events.tell(told.SwarmQuiet(reason=self._quiet))

    def _stop(self, reason: str, now: float) -> None:
        self._stop_since = now
        self._events.tell(told.SwarmStopping(reason=reason, timeout=self._timeout))
        for member in self.members:
            self._ask(member, now)

    def _await_all(self) -> None:
        if self.status is None and not self.members:
            self.status = min(self._statuses, key=_rank, default=STOPPED)
            self._events.tell(told.SwarmStopped(status=self.status))


def _rank(status: int) -> int:
    """The worst is the lowest; what user code asked for stands between those and a clean end."""
    if status in WORST:
        return WORST.index(status)
    return len(WORST) if status else len(WORST) + 1


def _counted(member: Member, status: int) -> int:
    """What the end of a process that was to stop adds to the supervisor's own exit status."""
    if member.doom:
        return TIMED_OUT
    if status == -signal.SIGTERM and member.process.report.phase is Phase.STARTING:
        return STOPPED  # before it could take a signal there was nothing to end in order
    return DIED if status < 0 else status


def _how(status: int) -> str:
    return f"ended with status {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"
