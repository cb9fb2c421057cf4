"""Where an app runs, `Environment`, and what it is told there: the `KARAFKA_…` variables, read once.

A variable wins over what the code says; an empty one is none. What is read here goes to `App` as if it were written in
the code, and is checked there as that is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from karafka.checks import duration, number, refuse_slip, size, whole
from karafka.errors import ConfigError

VARIABLE = "KARAFKA_ENV"
KNOWN = ("development", "test", "staging", "production")

# `KARAFKA_KAFKA_SASL_PASSWORD` is `sasl.password`. Of librdkafka's names this one alone has no dots.
KAFKA = "KARAFKA_KAFKA_"
UNDERSCORED = frozenset({"log_level"})
# Whose variables begin so has forgotten the second KAFKA_.
SHORTENED = ("KARAFKA_SASL_", "KARAFKA_SSL_", "KARAFKA_SECURITY_", "KARAFKA_BOOTSTRAP_")
# Those that the commands read.
COMMANDS = ("KARAFKA_APP", "KARAFKA_LOG_LEVEL", "KARAFKA_LOG_FORMAT")
# How like a setting's a name must be to be taken for a slip of it: other programs may have variables that begin so too.
ALIKE = 0.9


class Environment(str):
    """Where an app runs: a word, such as "production", that answers questions: `env.production`, `env.test`.

    Only one of `known` can be it, or be asked for, so that a slip is refused and never just not true.
    """

    __slots__ = ("known",)

    known: tuple[str, ...]

    def __new__(cls, name: str = KNOWN[0], known: Sequence[str] = KNOWN, *, where: str = "Environment(…)") -> Self:
        """Raises `ConfigError`; `where` is who said the name."""
        for one in known:
            if not one.isidentifier() or hasattr(str, one):
                raise ConfigError(
                    f"Environment(known=…): {one!r} cannot be asked for as env.{one}: a word of letters, digits and "
                    "'_' is expected, that no method of str is called by"
                )
        if name not in known:
            raise ConfigError(
                f"{where}: {name!r} is none of {', '.join(known)}; name others by env=Environment.from_env((…,))"
            )
        self = super().__new__(cls, name)
        self.known = tuple(known)
        return self

    @classmethod
    def from_env(cls, known: Sequence[str] = KNOWN, *, variables: Mapping[str, str] | None = None) -> Self:
        """What `KARAFKA_ENV` says, else the first of `known`: "development". Raises `ConfigError`."""
        told = (os.environ if variables is None else variables).get(VARIABLE, "").strip()
        return cls(told or known[0], known, where=VARIABLE)

    def __getattr__(self, name: str) -> bool:
        if name.startswith("__") or name not in self.known:
            raise AttributeError(f"env.{name}: there is no environment of that name, but {', '.join(self.known)}")
        return self == name

    def __getnewargs__(self) -> tuple[str, tuple[str, ...]]:  # type: ignore[override] # copies know what it knows
        return str(self), self.known


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the variables say. `settings` by the names that `App` has for them; `variables`: which were read."""

    client_id: str | None
    kafka: Mapping[str, str]
    settings: Mapping[str, object]
    variables: tuple[str, ...]


def read(variables: Mapping[str, str]) -> Told:
    """Raises `ConfigError` for a value that cannot be meant, and for a name that is a slip of one."""
    given = {name: value.strip() for name, value in variables.items() if name.startswith("KARAFKA_") and value.strip()}
    # As they are: a password may begin with a space.
    kafka = {_setting(name): variables[name] for name in given if name.startswith(KAFKA)}
    if (brokers := given.get("KARAFKA_BROKERS")) and kafka.setdefault("bootstrap.servers", brokers) != brokers:
        raise ConfigError(f"KARAFKA_BROKERS and {KAFKA}BOOTSTRAP_SERVERS name different brokers: set one of them")
    settings = {
        name: convert(variable, given[variable])
        for name, convert in SETTINGS.items()
        if (variable := f"KARAFKA_{name.upper()}") in given
    }
    ours = {*FOR_THE_APP, *COMMANDS}
    for name in given.keys() - ours:
        _refuse_slip(name, ours)
    return Told(
        client_id=given.get("KARAFKA_CLIENT_ID"),
        kafka=kafka,
        settings=settings,
        variables=tuple(sorted(name for name in given if name in FOR_THE_APP or name.startswith(KAFKA))),
    )


def unread(variables: Mapping[str, str]) -> list[str]:
    """Those that are set, and that an app not made by `App.from_env` does not read."""
    names = {*FOR_THE_APP} - {VARIABLE}
    return sorted(one for one, value in variables.items() if value and (one in names or one.startswith(KAFKA)))


def _setting(variable: str) -> str:
    name = variable.removeprefix(KAFKA).lower()
    return name if name in UNDERSCORED else name.replace("_", ".")


def _refuse_slip(name: str, ours: set[str]) -> None:
    if name.startswith(KAFKA):
        return
    if name.startswith(SHORTENED):
        meant = name.replace("KARAFKA_", KAFKA, 1)
        raise ConfigError(f"{name} is read by nobody: librdkafka's settings begin with {KAFKA}, as in {meant}")
    refuse_slip(name, name, ours, ALIKE)


def _whole(variable: str, text: str) -> int:
    return whole(variable, int(text) if text.isascii() and text.isdigit() else text, 1)


def _seconds(variable: str, text: str) -> float:
    try:
        return number(variable, float(text), 0)
    except ValueError:
        return _measured(variable, text, duration)


def _bytes(variable: str, text: str) -> int:
    return int(_measured(variable, text, size))


def _text(_variable: str, text: str) -> str:
    return text


def _measured(variable: str, text: str, read: Callable[[str], float]) -> float:
    try:
        return read(text)
    except ConfigError as error:
        raise ConfigError(f"{variable}={error}") from None


# How the variable of each setting is read.
SETTINGS: Mapping[str, Callable[[str, str], object]] = {
    "concurrency": _whole,
    "processes": _whole,
    "commit_interval": _seconds,
    "shutdown_timeout": _seconds,
    "drain_timeout": _seconds,
    "stall_after": _seconds,
    "memory": _bytes,
    "start": _text,
}
FOR_THE_APP = frozenset(
    {VARIABLE, "KARAFKA_BROKERS", "KARAFKA_CLIENT_ID", *(f"KARAFKA_{name.upper()}" for name in SETTINGS)}
)
