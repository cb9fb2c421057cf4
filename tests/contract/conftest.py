"""The brokers that the contract holds on: real Kafka, and the embedded one where both have it."""

from __future__ import annotations

import pytest

from karafka.devbroker import Embedded
from tests.brokers import Running
from tests.contract.member import Broker


@pytest.fixture(params=["kafka", "embedded"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each of the two in turn."""
    if request.param == "kafka":
        return Broker("kafka", request.getfixturevalue("kafka").bootstrap)
    embedded: Embedded = request.getfixturevalue("embedded")
    return Broker("embedded", embedded.bootstrap, dict(embedded.consumer_settings))


@pytest.fixture
def real(kafka: Running) -> Broker:
    """Real Kafka, for what the embedded one does not have."""
    return Broker("kafka", kafka.bootstrap)
