"""An app with a mapper writes and reads its own names of topics, whatever it does; the cluster has the others."""

from __future__ import annotations

import re
from functools import partial
from itertools import count
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from karafka import App, Backoff, BatchController, Controller, DeadLetter, TopicPrefix, UnknownTopicError
from karafka.events import (
    Assigned,
    Buried,
    Committed,
    Failed,
    Produced,
    Received,
    TopicFound,
    TopicMissing,
    TransactionCommitted,
)
from tests.brokers import until as until_true
from tests.specs import visible
from tests.specs.run import Notes, Stage, running, until


class Street:
    """One environment of several on a cluster: its topics begin alike there."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.prefix = stage, f"{stage.name_of_topic()}."

    def there(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def topic(self, name: str, partitions: int = 1) -> str:
        """Made in the cluster; the app's name of it."""
        self.stage.create(self.there(name), partitions)
        return name

    def app(self, **settings: Any) -> App:
        return self.stage.app(topic_mapper=TopicPrefix(self.prefix), **settings)

    def committed(self, app: App, name: str, partitions: int = 1) -> dict[int, int]:
        return self.stage.committed(app.config.client_id, self.there(name), partitions)


@pytest.fixture
def street(stage: Stage) -> Street:
    return Street(stage)


def test_what_is_read_sent_and_buried_has_the_app_s_names(stage: Stage, street: Street) -> None:
    """Two topics whose partitions bear the same numbers, by name; in messages, events and headers."""
    app = street.app(retry=Backoff(0.05))
    for name in ("videos", "clips", "thumbnails", "videos_dead"):
        street.topic(name)
    seen: Notes[tuple[str, int]] = Notes()

    class Pass(Controller[int]):
        def perform(self) -> None:
            if self.params == 3 and self.message.topic == "videos":
                raise ValueError("unfit")
            self.app.producer.produce_sync("thumbnails", self.params)
            seen.add((self.message.topic, self.params))

    app.topic("videos", dead_letter=DeadLetter("videos_dead", after=2))(Pass)
    app.topic("clips")(Pass)
    stage.send(street.there("videos"), map(str, range(5)))
    stage.send(street.there("clips"), map(str, range(100, 105)))
    produced: Notes[str] = Notes()
    app.events.on(Produced, lambda event: produced.add(event.topic))

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(seen) == 9 and server.told(Buried))
        (buried,) = server.told(Buried)
        assert (buried.topic, buried.offset, buried.grave) == ("videos", 3, "videos_dead")
        assert {event.topic for event in server.told(Received)} == {"videos", "clips"}
        assert {topic for event in server.told(Assigned) for topic, _ in event.starts} == {"videos", "clips"}
        until(lambda: {topic for event in server.told(Committed) for topic, _ in event.offsets} == {"videos", "clips"})
        assert {event.topic for event in server.told(Failed)} == {"videos"}

    assert set(produced) == {"thumbnails"}
    assert {one for one in seen if one[0] == "videos"} == {("videos", number) for number in (0, 1, 2, 4)}
    assert {one for one in seen if one[0] == "clips"} == {("clips", number) for number in range(100, 105)}
    assert street.committed(app, "videos") == street.committed(app, "clips") == {0: 5}
    assert len(stage.read(street.there("thumbnails"), 9)) == 9
    (dead,) = stage.read(street.there("videos_dead"), 1)
    assert (dead.value(), dict(stage.headers(dead))["karafka-topic"]) == (b"3", b"videos")


def test_a_pattern_finds_the_app_s_topics_alone(stage: Stage, street: Street) -> None:
    """By the app's names; those of a neighbour on the cluster match as little as its names lead back."""
    neighbour = Street(stage)
    app = street.app()
    seen: Notes[tuple[str, int]] = Notes()

    @app.topic(re.compile(r"clicks_\w+"))
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.topic, self.params))

    street.topic("clicks_a")
    neighbour.topic("clicks_a")
    stage.send(street.there("clicks_a"), ["1"])
    stage.send(neighbour.there("clicks_a"), ["0"])

    with running(app) as server:
        until(lambda: seen.all() == [("clicks_a", 1)])
        street.topic("clicks_b")
        stage.send(street.there("clicks_b"), ["2"])
        until(lambda: ("clicks_b", 2) in seen)
        assert [event.topic for event in server.told(TopicFound)] == ["clicks_a", "clicks_b"]

    assert seen.all() == [("clicks_a", 1), ("clicks_b", 2)]
    assert street.committed(app, "clicks_b") == {0: 1}


def test_a_topic_that_is_missing_is_told_and_found_by_its_name_here(stage: Stage, street: Street) -> None:
    app = street.app()
    seen: Notes[int] = Notes()

    @app.topic("later")
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    with running(app) as server:
        until(lambda: server.told(TopicMissing))
        street.topic("later")
        stage.send(street.there("later"), ["1"])
        until(lambda: seen.all() == [1])
        assert [event.topic for event in server.told(TopicMissing)] == ["later"]
        until(lambda: [event.topic for event in server.told(TopicFound)] == ["later"])


