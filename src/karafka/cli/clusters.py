"""The clusters that an app uses, and what it declares on each: for commands that ask them."""

from __future__ import annotations

from dataclasses import dataclass, field

from karafka.app import App
from karafka.background import topics
from karafka.config import Settings
from karafka.routing import Subscription, Topic

# What of the settings says which cluster, and as whom: groups that differ in nothing else are on the same one.
_WHICH = ("bootstrap.", "metadata.broker.", "security.", "sasl.", "ssl.")


@dataclass(slots=True)
class Used:
    """A cluster: the settings to ask it with, the groups that read there, and the topics declared there.

    `topics` are the named ones, `patterns` those of which the names match; both with who declares them.
    """

    kafka: Settings
    groups: list[Subscription] = field(default_factory=list)
    topics: dict[str, list[str]] = field(default_factory=dict)
    patterns: list[tuple[Topic, str]] = field(default_factory=list)

    @property
    def servers(self) -> str:
        return str(self.kafka["bootstrap.servers"])


def clusters(app: App) -> list[Used]:
    """The app's own first; then those of its groups and dead letters. Raises `ConfigError` for what cannot work."""
    found: dict[tuple[tuple[str, str], ...], Used] = {}

    def used(kafka: Settings) -> Used:
        which = tuple(sorted((name, str(value)) for name, value in kafka.items() if name.startswith(_WHICH)))
        return found.setdefault(which, Used(kafka))

    used(app.kafka_for({}))
    for subscription in app.subscriptions():
        kafka = app.kafka_for(subscription.kafka)
        here = used(kafka)
        here.groups.append(subscription)
        for route in subscription.routes:
            line = route.topic
            if isinstance(line.name, str):
                here.topics.setdefault(line.name, []).append(subscription.group)
            else:
                here.patterns.append((line, subscription.group))
            for answer in route.responder.cls.topics if route.responder is not None else ():
                here.topics.setdefault(answer, []).append(f"answers to {line.shown}")
            grave = route.policy.dead_letter
            if grave is not None:
                there = used({**kafka, **grave.producer})
                there.topics.setdefault(grave.topic, []).append(f"dead letters of {line.shown}")
    for group, name, said in topics(app):
        used(app.kafka_for(group)).topics.setdefault(name, []).append(said)
    return list(found.values())
