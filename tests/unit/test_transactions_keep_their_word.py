"""Transactions where it was not so once: refused in the midst, given up, interrupted, fenced, begun twice at a time."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError, Thread, get_ident
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any, cast

import pytest

from karafka import exactly_once
from karafka.app import App
from karafka.client import Kept, Remedy, Topics
from karafka.controllers import Controller
from karafka.errors import ConfigError, InvalidMessageError, TransactionError
from karafka.events import Event, TransactionBegun, TransactionCommitted
from karafka.exactly_once import ExactlyOnce
from karafka.letters import Row
from karafka.messages import Place, Run
from karafka.producer import Producer
from karafka.routing import group, topic
from karafka.server import Server
from tests.unit.house import AtOnce, letters, until
from tests.unit.notary import Register, on_paper, unsettled
from tests.unit.post import Passing, turn


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> tuple[Passing, Register]:
    monkeypatch.setattr(exactly_once, "Thread", AtOnce)
    return on_paper(monkeypatch)


@pytest.fixture
def producer(register: Register) -> Producer:
    return register.producer(max_wait_on_full=1)


def send(producer: Producer, *payloads: str) -> None:
    with producer.transaction() as transaction:
        for payload in payloads:
            transaction.produce_async("orders", payload)


# Transaction.produce_many_async: what was not accepted is a failed handle that nobody looks at.


def test_of_many_one_that_was_not_accepted_aborts_all(producer: Producer, register: Register) -> None:
    """All or none: it is not committed without the second."""

    def cramped(client: Any) -> None:
        client.room, client.open = 1, False

    register.dress = cramped

    def body() -> None:
        with producer.transaction() as transaction:
            transaction.produce_many_async([{"topic": "orders", "payload": one} for one in ("first", "second")])
            register.clients[0].open = True

    with pytest.raises(TransactionError, match="queue") as failed:
        body()
    assert failed.value.retriable
    assert register.seen == []


# Transaction.produce_many_async: which of them cannot be sent was not said.


def test_of_many_the_one_that_cannot_be_is_named_by_its_number(producer: Producer, register: Register) -> None:
    """As a producer's own does."""
    rows: list[Row] = [{"topic": "orders", "payload": one} for one in ("first", object())]
    with pytest.raises(InvalidMessageError) as failed, producer.transaction() as transaction:
        transaction.produce_many_async(rows)

    assert failed.value.__notes__ == ["it is number 1, from 0, of those that were to be sent; none of them was"]
    assert register.clients[0].sent == []


# `timeout` of a call that waits was that of each step: to begin, to wait for each message, to commit.


@pytest.mark.parametrize(
    "ask",
    [
        lambda producer: producer.produce_sync("orders", "x", timeout=5),
        lambda producer: producer.produce_many_sync([{"topic": "orders", "payload": "x"}] * 2, timeout=5),
    ],
    ids=["produce_sync", "produce_many_sync"],
)
def test_a_message_that_is_waited_for_takes_no_longer_than_asked(
    ask: Callable[[Producer], object], producer: Producer, register: Register, passing: Passing
) -> None:
    """It begins late, and is not confirmed."""

    def begins() -> None:
        passing.wait(3)
        register.clients[0].open = False

    register.meanwhile["begin"] = begins
    began = passing.monotonic()
    with pytest.raises((TransactionError, TimeoutError)):
        ask(producer)
    assert passing.monotonic() - began == 5


# A client that was given up before the commit was asked for: known not to be committed.


def test_what_was_never_asked_to_be_committed_is_known(producer: Producer, register: Register) -> None:
    def body() -> None:
        with producer.transaction() as transaction:
            transaction.produce_async("orders", "never")
            register.clients[0].die()
            turn(producer.pipe)

    with pytest.raises(TransactionError) as failed:
        body()
    assert (failed.value.retriable, failed.value.unknown) == (True, False)
    assert "commit" not in register.steps


# Fenced in its commit, whose first answer was lost: an owner that performs again doubles what it had committed.


class Owner:
    """Of a partition that stays ours."""

    def __init__(self, register: Register) -> None:
        self.register = register
        self.one = ExactlyOnce(
            self._each, Place("orders", 0), "group", register.producer, lambda: cast("Topics", self), batch=False
        )

    def _each(self, run: Run) -> None:
        for record in run:
            assert run.outbox is not None
            run.outbox.send(record.offset() or 0, "results", f"result {record.offset()}")

    def committed(self, group: str, places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
        return {place: self.register.kept.get(place) for place in places}

    def perform(self, run: Run) -> None:
        cast("Callable[[Run], None]", self.one.perform)(run)


def test_an_owner_that_is_fenced_in_its_commit_doubles_nothing(register: Register) -> None:
    owner = Owner(register)
    register.after["commit"].append(unsettled(Remedy.FENCED))
    records = letters(3)
    for _ in range(2):
        run = Run(records)
        owner.perform(run)
        records = records[run.finished :]

    assert register.payloads == ["result 0", "result 1", "result 2"]


# Interrupted in its beginning, or before its abort: the next one is refused once for what was left.


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["begin", "abort"])
def test_after_an_interrupt_the_very_next_one_goes_on(
    producer: Producer, register: Register, step: str, when: str
) -> None:
    getattr(register, when)[step].append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), producer.transaction():
        raise ZeroDivisionError
    send(producer, "goes on")

    assert register.payloads == ["goes on"]


# Cancelled just as it has begun: the abort runs on the loop's thread, a minute where the broker is away.


