"""What a spec asks for."""

from __future__ import annotations

import pytest

from tests.brokers import Running
from tests.specs.run import Stage


@pytest.fixture(scope="session")
def stage(kafka: Running) -> Stage:
    """Real Kafka, with topics and apps of the spec's own."""
    return Stage(kafka.bootstrap)
