"""Celery as a job queue, as it is declared: what cannot work is refused in one sentence."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from celery import Celery

from karafka import App, Backoff, ConfigError, Controller, Worker
from karafka.backends.celery import CeleryBackend
from karafka.background import check_queues


def declared(backend: Any, **settings: Any) -> App:
    """An app with one route whose worker has those settings."""
    app = App("videos", kafka={"bootstrap.servers": "nowhere:9092"})
    worker = type("VideosWorker", (Worker,), settings)

    class VideosController(Controller[Any]):
        def perform(self) -> None: ...

    app.topic("videos", backend=backend, worker=worker)(VideosController)
    return app


@pytest.fixture
def theirs() -> Celery:
    return Celery("theirs", broker="redis://nowhere/0", set_as_current=False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"priority": 10}, "VideosWorker.priority=10, but Celery's go from 0, the first, to 9"),
        ({"priority": -1}, "VideosWorker.priority=-1"),
        (
            {"queue": "default.dead"},
            "VideosWorker.queue='default.dead' is the name of a queue of jobs that were given up",
        ),
    ],
)
def test_a_worker_that_celery_cannot_do_justice_to_is_refused(
    theirs: Celery, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        declared(CeleryBackend(theirs), **settings).subscriptions()


def test_workers_that_would_throw_json_away_are_refused(theirs: Celery) -> None:
    """Celery acknowledges a message whose content it does not accept, and drops it."""
    theirs.conf.accept_content = ["pickle"]

    with pytest.raises(ConfigError, match="add 'json' to that setting"):
        declared(CeleryBackend(theirs)).subscriptions()


def test_what_celery_has_is_accepted(theirs: Celery) -> None:
    app = declared(CeleryBackend(theirs), priority=9, queue="urgent", time_limit=None, backoff=Backoff(1, 2))

    assert len(app.subscriptions()) == 1


@pytest.mark.parametrize("given", ["redis://nowhere", Celery])
def test_what_is_no_celery_app_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="a Celery app is expected"):
        CeleryBackend(given)


def test_queues_have_no_weights(theirs: Celery) -> None:
    """Celery's worker takes turns: it would not do as it is told."""
    backend = CeleryBackend(theirs)
    declared(backend)

    with pytest.raises(ConfigError, match="-q a:5 -q b:1: Celery's worker takes turns"):
        backend.run(None, {"a": 5, "b": 1}, concurrency=1, processes=1, shutdown_timeout=1)


def test_a_queue_of_jobs_that_were_given_up_may_be_named(theirs: Celery) -> None:
    """They are performed again, then."""
    backend = CeleryBackend(theirs)
    app = declared(backend, queue="videos_only")

    check_queues(app, backend, ["videos_only", "videos_only.dead"])
    with pytest.raises(ConfigError, match="-q vidoes: no worker has that queue"):
        check_queues(app, backend, ["vidoes.dead"])


BEGIN = "from karafka import App\n"


def python(source: str) -> str:
    """What a fresh interpreter says to it."""
    done = subprocess.run([sys.executable, "-c", BEGIN + source], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_by_name_it_is_the_app_that_is_current() -> None:
    source = """
from celery import Celery
mine = Celery("mine", broker="redis://there/0")
app = App("videos", kafka={"bootstrap.servers": "nowhere:9092"}, backend="celery")
print(app.routes._backend.app is mine)
"""
    assert python(source).strip() == "True"


def test_the_app_may_be_named_by_its_proxy() -> None:
    source = """
from celery import Celery, current_app
from karafka.backends.celery import CeleryBackend
mine = Celery("mine", broker="redis://there/0")
print(CeleryBackend(current_app).app is mine)
"""
    assert python(source).strip() == "True"


def test_by_name_it_may_be_configured_by_the_environment_alone() -> None:
    source = """
import os
os.environ["CELERY_BROKER_URL"] = "redis://there/0"
app = App("videos", kafka={"bootstrap.servers": "nowhere:9092"}, backend="celery")
print(app.routes._backend.app.conf.broker_url)
"""
    assert python(source).strip() == "redis://there/0"


def test_by_name_without_an_app_it_is_refused() -> None:
    """Celery would make one up, and send to a RabbitMQ on this machine."""
    source = 'App("videos", kafka={"bootstrap.servers": "nowhere:9092"}, backend="celery")'

    assert 'ConfigError: backend="celery": there is no Celery app yet' in python(source)


def test_without_celery_the_way_out_is_told() -> None:
    source = """
import sys
sys.modules["celery"] = None
App("videos", kafka={"bootstrap.servers": "nowhere:9092"}, backend="celery")
"""
    assert 'Celery, which is not installed: pip install "karafka[celery]"' in python(source)
