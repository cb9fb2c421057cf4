"""Topics under other names in the cluster: what is refused, which are the app's, what the commands show of both."""

from __future__ import annotations

import re
from typing import Any

import pytest
from click import unstyle

from karafka import App, ConfigError, Controller, DeadLetter, InvalidMessageError, TopicMapper, TopicPrefix
from karafka.cli import info, routes, topics
from karafka.cli.clusters import clusters
from karafka.cluster import TopicSeen
from karafka.config import Config
from karafka.mapper import Names

KAFKA = {"bootstrap.servers": "127.0.0.1:1"}


class Videos(Controller[Any]):
    def perform(self) -> None: ...


class Table:
    """A mapper by a table, as of a cluster whose names nobody can change."""

    def __init__(self, **there: str) -> None:
        self.there = there

    def outgoing(self, topic: str, /) -> str:
        return self.there[topic]

    def incoming(self, topic: str, /) -> str:
        return next(name for name, there in self.there.items() if there == topic)


class Lossy:
    def outgoing(self, topic: str, /) -> str:
        return topic.lower()

    def incoming(self, topic: str, /) -> str:
        return topic


def app(mapper: TopicMapper | None) -> App:
    return App("shop", KAFKA, topic_mapper=mapper)


class TestNames:
    def test_a_prefix_leads_there_and_back(self) -> None:
        names = Names(TopicPrefix("staging."))

        assert names.there("videos") == "staging.videos"
        assert names.here("staging.videos") == "videos"

    def test_what_does_not_come_back_is_none_of_the_app_s(self) -> None:
        """Whatever its mapper answers for it, or raises."""
        assert Names(TopicPrefix("staging.")).here("production.videos") is None
        assert Names(TopicPrefix("staging.")).here("staging.") is None
        assert Names(Table(videos="v1")).here("v2") is None
        assert Names(Lossy()).here("Videos") is None

    def test_an_empty_prefix_changes_no_name(self) -> None:
        """So a variable may hold it."""
        assert Names(TopicPrefix("")).there("videos") == "videos"

    def test_each_name_is_asked_for_once(self) -> None:
        """A mapper may take its time."""
        table = Table(videos="v1")
        names = Names(table)
        assert (names.there("videos"), names.here("v1")) == ("v1", "videos")

        table.there.clear()

        assert (names.there("videos"), names.here("v1")) == ("v1", "videos")


class TestMistakes:
    @pytest.mark.parametrize("mapper", ["staging.", TopicPrefix, object(), 7])
    def test_what_is_no_mapper_is_refused(self, mapper: Any) -> None:
        with pytest.raises(ConfigError, match=r"App\(topic_mapper\)=.*TopicPrefix\('staging.'\) is expected"):
            app(mapper)

    def test_a_prefix_is_text(self) -> None:
        with pytest.raises(ConfigError, match=r"TopicPrefix\(None\): some text is expected"):
            TopicPrefix(None)  # type: ignore[arg-type] # what is refused

    def test_a_name_that_does_not_lead_back_is_refused_where_it_is_drawn(self) -> None:
        said = "topic 'Videos' is 'videos' in Kafka, by Lossy.outgoing, but by Lossy.incoming that is 'videos'"
        with pytest.raises(ConfigError, match=re.escape(said)):
            app(Lossy()).topic("Videos")(Videos)

    def test_so_are_two_of_one_name(self) -> None:
        """One of them would be read as the other."""
        made = app(Table(videos="v1", clips="v1"))
        made.topic("videos")(Videos)

        with pytest.raises(ConfigError, match=r"topic 'clips' is 'v1' in Kafka, .* that is 'videos'"):
            made.topic("clips")(Videos)

    def test_so_is_one_of_dead_letters(self) -> None:
        with pytest.raises(ConfigError, match=r"topic 'videos_dead': Table.outgoing\('videos_dead'\) raised KeyError"):
            app(Table(videos="v1")).topic("videos", dead_letter=DeadLetter("videos_dead"))(Videos)

    def test_so_is_one_that_kafka_does_not_take(self) -> None:
        with pytest.raises(ConfigError, match=r"TopicPrefix.outgoing\('videos'\): 'staging:videos' is no topic name"):
            app(TopicPrefix("staging:")).topic("videos")(Videos)

    def test_what_is_sent_to_a_name_that_does_not_lead_back_is_refused(self) -> None:
        """When it is sent: no route names it. By a variant as by the producer."""
        producer = app(Lossy()).producer

        for one in (producer, producer.variant(acks=1)):
            with pytest.raises(InvalidMessageError, match="topic 'Videos' is 'videos' in Kafka"):
                one.produce_async("Videos", "1")
        producer.close(0)

    def test_without_a_mapper_nothing_is_asked(self) -> None:
        assert app(None).names is None
        assert app(None).in_kafka("videos") == "videos"
        assert Config(client_id="shop", kafka=KAFKA).topic_mapper is None


def shop() -> App:
    made = app(TopicPrefix("staging."))
    made.topic("videos", dead_letter=DeadLetter("videos_dead"))(Videos)
    made.topic(re.compile("clicks_.*"))(Videos)
    return made


class TestCommands:
    def test_routes_show_both_names(self) -> None:
        rows = routes.described(shop())

        assert [row["in_kafka"] for row in rows] == [None, "staging.videos"]
        assert rows[1]["dead_letter"]["in_kafka"] == "staging.videos_dead"
        shown = routes.cells(rows[1], routes.usually(shop()))
        assert shown[0] == "videos"
        assert "in Kafka staging.videos;" in shown[3]
        assert "dead letters to videos_dead (staging.videos_dead in Kafka) after 3 tries" in shown[3]

    def test_info_shows_both_names(self) -> None:
        versions = dict.fromkeys(("karafka", "confluent-kafka", "librdkafka", "python", "executable", "system"), "1")
        told = {"versions": versions, "app": info.described(shop(), "app:app", "app.py"), "clusters": []}

        shown = {label: list(map(unstyle, lines)) for label, lines in info.sheet(told)}

        assert shown["groups"] == [r"shop: videos (staging.videos in Kafka), clicks_.*"]

    def test_topics_are_looked_for_by_the_cluster_s_names(self) -> None:
        """Those of other environments are no match of a pattern."""
        made = shop()
        (used,) = clusters(made)
        there = ["staging.videos", "videos", "videos_dead", "staging.clicks_1", "clicks_2", "production.clicks_3"]

        found = topics.declared(made, used, {name: TopicSeen(name, 3, 1) for name in there})

        assert [(one.name, one.in_kafka, one.state, one.matches) for one in found] == [
            ("clicks_.*", None, "pattern", ["clicks_1"]),
            ("videos", "staging.videos", "there", []),
            ("videos_dead", "staging.videos_dead", "missing", []),
        ]
        topics.settle([found[2]], {}, {"staging.videos_dead": TopicSeen("staging.videos_dead", 5, 1)})
        assert (found[2].state, found[2].partitions) == ("created", 5)
        table = topics.table(found)
        assert table.headings[:3] == ("topic", "in Kafka", "state")
        assert [row[1] for row in table.rows] == ["-", "staging.videos", "staging.videos_dead"]
