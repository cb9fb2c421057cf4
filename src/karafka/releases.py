"""Which Kafka a broker is. It says no version of itself; but each release takes requests that none before it took."""

from __future__ import annotations

from collections.abc import Mapping

# By key and version of such a request, the newest release first. Source: the message definitions of Kafka's releases.
# 3.4 takes what 3.3 takes.
_FIRST_TAKEN: tuple[tuple[str, int, int], ...] = (
    ("4.3 or newer", 35, 5),
    ("4.2", 2, 11),
    ("4.1", 0, 13),
    ("4.0", 0, 12),
    ("3.9", 1, 17),
    ("3.8", 0, 11),
    ("3.7", 0, 10),
    ("3.6", 24, 4),
    ("3.5", 1, 15),
    ("3.3 or 3.4", 35, 4),
    ("3.2", 11, 9),
    ("3.1", 3, 12),
    ("3.0", 2, 7),
    ("2.8", 0, 9),
    ("2.7", 1, 12),
    ("2.6", 32, 3),
    ("2.5", 22, 3),
    ("2.4", 3, 9),
    ("2.3", 1, 11),
    ("2.2", 2, 5),
    ("2.1", 0, 7),
    ("2.0", 0, 6),
)


def version_of(offers: Mapping[int, int]) -> str:
    """Kafka's version by the newest version of each request that a broker takes; empty for one before 2.0."""
    return next((name for name, key, newest in _FIRST_TAKEN if offers.get(key, -1) >= newest), "")
