"""What a spec asks for."""

from __future__ import annotations

import pytest

from tests.brokers import Running
from tests.specs.groups import PROTOCOLS, Group
from tests.specs.run import Stage


@pytest.fixture(scope="session")
def stage(kafka: Running) -> Stage:
    """Real Kafka, with topics and apps of the spec's own."""
    return Stage(kafka.bootstrap)


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    """Each of Kafka's rebalance protocols in turn."""
    return str(request.param)


@pytest.fixture
def group(stage: Stage, protocol: str) -> Group:
    """A consumer group under each protocol in turn."""
    return Group(stage, protocol)
