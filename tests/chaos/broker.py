"""The run's own Kafka, which may be killed and frozen; and the settings of its topics while others write and read."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in its __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from karafka.devbroker import Kafka

SETTINGS = {
    # A node that is its own controller, and stood still for longer than this, fences itself when it wakes.
    "broker.session.timeout.ms": "24000",
    # Sessions of the newer protocol are the broker's to bound.
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
}

# Seconds that a start may take on a busy machine.
PATIENCE = 180.0


class Broker:
    """A `Kafka` whose slow calls do not hold up who makes them: they run on one thread, which lives as long as it does.

    (Java is killed with the thread that started it.)
    """

    def __init__(self, folder: Path) -> None:
        self._kafka = Kafka(folder, settings=SETTINGS)
        self._owner = ThreadPoolExecutor(1, "chaos-broker")
        #: Whether a fault is at it.
        self.taken = False

    def __enter__(self) -> Self:
        self.start().result()
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.submit(self._kafka.stop).result()
        self._owner.shutdown()

    @property
    def bootstrap(self) -> str:
        return self._kafka.bootstrap

    def start(self) -> Future[None]:
        return self._owner.submit(self._kafka.start, patience=PATIENCE)

    def stop(self) -> Future[None]:
        return self._owner.submit(self._kafka.stop)

    def kill(self) -> None:
        self._owner.submit(self._kafka.kill).result()

    def freeze(self) -> None:
        self._kafka.freeze()

    def thaw(self) -> None:
        self._kafka.thaw()

    def alter(self, topic: str, setting: str, value: str | None) -> Future[None]:
        """Set one of a topic's settings, or, None, give it back its default."""
        operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        entry = ConfigEntry(setting, value or "", incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        answer: Future[None] = self._admin.incremental_alter_configs([resource])[resource]
        return answer
