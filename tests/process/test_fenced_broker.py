"""A broker that its controller has counted out: it answers, and knows of no broker in its cluster, itself included."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from karafka.client import Identities
from karafka.confluent import ConfluentTopics
from karafka.devbroker import Kafka
from karafka.errors import BrokerError
from tests.brokers import new_topic, until

# It says that it is there every 12 s, and is counted out when 6 s have passed since.
FENCED = {"broker.heartbeat.interval.ms": "12000", "broker.session.timeout.ms": "6000"}


def known(admin: AdminClient) -> int:
    """How many brokers the cluster says it has."""
    try:
        return len(admin.list_topics(timeout=10).brokers)
    except KafkaException:  # whoever is told of none drops the one that it has
        return 0


def test_a_cluster_without_brokers_is_asked_what_it_is(tmp_path: Path) -> None:
    """Its answer to `describe_cluster` makes the client abort the whole process, this one: so it is not asked that.

    As soon as the broker counts again, by healthier settings here, it answers; another client, as the watch makes one
    each time: one that was told of no brokers at all may have dropped the last that it knew, and be deaf for good.
    """
    with Kafka(tmp_path / "kafka", settings=FENCED) as kafka:
        name = new_topic(kafka.bootstrap)
        topics = ConfluentTopics({"bootstrap.servers": kafka.bootstrap})
        assert name in topics.names(10)
        bare = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        until(lambda: known(bare) == 0)

        with pytest.raises(BrokerError) as refused:
            topics.ids([name], 1)
        assert refused.value.retriable
    with Kafka(tmp_path / "kafka", int(kafka.bootstrap.partition(":")[2])):
        found: list[Identities] = []

        def answered() -> bool:
            with suppress(BrokerError):
                found.append(ConfluentTopics({"bootstrap.servers": kafka.bootstrap}).ids([name], 5))
            return bool(found)

        until(answered, timeout=60)
        assert found[0].cluster
        assert found[0].topics[name]
