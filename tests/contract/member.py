"""A group member driven by hand through the port, and the brokers that the contract holds on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Thread, get_ident
from typing import Any, Self
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from karafka.client import Answer, Effect, Kept, Trouble
from karafka.confluent import ConfluentConsumer
from karafka.messages import Place, Record
from tests.brokers import new_group, new_topic

MIB = 1024 * 1024

PROTOCOLS: Mapping[str, Mapping[str, str]] = {
    "eager": {"partition.assignment.strategy": "range"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}


def named(protocol: str) -> dict[str, Any]:
    """The settings of a protocol, as `Member` and `Broker.bare` take them."""
    return {name.replace(".", "_"): value for name, value in PROTOCOLS[protocol].items()}


@dataclass(frozen=True)
class Broker:
    """Where the contract is proved. `settings`: what its consumers need beside."""

    name: str
    bootstrap: str
    settings: Mapping[str, str | int] = field(default_factory=dict)

    def topic(self, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """A topic of its own; the mock gives each 4 partitions when it is first written to."""
        if self.name == "kafka":
            return new_topic(self.bootstrap, partitions, config)
        return f"topic-{uuid4().hex[:12]}"

    def send(self, topic: str, payloads: Iterable[bytes | str | None], partition: int = 0) -> None:
        """Send by the bare client and see it confirmed."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "message.max.bytes": 2_000_000})
        for payload in payloads:
            while True:
                try:
                    producer.produce(topic, payload, partition=partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(30) == 0

    def bare(self, group: str | None = None, **settings: Any) -> Consumer:
        """The client itself; settings in Kafka's names, `_` for `.`."""
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group or new_group(),
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                **{name.replace("_", "."): value for name, value in settings.items()},
            }
        )

    def assigned(self, topic: str, offset: int = 0, **settings: Any) -> Consumer:
        """The client itself, reading partition 0 without a group's help."""
        client = self.bare(**settings)
        client.assign([TopicPartition(topic, 0, offset)])
        return client

    def delete(self, topic: str, before: int, partition: int = 0) -> None:
        """Delete what lies before an offset, as retention does."""
        place = TopicPartition(topic, partition, before)
        admin = self.admin()  # named: the answer comes only as long as it lives
        (deleted,) = admin.delete_records([place]).values()
        deleted.result(10)

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})


class Member:
    """A `ConfluentConsumer` and all it said. As an engine would: committed, else the first offset kept."""

    def __init__(
        self, broker: Broker, *topics: str, group: str | None = None, queue: int = 16 * MIB, **settings: Any
    ) -> None:
        self.group = group or new_group()
        kafka = {
            "bootstrap.servers": broker.bootstrap,
            **broker.settings,
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
        self.client = ConfluentConsumer(kafka, group=self.group, queue=queue)
        self.owned: set[Place] = set()
        self.starts: list[dict[Place, int]] = []
        self.given_up: list[tuple[Place, ...]] = []
        self.went: list[tuple[Place, ...]] = []
        self.received: dict[Place, list[Record]] = {}
        self.troubles: list[Trouble] = []
        self.answers: list[Answer] = []
        self.threads: set[int] = set()
        #: Called before partitions are given up.
        self.before_giving_up: Callable[[Sequence[Place]], object] = len
        if topics:
            self.client.subscribe(topics, self)

    def assigned(self, places: Sequence[Place]) -> Mapping[Place, int]:
        self.threads.add(get_ident())
        self.owned.update(places)
        kept, bounds = (self.client.committed(places, 10), self.client.bounds(places, 10)) if places else ({}, {})
        starts = {}
        for place in places:
            known = kept[place]
            starts[place] = bounds[place][0] if known is None else known.offset
        self.starts.append(starts)
        return starts

    def revoked(self, places: Sequence[Place]) -> None:
        self.threads.add(get_ident())
        self.before_giving_up(places)
        self.owned.difference_update(places)
        self.given_up.append(tuple(places))

    def lost(self, places: Sequence[Place]) -> None:
        self.threads.add(get_ident())
        self.owned.difference_update(places)
        self.went.append(tuple(places))

    def turn(self, timeout: float = 0.1, limit: int = 500) -> None:
        for place, records in self.client.fetch(limit, timeout):
            self.received.setdefault(place, []).extend(records)
        for one in self.client.news():
            match one:
                case Trouble():
                    self.troubles.append(one)
                case Answer():
                    self.answers.append(one)

    def until(self, condition: Callable[[], object], timeout: float = 30.0) -> None:
        """Take turns until `condition` holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not so within {timeout} s; troubles: {self.troubles}"
            self.turn()

    def offsets(self, place: Place) -> list[int]:
        return [record.offset() or 0 for record in self.received.get(place, [])]

    def count(self) -> int:
        return sum(map(len, self.received.values()))

    def troubled(self, effect: Effect) -> list[Trouble]:
        return [one for one in self.troubles if one.effect is effect]

    def commit(self, offsets: Mapping[Place, int]) -> Mapping[Place, str | None]:
        """Commit, and wait for the answer."""
        before = len(self.answers)
        self.client.commit({place: Kept(offset) for place, offset in offsets.items()})
        self.until(lambda: len(self.answers) > before)
        answer = self.answers[-1]
        return {place: answer.errors.get(place) for place in answer.offsets}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


class Beside:
    """Another member of the group, which takes its turns on a thread of its own while the block runs."""

    def __init__(self, member: Callable[[], Member]) -> None:
        self._make = member
        self._ended = False
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self.member: Member

    def _run(self) -> None:
        try:
            while not self._ended:
                self.member.turn(0.05)
            self.member.client.close()
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self._failure = error

    def __enter__(self) -> Member:
        self.member = self._make()
        self._thread.start()
        return self.member

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
