"""What a transaction sends is seen whole or not at all; one at a time, and nothing of it elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from threading import Event
from time import monotonic

import pytest

from karafka import ConfigError, Error, InvalidMessageError, Outgoing, Producer, TransactionError
from karafka.delivery import Handle
from karafka.events import TransactionAborted, TransactionBegun, TransactionCommitted
from karafka.letters import Row
from karafka.parsers import Text
from karafka.transactions import Transaction
from tests.brokers import until
from tests.specs import visible
from tests.specs.run import Stage
from tests.specs.transacting import Heard, Post, Way, on_a_loop, plainly, refused


@pytest.fixture(params=[plainly, on_a_loop])
def inside(request: pytest.FixtureRequest) -> Way:
    """`with`, and `async with`."""
    way: Way = request.param
    return way


@pytest.fixture
def post(stage: Stage) -> Iterator[Post]:
    with closing(Post(stage)) as made:
        yield made


# ── all or nothing ───────────────────────────────────────────────────────────────────────────────────────────────


def test_readers_see_all_of_it_once_it_is_committed(post: Post, inside: Way) -> None:
    """Over topics and partitions; until then the broker has it, and nobody sees it who reads what is committed."""
    other = post.stage.topic(2)

    def body(transaction: Transaction) -> None:
        sent = [transaction.produce_async(post.topic, str(number), partition=number % 2) for number in range(6)]
        sent += transaction.produce_many_async({"topic": other, "payload": str(number)} for number in range(3))
        until(lambda: all(one.done for one in sent))
        assert [one.error for one in sent] == [None] * 9
        assert sorted(post.written()) == ["0", "1", "2", "3", "4", "5"]
        assert [visible.read(post.stage.bootstrap, topic, 2) for topic in (post.topic, other)] == [[], []]
        assert transaction.count == 9

    inside(post.producer(), body)

    assert sorted(post.seen()) == ["0", "1", "2", "3", "4", "5"]
    assert sorted(post.seen(other)) == ["0", "1", "2"]


def test_nothing_of_it_is_seen_when_the_block_raises(post: Post, inside: Way) -> None:
    """What was raised goes on, as it was; what was not confirmed by then ends too."""
    producer, error = post.producer(), ZeroDivisionError("mine")
    handles: list[Handle] = []

    def body(transaction: Transaction) -> None:
        handles.append(transaction.produce_async(post.topic, "confirmed", partition=0))
        until(lambda: handles[0].done)
        handles.append(transaction.produce_async(post.topic, "on its way", partition=0))
        raise error

    assert refused(producer, body, ZeroDivisionError, inside=inside) is error

    assert handles[0].error is None
    assert handles[1].done
    assert post.written()[0] == "confirmed"
    assert post.seen() == []
    post.goes_on(producer)


def test_abort_leaves_the_block_without_an_error(post: Post, inside: Way) -> None:
    producer, ends = post.producer(), iter([True])

    def body(transaction: Transaction) -> None:
        handle = transaction.produce_async(post.topic, "aborted")
        until(lambda: handle.done)
        if next(ends):
            transaction.abort("not today")
        raise AssertionError("it went on behind the abort")

    inside(producer, body)

    assert post.seen() == []
    post.goes_on(producer)


def test_a_transaction_of_nothing(post: Post, inside: Way) -> None:
    producer = post.producer()
    inside(producer, bool)
    inside(producer, lambda transaction: transaction.abort())
    post.goes_on(producer)


def test_it_sends_as_its_producer_does(post: Post) -> None:
    """Parsers, `before_send`, keys, headers, times, labels, tombstones; what Kafka does not have is refused alone."""

    def signed(message: Outgoing) -> Outgoing:
        return replace(message, headers={"by": "me"})

    producer, label = post.producer(parsers={post.topic: Text()}, before_send=[signed]), object()
    with producer.transaction() as transaction:
        handle = transaction.produce_async(post.topic, "text", key="k", partition=1, timestamp=1.5, label=label)
        transaction.tombstone(post.topic, "gone", partition=1)
        with pytest.raises(InvalidMessageError, match="names partition -1"):
            transaction.produce_async(post.topic, "x", partition=-1)
        rows: list[Row] = [{"topic": post.topic, "payload": "x"}, {"topic": "two words", "payload": ""}]
        with pytest.raises(InvalidMessageError, match="no topic name"):
            transaction.produce_many_async(rows)
        assert transaction.count == 2

    assert handle.label is label
    assert handle.result().partition == 1
    post.decided()
    text, tombstone = visible.read(post.stage.bootstrap, post.topic, 2)
    assert (text.key(), text.value(), text.timestamp()[1]) == (b"k", b"text", 1_500)
    assert post.stage.headers(text) == [("by", b"me")]
    assert (tombstone.key(), tombstone.value()) == (b"gone", None)


def test_its_handles_are_waited_for_as_others_are(post: Post) -> None:
    """Awaited, one or many, and called back, inside the block."""
    producer, called, offsets = post.producer(), Event(), []
    row: Row = {"topic": post.topic, "payload": "2", "partition": 0}

    async def run() -> None:
        async with producer.transaction() as transaction:
            transaction.produce_async(post.topic, "0", partition=0).add_done_callback(lambda _handle: called.set())
            one = await transaction.produce_async(post.topic, "1", partition=0)
            many = await transaction.produce_many_async([row] * 3)
            offsets.extend([one.offset, *(each.offset for each in many)])

    asyncio.run(run())
    assert offsets == [1, 2, 3, 4]
    assert called.wait(5)
    assert post.seen() == ["0", "1", "2", "2", "2"]


# ── its bounds ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["committed", "aborted", "raised"])
def test_a_transaction_that_is_over_takes_nothing(post: Post, inside: Way, ending: str) -> None:
    """Nor does the next one by it."""
    producer = post.producer()
    kept: list[Transaction] = []

    def body(transaction: Transaction) -> None:
        kept.append(transaction)
        if ending == "aborted":
            transaction.abort()
        if ending == "raised":
            raise KeyError

    with suppress(KeyError):
        inside(producer, body)
    over = kept[0]
    sends: Sequence[Callable[[], object]] = (
        lambda: over.produce_async(post.topic, "late"),
        lambda: over.produce_many_async([{"topic": post.topic, "payload": "late"}]),
        lambda: over.tombstone(post.topic, "late"),
        lambda: over.commit_offsets({(post.topic, 0): 1}, None),
    )
    for send in sends:
        with pytest.raises(TransactionError, match="over") as late:
            send()
        assert not late.value.retriable
    with producer.transaction():
        for send in sends:
            with pytest.raises(TransactionError, match="over"):
                send()
    assert post.written() == []


def test_what_is_sent_outside_is_refused_with_the_way_out(post: Post) -> None:
    producer = post.producer()
    sends: Sequence[Callable[[], object]] = (
        lambda: producer.produce_async(post.topic, "outside"),
        lambda: producer.produce_many_async([{"topic": post.topic, "payload": "outside"}]),
        lambda: producer.tombstone(post.topic, "outside"),
    )
    for send in sends:
        with pytest.raises(ConfigError, match=r"with producer\.transaction\(\) as"):
            send()
    assert post.written() == []
    post.goes_on(producer)


@pytest.mark.parametrize("flush", ["flush_sync", "flush_async", "close"])
def test_what_is_buffered_is_not_lost(post: Post, caplog: pytest.LogCaptureFixture, flush: str) -> None:
    """It is refused when it is buffered, or sent by the flush, or still buffered; the log says what a close left."""
    producer, accepted = post.producer(), 0
    with suppress(ConfigError):
        for payload in ("0", "1"):
            producer.buffer(post.topic, payload, partition=0)
            accepted += 1
    with suppress(ConfigError):
        getattr(producer, flush)()
    if flush == "close" and f"{accepted} buffered messages" in caplog.text:
        accepted = 0
    assert producer.buffered + len(post.seen()) == accepted


def test_a_message_sent_and_waited_for_is_a_transaction_of_its_own(post: Post) -> None:
    producer = post.producer()
    told = Heard(producer)
    assert producer.produce_sync(post.topic, "0", partition=0).offset == 0
    rows: list[Row] = [{"topic": post.topic, "payload": str(number), "partition": number % 2} for number in range(5)]
    # Behind the marker of the first one.
    assert [one.offset for one in producer.produce_many_sync(rows)] == [2, 0, 3, 1, 4]
    assert told.names() == ["TransactionBegun", "TransactionCommitted"] * 2
    assert told.last(TransactionCommitted).count == 5
    assert post.seen() == ["0", "0", "2", "4", "1", "3"]


def test_one_inside_another_is_refused(post: Post) -> None:
    """On the same thread; the outer one is not touched by that."""
    producer = post.producer()
    nested: Sequence[Callable[[], object]] = (
        lambda: plainly(producer, bool),
        lambda: producer.produce_sync(post.topic, "inner"),
        lambda: producer.produce_many_sync([{"topic": post.topic, "payload": "inner"}]),
    )
    with producer.transaction() as transaction:
        transaction.produce_async(post.topic, "outer")
        for one in nested:
            with pytest.raises(ConfigError, match="inside another"):
                one()
    assert post.seen() == ["outer"]
    post.goes_on(producer)


def test_one_inside_another_is_refused_on_a_loop(post: Post) -> None:
    """In the same task; another task waits for its turn."""
    producer = post.producer()

    async def beside() -> None:
        async with producer.transaction() as transaction:
            transaction.produce_async(post.topic, "beside")

    async def run() -> None:
        async with producer.transaction() as transaction:
            transaction.produce_async(post.topic, "outer")
            with pytest.raises(ConfigError, match="inside another"):
                await beside()
            with pytest.raises(ConfigError, match="async with producer"), producer.transaction():
                pass
            waiting = asyncio.ensure_future(beside())
            await asyncio.sleep(0)
        await waiting

    asyncio.run(run())
    assert sorted(post.seen()) == ["beside", "outer"]


def test_flush_and_statistics_know_of_it(post: Post) -> None:
    producer = post.producer(linger_ms=30_000)
    with producer.transaction() as transaction:
        handle = transaction.produce_async(post.topic, "x", partition=0)
        assert producer.statistics().waiting == 1
        assert producer.flush(10) == 0
        assert handle.done


# ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_threads_and_tasks_wait_for_one_another(post: Post) -> None:
    """All commit, one at a time: no message of another is ever between those of a transaction."""
    producer = post.producer()
    told = Heard(producer)

    def send(transaction: Transaction, name: str) -> None:
        for number in range(3):
            transaction.produce_async(post.topic, f"{name} {number}", partition=0)

    async def task(name: str) -> None:
        async with producer.transaction() as transaction:
            send(transaction, name)
            await asyncio.sleep(0)

    async def tasks() -> None:
        await asyncio.gather(*(task(f"task-{number}") for number in range(50)))

    with ThreadPoolExecutor(9) as pool:
        loop = pool.submit(asyncio.run, tasks())
        threads = [pool.submit(plainly, producer, partial(send, name=f"thread-{number}")) for number in range(40)]
        for one in [loop, *threads]:
            one.result(60)
    payloads = post.seen()
    together = [list(each) for _, each in groupby(payloads, lambda payload: payload.split()[0])]
    assert [[one.split()[1] for one in each] for each in together] == [["0", "1", "2"]] * 90
    assert told.names() == ["TransactionBegun", "TransactionCommitted"] * 90


def test_several_threads_send_by_one_transaction(post: Post) -> None:
    producer = post.producer()
    with ThreadPoolExecutor(8) as pool, producer.transaction() as transaction:
        futures = [pool.submit(transaction.produce_async, post.topic, str(number)) for number in range(400)]
        assert len([future.result(10) for future in futures]) == 400
        assert transaction.count == 400
    assert sorted(map(int, post.seen())) == list(range(400))


@pytest.mark.parametrize("way", ["with", "async with"])
def test_a_turn_is_waited_for_no_longer_than_asked(post: Post, way: str) -> None:
    producer, open_, over = post.producer(), Event(), Event()

    def hold(transaction: Transaction) -> None:
        open_.set()
        over.wait(30)

    def ask() -> None:
        with producer.transaction(timeout=0.3):
            pass

    async def ask_on_a_loop() -> None:
        async with producer.transaction(timeout=0.3):
            pass

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(plainly, producer, hold)
        assert open_.wait(10)
        began = monotonic()
        with pytest.raises(TransactionError, match="open for") as late:
            ask() if way == "with" else asyncio.run(ask_on_a_loop())
        assert late.value.retriable
        assert 0.2 < monotonic() - began < 5
        over.set()
        holding.result(10)
    post.goes_on(producer)


def test_what_comes_late_from_another_thread_is_in_no_other_transaction(post: Post) -> None:
    """A thread that was about to send when the block ended is refused: it is no part of the next one."""
    here, go_on = Event(), Event()

    def slow(message: Outgoing) -> Outgoing:
        if message.payload == "late":
            here.set()
            assert go_on.wait(30)
        return message

    producer = post.producer(before_send=[slow])
    with ThreadPoolExecutor(1) as pool:
        with producer.transaction() as transaction:
            late = pool.submit(transaction.produce_async, post.topic, "late", partition=0)
            assert here.wait(10)
            transaction.abort()
        with producer.transaction() as transaction:
            go_on.set()
            with pytest.raises(Error):
                late.result(10).wait(10)
            transaction.produce_async(post.topic, "next", partition=0)
    assert post.seen() == ["next"]


def test_threads_that_send_while_it_ends_are_refused_or_part_of_it(post: Post) -> None:
    producer = post.producer()

    def send_on(transaction: Transaction, number: int, started: Event) -> int:
        sent = 0
        while sent < 1_000_000:
            try:
                transaction.produce_async(post.topic, str(number), partition=0)
            except Error:
                break
            sent += 1
            started.set()
        return sent

    with ThreadPoolExecutor(2) as pool:
        for number in range(20):
            started = Event()
            with producer.transaction() as transaction:
                sending = [pool.submit(send_on, transaction, number, started) for _ in range(2)]
                assert started.wait(10)
                if number % 2:
                    transaction.abort()
            with producer.transaction() as transaction:
                sent = sum(one.result(10) for one in sending)
                transaction.produce_async(post.topic, f"next {number}: {sent}", partition=0)
    seen = post.seen()
    for number in range(20):
        at = next(at for at, payload in enumerate(seen) if payload.startswith(f"next {number}: "))
        sent = int(seen[at].partition(": ")[2])
        # Those of one that was committed are before it; nothing is behind it, or of one that was aborted.
        assert seen[:at].count(str(number)) == (0 if number % 2 else sent)
        assert str(number) not in seen[at:]


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_is_told_from_begin_to_end_with_its_counts(post: Post, inside: Way) -> None:
    producer = post.producer(post.name)
    told = Heard(producer)

    def sends(transaction: Transaction) -> None:
        for _ in range(3):
            transaction.produce_async(post.topic, "x")

    def aborts(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "x")
        transaction.abort("not today")

    def fails(transaction: Transaction) -> None:
        sends(transaction)
        raise ValueError("why")

    inside(producer, sends)
    inside(producer, aborts)
    refused(producer, fails, ValueError, inside=inside)

    begun = TransactionBegun(transactional_id=post.name)
    assert [one for one in told.events if isinstance(one, TransactionBegun)] == [begun] * 3
    one, two, three = told.events[1::2]
    assert isinstance(one, TransactionCommitted)
    assert isinstance(two, TransactionAborted)
    assert isinstance(three, TransactionAborted)
    assert (one.transactional_id, two.transactional_id) == (post.name, post.name)
    assert (one.count, two.count, three.count) == (3, 1, 3)
    assert 0 < one.elapsed < 10
    assert "not today" in two.error
    assert three.error == "ValueError: why"


def test_producers_with_ids_of_their_own_do_not_know_of_each_other(post: Post) -> None:
    one, other = post.producer(), post.producer()

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "outer", partition=0)
        post.send(other, "inner")

    plainly(one, body)
    assert sorted(post.seen()) == ["inner", "outer"]


def test_a_variant_is_no_transaction(post: Post) -> None:
    """What it sends is seen at once, also beside an open one."""
    producer = post.producer()

    def body(transaction: Transaction) -> None:
        producer.variant(linger_ms=1).produce_sync(post.topic, "beside", partition=1)
        assert [one.value() for one in visible.read(post.stage.bootstrap, post.topic, 2)] == [b"beside"]
        transaction.abort()

    plainly(producer, body)


def test_without_an_id_it_is_refused_with_the_way_out(stage: Stage) -> None:
    with (
        Producer({"bootstrap.servers": stage.bootstrap}) as producer,
        pytest.raises(ConfigError, match=r"transactional\.id"),
    ):
        producer.transaction()