def test_cancelled_as_it_has_begun_it_is_aborted_beside_the_loop(producer: Producer, register: Register) -> None:
    threads: list[int] = []
    register.meanwhile["abort"] = lambda: threads.append(get_ident())

    async def body() -> None:
        async with producer.transaction():
            raise AssertionError("it was cancelled")

    async def run() -> None:
        task = asyncio.ensure_future(body())
        while "begin" not in register.steps:
            await asyncio.sleep(0)
        sleep(0.2)  # the loop stands still: it does not know yet that it has begun
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert until(lambda: len(threads) == 1)
    assert threads != [get_ident()]


# Cancelled, and then not begun: asyncio told of an exception that was never retrieved, which is nobody's.


def test_cancelled_and_then_not_begun_it_is_told_to_nobody(producer: Producer, register: Register) -> None:
    go, told = Barrier(2), list[str]()
    register.meanwhile["begin"] = lambda: go.wait(10)
    register.before["begin"].append(unsettled(Remedy.END))
    transactions: Any = producer.transactions

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["message"]))
        begins = asyncio.ensure_future(producer.transaction().__aenter__())
        while "begin" not in register.steps:
            await asyncio.sleep(0)
        begins.cancel()
        with suppress(asyncio.CancelledError):
            await begins
        go.wait(10)
        register.meanwhile.clear()
        assert await asyncio.to_thread(until, lambda: not transactions._turn.locked())
        await asyncio.sleep(0.1)
        gc.collect()

    asyncio.run(run())
    assert told == []
    send(producer, "goes on")
    assert register.payloads == ["goes on"]


# Told as committed only once its turn is another's: out of order, and with the other's time.


def test_it_is_told_before_the_next_begins(producer: Producer) -> None:
    told: list[Event] = []
    for kind in (TransactionBegun, TransactionCommitted):
        producer.events.on(kind, told.append)
    transactions: Any = producer.transactions
    lock, first = transactions._turn, deque([True])

    class Eager:
        """Lets another have the turn at once."""

        acquire = staticmethod(lock.acquire)

        @staticmethod
        def release() -> None:
            lock.release()
            if first and first.pop():
                with ThreadPoolExecutor(1) as another:
                    another.submit(send, producer, "second").result(5)

    transactions._turn = Eager
    send(producer, "first")
    assert [type(one) for one in told] == [TransactionBegun, TransactionCommitted] * 2


# Offsets that are refused for good are called retriable.


def test_offsets_that_are_refused_for_good_are_not_retriable(producer: Producer, register: Register) -> None:
    register.before["add_offsets"].append(unsettled(Remedy.ABORT, passes=False))

    def body() -> None:
        with producer.transaction() as transaction:
            transaction.commit_offsets({("in", 0): 1}, object())

    with pytest.raises(TransactionError) as failed:
        body()
    assert not failed.value.retriable


# Two threads that renew the client at once (a take-over that is late, and the first perform): two clients of one id.


def test_two_that_renew_the_client_get_one(producer: Producer, register: Register) -> None:
    meeting = Barrier(2)

    def ready() -> None:
        with suppress(BrokenBarrierError):
            meeting.wait(0.3)

    register.meanwhile["ready"] = ready
    with ThreadPoolExecutor(2) as pool:
        one, other = [pool.submit(producer.pipe.renewed, monotonic() + 5) for _ in range(2)]
    assert one.result() is other.result()
    assert len(register.clients) == 1


# What a recorder's variant sends while a transaction is open is that transaction's: lost where it is aborted.


def test_what_a_variant_sends_meanwhile_is_recorded_whatever_becomes_of_it() -> None:
    with Producer({"transactional.id": "shop-1"}, deliver=False) as producer:
        with producer.transaction() as transaction:
            transaction.produce_async("orders", "never")
            producer.variant(linger_ms=5).produce_sync("logs", "outside")
            transaction.abort()

        assert [one.payload for one in producer.recorded] == [b"outside"]


# A group's own settings are not looked at: a partition could begin before its last transaction has ended.


class Plain(Controller[Any]):
    def perform(self) -> None: ...


def test_a_group_that_reads_what_is_not_committed_is_refused() -> None:
    app = App("shop", kafka={"bootstrap.servers": "a:1"})
    settings = {"isolation.level": "read_uncommitted"}
    app.routes.draw(group("g", topic("orders", Plain, exactly_once=True), kafka=settings))

    with pytest.raises(ConfigError, match=r"isolation\.level=read_committed"):
        app.subscriptions()


# `transaction.timeout.ms` of App(kafka=…) is passed over: 15 s whatever the app says, a group's own counts.


def test_the_apps_own_time_for_a_transaction_counts() -> None:
    app = App("shop", kafka={"bootstrap.servers": "a:1", "transaction.timeout.ms": 400_000})
    app.routes.draw(topic("orders", Plain, exactly_once=True))
    (subscription,) = app.subscriptions()
    server: Any = SimpleNamespace(app=app)
    with Server._transacting(server, subscription, Place("orders", 0)) as producer:
        assert producer._kafka["transaction.timeout.ms"] == 400_000


# After a fork the child waits for locks that the parent's threads held: at its exit, for ever.


def test_after_a_fork_no_lock_is_waited_for(producer: Producer, register: Register) -> None:
    """As if a thread of the parent's had held all of them; see test_fork_hang.py for the real thing."""
    opening = producer.transaction()
    opened, transactions = opening.__enter__(), producer.transactions
    assert transactions is not None
    held = (opened._gate, transactions.stepping)
    for lock in held:
        lock.acquire()
    for one in (producer, producer.pipe):
        one.after_fork()
    closing = Thread(target=producer.close, args=(0,), daemon=True)
    closing.start()
    closing.join(5)
    try:
        assert not closing.is_alive()
        assert register.steps == ["ready", "begin"]
    finally:
        for lock in held:
            lock.release()
