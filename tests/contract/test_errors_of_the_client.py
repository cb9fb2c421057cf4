"""Errors that the client gives as messages, raises or calls back with: each becomes news, and none a record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pytest

from karafka.client import Effect
from karafka.messages import Place
from tests.brokers import new_group
from tests.contract.member import PROTOCOLS, Broker, Member, named


def test_a_missing_topic_is_news_and_its_neighbour_is_read(real: Broker) -> None:
    topic, missing = real.topic(), new_group()
    real.send(topic, ["x"])
    with Member(real, topic, missing) as member:
        member.until(lambda: member.count() == 1 and member.troubled(Effect.MISSING))
        assert {one.topic for one in member.troubled(Effect.MISSING)} == {missing}
        assert not member.troubled(Effect.END)
    assert missing not in real.admin().list_topics(timeout=10).topics


def test_a_broker_out_of_reach_is_news_and_no_end() -> None:
    nowhere = Broker("kafka", "127.0.0.1:1")
    with Member(nowhere, "any") as member:
        member.until(lambda: member.troubles)
        assert {one.effect for one in member.troubles} == {Effect.NEWS}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_offset_out_of_range_is_told_and_seeking_goes_on(real: Broker, protocol: str) -> None:
    """With `reset=error` the partition stands still until it is placed anew; its neighbour stays where it is."""
    topic, group = real.topic(3), new_group()
    bad, good, idle = (Place(topic, number) for number in range(3))
    settings = named(protocol)
    for partition in (0, 1):
        real.send(topic, map(str, range(100)), partition)
    with Member(real, topic, group=group, **settings) as member:
        member.until(lambda: len(member.owned) == 3)
        member.commit({bad: 500})
    with Member(real, topic, group=group, **settings) as member:
        member.until(lambda: member.troubled(Effect.OUT_OF_RANGE) and len(member.offsets(good)) == 100)
        assert {one.place for one in member.troubled(Effect.OUT_OF_RANGE)} == {bad}
        assert not member.offsets(bad)
        member.client.seek({bad: 40})
        member.until(lambda: len(member.offsets(bad)) == 60)
        assert member.offsets(bad) == list(range(40, 100))
        real.send(topic, ["more"], 1)
        real.send(topic, ["more"], 2)
        member.until(lambda: len(member.offsets(good)) == 101 and len(member.offsets(idle)) == 1)
        assert member.offsets(good) == list(range(101))
        assert member.offsets(idle) == [0]
        assert not member.given_up, "placing one partition anew is no rebalance"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_placing_anew_keeps_a_pause(real: Broker, protocol: str) -> None:
    """A neighbour that is paused for back-pressure stays paused while another is assigned again."""
    topic, group = real.topic(2), new_group()
    bad, paused = Place(topic, 0), Place(topic, 1)
    settings = named(protocol)
    for partition in (0, 1):
        real.send(topic, map(str, range(100)), partition)
    with Member(real, topic, group=group, **settings) as member:
        member.until(lambda: len(member.owned) == 2)
        member.commit({bad: 500})
    with Member(real, topic, group=group, **settings) as member:
        member.until(lambda: member.troubled(Effect.OUT_OF_RANGE) and len(member.offsets(paused)) == 100)
        member.client.pause([paused])
        member.client.seek({bad: 0})
        real.send(topic, ["more"], 1)
        member.until(lambda: len(member.offsets(bad)) == 100)
        for _ in range(5):
            member.turn()
        assert len(member.offsets(paused)) == 100
        member.client.resume([paused])
        member.until(lambda: len(member.offsets(paused)) == 101)


def test_a_deletion_under_a_reader_is_told(real: Broker) -> None:
    """What retention does while a partition is paused: the next offset is gone, and no jump is silent."""
    topic = real.topic()
    place = Place(topic, 0)
    real.send(topic, map(str, range(100)))
    with Member(real, topic) as member:
        member.until(lambda: member.count() == 100)
        member.client.pause([place])
        member.client.seek({place: 10})
        real.delete(topic, 50)
        member.client.resume([place])
        member.until(lambda: member.troubled(Effect.OUT_OF_RANGE) and member.troubled(Effect.OUT_OF_RANGE)[0].place)
        assert member.count() == 100
        member.client.seek({place: 50})
        member.until(lambda: member.count() == 150)


def test_a_rebalance_that_fails_ends_in_order_and_raises_nothing(broker: Broker) -> None:
    """What goes wrong in a callback is news: raising there would make the client drop messages."""

    class Failing(Member):
        def assigned(self, places: Sequence[Place]) -> Mapping[Place, int]:
            raise ValueError("no starts")

    topic = broker.topic()
    broker.send(topic, ["x"])
    with Failing(broker, topic) as member:
        member.until(lambda: member.troubled(Effect.END))
        assert "no starts" in member.troubled(Effect.END)[0].text
        assert not member.received


@pytest.mark.parametrize("protocol", ["eager", "consumer"])
def test_two_members_with_one_instance_id_are_the_end_of_one(real: Broker, protocol: str) -> None:
    """A member that is fenced looks healthy and is dead: it is said, with an effect that ends the process."""
    topic, group = real.topic(), new_group()
    settings = named(protocol)
    with Member(real, topic, group=group, group_instance_id="one", **settings) as older:
        older.until(lambda: older.owned)
        with Member(real, topic, group=group, group_instance_id="one", **settings) as newer:
            deadline = time.monotonic() + 20
            while not (older.troubled(Effect.END) or newer.troubled(Effect.END)):
                assert time.monotonic() < deadline, (older.troubles, newer.troubles)
                older.turn(0.05)
                newer.turn(0.05)
