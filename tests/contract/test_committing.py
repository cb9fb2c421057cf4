"""What committing promises: at once on our side, each partition answered by itself, as news."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import TopicPartition

from karafka.client import Kept
from karafka.messages import Place
from tests.brokers import new_group
from tests.contract.member import PROTOCOLS, Broker, Member, named


def test_committed_is_none_before_and_an_offset_after(broker: Broker) -> None:
    topic = broker.topic()
    place = Place(topic, 0)
    broker.send(topic, map(str, range(10)))
    with Member(broker, topic) as member:
        member.until(lambda: place in member.owned)
        assert member.client.committed([place], 10) == {place: None}
        assert member.commit({place: 7}) == {place: None}
        assert member.client.committed([place], 10) == {place: Kept(7)}
        assert member.commit({place: 0}) == {place: None}
        assert member.client.committed([place], 10) == {place: Kept(0)}


def test_a_commit_returns_at_once_and_is_answered_as_news(broker: Broker) -> None:
    topic = broker.topic()
    place = Place(topic, 0)
    broker.send(topic, map(str, range(10)))
    with Member(broker, topic) as member:
        member.until(lambda: member.count() == 10)
        began = time.monotonic()
        for offset in range(1, 101):
            member.client.commit({place: Kept(offset % 10)})
        assert time.monotonic() - began < 0.1
        assert not member.answers
        member.until(lambda: len(member.answers) == 100)
        assert all(set(answer.offsets) == {place} and not answer.errors for answer in member.answers)
        assert member.client.committed([place], 10) == {place: Kept(0)}, "the last one counts"


def test_a_lower_offset_is_accepted(broker: Broker) -> None:
    topic = broker.topic()
    place = Place(topic, 0)
    broker.send(topic, map(str, range(10)))
    with Member(broker, topic) as member:
        member.until(lambda: place in member.owned)
        member.commit({place: 9})
        assert member.commit({place: 2}) == {place: None}
        assert member.client.committed([place], 10) == {place: Kept(2)}


def test_a_refusal_of_one_is_said_of_all_that_were_asked_together(real: Broker) -> None:
    """Though the broker took the others: so after a refusal `Commits` asks for each by itself."""
    topic = real.topic()
    good, bad = Place(topic, 0), Place(topic, 99)
    with Member(real, topic) as member:
        member.until(lambda: good in member.owned)
        together = member.commit({good: 7, bad: 5})
        assert member.client.committed([good], 10) == {good: Kept(7)}, "the broker took it"
        assert together == {good: "UNKNOWN_TOPIC_OR_PART", bad: "UNKNOWN_TOPIC_OR_PART"}

        assert member.commit({good: 8}) == {good: None}
        assert member.commit({bad: 5}) == {bad: "UNKNOWN_TOPIC_OR_PART"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_broker_takes_a_commit_for_what_belongs_to_another(real: Broker, protocol: str) -> None:
    """Why the engine fences itself: nobody else would."""
    topic, group = real.topic(2), new_group()
    settings = named(protocol)
    with Member(real, topic, group=group, **settings) as one, Member(real, topic, group=group, **settings) as other:

        def both() -> bool:
            other.turn(0.02)
            return bool(len(one.owned) == 1 and len(other.owned) == 1)

        one.until(both)
        (foreign,) = other.owned
        results = one.commit({foreign: 77})
        assert results == {foreign: None}
        assert other.client.committed([foreign], 10) == {foreign: Kept(77)}


def test_seeking_does_not_take_back_a_stored_offset(broker: Broker) -> None:
    """Why nothing is ever stored: the bare client commits by what it stored, wherever it was sought since."""
    topic = broker.topic()
    broker.send(topic, ["a", "b"])
    client = broker.assigned(topic)
    message = client.poll(10)
    assert message is not None
    client.store_offsets(message)
    client.seek(TopicPartition(topic, 0, 0))
    answers = client.commit(asynchronous=False)
    assert [one.offset for one in answers or []] == [1]
    client.close()
