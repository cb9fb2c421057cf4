"""What process tests ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Running
from tests.process.servers import Scene
from tests.secured import Secured


@pytest.fixture
def scene(kafka: Running, tmp_path: Path) -> Scene:
    """A topic of one partition and a group on real Kafka, and a folder."""
    return Scene(kafka.bootstrap, tmp_path)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A Kafka with several doors, for the tests of one file: use users, topics and groups of your own."""
    with Secured(tmp_path_factory.mktemp("secured")) as kafka:
        yield kafka
