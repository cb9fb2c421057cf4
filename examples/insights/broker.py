"""What the demo asks the cluster itself, beside the app: which commits it has, how far topics and groups are."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from karafka import BrokerError

from models import Commit

PATIENCE = 5.0


class Broker:
    """A cluster at `bootstrap`. One thread's. Methods raise `KafkaException` or `BrokerError` after 5 s of silence."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        # It never joins the group that it has to name: it takes partitions without asking.
        self._reader = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": 0,
                "group.id": "insights-reader",
                "enable.auto.commit": False,
            }
        )

    def prepare(self, topics: Iterable[str]) -> None:
        """Name `topics`, so that a broker that makes topics by itself makes them before anybody waits for them.

        Raises `BrokerError` if it does not.
        """
        until = time.monotonic() + PATIENCE
        for topic in topics:
            while (there := self._admin.list_topics(topic, timeout=PATIENCE).topics[topic]).error is not None:
                if time.monotonic() > until:
                    raise BrokerError(
                        f"there is no topic {topic!r}, and the broker does not make it: {there.error.str()}. "
                        "Create it, with as many partitions as you like",
                        retriable=True,
                    )
                time.sleep(0.05)

    def lag(self, group: str, topics: Iterable[str]) -> tuple[int, int]:
        """How many messages of `topics` the group has finished, and how many it has not."""
        places = self._partitions(topics)
        if not places:
            return 0, 0
        ends = {
            (place.topic, place.partition): self._reader.get_watermark_offsets(place, PATIENCE)[1] for place in places
        }
        (asked,) = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)]).values()
        committed = asked.result(PATIENCE).topic_partitions
        done = sum(max(0, place.offset) for place in committed)
        return done, sum(max(0, ends[place.topic, place.partition] - max(0, place.offset)) for place in committed)

    def published(self, repository: str) -> set[str]:
        """Which commits of `repository` are on the topic `commits`, read from its beginning to its end.

        The topic is the memory: so nothing claims what the broker has forgotten, or forgets what it has.
        """
        places = self._partitions(["commits"])
        unread = {
            place.partition: end
            for place in places
            for start, end in [self._reader.get_watermark_offsets(place, PATIENCE)]
            if start < end
        }
        found: set[str] = set()
        self._reader.assign([TopicPartition("commits", partition, OFFSET_BEGINNING) for partition in unread])
        while unread:
            message = self._reader.poll(PATIENCE)
            if message is None:
                raise BrokerError(f"no message of 'commits' within {PATIENCE:g} s, but there are some", retriable=True)
            if (error := message.error()) is not None:
                raise KafkaException(error)
            partition, offset, value = message.partition() or 0, message.offset() or 0, message.value()
            if message.key() == repository.encode() and value is not None:
                found.add(msgspec.json.decode(value, type=Commit).sha)
            if offset + 1 >= unread.get(partition, 0):
                unread.pop(partition, None)
        self._reader.unassign()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def _partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of those `topics` that are there."""
        there = self._admin.list_topics(timeout=PATIENCE).topics
        return [
            TopicPartition(topic, partition)
            for topic in topics
            if topic in there
            for partition in there[topic].partitions
        ]
