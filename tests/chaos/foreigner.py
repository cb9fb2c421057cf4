"""A member of the group that is not ours: the bare client, which performs and commits for itself until a SIGTERM.

It keeps to the same promises by the simplest means, a message at a time: the position that it commits is behind the
last message performed or buried. Slow messages are quick to it, and none but poison fails.
"""

from __future__ import annotations

import json
import os
import signal
import time
from types import FrameType
from typing import Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.chaos.journal import Journal
from tests.chaos.members import Consumer

# How long it waits before it asks, or sends, again.
AGAIN = 0.2


class Foreigner:
    """See the module."""

    def __init__(self, told: Consumer) -> None:
        self._told = told
        self._journal = Journal(told.journal, told.life)
        self._positions: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._stopping = False
        self._kafka: dict[str, Any] = {"bootstrap.servers": told.bootstrap, "log_level": 0}
        own = {"group.id": told.group, "enable.auto.commit": False, "auto.offset.reset": "error"}
        self._client = Client({**self._kafka, **told.kafka, **own})
        self._producer = Producer({**self._kafka, "enable.idempotence": True})

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._stop)
        self._client.subscribe(
            [self._told.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        due = 0.0
        while not self._stopping:
            message = self._client.poll(0.05)
            if message is not None and message.error() is None:
                self._take(message)
            if time.monotonic() >= due:
                self._commit()
                due = time.monotonic() + self._told.commit_interval
        self._client.close()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _take(self, message: Message) -> None:
        partition, offset = message.partition() or 0, message.offset() or 0
        if partition not in self._positions:
            return
        term = self._journal.terms[partition]
        try:
            payload = json.loads(message.value() or b"")
            poison = payload["poison"]
        except ValueError:
            poison = True
        if poison and not self._buried(message):
            return  # it stops with this one in hand: who reads the partition next begins with it
        if not poison:
            self._journal.write("performed", partition, offset, payload["sequence"], term)
        self._positions[partition] = offset + 1

    def _buried(self, message: Message) -> bool:
        """Send it to the dead letter topic, again until the broker has confirmed that, or a stop comes."""
        kept = False

        def delivered(error: KafkaError | None, _message: Message) -> None:
            nonlocal kept
            kept = error is None

        headers: list[tuple[str, str | bytes | None]] = [
            ("karafka-partition", str(message.partition())),
            ("karafka-offset", str(message.offset())),
        ]
        while not kept and not self._stopping:
            self._producer.produce(self._told.grave, message.value(), on_delivery=delivered, headers=headers)
            while len(self._producer) and not self._stopping:
                self._producer.poll(AGAIN)
            if not kept:
                self._producer.poll(AGAIN)
        return kept

    def _commit(self) -> None:
        """What is finished, and was not committed; what the broker refuses is not, and is not asked for again."""
        news = {one: at for one, at in self._positions.items() if at != self._committed[one]}
        if not news:
            return
        try:
            answers = self._client.commit(
                offsets=[TopicPartition(self._told.topic, one, at) for one, at in news.items()], asynchronous=False
            )
        except KafkaException:
            return
        for one in answers or ():
            if one.error is None:
                self._committed[one.partition] = one.offset
                self._journal.write("committed", one.partition, one.offset)

    # ── rebalances: called inside `poll` and `close` ─────────────────────────────────────────────────────────

    def _assigned(self, client: Client, partitions: list[TopicPartition]) -> None:
        places = [TopicPartition(one.topic, one.partition, max(0, one.offset)) for one in self._known(partitions)]
        for one in places:
            self._positions[one.partition] = self._committed[one.partition] = one.offset
            self._journal.write("assigned", one.partition, one.offset)
        if self._told.kafka.get("partition.assignment.strategy") == "range":
            client.assign(places)
        else:
            client.incremental_assign(places)

    def _known(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """What is committed of them: the broker is asked until it says."""
        while True:
            try:
                answers = self._client.committed(partitions, 5)
            except KafkaException:
                time.sleep(AGAIN)
                continue
            if not any(one.error for one in answers):
                return answers
            time.sleep(AGAIN)

    def _revoked(self, _client: Client, partitions: list[TopicPartition]) -> None:
        self._commit()
        self._gone(partitions, "revoked")

    def _lost(self, _client: Client, partitions: list[TopicPartition]) -> None:
        self._gone(partitions, "lost")

    def _gone(self, partitions: list[TopicPartition], how: Any) -> None:
        for one in partitions:
            self._journal.write(how, one.partition, self._positions.pop(one.partition, -1))


if __name__ == "__main__":
    Foreigner(Consumer.parse(os.environ["CHAOS"])).run()
