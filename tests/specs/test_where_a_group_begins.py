"""A group that never read a topic begins where its route says; a partition added later begins at its beginning."""

from __future__ import annotations

from typing import Literal

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from karafka import Controller
from karafka.events import Assigned, ClientTroubled, Committed
from tests.brokers import new_group
from tests.specs.run import Notes, Stage, running, until


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_the_start_is_the_routes(stage: Stage, start: Literal["earliest", "latest"]) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, ["1", "2"])

    @app.topic(topic, start=start)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    with running(app) as server:
        until(lambda: server.told(Assigned))
        stage.send(topic, ["3"])
        until(lambda: 3 in seen)
    assert seen.all() == {"earliest": [1, 2, 3], "latest": [3]}[start]


def test_a_partition_added_later_begins_at_its_beginning(stage: Stage) -> None:
    """Also where the route says latest: nothing sent after the group began may be passed over."""
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, ["1"])

    @app.topic(topic, start="latest")
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    with running(app) as server:
        until(lambda: server.told(Committed))  # the end is remembered at once
        stage.grow(topic, 2)
        stage.send(topic, ["2", "3"], partition=1)
        until(lambda: len(seen) == 2)
    assert seen.all() == [2, 3]


def test_members_that_start_side_by_side_all_begin_at_the_end(stage: Stage) -> None:
    """One has committed its end, with what it keeps beside it, before the other is told of its share."""
    topic, first, group = stage.topic(2), stage.app(), new_group()
    seen: Notes[int] = Notes()
    for partition in (0, 1):
        stage.send(topic, ["1"], partition=partition)

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    first.topic(topic, start="latest")(Keep)
    with running(first) as server:
        until(lambda: server.told(Committed))
    copy(stage.bootstrap, first.config.client_id, group, TopicPartition(topic, 0))
    second = stage.app(client_id=group)
    second.topic(topic, start="latest")(Keep)
    with running(second) as server:
        until(lambda: server.told(Assigned))
        stage.send(topic, ["2"], partition=1)
        until(lambda: len(seen) > 0)
    assert seen.all() == [2]


def copy(bootstrap: str, group: str, other: str, place: TopicPartition) -> None:
    """What `group` has committed of `place`, `other` has too."""

    def asks(name: str) -> Consumer:
        return Consumer({"bootstrap.servers": bootstrap, "group.id": name, "log_level": 0})

    source, target = asks(group), asks(other)
    target.commit(offsets=source.committed([place], 30), asynchronous=False)
    source.close()
    target.close()


def test_an_end_is_remembered_before_the_first_message(stage: Stage) -> None:
    """Between a first start with latest and a second one messages come: they are read."""
    topic = stage.topic()
    first = stage.app()
    second = stage.app(client_id=first.config.client_id)
    seen: Notes[int] = Notes()
    stage.send(topic, ["1"])

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    for app in (first, second):
        app.topic(topic, start="latest")(Keep)
    with running(first) as server:
        until(lambda: server.told(Assigned))
    stage.send(topic, ["2"])
    with running(second):
        until(lambda: len(seen) == 1)
    assert seen.all() == [2]


def test_a_transaction_that_keeps_the_beginning_open_is_named(stage: Stage) -> None:
    """Nobody knows where to begin before it ends; which partition waits, and for what, is said."""
    group, topic = new_group(), stage.topic(2)
    app = stage.app(client_id=group)
    seen: Notes[int] = Notes()
    stage.send(topic, ["1", "2"], partition=1)

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    own = {"bootstrap.servers": stage.bootstrap, "log_level": 0}
    other = Producer({**own, "transactional.id": f"{group}-other", "transaction.timeout.ms": 60_000})
    nobody = Consumer({**own, "group.id": group})
    other.init_transactions(10)
    other.begin_transaction()
    other.send_offsets_to_transaction([TopicPartition(topic, 1, 1)], nobody.consumer_group_metadata(), 10)
    with running(app, allow=(ClientTroubled,)) as server:
        until(lambda: server.told(ClientTroubled))
        assert not server.told(Assigned)
        (said,) = [event.error for event in server.told(ClientTroubled)]
        assert f"what is committed of {topic}/1 is part of a transaction that has not ended" in said
        other.commit_transaction(10)
        until(lambda: len(seen) == 1)
    nobody.close()
    assert seen.all() == [2]
