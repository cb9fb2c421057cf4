"""What chaos tests ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.broker import Broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka that only they use, and may kill and freeze."""
    with Broker(tmp_path_factory.mktemp("chaos") / "kafka") as broker:
        yield broker
