"""Which lines of the routing table a command is about: `--group` and `--topic`, and what they exclude."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
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
        return self.wants_group(group) and self.wants_topic(line.shown)

    def wants_group(self, name: str) -> bool:
        return _chosen(name, self.groups, self.without_groups)

    def wants_topic(self, name: str) -> bool:
        return _chosen(name, self.topics, self.without_topics)

    def apply(self, app: App) -> None:
        """Leave `app` the chosen lines. Raises `ConfigError` for a name that is not there, and where none is left."""
        lines = list(app.routes)
        self.check_topics(line.shown for _, line in lines)
        self._leave(app, lines, self.wants)

    def apply_groups(self, app: App) -> None:
        """Leave `app` the lines of the chosen groups, whatever is said of topics. Raises as `apply` does."""
        self._leave(app, list(app.routes), lambda group, _: self.wants_group(group))

    def check_topics(self, there: Iterable[str]) -> None:
        """Raises `ConfigError` for a topic that was named and is not there."""
        self._check("topic", set(there))

    def _leave(self, app: App, lines: Sequence[tuple[str, Topic]], wanted: Callable[[str, Topic], bool]) -> None:
        self._check("group", {group for group, _ in lines})
        if lines and not any(wanted(*one) for one in lines):
            raise ConfigError(f"{', '.join(option for option, *_ in CHOICE)}: what is said leaves nothing over")
        app.routes.select(wanted)

    def _check(self, kind: str, there: Collection[str]) -> None:
        for option, name, _ in CHOICE:
            for asked in getattr(self, name) if option.endswith(kind) else ():
                if not any(_among(one, (asked,)) for one in there):
                    known = f"there are {', '.join(sorted(there))}" if there else "the app has no routes"
                    raise ConfigError(f"{option} {asked!r}: no {kind} is named so; {known}")


def _chosen(name: str, wanted: Collection[str], unwanted: Iterable[str]) -> bool:
    return (not wanted or _among(name, wanted)) and not _among(name, unwanted)


def _among(name: str, asked: Iterable[str]) -> bool:
    return any(name == one or fnmatchcase(name, one) for one in asked)
