"""A broker that its controller has counted out: it answers, and knows of no broker in its cluster, itself included."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from karafka.confluent import ConfluentTopics
from karafka.devbroker import Kafka
from karafka.errors import BrokerError
from tests.brokers import new_topic, until

# It says that it is there every 12 s, and is counted out when 3 s have passed since.
FENCED = {"broker.heartbeat.interval.ms": "12000", "broker.session.timeout.ms": "3000"}


def test_a_cluster_without_brokers_is_asked_what_it_is(tmp_path: Path) -> None:
    """Its answer to `describe_cluster` makes the client abort the whole process, this one: so it is not asked that."""
    with Kafka(tmp_path / "kafka", settings=FENCED) as kafka:
        name = new_topic(kafka.bootstrap)
        topics = ConfluentTopics({"bootstrap.servers": kafka.bootstrap})
        assert name in topics.names(10)
        bare = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        until(lambda: not bare.list_topics(timeout=10).brokers)

        with pytest.raises(BrokerError) as refused:
            topics.ids([name], 1)
        assert refused.value.retriable

        until(lambda: bool(bare.list_topics(timeout=10).brokers))
        found = topics.ids([name], 10)
        assert found.cluster
        assert found.topics[name]
