"""Topics that have other names in the cluster: what the app calls "videos" may be "staging.videos" there.

What a user writes and reads are the app's own names: in routes, patterns, messages, events and logs. What crosses the
Kafka port are the cluster's; they are translated there, see `mapped`, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from karafka.checks import check_topic
from karafka.errors import ConfigError


class TopicMapper(Protocol):
    """How topics are named in the cluster. Asked once for each name, on any thread.

    `incoming(outgoing(name))` must be `name`, for each name that the app uses: else it is refused. A topic of the
    cluster whose name does not come back is none of the app's, so no pattern finds it; `incoming` may raise for it too.
    """

    def incoming(self, topic: str, /) -> str:
        """The app's name of a topic, by the cluster's."""

    def outgoing(self, topic: str, /) -> str:
        """The cluster's name of a topic, by the app's."""


@dataclass(frozen=True, slots=True)
class TopicPrefix:
    """A `TopicMapper`: names begin alike in the cluster, as by `TopicPrefix("staging.")`. An empty one changes none."""

    prefix: str

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str):
            raise ConfigError(f"TopicPrefix({self.prefix!r}): some text is expected, such as 'staging.'")

    def incoming(self, topic: str, /) -> str:
        if not topic.startswith(self.prefix):
            raise LookupError(f"{topic!r} does not begin with {self.prefix!r}")
        return topic.removeprefix(self.prefix)

    def outgoing(self, topic: str, /) -> str:
        return self.prefix + topic


class Names:
    """The names that a mapper has given so far. Any thread: at worst it is asked twice for the same."""

    def __init__(self, mapper: TopicMapper) -> None:
        self._mapper = mapper
        self._there: dict[str, str] = {}
        self._here: dict[str, str | None] = {}

    def there(self, topic: str) -> str:
        """The cluster's name of the app's `topic`. Raises `ConfigError` for one that does not lead back."""
        if (name := self._there.get(topic)) is None:
            self._there[topic] = name = mapped(self._mapper, topic)
        return name

    def here(self, topic: str) -> str | None:
        """The app's name of the cluster's `topic`; None for a topic that is none of the app's."""
        if topic not in self._here:
            self._here[topic] = self._read(topic)
        return self._here[topic]

    def _read(self, topic: str) -> str | None:
        try:
            name = check_topic(self._mapper.incoming(topic), "incoming")
            return name if mapped(self._mapper, name) == topic else None
        except Exception:  # noqa: BLE001 - the user's mapper may raise anything for what it does not know
            return None


def check_mapper(mapper: object, where: str) -> None:
    """Refuse what is no `TopicMapper`. Raises `ConfigError`."""
    asked = (getattr(mapper, name, None) for name in ("incoming", "outgoing"))
    if isinstance(mapper, type) or not all(map(callable, asked)):
        raise ConfigError(
            f"{where}={mapper!r}: TopicPrefix('staging.') is expected, or an object of yours that has "
            "incoming(topic) and outgoing(topic)"
        )


def mapped(mapper: TopicMapper, topic: str) -> str:
    """The cluster's name of the app's `topic`. Raises `ConfigError` for one that does not lead back to it."""
    kind = type(mapper).__qualname__
    try:
        name = mapper.outgoing(topic)
    except Exception as error:
        raise ConfigError(f"topic {topic!r}: {kind}.outgoing({topic!r}) raised {error!r}") from error
    check_topic(name, f"{kind}.outgoing({topic!r})")
    try:
        back = mapper.incoming(name)
    except Exception as error:
        raise ConfigError(f"topic {topic!r}: {kind}.incoming({name!r}) raised {error!r}") from error
    if back != topic:
        raise ConfigError(
            f"topic {topic!r} is {name!r} in Kafka, by {kind}.outgoing, but by {kind}.incoming that is {back!r}: a "
            "mapper must lead back to the name that it was given"
        )
    return name
