"""The Kafka port where the app's names of topics are not the cluster's: behind it all is as without.

An app without a mapper has the client itself: its messages pay nothing for this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from karafka.client import Answer, Consumer, Identities, Kept, News, Posted, Quick, Rebalance, Refused
from karafka.config import Settings
from karafka.confluent import ConfluentConsumer, ConfluentTopics
from karafka.delivery import Failure, Fault
from karafka.errors import ConfigError
from karafka.mapper import Names
from karafka.messages import Header, Place, Record
from karafka.sender import ConfluentSender, ConfluentTransactor

# How the client begins what it has to say of a partition.
_PARTITION = re.compile(r"([\w.-]+)(?= \[\d+\])")


def consumer(kafka: Settings, names: Names | None, *, group: str, queue: int) -> Consumer:
    """A member of `group`; `queue`: bytes that it may fetch ahead."""
    client = ConfluentConsumer(kafka, group=group, queue=queue)
    return client if names is None else MappedConsumer(client, names)


def topics(kafka: Settings, names: Names | None) -> ConfluentTopics:
    """What topics there are."""
    return ConfluentTopics(kafka) if names is None else MappedTopics(kafka, names)


class _Places:
    """Partitions by both names."""

    def __init__(self, names: Names) -> None:
        self.names = names

    def there(self, place: Place) -> Place:
        return Place(self.names.there(place.topic), place.partition)

    def here(self, place: Place) -> Place:
        return Place(self.topic(place.topic), place.partition)

    def topic(self, there: str) -> str:
        """What nobody here has asked for keeps its name: so it is told."""
        return self.names.here(there) or there


class MappedConsumer:
    """`client.Consumer` by the app's names. Its listener's thread alone calls it."""

    def __init__(self, client: Consumer, names: Names) -> None:
        self._client = client
        self._places = _Places(names)

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        self._client.subscribe(list(map(self._places.names.there, topics)), _MappedRebalance(rebalance, self._places))

    def rejoin(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        self._client.rejoin(list(map(self._places.names.there, topics)), _MappedRebalance(rebalance, self._places))

    def fetch(self, limit: int, timeout: float) -> list[tuple[Place, list[Record]]]:
        found = []
        for place, records in self._client.fetch(limit, timeout):
            here = self._places.here(place)
            record: Any
            for record in records:
                record.set_topic(here.topic)
            found.append((here, records))
        return found

    def news(self) -> list[News]:
        return [self._told(one) for one in self._client.news()]

    def _told(self, one: News) -> News:
        here = self._places.here
        if isinstance(one, Answer):
            return Answer(
                {here(place): offset for place, offset in one.offsets.items()},
                {here(place): code for place, code in one.errors.items()},
            )
        text = _PARTITION.sub(lambda name: self._places.topic(name[1]), one.text, 1)
        topic = None if one.topic is None else self._places.topic(one.topic)
        return replace(one, text=text, topic=topic, place=None if one.place is None else here(one.place))

    def slipped(self) -> bool:
        return self._client.slipped()

    def committed(self, places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
        there, here = self._places.there, self._places.here
        return {here(one): kept for one, kept in self._client.committed(list(map(there, places)), timeout).items()}

    def bounds(self, places: Sequence[Place], timeout: float) -> dict[Place, tuple[int, int]]:
        there, here = self._places.there, self._places.here
        return {here(one): both for one, both in self._client.bounds(list(map(there, places)), timeout).items()}

    def at(self, places: Sequence[Place], moment: float, timeout: float) -> dict[Place, int]:
        there, here = self._places.there, self._places.here
        return {here(one): offset for one, offset in self._client.at(list(map(there, places)), moment, timeout).items()}

    def partitions(self, topic: str, timeout: float) -> list[Place]:
        return list(map(self._places.here, self._client.partitions(self._places.names.there(topic), timeout)))

    def seek(self, positions: Mapping[Place, int]) -> None:
        self._client.seek({self._places.there(place): offset for place, offset in positions.items()})

    def position(self, places: Sequence[Place]) -> dict[Place, int]:
        there, here = self._places.there, self._places.here
        return {here(one): offset for one, offset in self._client.position(list(map(there, places))).items()}

    def pause(self, places: Sequence[Place]) -> None:
        self._client.pause(list(map(self._places.there, places)))

    def resume(self, places: Sequence[Place]) -> None:
        self._client.resume(list(map(self._places.there, places)))

    def commit(self, offsets: Mapping[Place, Kept]) -> None:
        self._client.commit({self._places.there(place): kept for place, kept in offsets.items()})

    def forgetful(self) -> bool:
        return self._client.forgetful()

    def member(self) -> object:
        return self._client.member()

    def reaches(self, topic: str, timeout: float) -> bool:
        return self._client.reaches(self._places.names.there(topic), timeout)

    def abandon(self) -> None:
        self._client.abandon()

    def close(self) -> None:
        self._client.close()


class _MappedRebalance:
    """Who is told of partitions by the app's names."""

    def __init__(self, rebalance: Rebalance, places: _Places) -> None:
        self._rebalance = rebalance
        self._places = places

    def assigned(self, places: Sequence[Place]) -> Mapping[Place, int]:
        starts = self._rebalance.assigned(list(map(self._places.here, places)))
        return {self._places.there(place): offset for place, offset in starts.items()}

    def revoked(self, places: Sequence[Place]) -> None:
        self._rebalance.revoked(list(map(self._places.here, places)))

    def lost(self, places: Sequence[Place]) -> None:
        self._rebalance.lost(list(map(self._places.here, places)))


