"""What process tests ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import Running
from tests.process.servers import Scene


@pytest.fixture
def scene(kafka: Running, tmp_path: Path) -> Scene:
    """A topic of one partition and a group on real Kafka, and a folder."""
    return Scene(kafka.bootstrap, tmp_path)
