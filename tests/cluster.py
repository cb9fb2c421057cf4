"""Three Kafka nodes that replicate: brokers that are killed, that come back elsewhere, that give up leadership."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import PartitionMetadata

from karafka.devbroker import Kafka, ports
from karafka.devbroker.kafka import identity
from tests.brokers import until
from tests.secured import PATIENCE

NODES = (1, 2, 3)
SETTINGS: Mapping[str, str] = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    # On a busy machine a node may be late by more than the development broker's 2 s, and would be fenced for it.
    "broker.session.timeout.ms": "6000",
    "controller.quorum.election.timeout.ms": "2000",
    "controller.quorum.fetch.timeout.ms": "4000",
    # Preferred leaders come back when a test says so.
    "auto.leader.rebalance.enable": "false",
}


class Node:
    """One node. Its Kafka lives on a thread of its own: the system kills Java with the thread that started it."""

    def __init__(self, folder: Path, number: int, controllers: Mapping[int, int], cluster: str) -> None:
        self.number = number
        self._folder = folder / str(number)
        self._cluster = cluster
        self._settings = {
            **SETTINGS,
            "node.id": str(number),
            "controller.quorum.voters": ",".join(f"{one}@{ports.HOST}:{port}" for one, port in controllers.items()),
        }
        self._controller = controllers[number]
        self._thread = ThreadPoolExecutor(1, f"node-{number}")
        self.kafka: Kafka
        self.move(ports.free())

    def move(self, port: int) -> None:
        """Where it listens from its next start on."""
        own = f"PLAINTEXT://{ports.HOST}:{port}"
        listeners = f"{own},CONTROLLER://{ports.HOST}:{self._controller}"
        settings = {**self._settings, "listeners": listeners, "advertised.listeners": own}
        self.kafka = Kafka(self._folder, port, settings=settings, cluster=self._cluster)
        self.bootstrap = f"{ports.HOST}:{port}"

    def start(self) -> Callable[[], None]:
        """Begin to start; what is returned waits until it answers."""
        return self._thread.submit(self.kafka.start, patience=PATIENCE).result

    def stop(self) -> None:
        self._thread.submit(self.kafka.stop).result()

    def kill(self) -> None:
        self._thread.submit(self.kafka.kill).result()

    def close(self) -> None:
        self.kill()
        self._thread.shutdown()


class Cluster:
    """Three nodes with data in `folder`; a context manager. Each topic has three replicas, and needs two to be written.

    A node that is away leaves a majority, so the others go on; one at a time, then.
    """

    def __init__(self, folder: Path) -> None:
        controllers: dict[int, int] = {number: ports.free() for number in NODES}
        cluster = identity()
        self.nodes = {number: Node(folder, number, controllers, cluster) for number in NODES}

    @property
    def bootstrap(self) -> str:
        """All addresses, as they are now."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    def start(self) -> None:
        """Start all at once: none answers before a majority is there."""
        for ready in [node.start() for node in self.nodes.values()]:
            ready()

    def start_again(self, number: int) -> None:
        """Start one node, and return when it answers."""
        self.nodes[number].start()()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._close)
            self.start()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for node in self.nodes.values():
            node.close()

    # ── what it says of itself ───────────────────────────────────────────────────────────────────────────────

    def leaders(self, topic: str) -> dict[int, int]:
        """The node that leads each partition; -1 where none does."""
        return {number: one.leader for number, one in sorted(self._partitions(topic).items())}

    def coordinator(self, group: str) -> int:
        """The node that coordinates a group."""
        admin = self._admin()
        return int(admin.describe_consumer_groups([group])[group].result(30).coordinator.id)

    def whole(self, topic: str) -> bool:
        """Whether all replicas of a topic are in sync."""
        return all(len(one.isrs) == len(NODES) for one in self._partitions(topic).values())

    def prefer(self, topic: str) -> None:
        """Give leadership back to the preferred replicas, and wait until they have it."""
        wanted = {number: one.replicas[0] for number, one in sorted(self._partitions(topic).items())}
        admin = self._admin()
        admin.elect_leaders(ElectionType.PREFERRED, [TopicPartition(topic, one) for one in wanted]).result(30)
        until(lambda: self.leaders(topic) == wanted)

    def _partitions(self, topic: str) -> dict[int, PartitionMetadata]:
        return self._admin().list_topics(topic, timeout=30).topics[topic].partitions

    def _admin(self) -> AdminClient:
        """Keep it while an answer is awaited: the client refuses what is under way when it is collected."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
