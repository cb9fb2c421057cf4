"""What tests of job queues ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.brokers import Running
from tests.jobs.queues import ByCelery, ByDramatiq, ByKafka, Queue
from tests.jobs.redises import Redis
from tests.jobs.yard import Yard
from tests.specs.run import Stage

Makes = Callable[..., Yard]


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis that tests leave as it is."""
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture(params=["kafka", "celery", "dramatiq"])
def queue(request: pytest.FixtureRequest, kafka: Running) -> Queue:
    """Each job queue in turn."""
    if request.param == "celery":
        return ByCelery(request.getfixturevalue("shared_redis"))
    if request.param == "dramatiq":
        return ByDramatiq(request.getfixturevalue("shared_redis"))
    return ByKafka(kafka.bootstrap)


@pytest.fixture
def yard(kafka: Running, tmp_path: Path, queue: Queue) -> Makes:
    """Makes an app with that queue: `yard(body, **settings)`, as `Yard` does."""

    def made(body: str, **settings: object) -> Yard:
        return Yard(Stage(kafka.bootstrap), tmp_path, queue, body, **settings)  # type: ignore[arg-type]  # as App takes them

    return made


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of the test's own, to be broken."""
    with Redis(tmp_path / "redis") as redis:
        yield redis


@pytest.fixture
def celery_yard(kafka: Running, tmp_path: Path, redis: Redis) -> Makes:
    """Makes an app whose jobs Celery has there: `celery_yard(body, **settings)`, as `Yard` does; `visible`, `grace` and
    `celery` as `ByCelery` does.
    """

    def made(body: str, *, visible: float = 5, grace: float = 2, celery: str = "", **settings: object) -> Yard:
        queue = ByCelery(redis, visible=visible, grace=grace, settings=celery)
        return Yard(Stage(kafka.bootstrap), tmp_path, queue, body, **settings)  # type: ignore[arg-type]  # as App takes them

    return made


@pytest.fixture
def dramatic(kafka: Running, tmp_path: Path, redis: Redis) -> Makes:
    """Makes an app whose jobs are there: `dramatic(body, **settings)`, as `Yard` does."""

    def made(body: str, **settings: object) -> Yard:
        queue = ByDramatiq(redis, "jobs")
        return Yard(Stage(kafka.bootstrap), tmp_path, queue, body, **settings)  # type: ignore[arg-type]  # as App takes them

    return made
