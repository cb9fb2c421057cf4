"""Values that people write: checked where they are given, refused in one sentence."""

from __future__ import annotations

import asyncio
import math

from karafka.errors import ConfigError


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


def refuse_in_loop(call: str, instead: str) -> None:
    """Refuse `call`, which waits, on a thread whose event loop runs: it would stop everything there."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(f"{call} would block the event loop: {instead}")