class MappedTopics(ConfluentTopics):
    """`client.Topics` by the app's names; of the cluster's topics the app's alone."""

    def __init__(self, kafka: Settings, names: Names) -> None:
        super().__init__(kafka)
        self._places = _Places(names)

    def names(self, timeout: float) -> frozenset[str]:
        found = map(self._places.names.here, super().names(timeout))
        return frozenset(name for name in found if name is not None)

    def ids(self, topics: Sequence[str], timeout: float) -> Identities:
        found = super().ids(list(map(self._places.names.there, topics)), timeout)
        name = self._places.topic
        known = {name(there): number for there, number in found.topics.items()}
        return Identities(found.cluster, known, frozenset(map(name, found.refused)))

    def ends(self, places: Sequence[Place], timeout: float) -> dict[Place, int]:
        there, here = self._places.there, self._places.here
        return {here(one): end for one, end in super().ends(list(map(there, places)), timeout).items()}

    def committed(self, group: str, places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
        there, here = self._places.there, self._places.here
        return {here(one): kept for one, kept in super().committed(group, list(map(there, places)), timeout).items()}

    def pending(self, group: str, places: Sequence[Place], timeout: float) -> list[Place]:
        there, here = self._places.there, self._places.here
        return list(map(here, super().pending(group, list(map(there, places)), timeout)))

    def unowned(self, group: str, topics: Sequence[str], timeout: float) -> frozenset[Place] | None:
        found = super().unowned(group, list(map(self._places.names.there, topics)), timeout)
        return None if found is None else frozenset(map(self._places.here, found))


class MappedSender(ConfluentSender):
    """`client.Sender` by the app's names. Any thread."""

    def __init__(self, kafka: Mapping[str, Any], names: Names) -> None:
        super().__init__(kafka)
        self.quick = _sending(self.quick, names)


class MappedTransactor(ConfluentTransactor):
    """`client.Transactor` by the app's names. Its steps are one thread's at a time."""

    def __init__(self, kafka: Mapping[str, Any], names: Names) -> None:
        super().__init__(kafka)
        self._places = _Places(names)
        self.quick = _sending(self.quick, names)

    def add_offsets(self, offsets: Mapping[Place, Kept], member: object, timeout: float) -> None:
        there = {self._places.there(place): kept for place, kept in offsets.items()}
        super().add_offsets(there, member, timeout)


def _sending(quick: Quick, names: Names) -> Quick:
    """`quick`, to where the cluster has it."""

    def send(
        topic: str,
        value: bytes | str | None,
        key: bytes | str | None,
        partition: int,
        posted: Posted,
        nothing: None,
        timestamp: int,
        headers: list[Header] | None,
    ) -> None:
        try:
            there = names.there(topic)
        except ConfigError as error:
            raise Refused(Failure(Fault.INVALID, "", str(error), retriable=False)) from None
        quick(there, value, key, partition, posted, nothing, timestamp, headers)

    return send
