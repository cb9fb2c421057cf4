"""What members write down as it happens: one file for all of them, a line each, read while it grows.

One `os.write` to a file opened for appending is done or not done, whenever the process is killed; what it wrote is
the system's, and survives the process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, cast

Kind: TypeAlias = Literal["assigned", "begun", "performed", "committed", "refused", "overran", "revoked", "lost"]


class Entry(NamedTuple):
    """One thing that happened to a partition in a *life*, which is one process.

    `term`: which assignment of the partition to this life, from 1. `offset`: of the message; where the assignment
    starts; what is committed, or would have been (`refused`); up to where it is finished (`revoked`). `at`: seconds
    since 1970, as the broker's clock has them too.
    """

    kind: Kind
    life: int
    partition: int
    term: int
    offset: int = -1
    sequence: int = -1
    at: float = 0.0

    def __str__(self) -> str:
        return " ".join(map(str, self)) + "\n"

    @classmethod
    def parse(cls, text: str) -> Entry:
        kind, life, partition, term, offset, sequence, at = text.split()
        numbers = (int(life), int(partition), int(term), int(offset), int(sequence))
        return cls(cast("Kind", kind), *numbers, float(at))


class Journal:
    """A life's pen. Any thread."""

    def __init__(self, path: Path | str, life: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._life = life
        #: The latest assignment of each partition to this life.
        self.terms: dict[int, int] = {}

    def write(self, kind: Kind, partition: int, offset: int = -1, sequence: int = -1, term: int | None = None) -> None:
        """`term`: the latest, if none is given. A message names the one in which it was begun."""
        if kind == "assigned":
            self.terms[partition] = self.terms.get(partition, 0) + 1
        told = self.terms.get(partition, 0) if term is None else term
        os.write(self._file, str(Entry(kind, self._life, partition, told, offset, sequence, time.time())).encode())


class Tail:
    """Reads the file as it grows. `entries` are all so far, as they were written, unless it is not to `keep` them."""

    def __init__(self, path: Path, *, keep: bool = True) -> None:
        self._path = path
        self._keep = keep
        self._position = 0
        self.entries: list[Entry] = []
        self._tops: dict[int, int] = {}

    def read(self) -> list[Entry]:
        """Take in what is new, and return it; a line that is not whole yet waits for the next time."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        read = [Entry.parse(text) for text in whole.decode().splitlines()]
        for one in read:
            if one.kind == "performed":
                self._tops[one.partition] = max(self._tops.get(one.partition, -1), one.sequence)
        if self._keep:
            self.entries += read
        return read

    @property
    def lines(self) -> list[Entry]:
        """The performances."""
        return [one for one in self.entries if one.kind == "performed"]

    def top(self, partition: int) -> int:
        """The highest sequence performed so far, -1 if none was."""
        return self._tops.get(partition, -1)

    def reached(self, sent: Mapping[int, Sequence[int]]) -> bool:
        """Whether the last message of each partition was performed, now; those before it are the verdict's."""
        self.read()
        return all(self.top(partition) >= len(offsets) - 1 for partition, offsets in sent.items())
