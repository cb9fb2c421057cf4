"""Cancelled, interrupted or closed in the midst of it, a transaction is whole or nothing; the next has its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest

from karafka import Error, TransactionError
from karafka.sender import ConfluentTransactor
from karafka.transactions import Transaction
from tests.specs.run import Stage
from tests.specs.transacting import Heard, Post, Way, on_a_loop, plainly, refused


@pytest.fixture
def post(stage: Stage) -> Iterator[Post]:
    with closing(Post(stage)) as made:
        yield made


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("step", ["_opened", "commit", "abort"])
def test_cancelled_in_a_step_it_is_whole_or_nothing(
    post: Post, monkeypatch: pytest.MonkeyPatch, step: str, times: int
) -> None:
    """A time-out, and the end of the program right behind it, may strike anywhere: the next has its turn at once."""
    producer = post.producer()
    transactions = producer.transactions
    assert transactions is not None
    took: Callable[..., Any] = getattr(transactions, step)

    async def send() -> None:
        async with producer.transaction(timeout=10) as transaction:
            transaction.produce_async(post.topic, "one", partition=0)
            transaction.produce_async(post.topic, "other", partition=1)
            if step == "abort":
                raise LookupError

    async def run() -> None:
        loop, struck = asyncio.get_running_loop(), Event()

        async def strike() -> None:
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0.01)
            struck.set()

        def slow(*arguments: Any) -> Any:
            asyncio.run_coroutine_threadsafe(strike(), loop)
            assert struck.wait(10)
            return took(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(transactions, step, slow)
            task = asyncio.ensure_future(send())
            with pytest.raises(asyncio.CancelledError):
                await task
        async with producer.transaction(timeout=10) as transaction:
            transaction.produce_async(post.topic, "next", partition=0)

    asyncio.run(run())
    payloads = post.seen()
    assert payloads.count("one") == payloads.count("other") <= (1 if step == "commit" else 0)
    assert payloads.count("next") == 1


def test_cancelled_inside_it_is_aborted(post: Post) -> None:
    producer = post.producer()

    async def run() -> None:
        async with asyncio.timeout(0.2), producer.transaction() as transaction:
            await transaction.produce_async(post.topic, "never")
            await asyncio.sleep(60)

    async def send() -> None:
        with pytest.raises(TimeoutError):
            await run()

    asyncio.run(send())
    assert post.seen() == []
    post.goes_on(producer)


def test_cancelled_while_it_waits_for_its_turn_it_gives_it_up(post: Post) -> None:
    producer = post.producer()

    async def send(payload: str) -> None:
        async with producer.transaction() as transaction:
            transaction.produce_async(post.topic, payload, partition=0)

    async def run() -> None:
        async with producer.transaction():
            waiting = [asyncio.ensure_future(send(str(number))) for number in range(10)]
            await asyncio.sleep(0.05)
            for one in waiting[::2]:
                one.cancel()
        await asyncio.wait(waiting)
        assert [one.cancelled() for one in waiting] == [True, False] * 5

    asyncio.run(run())
    assert sorted(post.seen()) == ["1", "3", "5", "7", "9"]


@pytest.mark.parametrize("step", ["flush", "commit"])
def test_interrupted_in_its_commit_it_is_nothing(post: Post, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Ctrl-C: the very next transaction is not refused for what was left behind."""
    producer = post.producer()
    post.send(producer, "before")
    line = producer.pipe.renewed(monotonic() + 10)

    def interrupted(_timeout: float) -> None:
        raise KeyboardInterrupt

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "never", partition=0).wait(10)

    with monkeypatch.context() as patch:
        patch.setattr(line if step == "flush" else line.client, step, interrupted)
        refused(producer, body, KeyboardInterrupt)
    post.goes_on(producer)
    assert post.seen() == ["before", "goes on"]


def test_closed_inside_its_block_it_is_aborted(post: Post) -> None:
    """What is sent then, and the end of the block, say why; readers need not wait for what was left."""
    producer = post.producer()

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "never", partition=0).wait(10)
        producer.close()
        with pytest.raises(TransactionError, match="closed"):
            transaction.produce_async(post.topic, "never")

    refused(producer, body, TransactionError, "closed")
    assert post.decided() < 5
    assert post.seen() == []
    refused(producer, bool, Error, "closed")


@pytest.mark.parametrize("raises", [False, True], ids=["ends", "raises"])
@pytest.mark.parametrize("inside", [plainly, on_a_loop])
def test_closed_elsewhere_it_is_aborted(post: Post, inside: Way, *, raises: bool) -> None:
    """The end of its block says so, or what it raised goes on."""
    producer, open_, closed = post.producer(), Event(), Event()

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "never", partition=0)
        open_.set()
        assert closed.wait(30)
        if raises:
            raise KeyError

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(refused, producer, body, KeyError if raises else TransactionError, inside=inside)
        assert open_.wait(10)
        producer.close()
        closed.set()
        running.result(30)
    assert post.decided() < 5
    assert post.seen() == []


def test_closed_while_it_commits_it_is_what_is_said(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed and seen, or refused and not seen; told once."""
    producer, committing, closing_ = post.producer(), Event(), Event()
    told = Heard(producer)
    post.send(producer, "before")
    commit = ConfluentTransactor.commit
    errors: list[BaseException] = []

    def slow(transactor: ConfluentTransactor, timeout: float) -> None:
        committing.set()
        closing_.wait(0.5)
        commit(transactor, timeout)

    def send() -> None:
        try:
            post.send(producer, "one", "other")
        except Exception as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    monkeypatch.setattr(ConfluentTransactor, "commit", slow)
    thread = Thread(target=send)
    thread.start()
    assert committing.wait(10)
    producer.close()
    closing_.set()
    thread.join(30)
    assert [type(one) for one in errors] in ([], [TransactionError])
    assert post.seen() == ["before", *([] if errors else ["one", "other"])]
    assert told.names()[2:] == ["TransactionBegun", "TransactionAborted" if errors else "TransactionCommitted"]


def test_closing_twice_and_aclose(post: Post) -> None:
    """With a transaction open on the loop that closes it."""
    producer = post.producer()

    async def run() -> None:
        async with producer.transaction() as transaction:
            await transaction.produce_async(post.topic, "never", partition=0)
            await producer.aclose()
            await producer.aclose()

    with pytest.raises(TransactionError, match="closed"):
        asyncio.run(run())
    assert post.seen() == []
