"""What commands ask of a cluster: its brokers, its topics, its newest messages; nothing is left behind."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import ConsumerGroupState, Producer
from confluent_kafka.admin import AdminClient

from karafka.cluster import Cluster, TopicSeen
from karafka.devbroker import artifacts, ports
from karafka.errors import BrokerError
from karafka.messages import Place, Record
from tests.brokers import new_group
from tests.contract.member import PROTOCOLS, Broker

TIMEOUT = 10.0


def cluster(broker: Broker) -> Cluster:
    return Cluster({"bootstrap.servers": broker.bootstrap})


def newest(broker: Broker, topic: str, count: int, partition: int | None = None) -> list[Record]:
    return cluster(broker).newest(topic, count, group=new_group(), partition=partition, timeout=TIMEOUT)


def values(records: list[Record]) -> list[bytes | None]:
    return [one.value() for one in records]


def test_a_broker_that_answers_tells_which_it_is(broker: Broker) -> None:
    (seen,) = cluster(broker).brokers(TIMEOUT)

    assert (seen.address, seen.number, seen.trouble) == (broker.bootstrap, 1, "")
    assert seen.cluster


def test_the_version_is_that_of_the_broker(real: Broker) -> None:
    """By the requests it takes: of this version none newer is known to the table, or this test says so."""
    (seen,) = cluster(real).brokers(TIMEOUT)

    assert seen.version.split()[0] == artifacts.VERSION.rpartition(".")[0]


def test_each_address_is_asked_for_itself(real: Broker) -> None:
    """One that does not answer says why; what a broker announces is asked too, where it is another address."""
    port = real.bootstrap.rpartition(":")[2]
    named, gone = f"localhost:{port}", f"localhost:{ports.free()}"

    first, second, third = Cluster({"bootstrap.servers": f"{named}, {gone}"}).brokers(2.0)

    assert (first.address, first.number, first.trouble) == (named, None, "")
    assert (second.address, second.cluster, second.version) == (gone, "", "")
    assert f"no broker answers at {gone} (Connection refused)" in second.trouble
    assert "tried again" not in second.trouble
    assert (third.address, third.number, third.trouble) == (real.bootstrap, 1, "")


def test_topics_are_told_with_their_partitions(real: Broker) -> None:
    topic = real.topic(3)

    found = cluster(real).topics(TIMEOUT)

    assert found[topic] == TopicSeen(topic, 3, 1)
    assert not [name for name in found if name.startswith("__")]


def test_topics_are_made_as_told(real: Broker) -> None:
    """What cannot be made says why, and holds up no other; what is there already is left as it is."""
    there, new, wrong = real.topic(2), f"new-{new_group()}", "no topic's name"
    asked = cluster(real)

    refused = asked.create(
        [there, new, wrong], partitions=5, replicas=1, config={"retention.ms": "60000"}, timeout=TIMEOUT
    )

    assert list(refused) == [wrong]
    assert "invalid" in refused[wrong]
    found = asked.topics(TIMEOUT)
    assert (found[there].partitions, found[new].partitions) == (2, 5)


def test_topics_are_made_as_the_brokers_do_by_default(real: Broker) -> None:
    new = f"new-{new_group()}"
    asked = cluster(real)

    assert asked.create([new], partitions=None, replicas=None, config={}, timeout=TIMEOUT) == {}

    assert asked.topics(TIMEOUT)[new] == TopicSeen(new, 4, 1)


def test_the_newest_messages_of_all_partitions(broker: Broker) -> None:
    """In the order of their time; of one partition where that is asked for."""
    topic = broker.topic(2)
    for round_ in range(3):
        for partition in (0, 1):
            broker.send(topic, [f"{round_}-{partition}"], partition)
        time.sleep(0.01)  # those of one millisecond come by partition

    assert values(newest(broker, topic, 4)) == [b"1-0", b"1-1", b"2-0", b"2-1"]
    assert values(newest(broker, topic, 2, partition=0)) == [b"1-0", b"2-0"]
    assert values(newest(broker, topic, 100, partition=1)) == [b"0-1", b"1-1", b"2-1"]


def test_markers_and_aborted_messages_are_looked_past(real: Broker) -> None:
    """They have offsets: as many messages come as are asked for, all the same."""
    topic = real.topic()
    producer = Producer({"bootstrap.servers": real.bootstrap, "transactional.id": new_group()})
    producer.init_transactions()
    for number in range(10):
        producer.begin_transaction()
        producer.produce(topic, str(number))
        producer.flush()
        (producer.abort_transaction if number % 2 else producer.commit_transaction)()

    assert values(newest(real, topic, 3)) == [b"4", b"6", b"8"]


def test_messages_from_an_offset_on(broker: Broker) -> None:
    topic = broker.topic()
    broker.send(topic, map(str, range(10)))

    found = cluster(broker).at(Place(topic, 0), 3, 2, group=new_group(), timeout=TIMEOUT)

    assert [(one.offset(), one.value()) for one in found] == [(3, b"3"), (4, b"4")]


def test_an_empty_topic_has_none(real: Broker) -> None:
    assert newest(real, real.topic(2), 5) == []


@pytest.mark.parametrize(
    ("partition", "offset", "said"),
    [
        (5, 0, "has no partition 5: it has 1, from 0"),
        (0, 3, "offset 3 is not in the log, which holds 0 up to before 3"),
        (0, -1, "offset -1 is not in the log"),
    ],
)
def test_a_place_that_is_not_there_is_said_so(real: Broker, partition: int, offset: int, said: str) -> None:
    topic = real.topic()
    real.send(topic, map(str, range(3)))

    with pytest.raises(BrokerError, match=said):
        cluster(real).at(Place(topic, partition), offset, 1, group=new_group(), timeout=TIMEOUT)


def test_a_topic_that_is_not_there_is_said_so_and_not_made(real: Broker) -> None:
    """Brokers make topics that producers ask for: looking must not."""
    topic = f"nowhere-{new_group()}"

    with pytest.raises(BrokerError, match="it is not there"):
        newest(real, topic, 1)

    assert topic not in cluster(real).topics(TIMEOUT)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_looking_leaves_no_group_behind(real: Broker, protocol: str) -> None:
    """Whatever the app's groups speak, and whatever name its members have there."""
    topic, group = real.topic(), new_group()
    real.send(topic, "abc")
    settings = {"bootstrap.servers": real.bootstrap, "group.instance.id": "one", **PROTOCOLS[protocol]}

    assert len(Cluster(settings).newest(topic, 5, group=group, partition=None, timeout=TIMEOUT)) == 3

    admin = AdminClient({"bootstrap.servers": real.bootstrap})
    assert admin.describe_consumer_groups([group])[group].result(TIMEOUT).state is ConsumerGroupState.DEAD


@pytest.mark.parametrize("asking", ["topics", "newest"])
def test_a_cluster_that_does_not_answer_is_one_sentence(asking: str) -> None:
    """Why, and where; not that it is tried again, since it is not."""
    gone = f"127.0.0.1:{ports.free()}"
    asked = Cluster({"bootstrap.servers": gone})

    with pytest.raises(BrokerError, match=rf"no broker answers at {gone} \(Connection refused\).*right\?$"):
        asked.topics(1.0) if asking == "topics" else asked.newest("t", 1, group="g", partition=None, timeout=1.0)
