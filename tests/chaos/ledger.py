"""What was sent, what was performed, and what that says about the promises: values and pure functions.

A *life* is one server process, numbered from 0. A performance is *repeated* when the same message is performed again
in a later life, which is right only for what a kill left uncommitted: the last moments of the life before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

# A commit may be on its way for so long, on a busy machine, before the broker has it; so long may a batch take.
ON_ITS_WAY = 0.75


@dataclass(frozen=True, slots=True)
class Numbered:
    """The payload: the `sequence`-th message of its partition, from 0."""

    sequence: int


class Line(NamedTuple):
    """One performance, as its line in the file has it. `at`: the machine's monotonic clock, in seconds."""

    life: int
    partition: int
    offset: int
    sequence: int
    at: float

    def __str__(self) -> str:
        return f"{self.life} {self.partition} {self.offset} {self.sequence} {self.at!r}\n"

    @classmethod
    def parse(cls, text: str) -> Line:
        life, partition, offset, sequence, at = text.split()
        return cls(int(life), int(partition), int(offset), int(sequence), float(at))


class Tail:
    """Reads the file as it grows: `lines` are all performances so far, as they were written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self.lines: list[Line] = []
        self._tops: dict[int, int] = {}

    def read(self) -> None:
        """Take in what is new; a line that is not whole yet waits for the next time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        for text in whole.decode().splitlines():
            line = Line.parse(text)
            self.lines.append(line)
            self._tops[line.partition] = max(self._tops.get(line.partition, -1), line.sequence)

    def top(self, partition: int) -> int:
        """The highest sequence performed so far, -1 if none was."""
        return self._tops.get(partition, -1)

    def reached(self, sent: Mapping[int, Sequence[int]]) -> bool:
        """Whether the last message of each partition was performed, now; those before it are the verdict's."""
        self.read()
        return all(self.top(partition) >= len(offsets) - 1 for partition, offsets in sent.items())


@dataclass(frozen=True, slots=True)
class Life:
    """How a server process ended. `at`: when it was gone, by the monotonic clock; `clean`: it stopped with status 0."""

    number: int
    variant: str
    at: float
    clean: bool


@dataclass(slots=True)
class Verdict:
    """What the ledger says, in sentences; `repeats` counts, by life, what the lives after repeated of it."""

    sent: int = 0
    performed: int = 0
    kills: int = 0
    lost: list[str] = field(default_factory=list)
    unordered: list[str] = field(default_factory=list)
    too_old: list[str] = field(default_factory=list)
    uncommitted: list[str] = field(default_factory=list)
    unclean: list[str] = field(default_factory=list)
    repeats: dict[int, int] = field(default_factory=dict)

    @property
    def duplicates(self) -> int:
        return sum(self.repeats.values())

    @property
    def sound(self) -> bool:
        return not (self.lost or self.unordered or self.too_old or self.uncommitted or self.unclean)

    def __str__(self) -> str:
        worst = max(self.repeats.values(), default=0)
        each = self.duplicates / self.kills if self.kills else 0
        old = len(self.too_old)
        lines = [
            "SOUND" if self.sound else "BROKEN",
            f"{self.sent} sent, {self.performed} performed, {self.kills} lives ended by -9",
            f"lost: {len(self.lost)}",
            f"order broken: {len(self.unordered)}",
            f"duplicates: {self.duplicates} ({each:.1f} a kill, {worst} at most); of work that was due: {old}",
            f"partitions not committed up to their end: {len(self.uncommitted)}",
        ]
        for found in (self.lost, self.unordered, self.too_old, self.uncommitted, self.unclean):
            lines += [f"  {one}" for one in found[:5]]
            lines += [f"  … and {len(found) - 5} more"] if len(found) > 5 else []
        return "\n".join(lines)


def judge(
    *,
    sent: Mapping[int, Sequence[int]],
    lines: Sequence[Line],
    lives: Sequence[Life],
    committed: Mapping[int, int | None],
    ends: Mapping[int, int],
    commit_interval: float,
) -> Verdict:
    """The verdict over the whole ledger.

    `sent` has, by partition, the confirmed offset of each sequence; `committed` and `ends` are the broker's at the end.
    """
    verdict = Verdict(sent=sum(map(len, sent.values())), performed=len(lines))
    verdict.kills = sum(not life.clean for life in lives)
    for partition, offsets in sorted(sent.items()):
        mine = [line for line in lines if line.partition == partition]
        verdict.lost += _lost(partition, offsets, mine)
        verdict.unordered += _unordered(partition, mine)
        _count_repeats(verdict, mine, {life.number: life for life in lives}, commit_interval + ON_ITS_WAY)
    for partition, end in sorted(ends.items()):
        if committed.get(partition) != end:
            verdict.uncommitted.append(f"partition {partition}: committed {committed.get(partition)}, its end is {end}")
    return verdict


def _lost(partition: int, offsets: Sequence[int], lines: Iterable[Line]) -> list[str]:
    """What was sent and never performed; what was performed is what was sent."""
    there = {(line.offset, line.sequence) for line in lines}
    return [
        f"partition {partition}: sequence {sequence}, at offset {offset}, was never performed"
        for sequence, offset in enumerate(offsets)
        if (offset, sequence) not in there
    ]


def _unordered(partition: int, lines: Iterable[Line]) -> list[str]:
    """Within a life each performance follows the one before; a life begins at the next one, or repeats."""
    found = []
    life, last, highest = -1, -1, -1
    for line in lines:
        born = line.life != life
        if line.sequence > highest + 1 if born else line.sequence != last + 1:
            found.append(
                f"partition {partition}, life {line.life}: sequence {line.sequence} came after "
                f"{f'{highest}, the highest of the lives before' if born else last}"
            )
        life, last = line.life, line.sequence
        highest = max(highest, last)
    return found


def _count_repeats(verdict: Verdict, lines: Sequence[Line], lives: Mapping[int, Life], young: float) -> None:
    """Which performances a later life repeated, and whether their life ended too soon after to have committed them."""
    last_life = {line.sequence: line.life for line in lines}
    for line in lines:
        if last_life[line.sequence] == line.life:
            continue
        life = lives[line.life]
        verdict.repeats[line.life] = verdict.repeats.get(line.life, 0) + 1
        age = life.at - line.at
        if life.clean or age > young:
            how = "ended in order" if life.clean else "was killed"
            verdict.too_old.append(
                f"partition {line.partition}: sequence {line.sequence} was performed {age:.2f} s before life "
                f"{life.number} ({life.variant}) {how}, and again in life {last_life[line.sequence]}"
            )