@pytest.mark.parametrize("protocol", ["classic", "eager", "consumer"])
def test_a_restart_goes_on_where_it_was(stage: Stage, street: Street, protocol: str) -> None:
    """Under each protocol: what is committed is asked for, and pauses and seeks are done, by the cluster's names."""
    eager = {"partition.assignment.strategy": "range"} if protocol == "eager" else {}
    kafka: dict[str, str | int | float | bool] = {"group.protocol": "consumer"} if protocol == "consumer" else {**eager}
    street.topic("videos", 3)
    name = street.app().config.client_id
    seen: Notes[tuple[int, int]] = Notes()
    numbers = count()

    def member() -> App:
        app = street.app(client_id=name, kafka=kafka)

        @app.topic("videos", marking="manual")
        class Keep(Controller[int]):
            def perform(self) -> None:
                if self.message.offset == 5 and self.message.partition == 0 and next(numbers) == 0:
                    self.pause(0.2)
                    self.seek(4)
                    return
                seen.add((self.message.partition, self.params))
                self.mark()

        return app

    for lot in (range(10), range(10, 20)):
        for partition in range(3):
            stage.send(street.there("videos"), map(str, lot), partition=partition)
        app = member()
        with running(app):
            last = {(partition, lot[-1]) for partition in range(3)}
            until(partial(last.issubset, seen))
        assert street.committed(app, "videos", 3) == dict.fromkeys(range(3), lot[-1] + 1)

    once = [one for partition in range(3) for one in [(partition, number) for number in range(20)]]
    assert sorted({*seen}) == once
    assert len(seen) == len(once) + 1, "but for the message that was sought to"


def test_latest_begins_at_the_end_there(stage: Stage, street: Street) -> None:
    app = street.app(start="latest")
    street.topic("videos", 2)
    stage.send(street.there("videos"), map(str, range(10)))
    seen: Notes[int] = Notes()

    @app.topic("videos")
    class Keep(BatchController[int]):
        def perform(self) -> None:
            for one in self.messages:
                seen.add(one.offset)

    with running(app) as server:
        until(lambda: server.told(Assigned))
        stage.send(street.there("videos"), ["10"])
        until(lambda: 10 in seen)

    assert seen.all() == [10]


def test_exactly_once_is_so_under_other_names(stage: Stage, street: Street) -> None:
    """Results and offsets in one transaction, by an id with the cluster's name in it: neighbours have others."""
    neighbour = Street(stage)
    group = street.app().config.client_id
    numbers = list(range(200))
    seen: dict[Street, Notes[int]] = {street: Notes(), neighbour: Notes()}

    def member(of: Street, name: str) -> App:
        app = of.app(client_id=name)

        @app.topic("videos", exactly_once=True)
        class Pass(Controller[int]):
            def perform(self) -> None:
                self.produce("thumbnails", f"0 {self.params}")
                seen[of].add(self.params)

        return app

    for one in (street, neighbour):
        one.topic("videos")
        one.topic("thumbnails")
        stage.send(one.there("videos"), map(str, numbers))
    app, other = member(street, group), member(neighbour, f"{group}-too")

    with running(app) as server, running(other):
        until(lambda: len(seen[street]) == len(seen[neighbour]) == len(numbers))
        until_true(lambda: street.committed(app, "videos") == neighbour.committed(other, "videos") == {0: len(numbers)})
        assert server.told(TransactionCommitted)[0].transactional_id == f"{group}:{street.there('videos')}:0"

    for one in (street, neighbour):
        found = visible.seen(stage.bootstrap, one.there("thumbnails"), 1)
        assert found == [f"0 {number}" for number in numbers]


def test_a_producer_answers_by_the_app_s_names(stage: Stage, street: Street) -> None:
    """In its answers and its errors; a variant too."""
    street.topic("videos")
    producer = street.app().producer

    assert producer.produce_sync("videos", "1").topic == "videos"
    assert producer.variant(linger_ms=1).produce_sync("videos", "2").topic == "videos"
    assert [one.topic for one in producer.produce_many_sync([{"topic": "videos", "payload": "3"}])] == ["videos"]
    producer.buffer("videos", "4")
    producer.flush_sync()
    with pytest.raises(UnknownTopicError) as unknown:
        producer.produce_sync("videos", "5", partition=7)
    assert unknown.value.topic == "videos"
    producer.close()

    assert [one.value() for one in stage.read(street.there("videos"), 4)] == [b"1", b"2", b"3", b"4"]
    with stage.reader("asks-only") as reader:
        assert reader.get_watermark_offsets(TopicPartition(street.there("videos"), 0), 10) == (0, 4)
