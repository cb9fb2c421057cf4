"""The application's settings: a frozen value, checked when it is made. Seconds and bytes throughout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from karafka.checks import number, whole
from karafka.environment import Environment
from karafka.errors import ConfigError
from karafka.mapper import TopicMapper, check_mapper
from karafka.policy import MIB, Backoff, Start

Setting: TypeAlias = str | int | float | bool
Settings: TypeAlias = Mapping[str, Setting]

# What promises stand on belongs to the framework: setting one is refused with the way to what was meant.
OWNED: Mapping[str, str] = {
    "enable.auto.commit": "offsets are committed when messages are finished; see commit_interval",
    "enable.auto.offset.store": "offsets are committed when messages are finished; see commit_interval",
    "auto.commit.interval.ms": "use App(commit_interval=…), in seconds",
    "auto.offset.reset": 'use start="earliest" or start="latest" on the app or a route',
    "enable.partition.eof": "the engine finds the end of a partition by itself",
    "group.id": "use group(name, …), or the app's client_id for the default group",
    "client.id": "use App(client_id, …)",
    "acks": "what the framework sends must be confirmed by all in-sync replicas; make a Producer of your own for less",
    "request.required.acks": "what the framework sends must be confirmed by all in-sync replicas",
    "enable.idempotence": "what the framework sends must not be doubled by a retry",
    "delivery.report.only.error": "every message that is sent is confirmed; without reports nobody would know",
    "transactional.id": "use exactly_once=True on a route, or make a Producer of your own",
    "on_commit": "listen to karafka.events.Committed",
    "stats_cb": "listen to events",
    "error_cb": "listen to karafka.events.ClientTroubled",
    "throttle_cb": "listen to events",
}
_SECRET = re.compile(r"password|passphrase|secret|private|\.key\.pem|jaas|token|oauthbearer\.config", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What an app is told once. `kafka` is librdkafka's settings by their own names.

    `concurrency`: worker threads shared by the routes that bring none of their own.
    `commit_interval`: seconds between commits of finished work.
    `shutdown_timeout`: seconds that work may go on after a stop; `drain_timeout`: after a revocation.
    `stall_after`: seconds without progress of a partition that has work, until an event says so.
    `memory`: bytes of messages in hand, over all partitions and the client's queues.
    `retry`, `start`: what routes have that say nothing else.
    `processes`: how many `karafka server` runs side by side. `env`: where it runs.
    `topic_mapper`: how topics are named in the cluster, if otherwise than here.
    """

    client_id: str
    kafka: Settings = field(default_factory=dict, repr=False)  # it may hold passwords: see `masked`
    concurrency: int = 5
    commit_interval: float = 1.0
    shutdown_timeout: float = 60.0
    drain_timeout: float = 10.0
    stall_after: float = 60.0
    memory: int = 256 * MIB
    retry: Backoff | None = field(default_factory=Backoff)
    start: Start = "earliest"
    processes: int = 1
    env: Environment = field(default_factory=Environment)
    topic_mapper: TopicMapper | None = None

    def __post_init__(self) -> None:
        check_group(self.client_id, "App(client_id)")
        check_settings(self.kafka, "App(kafka=…)")
        if not self.kafka.get("bootstrap.servers"):
            raise ConfigError(
                "App(kafka=…) has no 'bootstrap.servers': name at least one broker, "
                'such as kafka={"bootstrap.servers": "localhost:9092"}'
            )
        whole("concurrency", self.concurrency, 1)
        number("commit_interval", self.commit_interval, 0.01)
        number("shutdown_timeout", self.shutdown_timeout, 0)
        number("drain_timeout", self.drain_timeout, 0)
        number("stall_after", self.stall_after, 0.1)
        whole("memory", self.memory, 8 * MIB)
        whole("processes", self.processes, 1)
        check_start(self.start, "App(start=…)")
        if self.topic_mapper is not None:
            check_mapper(self.topic_mapper, "App(topic_mapper)")
        if not isinstance(self.retry, Backoff | None):
            raise ConfigError(
                f"App(retry={self.retry!r}): a Backoff such as Backoff(1, 30) is expected, or None for no second try"
            )


def check_settings(kafka: object, where: str) -> None:
    """Refuse librdkafka settings that are not a mapping of plain values, or that the framework owns."""
    if not isinstance(kafka, Mapping):
        raise ConfigError(f"{where} is {type(kafka).__name__}, but librdkafka's settings are a dict of name to value")
    for name, value in kafka.items():
        if not isinstance(name, str):
            raise ConfigError(f"{where} has the setting {name!r}: names are text, such as 'bootstrap.servers'")
        if name in OWNED:
            raise ConfigError(f"{where} sets {name!r}, which belongs to the framework: {OWNED[name]}")
        if not isinstance(value, str | int | float | bool):
            shown = "…" if _SECRET.search(name) else repr(value)
            raise ConfigError(f"{where} sets {name!r} to {shown}: librdkafka takes text, numbers and booleans")


def check_group(name: object, where: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{where} is {name!r}, but a consumer group needs a name: some text, such as 'videos'")
    return name


def check_start(start: object, where: str) -> None:
    if start not in {"earliest", "latest"}:
        raise ConfigError(f"{where} is {start!r}: 'earliest' or 'latest' is expected")


def masked(kafka: Settings) -> dict[str, Setting]:
    """The settings as they may be shown: what is secret is hidden."""
    return {name: "********" if _SECRET.search(name) else value for name, value in kafka.items()}
