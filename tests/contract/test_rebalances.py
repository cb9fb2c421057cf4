"""What partitions coming and going promises, under each of Kafka's three protocols."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import get_ident
from typing import Any

import pytest

from karafka.client import Effect, Kept
from karafka.messages import Place
from tests.brokers import new_group, until
from tests.contract.member import PROTOCOLS, Beside, Broker, Member, named


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> dict[str, Any]:
    return named(request.param)


def test_what_is_committed_in_a_revocation_reaches_the_next_owner(real: Broker, protocol: dict[str, Any]) -> None:
    """Asynchronously, from within the callback; on leaving too."""
    topic, group = real.topic(4), new_group()
    for partition in range(4):
        real.send(topic, map(str, range(300)), partition)

    def member() -> Member:
        return Member(real, topic, group=group, **protocol)

    with member() as older:

        def commit(places: Sequence[Place]) -> None:
            older.client.commit({place: Kept(100 + place.partition) for place in places})

        older.before_giving_up = commit
        older.until(lambda: len(older.owned) == 4)
        with Beside(member) as newer:
            older.until(lambda: len(newer.received) == 2)
            older.client.close()
            older.until(lambda: len(newer.received) == 4)
            for partition in range(4):
                assert newer.offsets(Place(topic, partition))[0] == 100 + partition


def test_a_partition_that_was_paused_flows_when_it_comes_back(real: Broker, protocol: dict[str, Any]) -> None:
    """The client remembers a pause across revocation: we take it back."""
    topic, group = real.topic(2), new_group()
    with Member(real, topic, group=group, **protocol) as member:
        member.until(lambda: len(member.owned) == 2)
        places = sorted(member.owned)
        member.client.pause(places)
        with Beside(lambda: Member(real, topic, group=group, **protocol)) as other:
            member.until(lambda: len(member.owned) == 1 and len(other.owned) == 1)
        for place in places:
            real.send(topic, ["x"] * 10, place.partition)
        back = {place for places in member.given_up for place in places}
        member.until(lambda: len(member.owned) == 2)
        # Nothing was committed: what is assigned once more comes once more.
        member.until(lambda: all(set(member.offsets(place)) == set(range(10)) for place in back))


def test_callbacks_run_on_the_fetching_thread(broker: Broker) -> None:
    """Also while another thread has made the client: the partitions belong to whoever fetches."""
    topic, group = broker.topic(), new_group()
    broker.send(topic, ["x"])
    with Beside(lambda: Member(broker, topic, group=group)) as member:
        until(lambda: bool(member.owned))
    assert member.given_up or member.went, "leaving gives up too"
    assert len(member.threads) == 1
    assert get_ident() not in member.threads


def test_a_later_subscription_adds_topics(real: Broker, protocol: dict[str, Any]) -> None:
    """What pattern routes do: subscribing again keeps what was read, loses nothing and begins the new one."""
    old, new = real.topic(), real.topic()
    real.send(old, map(str, range(100)))
    real.send(new, map(str, range(100)))
    with Member(real, old, **protocol) as member:

        def commit(places: Sequence[Place]) -> None:
            member.client.commit({place: Kept(len(member.offsets(place))) for place in places})

        member.before_giving_up = commit
        member.until(lambda: member.count() == 100)
        member.client.subscribe([old, new], member)
        member.until(lambda: len(member.offsets(Place(new, 0))) == 100)
        real.send(old, ["more"])
        member.until(lambda: len(member.offsets(Place(old, 0))) == 101)
        assert member.offsets(Place(old, 0)) == list(range(101))
        assert member.offsets(Place(new, 0)) == list(range(100))
        assert not member.troubled(Effect.END)


def test_a_member_that_did_not_poll_in_time_has_lost_its_partitions(real: Broker, protocol: dict[str, Any]) -> None:
    topic = real.topic()
    limits: dict[str, Any] = {"max_poll_interval_ms": 1_000}
    if "group_protocol" not in protocol:
        limits["session_timeout_ms"] = 1_000
    place = Place(topic, 0)
    with Member(real, topic, **limits, **protocol) as member:
        member.until(lambda: place in member.owned)
        time.sleep(2.5)  # the one thing that cannot be shown without letting time pass
        member.until(lambda: member.troubled(Effect.LOST) and member.went)
        assert member.went == [(place,)]
        assert not member.given_up
        member.until(lambda: place in member.owned)  # and it comes back by itself
