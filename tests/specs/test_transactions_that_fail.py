"""A transaction that cannot be committed is aborted, in time and in words; its producer goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from random import Random
from threading import Event, Thread
from time import monotonic

import pytest

from karafka import Error, Producer, TransactionError
from karafka.errors import DeliveryError
from karafka.transactions import Transaction
from tests.brokers import until
from tests.specs.run import Stage
from tests.specs.transacting import Heard, Post, plainly, refused

# Nothing that compression makes small.
LARGE = Random(1).randbytes(10_000)


@pytest.fixture
def post(stage: Stage) -> Iterator[Post]:
    with closing(Post(stage)) as made:
        yield made


@pytest.fixture
def narrow(stage: Stage) -> str:
    """A topic that takes no more than 2,000 bytes at a time."""
    return stage.topic(2, max_message_bytes="2000")


@pytest.mark.parametrize("waits", [False, True], ids=["not waited for", "waited for"])
def test_one_message_that_cannot_be_aborts_all(post: Post, narrow: str, *, waits: bool) -> None:
    producer, codes = post.producer(), []
    told = Heard(producer)

    def body(transaction: Transaction) -> None:
        transaction.produce_async(narrow, "good", partition=0)
        transaction.produce_async(post.topic, "good too", partition=0)
        handle = transaction.produce_async(narrow, LARGE, partition=1)
        handle.add_done_callback(lambda one: codes.append(one.error.code if one.error else ""))
        if waits:
            handle.wait(10)

    began = monotonic()
    refused(producer, body, DeliveryError if waits else TransactionError)
    assert monotonic() - began < 10
    until(lambda: codes == ["MSG_SIZE_TOO_LARGE"])
    assert told.names() == ["TransactionBegun", "TransactionAborted"]
    assert (post.seen(), post.seen(narrow)) == ([], [])
    post.goes_on(producer)


def test_the_error_names_the_message_and_says_that_it_stays(post: Post, narrow: str) -> None:
    """The same block cannot succeed."""
    failed = refused(
        post.producer(),
        lambda transaction: transaction.produce_async(narrow, LARGE, key="the large one"),
        TransactionError,
    )
    assert "the large one" in str(failed)
    assert narrow in str(failed)
    assert not failed.retriable


def test_a_failure_that_the_block_swallows_is_one(post: Post, narrow: str) -> None:
    """It is not committed without that message."""
    producer = post.producer()

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "good", partition=0).wait(10)
        with pytest.raises(DeliveryError):
            transaction.produce_async(narrow, LARGE).wait(10)

    refused(producer, body, TransactionError)
    assert post.seen() == []
    post.goes_on(producer)


def test_what_failed_counts(post: Post, narrow: str) -> None:
    producer = post.producer()
    refused(producer, lambda transaction: transaction.produce_async(narrow, LARGE), TransactionError)
    assert producer.statistics().failed == 1


@pytest.mark.parametrize("way", ["with", "async with", "produce_sync"])
def test_without_a_broker_it_takes_no_longer_than_asked(way: str) -> None:
    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "transactional.id": "nobody", "log_level": 0})

    async def ask_on_a_loop() -> None:
        async with producer.transaction(timeout=1):
            pass

    def ask() -> None:
        match way:
            case "with":
                with producer.transaction(timeout=1):
                    pass
            case "async with":
                asyncio.run(ask_on_a_loop())
            case _:
                producer.produce_sync("any", "x", timeout=1)

    began = monotonic()
    with pytest.raises(TransactionError) as failed:
        ask()
    assert monotonic() - began < 10
    assert (failed.value.retriable, failed.value.unknown) == (True, False)
    producer.close(1)
    assert monotonic() - began < 15


def test_without_a_broker_closing_takes_no_longer_than_asked() -> None:
    """While a thread waits for the broker, who is then told."""
    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "transactional.id": "nobody", "log_level": 0})
    begun = Event()

    def ask() -> None:
        begun.set()
        with pytest.raises(Error):
            plainly(producer, bool)

    asking = Thread(target=ask, daemon=True)
    asking.start()
    assert begun.wait(5)
    transactions = producer.transactions
    assert transactions is not None
    until(transactions._turn.locked, 5)
    began = monotonic()
    producer.close(1)
    assert monotonic() - began < 10
    asking.join(10)
    assert not asking.is_alive()
