"""Many messages in one call, while their client dies under it: each ends once, in its place, and the rest goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from karafka.delivery import Delivery, Handles
from karafka.errors import ClientFailedError, PartlyDeliveredError, ProducerClosedError, TransactionError
from karafka.events import Acknowledged, DeliveryFailed, Event, Produced, ProducerReplaced
from karafka.letters import Letter, Row
from karafka.producer import CLIENTS, Producer
from tests.unit.house import until
from tests.unit.notary import on_paper
from tests.unit.post import Post, poller_of

PATIENCE = 10.0
COUNT, TAKEN = 8, 3
ROWS: list[Row] = [{"topic": "orders", "payload": str(number), "label": number} for number in range(COUNT)]
FIRST, REST = [str(number) for number in range(TAKEN)], [str(number) for number in range(TAKEN, COUNT)]


class Dying(Post):
    """Something happens once it has taken so many messages, inside the call that sends the last; none is confirmed."""

    def __init__(self, happens: Callable[[Dying], object]) -> None:
        super().__init__()
        self._happens = happens
        self.open = False

    def send(self, letter: Letter, posted: Any) -> None:
        super().send(letter, posted)
        if len(self.sent) == TAKEN:
            self._happens(self)


class Line:
    """A producer whose first client dies, as `happens` says; all clients there were, and what was told."""

    def __init__(self, happens: Callable[[Line, Dying], object]) -> None:
        self.clients: list[Post] = []
        self._happens = happens
        self.producer = Producer({}, sender=self._make)
        self.told: list[Event] = []

    def _make(self) -> Post:
        self.clients.append(Post() if self.clients else Dying(lambda client: self._happens(self, client)))
        return self.clients[-1]

    def hear(self, *kinds: type[Event]) -> None:
        for kind in kinds:
            self.producer.events.on(kind, self.told.append)

    def labels(self, kind: type[Event]) -> list[Any]:
        """Of what was told, in order."""
        return [
            one.label
            for one in self.told
            if isinstance(one, Produced | Acknowledged | DeliveryFailed) and isinstance(one, kind)
        ]

    def sent(self, client: int) -> list[Any]:
        return [one.value for one in self.clients[client].sent]


def refuses(_line: Line, client: Dying) -> None:
    """The next message finds it out."""
    client.die(silently=True)


def says(line: Line, client: Dying) -> None:
    """Whoever serves its reports hears it first."""
    client.die()
    poller_of(line.producer).end("out of order")


@pytest.fixture(params=[refuses, says])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    made = Line(request.param)
    yield made
    made.producer.close(0.0)


def ended(handles: Handles) -> list[int | None]:
    """How each ended: its offset, or None where the client took it along."""
    for one in handles:
        with suppress(ClientFailedError):
            one.wait(PATIENCE)
    return [None if one.error is not None else one.result().offset for one in handles]


def test_what_it_took_fails_with_it_and_the_rest_goes_by_the_next(line: Line) -> None:
    """In order, each where it stood; nothing is sent by both."""
    handles = line.producer.produce_many_async(ROWS)

    assert ended(handles) == [*[None] * TAKEN, *range(COUNT - TAKEN)]
    assert [one.label for one in handles] == list(range(COUNT))
    assert (line.sent(0), line.sent(1), len(line.clients)) == (FIRST, REST, 2)


def test_who_waits_for_all_is_told_of_each(line: Line) -> None:
    """What failed may be sent again; the rest must not."""
    with pytest.raises(PartlyDeliveredError, match=f"{TAKEN} of {COUNT} messages") as failed:
        line.producer.produce_many_sync(ROWS, timeout=PATIENCE)

    kinds = [type(one) for one in failed.value.results]
    assert kinds == [*[ClientFailedError] * TAKEN, *[Delivery] * (COUNT - TAKEN)]
    assert failed.value.retriable


def test_who_awaits_all_is_told_of_each(line: Line) -> None:
    async def send() -> None:
        await line.producer.produce_many_async(ROWS)

    with pytest.raises(PartlyDeliveredError) as failed:
        asyncio.run(asyncio.wait_for(send(), PATIENCE))
    assert [isinstance(one, Delivery) for one in failed.value.results] == [number >= TAKEN for number in range(COUNT)]


def test_each_is_told_once(line: Line) -> None:
    """Accepted, then confirmed or failed; and once that there is another client."""
    line.hear(Produced, Acknowledged, DeliveryFailed, ProducerReplaced)
    ended(line.producer.produce_many_async(ROWS))

    assert until(lambda: len(line.told) == 2 * COUNT + 1)
    assert line.labels(Produced) == list(range(COUNT))
    assert line.labels(Acknowledged) == list(range(TAKEN, COUNT))
    assert line.labels(DeliveryFailed) == list(range(TAKEN))
    assert sum(isinstance(one, ProducerReplaced) for one in line.told) == 1


def test_what_is_sent_afterwards_goes_by_the_next(line: Line) -> None:
    """The one that died is let go."""
    ended(line.producer.produce_many_async(ROWS))

    assert [one.offset for one in line.producer.produce_many_sync(ROWS, timeout=PATIENCE)] == list(range(5, 13))
    assert len(line.clients) == 2
    assert until(lambda: line.clients[0].closed)


def test_clients_that_all_refuse_fail_each_message() -> None:
    """Each is offered to so many: nothing waits for ever, and nothing is lost without a word."""
    clients: list[Post] = []

    def make() -> Post:
        clients.append(Post())
        clients[-1].die(silently=True)
        return clients[-1]

    producer = Producer({}, sender=make)
    handles = producer.produce_many_async(ROWS)

    assert ended(handles) == [None] * COUNT
    assert CLIENTS <= len(clients) <= CLIENTS * COUNT
    producer.close(0.0)


def test_closed_in_the_midst_of_it_the_rest_is_refused() -> None:
    """No client is made for it."""

    def closes(line: Line, _client: Dying) -> None:
        line.producer.close(0.0)

    line = Line(closes)
    handles = line.producer.produce_many_async(ROWS)

    assert until(lambda: all(one.done for one in handles))
    assert [type(one.error) for one in handles] == [ProducerClosedError] * COUNT
    assert (line.sent(0), len(line.clients)) == (FIRST, 1)


def test_in_a_transaction_the_rest_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another client would send half of it: none is seen, and the same work may be done again."""
    _, register = on_paper(monkeypatch)
    producer = register.producer()
    handles: list[Handles] = []

    def send() -> None:
        with producer.transaction() as transaction:
            transaction.produce_many_async(ROWS[:TAKEN])
            register.clients[0].die(silently=True)
            handles.append(transaction.produce_many_async(ROWS[TAKEN:]))

    with pytest.raises(TransactionError):
        send()
    assert [type(one.error) for one in handles[0]] == [ClientFailedError] * (COUNT - TAKEN)
    assert register.seen == []
    producer.produce_many_sync(ROWS)
    assert register.payloads == [*FIRST, *REST]
    assert len(register.clients) == 2
