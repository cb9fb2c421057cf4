"""Transactional producers on a topic of their own, what readers see of it, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

import pytest

from karafka import Producer
from karafka.events import Event, TransactionAborted, TransactionBegun, TransactionCommitted
from karafka.transactions import Transaction
from tests.brokers import new_group
from tests.specs import visible
from tests.specs.run import Stage

E = TypeVar("E", bound=BaseException)
K = TypeVar("K", bound=Event)
Body = Callable[[Transaction], object]
Way = Callable[[Producer, Body], None]


def plainly(producer: Producer, body: Body) -> None:
    with producer.transaction() as transaction:
        body(transaction)


def on_a_loop(producer: Producer, body: Body) -> None:
    async def run() -> None:
        async with producer.transaction() as transaction:
            body(transaction)

    asyncio.run(run())


def refused(producer: Producer, body: Body, error: type[E], words: str | None = None, *, inside: Way = plainly) -> E:
    """The transaction ends with that error."""
    with pytest.raises(error, match=words) as raised:
        inside(producer, body)
    return raised.value


class Post:
    """A topic of two partitions, and producers that are closed at the end of the test."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.topic = stage.topic(2)
        self.name = new_group()
        self._made: list[Producer] = []

    def producer(self, name: str | None = None, **settings: Any) -> Producer:
        """One with a `transactional.id` of its own, or `name`. Settings in Kafka's names with `_` for `.`, or ours."""
        ours = {one: settings.pop(one) for one in ("parser", "parsers", "before_send", "events") if one in settings}
        kafka = {one.replace("_", "."): value for one, value in settings.items()}
        whole = {"bootstrap.servers": self.stage.bootstrap, "transactional.id": name or new_group(), **kafka}
        self._made.append(Producer(whole, **ours))
        return self._made[-1]

    def rivals(self) -> tuple[Producer, Producer]:
        """Two with the same id; the first has sent `first` by it."""
        one, other = self.producer(self.name), self.producer(self.name)
        self.send(one, "first")
        return one, other

    def send(self, producer: Producer, *payloads: str) -> None:
        """A transaction of its own."""
        with producer.transaction() as transaction:
            for payload in payloads:
                transaction.produce_async(self.topic, payload, partition=0)

    def seen(self, topic: str = "") -> list[str]:
        """What is committed."""
        return visible.seen(self.stage.bootstrap, topic or self.topic, 2)

    def written(self, topic: str = "") -> list[str]:
        """What is in the log, whatever became of its transaction."""
        return visible.written(self.stage.bootstrap, topic or self.topic, 2)

    def decided(self) -> float:
        """Wait until no transaction is open; the seconds it took."""
        return visible.decided(self.stage.bootstrap, self.topic, 2)

    def goes_on(self, producer: Producer) -> None:
        """The producer takes a transaction at once, and it is seen."""
        began = monotonic()
        self.send(producer, "goes on")
        assert monotonic() - began < 10
        assert "goes on" in self.seen()

    def close(self) -> None:
        for one in self._made:
            one.close(10)


class Heard:
    """What a producer tells of its transactions, in order."""

    def __init__(self, producer: Producer) -> None:
        self.events: list[Event] = []
        for kind in (TransactionBegun, TransactionCommitted, TransactionAborted):
            producer.events.on(kind, self.events.append)

    def names(self) -> list[str]:
        return [type(one).__name__ for one in self.events]

    def last(self, kind: type[K]) -> K:
        return next(one for one in reversed(self.events) if isinstance(one, kind))
