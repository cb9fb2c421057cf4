"""What tests of job queues ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers import Running
from tests.jobs.queues import ByKafka, Queue
from tests.jobs.yard import Yard
from tests.specs.run import Stage

Makes = Callable[..., Yard]


@pytest.fixture(params=["kafka"])
def queue(request: pytest.FixtureRequest, kafka: Running) -> Queue:
    """Each job queue in turn."""
    assert request.param == "kafka"
    return ByKafka(kafka.bootstrap)


@pytest.fixture
def yard(kafka: Running, tmp_path: Path, queue: Queue) -> Makes:
    """Makes an app with that queue: `yard(body, **settings)`, as `Yard` does."""

    def made(body: str, **settings: object) -> Yard:
        return Yard(Stage(kafka.bootstrap), tmp_path, queue, body, **settings)  # type: ignore[arg-type]  # as App takes them

    return made
