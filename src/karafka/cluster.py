"""A Kafka cluster as a person at a command asks it: do its brokers answer, which topics are there; make some, look at
the newest messages of one.

Each question has a client of its own, which takes part in no group and commits nothing.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.cimpl import NewTopic

from karafka.client import Effect, Trouble
from karafka.config import Settings
from karafka.confluent import EFFECTS, librdkafka_log, retriable, trouble
from karafka.diagnosis import HOPELESS, Cause, diagnose
from karafka.errors import BrokerError
from karafka.messages import Place, Record
from karafka.releases import version_of

# How many brokers are asked at a time.
SIDE_BY_SIDE = 16
# Seconds without an answer until it is looked whether the reason is known.
MOMENT = 1.0
# Messages asked for at once, seconds that one question may wait for them.
CHUNK, WAIT = 500, 0.2
# Seconds until it is looked again whether what was made is known to the broker that is asked.
AGAIN = 0.05
# How much further back is looked where too few messages were found: markers of transactions have offsets too.
FURTHER = 4

_OFFER = re.compile(r"ApiKey \S+ \((\d+)\) Versions \d+\.\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSeen:
    """A broker that was asked at `address`. `trouble` is empty where it answers; then `cluster` is the cluster's id.

    `number` is the broker's own where `address` is what it announces; `version` is Kafka's as `version_of` has it.
    """

    address: str
    number: int | None = None
    cluster: str = ""
    version: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """A topic that is there. `replicas` of its first partition."""

    name: str
    partitions: int
    replicas: int


def versions() -> tuple[str, str]:
    """Of confluent-kafka, and of librdkafka in it."""
    return str(confluent_kafka.__version__), str(confluent_kafka.libversion()[0])


class Cluster:
    """See the module. `kafka` are the settings of who asks. Any one thread."""

    def __init__(self, kafka: Settings) -> None:
        self._kafka = kafka
        self._admin: AdminClient | None = None
        self._said: list[Trouble] = []

    # ── its brokers ──────────────────────────────────────────────────────────────────────────────────────────

    def brokers(self, timeout: float) -> list[BrokerSeen]:
        """What each address of `bootstrap.servers` answers within `timeout` seconds, and each that they announce."""
        named = [one.strip() for one in str(self._kafka["bootstrap.servers"]).split(",") if one.strip()]
        ask = partial(_ask, self._kafka, timeout=timeout)
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            answers = dict(zip(named, pool.map(ask, named), strict=True))
            announced: dict[str, int] = {}
            for _, others in answers.values():
                announced |= others
            more = sorted(announced.keys() - answers.keys())
            answers |= dict(zip(more, pool.map(ask, more), strict=True))
        return [replace(seen, number=announced.get(address)) for address, (seen, _) in answers.items()]

    # ── its topics ───────────────────────────────────────────────────────────────────────────────────────────

    def topics(self, timeout: float) -> dict[str, TopicSeen]:
        """All topics that are not Kafka's own. Raises `BrokerError`."""
        admin = self._asking()
        try:
            found = _patiently(
                lambda wait: admin.list_topics(timeout=wait), timeout, lambda: self._hopeless(admin)
            ).topics
        except KafkaException as error:
            raise self._refused(error) from error
        return {
            name: TopicSeen(name, len(one.partitions), len(one.partitions[0].replicas) if 0 in one.partitions else 0)
            for name, one in found.items()
            if one.error is None and not name.startswith("__")
        }

    def create(
        self,
        names: Sequence[str],
        *,
        partitions: int | None,
        replicas: int | None,
        config: Mapping[str, str],
        timeout: float,
    ) -> dict[str, str]:
        """Make topics; as the brokers do by default where nothing is said. What went wrong, by topic.

        One that is there meanwhile is left as it is. What was made is seen by who asks next, within `timeout`.
        """
        wanted = [
            NewTopic(
                name,
                num_partitions=-1 if partitions is None else partitions,
                replication_factor=-1 if replicas is None else replicas,
                config=dict(config),
            )
            for name in names
        ]
        answers = self._asking().create_topics(wanted, operation_timeout=timeout, request_timeout=timeout)
        wrong: dict[str, str] = {}
        for name, answer in answers.items():
            try:
                answer.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    wrong[name] = error.args[0].str()
        made, deadline = set(names) - wrong.keys(), time.monotonic() + timeout
        while made - self.topics(timeout).keys() and time.monotonic() < deadline:
            time.sleep(AGAIN)
        return wrong

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────

    def newest(self, topic: str, count: int, *, group: str, partition: int | None, timeout: float) -> list[Record]:
        """The last `count` messages of all partitions or one, the oldest first; committed ones, unless settings differ.

        `group` reads, as far as rights go: it is not joined. Raises `BrokerError`.
        """
        with self._reading(group) as consumer:
            bounds = self._bounds(consumer, self._places(consumer, topic, partition, timeout), timeout)
            ends = {place: high for place, (_, high) in bounds.items()}
            back = count
            while True:
                starts = {place: max(low, high - back) for place, (low, high) in bounds.items()}
                found = self._read(consumer, starts, ends, timeout)
                if len(found) >= count or all(starts[place] == low for place, (low, _) in bounds.items()):
                    break
                back *= FURTHER
        found.sort(key=lambda one: (one.timestamp()[1], one.partition(), one.offset()))
        return found[-count:]

    def at(self, place: Place, offset: int, count: int, *, group: str, timeout: float) -> list[Record]:
        """Up to `count` messages of `place` from `offset` on; see `newest`."""
        with self._reading(group) as consumer:
            places = self._places(consumer, place.topic, place.partition, timeout)
            ((low, high),) = self._bounds(consumer, places, timeout).values()
            if not low <= offset < high:
                holds = f"which holds {low} up to before {high}" if low < high else "which is empty"
                where = f"{place.topic}/{place.partition}"
                raise BrokerError(f"{where}: offset {offset} is not in the log, {holds}", retriable=False)
            return self._read(consumer, {place: offset}, {place: high}, timeout, limit=count)[:count]

    @contextmanager
    def _reading(self, group: str) -> Iterator[Consumer]:
        """A client to read with; what it raises becomes a `BrokerError`."""
        self._said.clear()
        settings: dict[str, Any] = {
            **self._kafka,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "error_cb": self._hear,
        }
        consumer = Consumer(settings, logger=librdkafka_log)
        try:
            yield consumer
        except KafkaException as error:
            consumer.poll(0)  # so that it says why
            raise self._refused(error) from error
        finally:
            consumer.close()

    def _places(self, consumer: Consumer, topic: str, partition: int | None, timeout: float) -> list[Place]:
        """What is to be read of `topic`."""
        found = _patiently(lambda wait: consumer.list_topics(topic, wait), timeout, lambda: self._hopeless(consumer))
        seen = found.topics[topic]
        if seen.error is not None:
            said = "it is not there" if EFFECTS.get(seen.error.code()) is Effect.MISSING else seen.error.str()
            raise BrokerError(f"topic {topic!r}: {said}", retriable=False)
        if partition is None:
            return [Place(topic, number) for number in sorted(seen.partitions)]
        if partition not in seen.partitions:
            there = f"it has {len(seen.partitions)}, from 0"
            raise BrokerError(f"topic {topic!r} has no partition {partition}: {there}", retriable=False)
        return [Place(topic, partition)]

    @staticmethod
    def _bounds(consumer: Consumer, places: Sequence[Place], timeout: float) -> dict[Place, tuple[int, int]]:
        """The first offset and the end of each."""
        low, high = (
            consumer.offsets_for_times([TopicPartition(*place, moment) for place in places], timeout)
            for moment in (-2, -1)
        )
        return {place: (one.offset, end.offset) for place, one, end in zip(places, low, high, strict=True)}

    def _read(
        self,
        consumer: Consumer,
        starts: Mapping[Place, int],
        ends: Mapping[Place, int],
        timeout: float,
        limit: int | None = None,
    ) -> list[Record]:
        """What lies between, as far as it is messages."""
        consumer.assign([TopicPartition(*place, start) for place, start in starts.items()])
        left = {place for place, start in starts.items() if start < ends[place]}
        found: list[Record] = []
        deadline = time.monotonic() + timeout
        while left and (limit is None or len(found) < limit):
            if time.monotonic() > deadline:
                raise BrokerError(_reason(self._said, self._kafka) or f"no answer within {timeout:g} s", retriable=True)
            for one in consumer.consume(CHUNK, WAIT):
                place = Place(one.topic() or "", one.partition() or 0)
                error, offset = one.error(), one.offset() or 0
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
                    raise KafkaException(error)
                if error is None and offset < ends[place]:
                    found.append(cast("Record", one))
                if error is not None or offset >= ends[place] - 1:
                    left.discard(place)
        return found

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────

    def _asking(self) -> AdminClient:
        if self._admin is None:
            settings: dict[str, Any] = {**self._kafka, "error_cb": self._hear}
            self._admin = AdminClient(settings, logger=librdkafka_log)
        return self._admin

    def _hear(self, error: KafkaError) -> None:
        self._said.append(trouble(error))

    def _hopeless(self, client: AdminClient | Consumer) -> bool:
        """Whether waiting cannot help, by what `client` says; an address that does not answer may be one of many."""
        client.poll(0)
        return any(cause in HOPELESS for cause, _ in _causes(self._said, self._kafka))

    def _refused(self, error: KafkaException) -> BrokerError:
        if self._admin is not None:
            self._admin.poll(0)
        said: KafkaError = error.args[0]
        return BrokerError(_reason(self._said, self._kafka) or said.str(), retriable=retriable(said))


