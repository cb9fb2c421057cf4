"""Which lines of the routing table a command is about: `--group` and `--topic`, and what they exclude."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from karafka.cli.options import CHOICE
from karafka.errors import ConfigError

if TYPE_CHECKING:
    from karafka.app import App
    from karafka.routing import Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Names as people gave them; without any, all lines are chosen. What is excluded is so in any case."""

    groups: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    without_groups: tuple[str, ...] = ()
    without_topics: tuple[str, ...] = ()

    @classmethod
    def taken(cls, values: dict[str, Any]) -> Choice:
        """Made of a command's values, which it takes its own from."""
        return cls(**{name: values.pop(name) for _, name, _ in CHOICE})

    def wants(self, group: str, line: Topic) -> bool:
        """Whether a line is chosen."""
        return (
            (not self.groups or _among(group, self.groups))
            and (not self.topics or _among(line.shown, self.topics))
            and not _among(group, self.without_groups)
            and not _among(line.shown, self.without_topics)
        )

    def apply(self, app: App) -> None:
        """Leave `app` the chosen lines. Raises `ConfigError` for a name that is not there, and where none is left."""
        lines = list(app.routes)
        there = {"group": {group for group, _ in lines}, "topic": {line.shown for _, line in lines}}
        for option, name, _ in CHOICE:
            kind = option.rpartition("-")[2]
            for asked in getattr(self, name):
                if not any(_among(one, (asked,)) for one in there[kind]):
                    known = f"there are {_listed(there[kind])}" if there[kind] else "the app has no routes"
                    raise ConfigError(f"{option} {asked!r}: no {kind} is named so; {known}")
        if lines and not any(self.wants(*one) for one in lines):
            raise ConfigError("--group, --topic and what they exclude leave no route over: leave some of them out")
        app.routes.select(self.wants)


def _among(name: str, asked: Iterable[str]) -> bool:
    return any(name == one or fnmatchcase(name, one) for one in asked)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
