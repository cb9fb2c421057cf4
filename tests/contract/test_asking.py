"""What the client knows of the log: bounds, partitions, positions, names."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer, TopicPartition

from karafka.confluent import ConfluentTopics, check
from karafka.errors import BrokerError, ConfigError
from karafka.messages import Place
from tests.brokers import new_group, until
from tests.contract.member import Broker, Member


def test_bounds_are_the_watermarks(broker: Broker) -> None:
    topic = broker.topic(2)
    broker.send(topic, map(str, range(10)), 0)
    broker.send(topic, map(str, range(3)), 1)
    places = [Place(topic, 0), Place(topic, 1)]
    client = broker.bare()
    with Member(broker, topic) as member:
        member.until(lambda: member.owned)
        bounds = member.client.bounds(places, 10)
        assert bounds == {places[0]: (0, 10), places[1]: (0, 3)}
        for place, (low, high) in bounds.items():
            assert client.get_watermark_offsets(TopicPartition(*place), timeout=10) == (low, high)
    client.close()


def test_bounds_begin_behind_what_was_deleted(real: Broker) -> None:
    topic = real.topic(2)
    places = [Place(topic, 0), Place(topic, 1)]
    for partition in (0, 1):
        real.send(topic, map(str, range(10)), partition)
    real.delete(topic, 6)
    with Member(real, topic) as member:
        assert member.client.bounds(places, 10) == {places[0]: (6, 10), places[1]: (0, 10)}
        real.delete(topic, 10, partition=1)
        assert member.client.bounds(places, 10)[places[1]] == (10, 10)


def test_bounds_of_an_empty_partition(broker: Broker) -> None:
    topic = broker.topic(2)
    broker.send(topic, ["x"], 0)  # so that the embedded topic is there
    with Member(broker, topic) as member:
        member.until(lambda: member.owned)  # the embedded broker lets nobody go for 10 s who has never polled
        assert member.client.bounds([Place(topic, 1)], 10) == {Place(topic, 1): (0, 0)}


def test_bounds_count_what_transactions_left(real: Broker) -> None:
    """The end is behind the markers: what a position may reach."""
    topic = real.topic()
    in_transaction(real, topic, 3)
    with Member(real, topic) as member:
        # The broker writes the marker after it has answered the commit.
        until(lambda: member.client.bounds([Place(topic, 0)], 10) == {Place(topic, 0): (0, 4)})


def test_position_passes_the_markers_of_transactions(real: Broker) -> None:
    """Nobody ever receives a marker: behind the last message the position goes on by itself."""
    topic = real.topic()
    place = Place(topic, 0)
    in_transaction(real, topic, 3)
    in_transaction(real, topic, 2, commit=False)
    in_transaction(real, topic, 1)
    in_transaction(real, topic, 4, commit=False)
    with Member(real, topic) as member:
        member.until(lambda: member.client.position([place]).get(place) == 14)
        assert member.offsets(place) == [0, 1, 2, 7]


def test_partitions_of_a_topic(broker: Broker) -> None:
    topic = broker.topic(4)
    broker.send(topic, ["x"])
    with Member(broker, topic) as member:
        assert member.client.partitions(topic, 10) == [Place(topic, number) for number in range(4)]


def test_a_topic_that_is_not_there_has_no_partitions(real: Broker) -> None:
    """And asking for it does not create it."""
    missing = new_group()
    with Member(real, real.topic()) as member:
        assert member.client.partitions(missing, 10) == []
        assert member.client.partitions(missing, 10) == []
    assert missing not in real.admin().list_topics(timeout=10).topics


def test_a_question_about_a_missing_partition_is_a_retriable_error(real: Broker) -> None:
    topic = real.topic()
    with Member(real, topic) as member, pytest.raises(BrokerError):
        member.client.bounds([Place(topic, 0), Place(topic, 7)], 5)


def test_names_are_all_but_kafkas_own(broker: Broker) -> None:
    topic = broker.topic()
    broker.send(topic, ["x"])
    with Member(broker, topic) as member:
        member.until(lambda: member.count() == 1)
        member.commit({Place(topic, 0): 1})
    names = ConfluentTopics({"bootstrap.servers": broker.bootstrap}).names(10)
    assert topic in names
    assert not any(name.startswith("__") for name in names)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fetch.wait.max.msx": 5}, "'fetch.wait.max.msx', which librdkafka does not know"),
        ({"fetch.wait.max.ms": "soon"}, "fetch.wait.max.ms"),
        ({"partition.assignment.strategy": "random"}, "partition.assignment.strategy"),
        ({"security.protocol": "telnet"}, "security.protocol"),
        ({"group.protocol": "consumer", "session.timeout.ms": 6_000}, "session.timeout.ms"),
        ({"group.protocol": "consumer", "partition.assignment.strategy": "range"}, "partition.assignment.strategy"),
    ],
)
def test_a_setting_that_the_client_refuses_is_one_sentence(settings: dict[str, str | int], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check({"bootstrap.servers": "localhost:9092", **settings}, "App(kafka=…)")
    text = str(refused.value)
    assert text.startswith("App(kafka=…) ")
    assert said in text
    assert "\n" not in text


def test_good_settings_pass() -> None:
    check(
        {
            "bootstrap.servers": "localhost:9092",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "me",
            "sasl.password": "secret",
        },
        "App(kafka=…)",
    )


def in_transaction(broker: Broker, topic: str, count: int, *, commit: bool = True) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": new_group()})
    producer.init_transactions(10)
    producer.begin_transaction()
    for _ in range(count):
        producer.produce(topic, b"x", partition=0)
    producer.flush(10)
    if commit:
        producer.commit_transaction(10)
    else:
        producer.abort_transaction(10)
