"""The other ends of the flow: who sends the messages, and who reads what was buried."""

from __future__ import annotations

import time
from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from threading import Event, Thread
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from karafka import DeliveryError, Producer
from karafka.delivery import Handle
from karafka.parsers import JSON
from tests.chaos.messages import Fates

PARTITIONS = 4
# Now and then a message takes longer, so that a kill finds it in hand.
USUAL = Fates(slow=0.001)


class Feeder:
    """Sends numbered messages to all partitions in turn, at an even rate, until it is stopped. A thread of its own."""

    def __init__(self, bootstrap: str, topic: str, rate: int, fates: Fates = USUAL) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
        self._topic = topic
        self._rate = rate
        self._fates = fates
        #: By partition, the confirmed offset of each sequence, -1 for what the broker refused; they grow.
        self.offsets = {partition: array("q") for partition in range(PARTITIONS)}
        self._handles: dict[int, deque[Handle]] = {partition: deque() for partition in range(PARTITIONS)}
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="chaos-feeder", daemon=True)
        #: How many messages were given to the client; and how many of them are no plain ones, by what they are.
        self.sent = 0
        self.kinds: Counter[str] = Counter()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 60.0) -> Mapping[int, Sequence[int]]:
        """Send no more, wait for what is on its way. What `offsets` are then."""
        self._stopped.set()
        self._thread.join()
        self._producer.flush(timeout)
        for partition in range(PARTITIONS):
            while self._handles[partition]:
                self._take_in(partition)
        self._producer.close()
        return self.offsets

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stopped.wait(0.005):
            due = int((time.monotonic() - began) * self._rate)
            for number in range(self.sent, due):
                partition, sequence = number % PARTITIONS, number // PARTITIONS
                fate, payload = self._fates.of(partition, sequence), self._fates.payload(partition, sequence)
                self.kinds.update({"poison": fate.poison, "slow": fate.takes > 0, "failures": fate.fails > 0})
                key = self._fates.key(partition, sequence)
                handle = self._producer.produce_async(self._topic, payload, key=key, partition=partition)
                self._handles[partition].append(handle)
            self.sent = max(self.sent, due)
            for partition, handles in self._handles.items():
                while handles and handles[0].done:
                    self._take_in(partition)

    def _take_in(self, partition: int) -> None:
        try:
            self.offsets[partition].append(self._handles[partition].popleft().wait(30).offset)
        except DeliveryError:
            self.offsets[partition].append(-1)


class Burial(NamedTuple):
    """A message in the dead letter topic: where it came from, what it holds, when the broker took it."""

    partition: int
    offset: int
    value: bytes
    at: float


class Graveyard:
    """Reads the dead letter topic, of one partition, as it grows. Its thread's alone."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        asks = {"bootstrap.servers": bootstrap, "group.id": "graveyard", "enable.auto.commit": False, "log_level": 0}
        self._client = Consumer({**asks, "auto.offset.reset": "earliest"})
        self._client.assign([TopicPartition(topic, 0, 0)])

    def read(self) -> list[Burial]:
        """What is new; does not wait."""
        new = []
        for message in self._client.consume(1_000, 0):
            if message.error() is None:
                told = dict(message.headers() or [])
                partition, offset = int(told["karafka-partition"] or 0), int(told["karafka-offset"] or 0)
                new.append(Burial(partition, offset, message.value() or b"", message.timestamp()[1] / 1_000))
        return new

    def close(self) -> None:
        self._client.close()


def written(fates: Fates, partition: int, sequence: int) -> bytes:
    """The bytes of what is sent."""
    payload = fates.payload(partition, sequence)
    return payload if isinstance(payload, bytes) else JSON().generate(payload)