def _ask(kafka: Settings, address: str, *, timeout: float) -> tuple[BrokerSeen, dict[str, int]]:
    """What answers at `address`, and the brokers it knows of: their numbers by address."""
    said: list[Trouble] = []
    heard = _Heard()
    alone: Settings = {**kafka, "bootstrap.servers": address}
    # So the client tells which requests the broker takes, whatever security lies between.
    telling: dict[str, Any] = {
        "debug": "feature",
        "log_level": 7,
        "error_cb": lambda error: said.append(trouble(error)),
    }
    client = AdminClient({**alone, **telling}, logger=heard)

    def enough() -> bool:
        client.poll(0)
        return bool(_causes(said, alone))

    try:
        found = _patiently(lambda wait: client.list_topics(timeout=wait), timeout, enough)
    except KafkaException as error:
        reason = _reason(said, alone) or f"no answer within {timeout:g} s ({error.args[0].str()})"
        return BrokerSeen(address=address, trouble=reason), {}
    client.poll(0)
    offers = {int(one[1]): int(one[2]) for line in heard.lines if (one := _OFFER.search(line))}
    others = {f"{one.host}:{one.port}": one.id for one in found.brokers.values()}
    return BrokerSeen(address=address, cluster=found.cluster_id or "", version=version_of(offers)), others


