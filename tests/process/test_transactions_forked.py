"""A fork while a transaction is open: it stays the parent's, who commits it; the child is told so, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import Running, new_group
from tests.process.senders import Ended, Post
from tests.specs import visible

# `fork(body)` runs `body` in a child, which must end within 20 seconds, and with status 0. `refused` says by what.
HEAD = """
def fork(body):
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        assert status == 0, status
        return
    deadline(20)
    body()
    sys.exit()

def refused(call):
    began = time.monotonic()
    try:
        call()
    except Exception as error:
        assert "fork" in str(error), error
        assert time.monotonic() - began < 2
        return type(error).__name__
    return "nothing"

sender = producer(transactional_id={name!r})
"""


@pytest.fixture
def post(kafka: Running, tmp_path: Path) -> Post:
    return Post(kafka.bootstrap, tmp_path)


def run(post: Post, body: str) -> Ended:
    """A program with a producer of an id of its own: nothing of it is left open."""
    ended = post.run(HEAD.format(name=new_group()) + body)
    assert visible.decided(post.bootstrap, post.topic) < 5
    return ended


def test_the_child_is_told_and_the_parent_commits(post: Post) -> None:
    """By whatever way it sends: nothing of the child's is in the parent's transaction."""
    body = """
def child():
    say(refused(sender.transaction), refused(lambda: sender.produce_sync(TOPIC, "child")))
    say(refused(lambda: sender.produce_many_sync([{"topic": TOPIC, "payload": "child"}])))

def sends(number):
    with sender.transaction() as transaction:
        first = transaction.produce_async(TOPIC, f"{number} before")
        fork(child)
        second = transaction.produce_async(TOPIC, f"{number} after")
    say(first.result().partition, second.result().partition)

sends(1)
sends(2)
"""
    ended = run(post, body)
    assert ended.said == ["ConfigError ConfigError", "ConfigError", "0 0"] * 2
    assert not ended.told
    assert post.payloads() == ["1 before", "1 after", "2 before", "2 after"]


def test_what_the_child_inherits_of_it_takes_nothing(post: Post) -> None:
    """The transaction itself, and the handles of what it sent: at once, and the parent never hears of it."""
    body = """
async def awaited(handle):
    await handle

def child():
    say(refused(lambda: transaction.produce_async(TOPIC, "child")))
    say(refused(lambda: transaction.produce_many_async([{"topic": TOPIC, "payload": "child"}])))
    say(refused(lambda: transaction.tombstone(TOPIC, "child")))
    say(refused(lambda: transaction.commit_offsets({(TOPIC, 0): 1}, object())))
    say(refused(handle.wait), refused(lambda: asyncio.run(awaited(handle))))

sender = producer(transactional_id=sender._kafka["transactional.id"], linger_ms=20_000)
with sender.transaction() as transaction:
    handle = transaction.produce_async(TOPIC, "under way")
    fork(child)
    say(handle.done)
say(handle.done)
"""
    ended = run(post, body)
    assert ended.said == [*["TransactionError"] * 4, "ProducerClosedError ProducerClosedError", "False", "True"]
    assert post.payloads() == ["under way"]


@pytest.mark.parametrize("way", ["leaves the block", "exits at once", "raises"])
def test_a_child_that_ends_inside_the_block_aborts_nothing(post: Post, way: str) -> None:
    """It leaves the `with` of the parent's transaction, and what runs at the end of a process runs there too."""
    ends = {"leaves the block": "sys.exit()", "exits at once": "os._exit(0)", "raises": "raise KeyError"}[way]
    body = f"""
try:
    with sender.transaction() as transaction:
        transaction.produce_async(TOPIC, "before").wait()
        if not (pid := os.fork()):
            deadline(20)
            {ends}
        status = os.waitpid(pid, 0)[1]
        transaction.produce_async(TOPIC, "after")
except KeyError:
    sys.exit()
say(status)
"""
    ended = run(post, body)
    assert ended.said == ["0"]
    assert not ended.told
    assert post.payloads() == ["before", "after"]


def test_a_child_with_a_producer_of_its_own_sends_meanwhile(post: Post) -> None:
    """By an id of its own, or without any: both are seen."""
    body = f"""
def child():
    with producer(transactional_id={new_group()!r}) as own:
        with own.transaction() as theirs:
            theirs.produce_async(TOPIC, "child")
    sender.variant(linger_ms=1).produce_sync(TOPIC, "child by a variant")

with sender.transaction() as transaction:
    transaction.produce_async(TOPIC, "before").wait()
    fork(child)
    transaction.produce_async(TOPIC, "after")
"""
    ended = run(post, body)
    assert not ended.told
    assert sorted(post.payloads()) == ["after", "before", "child", "child by a variant"]


def test_a_child_of_multiprocessing_ends_and_the_parent_commits(post: Post) -> None:
    """It ends in a way of its own, and closes what it has then: not the parent's transaction."""
    body = """
import multiprocessing

def child():
    assert refused(sender.transaction) == "ConfigError"

with sender.transaction() as transaction:
    transaction.produce_async(TOPIC, "before").wait()
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    transaction.produce_async(TOPIC, "after")
say(process.exitcode)
"""
    ended = run(post, body)
    assert ended.said == ["0"]
    assert not ended.told
    assert post.payloads() == ["before", "after"]


ENDS = """
from threading import Event
from threading import Thread
deadline(150)
over, kept = Event(), []

def works():
    while not over.is_set():
        with sender.transaction() as transaction:
            kept[:] = [transaction]
            for part in range(2000):
                transaction.produce_async(TOPIC, b"x")

thread = Thread(target=works)
thread.start()
while not kept:
    time.sleep(0.01)

def child():
    pass

for number in range(150):
    fork(child)
over.set()
thread.join()
say("done")
"""


def test_a_child_that_only_ends(post: Post) -> None:
    assert run(post, ENDS).said == ["done"]


def test_a_fork_may_come_at_any_moment(post: Post) -> None:
    """Other threads begin, send, commit and abort while forks come, whatever locks they hold: nobody hangs."""
    body = """
from threading import Event, Thread
over, counts = Event(), []

def works():
    number = 0
    while not over.is_set():
        try:
            with sender.transaction() as transaction:
                kept[:] = [transaction]
                for part in range(20):
                    transaction.produce_async(TOPIC, f"{number}.{part}")
                if number % 5 == 4:
                    raise KeyError
        except KeyError:
            pass
        number += 1
    counts.append(number)

kept = []
thread = Thread(target=works)
thread.start()
while not kept:
    time.sleep(0.01)

def child():
    assert refused(sender.transaction) == "ConfigError"
    try:
        kept[0].produce_async(TOPIC, "child")
    except Exception as error:
        assert isinstance(error, TransactionError), error
    else:
        say("sent")

for _ in range(150):
    fork(child)
over.set()
thread.join()
say(counts[0])
"""
    ended = run(post, body)
    assert not ended.told
    (count,) = map(int, ended.said)
    assert post.payloads() == [f"{number}.{part}" for number in range(count) if number % 5 != 4 for part in range(20)]
