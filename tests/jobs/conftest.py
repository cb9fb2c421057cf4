"""What tests of job queues ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.brokers import Running
from tests.jobs.queues import ByCelery, ByKafka, Queue
from tests.jobs.redises import Redis
from tests.jobs.yard import Yard
from tests.specs.run import Stage

Makes = Callable[..., Yard]


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """One of this process's, which is emptied before each test."""
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(params=["kafka", "celery"])
def queue(request: pytest.FixtureRequest, kafka: Running) -> Queue:
    """Each job queue in turn."""
    if request.param == "celery":
        return ByCelery(request.getfixturevalue("redis"))
    return ByKafka(kafka.bootstrap)


@pytest.fixture
def yard(kafka: Running, tmp_path: Path, queue: Queue) -> Makes:
    """Makes an app with that queue: `yard(body, **settings)`, as `Yard` does."""

    def made(body: str, **settings: object) -> Yard:
        return Yard(Stage(kafka.bootstrap), tmp_path, queue, body, **settings)  # type: ignore[arg-type]  # as App takes them

    return made