def _patiently(ask: Callable[[float], ClusterMetadata], timeout: float, enough: Callable[[], bool]) -> ClusterMetadata:
    """The answer; after a moment without one asked again, unless what was said meanwhile is `enough` to give up.

    Raises `KafkaException`.
    """
    moment = min(MOMENT, timeout)
    try:
        return ask(moment)
    except KafkaException:
        if enough() or timeout <= moment:
            raise
    try:
        return ask(timeout - moment)
    finally:
        enough()


def _causes(said: Sequence[Trouble], kafka: Settings) -> list[tuple[Cause, str]]:
    """What is wrong, as far as it says more than that something is, in a sentence each."""
    found = (diagnose(one, kafka, "") for one in said)
    return [
        (one.cause, one.once) for one in found if one is not None and one.cause not in {Cause.ALL_DOWN, Cause.OTHER}
    ]


def _reason(said: Sequence[Trouble], kafka: Settings) -> str:
    """The first of them; empty for none."""
    causes = _causes(said, kafka)
    return causes[0][1] if causes else ""


class _Heard(logging.Logger):
    """What the client says, kept: nobody else hears it."""

    def __init__(self) -> None:
        super().__init__("karafka.cluster", logging.DEBUG)
        self.lines: list[str] = []

    def handle(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
