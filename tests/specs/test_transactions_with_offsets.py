"""Offsets of a consumer of one's own are committed with the messages of a transaction, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka import Consumer

from karafka import FencedError, TransactionError
from karafka.transactions import Transaction
from tests.brokers import new_group, until
from tests.specs import visible
from tests.specs.run import Stage
from tests.specs.transacting import Post, Way, on_a_loop, plainly, refused


@pytest.fixture(params=[plainly, on_a_loop])
def inside(request: pytest.FixtureRequest) -> Way:
    """`with`, and `async with`."""
    way: Way = request.param
    return way


@pytest.fixture
def post(stage: Stage) -> Iterator[Post]:
    with closing(Post(stage)) as made:
        yield made


class Reading:
    """A plain confluent-kafka consumer in a group, with a topic of one partition."""

    def __init__(self, stage: Stage, topic: str, group: str) -> None:
        self.stage, self.topic, self.group = stage, topic, group
        self.client = Consumer(
            {
                "bootstrap.servers": stage.bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "heartbeat.interval.ms": 200,
                "log_level": 0,
            }
        )
        self.client.subscribe([topic])
        until(self._taking_part)

    def _taking_part(self) -> bool:
        self.client.poll(0.1)
        return bool(self.client.assignment())

    def member(self) -> object:
        return self.client.consumer_group_metadata()

    def committed(self) -> int | None:
        return visible.committed(self.stage.bootstrap, self.group, self.topic)[0]

    def close(self) -> None:
        self.client.close()


@pytest.fixture
def reading(stage: Stage) -> Iterator[Reading]:
    topic = stage.topic()
    stage.send(topic, ["in 0", "in 1"])
    with closing(Reading(stage, topic, new_group())) as made:
        yield made


def test_both_or(post: Post, reading: Reading, inside: Way) -> None:
    """What was said last counts."""

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "out")
        transaction.commit_offsets({(reading.topic, 0): 1}, reading.member())
        transaction.commit_offsets({(reading.topic, 0): 2}, reading.member())

    inside(post.producer(), body)
    assert reading.committed() == 2
    assert post.seen() == ["out"]


def test_neither(post: Post, reading: Reading, inside: Way) -> None:
    producer = post.producer()

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "never").add_done_callback(bool)
        transaction.commit_offsets({(reading.topic, 0): 2}, reading.member())
        transaction.abort()

    inside(producer, body)
    assert reading.committed() is None
    assert post.seen() == []
    post.goes_on(producer)


def test_offsets_alone(post: Post, reading: Reading) -> None:
    """Where nothing is to be sent of what was read."""
    plainly(post.producer(), lambda one: one.commit_offsets({(reading.topic, 0): 2}, reading.member()))
    assert reading.committed() == 2


def test_a_member_of_a_past_generation_commits_nothing(post: Post, reading: Reading) -> None:
    """Another has its partitions by now: neither its offsets nor its messages are seen."""
    producer, past = post.producer(), reading.member()
    reading.close()
    with closing(Reading(reading.stage, reading.topic, reading.group)) as other:

        def late(transaction: Transaction) -> None:
            transaction.produce_async(post.topic, "never").wait(10)
            transaction.commit_offsets({(reading.topic, 0): 2}, past)

        def theirs(transaction: Transaction) -> None:
            transaction.produce_async(post.topic, "theirs")
            transaction.commit_offsets({(reading.topic, 0): 1}, other.member())

        assert not isinstance(refused(producer, late, TransactionError), FencedError)
        assert other.committed() is None
        plainly(producer, theirs)
        assert other.committed() == 1
    assert post.seen() == ["theirs"]


def test_who_is_fenced_hears_so(post: Post, reading: Reading) -> None:
    one, other = post.rivals()

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "never", partition=0).wait(10)
        post.send(other, "theirs")
        transaction.commit_offsets({(reading.topic, 0): 1}, reading.member())

    refused(one, body, FencedError)
    refused(one, bool, FencedError)
    assert reading.committed() is None
    assert post.seen() == ["first", "theirs"]


@pytest.mark.parametrize("member", ["my-group", None, b"x"])
def test_what_is_no_member_is_refused(post: Post, member: object) -> None:
    """A mistake: nothing is seen of it, and the producer goes on."""
    producer = post.producer()

    def body(transaction: Transaction) -> None:
        transaction.produce_async(post.topic, "never").wait(10)
        transaction.commit_offsets({(post.topic, 0): 1}, member)

    refused(producer, body, Exception)
    assert post.seen() == []
    post.goes_on(producer)
