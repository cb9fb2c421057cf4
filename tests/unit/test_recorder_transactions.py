"""A producer that delivers nothing keeps of a transaction what readers of committed messages would see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from karafka.client import Kept
from karafka.delivery import Handle
from karafka.errors import ConfigError, InvalidMessageError, TransactionError
from karafka.events import Event, TransactionAborted, TransactionBegun, TransactionCommitted
from karafka.messages import Place
from karafka.producer import Producer
from karafka.transactions import Transaction
from tests.specs.transacting import Body, Way, on_a_loop, plainly


@pytest.fixture(params=[plainly, on_a_loop])
def inside(request: pytest.FixtureRequest) -> Way:
    """`with`, and `async with`."""
    way: Way = request.param
    return way


@pytest.fixture
def producer() -> Iterator[Producer]:
    with Producer({"bootstrap.servers": "nowhere:1", "transactional.id": "shop-1"}, deliver=False) as made:
        yield made


def payloads(producer: Producer) -> list[bytes | None]:
    return [one.payload for one in producer.recorded]


def raising(error: BaseException) -> Body:
    def body(transaction: Transaction) -> None:
        transaction.produce_async("orders", "never")
        raise error

    return body


def test_what_is_committed_is_recorded_all_at_once(producer: Producer, inside: Way) -> None:
    """Whole, with its places, and not before it is."""

    def body(transaction: Transaction) -> None:
        transaction.produce_async("orders", "1", key="a", label="first")
        transaction.produce_many_async([{"topic": "orders", "payload": "2"}, {"topic": "clicks", "payload": "3"}])
        transaction.tombstone("orders", "a")
        assert producer.recorded == []

    inside(producer, body)

    found = [(one.topic, one.offset, one.payload, one.label) for one in producer.recorded]
    assert found == [
        ("orders", 0, b"1", "first"),
        ("orders", 1, b"2", None),
        ("clicks", 0, b"3", None),
        ("orders", 2, None, None),
    ]


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(3)])
def test_what_is_aborted_is_never_recorded(producer: Producer, inside: Way, error: BaseException) -> None:
    """Nor with the next one."""
    with pytest.raises(type(error)):
        inside(producer, raising(error))
    assert producer.recorded == []

    inside(producer, lambda transaction: transaction.produce_async("orders", "next"))
    assert payloads(producer) == [b"next"]


def test_what_is_aborted_on_purpose_is_never_recorded(producer: Producer, inside: Way) -> None:
    def body(transaction: Transaction) -> None:
        transaction.produce_async("orders", "never")
        transaction.abort()

    inside(producer, body)
    assert producer.recorded == []


def test_its_offsets_are_not_another_s(producer: Producer) -> None:
    """As in the log, where what was aborted keeps its place."""
    with suppress(ZeroDivisionError):
        plainly(producer, raising(ZeroDivisionError()))
    delivery = producer.produce_sync("orders", "next")

    assert (delivery.offset, [one.offset for one in producer.recorded]) == (1, [1])


def test_its_handles_end(producer: Producer) -> None:
    """Delivered, as the broker would have said before it was committed or aborted; none waits for ever."""
    handles: list[Handle] = []

    def body(transaction: Transaction) -> None:
        handles.append(transaction.produce_async("orders", "1"))
        assert handles[-1].wait(5).offset == len(handles) - 1
        handles.append(transaction.produce_async("orders", "2"))

    def failing(transaction: Transaction) -> None:
        handles.append(transaction.produce_async("orders", "3"))
        raise ZeroDivisionError

    plainly(producer, body)
    with suppress(ZeroDivisionError):
        plainly(producer, failing)

    assert [one.done for one in handles] == [True] * 3
    assert payloads(producer) == [b"1", b"2"]


def test_what_is_waited_for_is_a_transaction_of_its_own(producer: Producer) -> None:
    producer.produce_sync("orders", "1")
    producer.produce_many_sync([{"topic": "orders", "payload": "2"}, {"topic": "orders", "payload": "3"}])

    assert payloads(producer) == [b"1", b"2", b"3"]


def test_what_kafka_would_refuse_is_refused(producer: Producer) -> None:
    """A test that does it must fail, as production would: sent outside, inside another, after its end."""
    with producer.transaction() as transaction:
        with pytest.raises(ConfigError, match="by a transaction"):
            producer.produce_async("orders", "outside")
        with pytest.raises(ConfigError, match="inside another"):
            plainly(producer, bool)
        with pytest.raises(InvalidMessageError):
            transaction.produce_async("two words", "x")
    with pytest.raises(TransactionError, match="over"):
        transaction.produce_async("orders", "late")

    assert producer.recorded == []


def test_without_an_id_there_is_no_transaction() -> None:
    with Producer.recorder() as producer, pytest.raises(ConfigError, match=r"transactional\.id"):
        producer.transaction()


def test_offsets_are_kept_with_what_is_committed(producer: Producer) -> None:
    """What was said last; of what is aborted none."""
    recorder = producer._recorder
    assert recorder is not None
    with producer.transaction() as transaction:
        transaction.commit_offsets({("in", 0): 1}, "a member")
        transaction.commit_offsets({("in", 0): 2}, "a member")
        assert recorder.offsets == {}
    with producer.transaction() as transaction:
        transaction.commit_offsets({("in", 0): 9, ("in", 1): 9}, "a member")
        transaction.abort()
    with producer.transaction():
        """Of nothing: it has not the offsets of the one before."""

    assert recorder.offsets == {Place("in", 0): Kept(2)}


def test_events_are_told_as_ever(producer: Producer) -> None:
    told: list[Event] = []
    for kind in (TransactionBegun, TransactionCommitted, TransactionAborted):
        producer.events.on(kind, told.append)
    producer.produce_sync("orders", "1")
    with suppress(ZeroDivisionError):
        plainly(producer, raising(ZeroDivisionError()))

    assert [type(one) for one in told] == [TransactionBegun, TransactionCommitted, TransactionBegun, TransactionAborted]


def test_what_was_recorded_may_be_looked_at_after_the_end(producer: Producer) -> None:
    """What was open then is not among it."""

    def body(transaction: Transaction) -> None:
        transaction.produce_async("orders", "never")
        producer.close()

    producer.produce_sync("orders", "1")
    with pytest.raises(TransactionError, match="closed"):
        plainly(producer, body)

    assert payloads(producer) == [b"1"]
