"""Values that people write: checked where they are given, refused in one sentence."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable, Mapping

from karafka.errors import ConfigError

DURATIONS: Mapping[str, float] = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
SIZES: Mapping[str, float] = {
    "": 1,
    "b": 1,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def number(name: str, value: object, least: float) -> float:
    """`value`, if it is a number of at least `least`. Raises `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise ConfigError(f"{name}={value!r}: a number of at least {least:g} is expected")
    return value


def whole(name: str, value: object, least: int) -> int:
    """`value`, if it is a whole number of at least `least`. Raises `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}={value!r}: a whole number of at least {least} is expected")
    return value


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a `value` that is none of `choices`. Raises `ConfigError`."""
    if value not in choices:
        *first, last = map(repr, choices)
        raise ConfigError(f"{name}={value!r}: {', '.join(first)} or {last} is expected")


def refuse_slip(shown: str, name: str, known: Iterable[str], alike: float) -> None:
    """Refuse a `name` that looks like one of `known`, misspelt: by `alike`, of 1, at least. Raises `ConfigError`."""
    from difflib import get_close_matches  # noqa: PLC0415 - seldom

    if near := get_close_matches(name, known, 1, alike):
        raise ConfigError(f"{shown} is read by nobody: is {near[0]} meant?")


def duration(text: str) -> float:
    """Seconds, as people write them: "90s", "10m", "6h", "1.5d", or a plain number. Raises `ConfigError`."""
    return _measured(text, DURATIONS, "a duration such as 90s, 10m or 6h")


def size(text: str) -> int:
    """Bytes, as people write them: "512MB" (of 1000), "512MiB" (of 1024). Raises `ConfigError`."""
    return int(_measured(text, SIZES, "a size such as 512MB or 2GiB"))


def _measured(text: str, units: Mapping[str, float], expected: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-zA-Z]*)", text.strip(), re.ASCII)
    value = float(found[1]) * units.get(found[2].lower(), 0.0) if found else 0.0
    if not 0 < value < math.inf:
        raise ConfigError(f"{text!r}: {expected} is expected")
    return value


def check_topic(name: object, where: str) -> str:
    """The name of a topic, if Kafka takes it: 1 to 249 of a-z A-Z 0-9 . _ - and neither '.' nor '..'.

    Source: org.apache.kafka.common.internals.Topic.
    """
    if not isinstance(name, str) or not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise ConfigError(
            f"{where}: {name!r} is no topic name for Kafka: 1 to 249 of letters, digits, '.', '_' and '-'"
        )
    return name


def in_loop() -> bool:
    """Whether an event loop runs on this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def refuse_in_loop(call: str, instead: str) -> None:
    """Refuse `call`, which waits, on a thread whose event loop runs: it would stop everything there."""
    if in_loop():
        raise ConfigError(f"{call} would block the event loop: {instead}")
