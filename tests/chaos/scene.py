"""What faults act on: the broker, the members of the group, and the record of who was struck when."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from signal import SIGTERM
from typing import Self

from tests.chaos.broker import Broker
from tests.chaos.journal import Entry, Tail
from tests.chaos.ledger import Life, Reach, Strike
from tests.chaos.members import NOT_OURS, OURS, PROTOCOLS, VARIANTS, Consumer, Member, Protocol, started
from tests.chaos.messages import Order

# Milliseconds: a member is missed, or has polled too seldom, after so long.
SESSION = 6_000
# Seconds: what a revocation waits for; below the poll limit, after which the group goes on without its member.
DRAIN = 3.0
# Seconds that a message may still take when its server stops: more than any takes; less than the slow ones do.
PATIENT, HASTY = 20.0, 2.0
# How often a member commits; short, or repeats of what should have been committed could not be told from the others.
COMMIT_INTERVAL = 0.25


@dataclass(frozen=True, slots=True)
class Until:
    """Something that a fault waits for, seconds at most."""

    true: Callable[[], bool]
    wish: str
    timeout: float = 60.0


@dataclass(eq=False, slots=True)
class Seat:
    """A place in the group that is always filled: who is gone is replaced. `name`: a static member's, or none."""

    number: int
    name: str
    hasty: bool
    member: Member
    #: Whether a fault is at it.
    taken: bool = False


class Scene:
    """See the module. The run's thread alone."""

    def __init__(
        self,
        broker: Broker,
        *,
        topic: str,
        grave: str,
        group: str,
        folder: Path,
        protocol: Protocol,
        variants: tuple[str, ...],
        order: Order,
        chance: Random,
    ) -> None:
        self.broker = broker
        self.topic, self.grave, self.group = topic, grave, group
        self.folder = folder
        self.journal = folder / "journal"
        self.tail = Tail(self.journal, keep=False)
        self.seats: list[Seat] = []
        self.lives: list[Life] = []
        self.strikes: list[Strike] = []
        self.unclean: list[str] = []
        self._protocol: Protocol = protocol
        self._variants = variants or VARIANTS
        self._order: Order = order
        self._chance = chance
        self._born = 0
        self._working: set[int] = set()
        self._in_hand: dict[int, set[tuple[int, int]]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def now() -> float:
        return time.time()

    # ── who is there ─────────────────────────────────────────────────────────────────────────────────────────

    def seat(self, name: str, *, hasty: bool) -> None:
        """One more place, filled at once."""
        seat = Seat(len(self.seats), name, hasty, self._start(name, self._variants, hasty=hasty))
        self.seats.append(seat)

    def fill(self, seat: Seat) -> None:
        """Somebody new in it."""
        seat.member = self._start(seat.name, self._variants, hasty=seat.hasty)

    def guest(self, chance: Random) -> Member:
        """A server of ours beside those in their seats."""
        return self._start("", (chance.choice(self._variants),), hasty=False)

    def stranger(self) -> Member:
        """A member that is not ours; it polls too seldom for our limit while it waits to bury."""
        return self._run(self._told("", "foreign", hasty=False, limit=60_000), NOT_OURS)

    def _start(self, name: str, variants: tuple[str, ...], *, hasty: bool) -> Member:
        return self._run(self._told(name, self._chance.choice(variants), hasty=hasty, limit=SESSION), OURS)

    def _told(self, name: str, variant: str, *, hasty: bool, limit: int) -> Consumer:
        kafka: dict[str, str | int] = {**PROTOCOLS[self._protocol], "max.poll.interval.ms": limit}
        if self._protocol != "consumer":
            kafka |= {"session.timeout.ms": SESSION, "heartbeat.interval.ms": 500}
        if name:
            kafka["group.instance.id"] = name
        self._born += 1
        return Consumer(
            bootstrap=self.broker.bootstrap,
            topic=self.topic,
            group=self.group,
            journal=str(self.journal),
            life=self._born - 1,
            kafka=kafka,
            variant=variant,
            order=self._order,
            grave=self.grave,
            commit_interval=COMMIT_INTERVAL,
            drain_timeout=DRAIN,
            shutdown_timeout=HASTY if hasty else PATIENT,
        )

    def _run(self, told: Consumer, program: tuple[str, ...]) -> Member:
        return self._stack.enter_context(started(told, program, self.folder / f"life-{told.life}.log"))

    # ── what they do ─────────────────────────────────────────────────────────────────────────────────────────

    def read(self) -> list[Entry]:
        """Take in what members wrote, and return it; who of the seated has ended by itself is noted, and replaced."""
        new = self.tail.read()
        for entry in new:
            hand = self._in_hand.setdefault(entry.life, set())
            if entry.kind == "begun":
                hand.add((entry.partition, entry.sequence))
            elif entry.kind == "performed":
                hand.discard((entry.partition, entry.sequence))
                self._working.add(entry.life)
        for seat in self.seats:
            if not seat.taken and seat.member.status is not None:
                self.ended(seat.member, self.now(), frozenset())
                self.fill(seat)
        return new

    def works(self, member: Member) -> bool:
        """Whether it has performed anything, or never will."""
        return member.life in self._working or member.status is not None

    def busy(self, member: Member) -> bool:
        """Whether it has a slow message in hand."""
        return bool(self._in_hand.get(member.life))

    # ── the record ───────────────────────────────────────────────────────────────────────────────────────────

    def strike(self, fault: str, reach: Reach, life: int | None = None) -> Strike:
        """A fault begins; who makes it says when it is over."""
        strike = Strike(fault, reach, self.now(), life=life)
        self.strikes.append(strike)
        return strike

    def kill(self, member: Member, fault: str) -> None:
        """Kill it with -9; one that was told to stop may have been quicker."""
        status = member.status
        if status is None:
            self.strike(fault, "life", member.life).over = self.now()
            member.kill()
            self._died(member, clean=False)
        else:
            self.ended(member, self.now(), {0})

    def ended(self, member: Member, since: float, expected: AbstractSet[int]) -> None:
        """It has ended by itself, asked to at `since`: with a status as expected, or what it said last is kept.

        While the broker or the dead letter topic was away more may be left undone than the time-out allows: status 2.
        `expected` is empty for one that nobody asked to end.
        """
        status = member.status
        excused = {2} if self._away(since) else set[int]()
        if member.life not in self._in_hand:
            excused.add(-SIGTERM)  # it was told to stop before it could hear that
        clean = bool(expected) and status in expected | excused
        if status is None:
            member.kill()
        if not clean:
            self.unclean.append(
                f"life {member.life} ({member.told.variant}) ended with status {status}, not "
                f"{' or '.join(map(str, sorted(expected))) or 'at all'}\n{member.last_words}"
            )
        self._died(member, clean=clean)

    def _away(self, since: float) -> bool:
        return any(one.reach in {"all", "burials"} and one.over >= since for one in self.strikes)

    def _died(self, member: Member, *, clean: bool) -> None:
        self.lives.append(Life(member.life, member.told.variant, self.now(), clean))
