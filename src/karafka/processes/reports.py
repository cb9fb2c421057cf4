"""What a process says of itself: a `Report`, and the `Account` of what it does that reports are made from."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeAlias

from karafka import events as told
from karafka.events import Event, Events
from karafka.lifecycle import Phase
from karafka.messages import Place

# Seconds over which messages are counted for their rate.
WINDOW = 10.0
PHASES: Mapping[type[Event], Phase] = {
    told.ServerStarted: Phase.RUNNING,
    told.ServerQuiet: Phase.QUIET,
    told.ServerStopping: Phase.STOPPING,
    told.ServerStopped: Phase.STOPPED,
}
MOVES = (told.Assigned, told.Revoked, told.Lost, told.Sought, told.Performed, told.Committed)

# A partition as one group reads it.
Read: TypeAlias = tuple[str, Place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a process gets on. Seconds and bytes; counts of partitions and messages.

    `works`: whether each of its groups has given it its share at least once, even if that was nothing. `turn`: how long
    the oldest turn of a listener takes by now, `handler`: the job that runs longest, `oldest`: for how long a message
    that is not finished holds up the offset of its partition; 0 for none. `rate`: messages finished in a second. `lag`:
    messages not yet finished when that was `looked` up, for the so-many-th time.
    """

    phase: Phase = Phase.STARTING
    works: bool = False
    partitions: int = 0
    rate: float = 0.0
    memory: int = 0
    turn: float = 0.0
    handler: float = 0.0
    oldest: float = 0.0
    lag: int | None = None
    looked: int = 0

    def line(self) -> bytes:
        """As it goes over the wire."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Report:
        """Raises `ValueError` for what is none."""
        try:
            values = json.loads(line)
            return cls(**values | {"phase": Phase(values["phase"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"no report: {line!r}") from error


class Ends(Protocol):
    """Who knows where the partitions of a group end."""

    def __call__(self, group: str, places: Sequence[Place]) -> Mapping[Place, int]: ...


class Account:
    """Hears what its app tells, and makes reports of it. Any thread: listeners tell, another asks."""

    def __init__(self, events: Events) -> None:
        self._lock = Lock()
        self._phase = Phase.STARTING
        self._groups: frozenset[str] | None = None
        self._assigned: set[str] = set()
        self._positions: dict[Read, int] = {}
        self._performed = 0
        self._past: deque[tuple[float, int]] = deque()
        self._lag: int | None = None
        self._looked = 0
        kinds: tuple[type[Event], ...] = (*PHASES, *MOVES)
        for kind in kinds:
            events.on(kind, self)

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._phase = max(self._phase, PHASES.get(type(event), self._phase))
            match event:
                case told.ServerStarted():
                    self._groups = frozenset(event.groups)
                case told.Assigned():
                    self._assigned.add(event.group)
                    self._put(event.group, event.starts)
                case told.Revoked():
                    self._drop(event.group, event.positions)
                case told.Lost():
                    self._drop(event.group, event.places)
                case told.Sought():
                    self._put(event.group, {(event.topic, event.partition): event.offset})
                case told.Performed():
                    self._performed += event.count
                    self._put(event.group, {(event.topic, event.partition): event.position}, only_owned=True)
                case told.Committed():
                    self._put(event.group, event.offsets, only_owned=True)

    def _put(self, group: str, offsets: Mapping[tuple[str, int], int], *, only_owned: bool = False) -> None:
        for place, offset in offsets.items():
            read = (group, Place(*place))
            # What comes late, of one that went, is not ours any more.
            if not only_owned or read in self._positions:
                self._positions[read] = offset

    def _drop(self, group: str, places: Mapping[tuple[str, int], int] | Sequence[tuple[str, int]]) -> None:
        for place in places:
            self._positions.pop((group, Place(*place)), None)

    @property
    def phase(self) -> Phase:
        return self._phase

    def report(self, now: float, ages: tuple[float, float, float]) -> Report:
        """`ages`: see `Server.ages`. Asked by one thread."""
        turn, handler, oldest = ages
        with self._lock:
            self._past.append((now, self._performed))
            while len(self._past) > 1 and self._past[1][0] <= now - WINDOW:
                self._past.popleft()
            since, before = self._past[0]
            return Report(
                phase=self._phase,
                works=self._groups is not None and self._groups <= self._assigned,
                partitions=len(self._positions),
                rate=(self._performed - before) / (now - since) if now > since else 0.0,
                memory=memory(),
                turn=turn,
                handler=handler,
                oldest=oldest,
                lag=self._lag,
                looked=self._looked,
            )

    def look(self, ends: Ends, time: int) -> None:
        """Look up the lag, for the `time`-th time. Raises `BrokerError`, and knows no lag then."""
        with self._lock:
            positions = dict(self._positions)
        lag: int | None = None
        try:
            lag = sum(
                max(0, end - positions[group, place])
                for group in {group for group, _ in positions}
                for place, end in ends(group, [place for of, place in positions if of == group]).items()
            )
        finally:
            with self._lock:
                self._lag, self._looked = lag, time


def memory() -> int:
    """Bytes of this process that are in memory; where the system does not say so, at its peak."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
