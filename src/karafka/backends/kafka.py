"""Jobs by Kafka itself: topics of the app's own, one for each queue, read by `karafka worker` on this very engine.

Nothing else is needed. Jobs are performed in no order, so on as many workers as you like beyond the partitions; one
that fails holds no other up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from karafka.application import Application
from karafka.backends.envelope import Envelope, text_of
from karafka.backends.port import Backend, Send
from karafka.checks import check_topic
from karafka.errors import ConfigError
from karafka.workers import Worker

# What ends the name of the topic of those that were given up.
DEAD = "dead"


class KafkaBackend(Backend):
    """`backend="kafka"`. `prefix` begins the names of its topics, `APP_jobs` otherwise: `videos_jobs_default` has the
    jobs of the queue `default`, `videos_jobs_dead` those that were given up.
    """

    name: ClassVar[str] = "kafka"
    waits: ClassVar[bool] = False

    def __init__(self, prefix: str | None = None) -> None:
        if prefix is not None:
            check_topic(prefix, "KafkaBackend(prefix=…)")
        self._prefix = prefix

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KafkaBackend) and other._prefix == self._prefix

    def __hash__(self) -> int:
        return hash((KafkaBackend, self._prefix))

    def topic(self, app: Application, queue: str) -> str:
        """Where the jobs of `queue` are."""
        return f"{self._begin(app)}_{queue}"

    def grave(self, app: Application) -> str:
        """Where those are that were given up."""
        return f"{self._begin(app)}_{DEAD}"

    def topics(self, app: Application, queue: str) -> Mapping[str, str]:
        return {self.topic(app, queue): f"jobs of the queue {queue}", self.grave(app): "jobs that were given up"}

    def check(self, where: str, worker: type[Worker]) -> None:
        if worker.priority != 0:
            raise ConfigError(
                f"{where}: {worker.__qualname__}.priority={worker.priority}, but a topic of Kafka's has no priorities: "
                "give it a queue of its own, and that a weight: karafka worker -q urgent:5 -q default:1"
            )
        if worker.queue == DEAD:
            raise ConfigError(
                f"{where}: {worker.__qualname__}.queue={DEAD!r} is where jobs are that were given up: name another"
            )

    def enqueue(self, app: Application, envelope: Envelope, worker: type[Worker], send: Send) -> None:
        send(self.topic(app, worker.queue), text_of(envelope))

    def _begin(self, app: Application) -> str:
        return self._prefix or f"{re.sub(r'[^a-zA-Z0-9._-]', '_', app.config.client_id)}_jobs"
