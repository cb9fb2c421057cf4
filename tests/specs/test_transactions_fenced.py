"""Of two producers with one `transactional.id` the later one counts: the first is told so, for good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event
from time import monotonic

import pytest

from karafka import Error, FencedError
from karafka.transactions import Transaction
from tests.specs.run import Stage
from tests.specs.transacting import Post, plainly, refused


@pytest.fixture
def post(stage: Stage) -> Iterator[Post]:
    with closing(Post(stage)) as made:
        yield made


def test_the_first_is_fenced_for_good(post: Post) -> None:
    """What it had open is never seen; its commit says so, and so does all it tries later."""
    one, other = post.rivals()

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "never", partition=0).wait(10)
        post.send(other, "theirs")

    fenced = refused(one, body, FencedError, "taken over")
    assert (fenced.retriable, fenced.unknown) == (False, False)
    for _ in range(2):
        refused(one, bool, FencedError, "taken over")
        with pytest.raises(FencedError, match="taken over"):
            one.produce_sync(post.topic, "never")
    post.send(other, "theirs again")
    assert post.seen() == ["first", "theirs", "theirs again"]


def test_who_waited_for_its_turn_meanwhile_is_fenced_too(post: Post) -> None:
    """It does not take the id back: the other producer goes on."""
    one, other = post.rivals()
    asked = Event()

    async def waits() -> None:
        asked.set()
        async with one.transaction() as transaction:
            transaction.produce_async(post.topic, "never", partition=0)

    with ThreadPoolExecutor(2) as pool:
        waiting = []

        def body(transaction: Transaction) -> None:
            transaction.produce_async(post.topic, "never", partition=0).wait(10)
            waiting.extend([pool.submit(post.send, one, "never"), pool.submit(asyncio.run, waits())])
            assert asked.wait(10)
            post.send(other, "theirs")

        refused(one, body, FencedError)
        for thread in waiting:
            with pytest.raises(FencedError):
                thread.result(30)
    post.send(other, "theirs again")
    assert post.seen() == ["first", "theirs", "theirs again"]


@pytest.mark.parametrize("ending", ["ends", "aborts"])
def test_who_sends_on_takes_nothing_back_from_the_other(post: Post, ending: str) -> None:
    """Once the client has learned of it all sends are refused; the end of the block says why."""
    one, other = post.rivals()

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "never", partition=0).wait(10)
        post.send(other, "theirs")
        failures, by = 0, monotonic() + 10
        while failures < 100:
            assert monotonic() < by, "the client has not learned of it"
            try:
                transaction.produce_async(post.topic, "never", partition=0).wait(1)
            except Error:
                failures += 1
        if ending == "aborts":
            transaction.abort()

    if ending == "ends":
        refused(one, body, FencedError)
    else:
        plainly(one, body)
    refused(one, bool, FencedError)
    post.send(other, "theirs again")
    assert post.seen() == ["first", "theirs", "theirs again"]


def test_who_sends_much_takes_nothing_back_from_the_other(post: Post) -> None:
    """Without waiting for any of it: the client learns of it somewhere in between."""
    one, other = post.rivals()

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "never", partition=0).wait(10)
        post.send(other, "theirs")
        for _ in range(20_000):
            transaction.produce_async(post.topic, "never", partition=0)

    refused(one, body, Error)
    refused(one, bool, FencedError)
    post.send(other, "theirs again")
    assert post.seen() == ["first", "theirs", "theirs again"]


def test_one_made_anew_takes_the_id_back(post: Post) -> None:
    """As the error says, if it is the one that is to go on."""
    one, other = post.rivals()
    post.send(other, "theirs")
    refused(one, lambda transaction: transaction.produce_async(post.topic, "never"), FencedError)
    post.send(post.producer(post.name), "anew")
    refused(other, lambda transaction: transaction.produce_async(post.topic, "never"), FencedError)
    assert post.seen() == ["first", "theirs", "anew"]
