"""Jobs by Dramatiq, without a Redis: what is refused, in which words, and what Dramatiq is told of a worker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from karafka import App, Backoff, ConfigError, Controller, Worker
from karafka.backends.dramatiq import DramatiqBackend
from karafka.backends.dramatiq_worker import Actors, AskedAgain, _again
from karafka.backends.envelope import Envelope
from karafka.errors import EnqueueError, JobError, ParseError
from karafka.policy import AskedBurial, Bury, Retry

KAFKA = {"bootstrap.servers": "localhost:9092"}


@pytest.fixture
def nobody_set_a_broker() -> Iterator[None]:
    before, dramatiq.broker.global_broker = dramatiq.broker.global_broker, None
    yield
    dramatiq.broker.global_broker = before


def redis_broker(**options: Any) -> RedisBroker:
    return RedisBroker(url="redis://localhost:1/0", **options)  # type: ignore[no-untyped-call]  # it has none


@pytest.mark.usefixtures("nobody_set_a_broker")
def test_a_broker_must_be_there_when_the_app_is_declared() -> None:
    """As for Dramatiq's own actors: else it would make one, for a RabbitMQ that nobody runs."""
    with pytest.raises(ConfigError, match=r"dramatiq\.set_broker\(RedisBroker\(url="):
        App("videos", kafka=KAFKA, backend="dramatiq")


@pytest.mark.usefixtures("nobody_set_a_broker")
def test_the_broker_that_was_set_is_the_one() -> None:
    dramatiq.set_broker(mine := redis_broker())

    assert DramatiqBackend().broker is mine


def test_one_broker_is_one_queue_however_often_it_is_named() -> None:
    """Its actors are made once, for all routes."""
    mine = redis_broker()
    app = App("videos", kafka=KAFKA, backend=DramatiqBackend(mine))
    for name in ("videos", "others"):

        @app.topic(name, backend=DramatiqBackend(mine))
        class VideosController(Controller[Any]):
            def perform(self) -> None: ...

    (subscription,) = app.subscriptions()
    backends = [route.background.backend for route in subscription.routes if route.background is not None]
    assert len(backends) == 2
    assert backends[0] is backends[1]
    assert [type(one) for one in mine.middleware].count(Actors) == 1


def test_another_broker_than_redis_is_refused() -> None:
    """RabbitMQ's confirms nothing unless it is told to."""
    with pytest.raises(ConfigError, match=r"DramatiqBackend\(StubBroker\): a RedisBroker is expected"):
        DramatiqBackend(StubBroker())


@pytest.mark.parametrize("queue", ["2slow", "slow.DQ", "slow.XQ"])
def test_queues_that_dramatiq_cannot_have_are_refused(queue: str) -> None:
    app = App("videos", kafka=KAFKA, backend=DramatiqBackend(redis_broker()))
    worker = type("SlowWorker", (Worker,), {"queue": queue})

    @app.topic("videos", worker=worker)
    class VideosController(Controller[Any]):
        def perform(self) -> None: ...

    with pytest.raises(ConfigError, match=r"SlowWorker\.queue="):
        app.subscriptions()


@pytest.mark.parametrize("library", ["dramatiq", "redis"])
def test_a_library_that_is_missing_is_named_with_the_command(library: str) -> None:
    """Not by a traceback: who runs the app is to know what to install."""
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from karafka import App, ConfigError\n"
        "try:\n"
        "    App('videos', kafka={'bootstrap.servers': 'localhost:9092'}, backend='dramatiq')\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    said = subprocess.check_output([sys.executable, "-c", program], text=True)

    assert "is not installed: pip install 'karafka[dramatiq]'" in said


class VideosWorker(Worker):
    queue = "slow"
    priority = -3
    max_retries = 2
    backoff = Backoff(1, 8).never(KeyError)


@pytest.mark.parametrize(
    ("retries", "error", "again"),
    [
        (0, ValueError(), True),
        (1, ValueError(), True),
        (2, ValueError(), False),
        (0, KeyError(), False),
        (0, ParseError(), False),
        (0, JobError(), True),
        (0, AskedBurial(), False),
        (0, ExceptionGroup("", [ValueError(), AskedBurial()]), False),
        (99, AskedAgain(), True),
        (0, SystemExit(), True),
    ],
)
def test_when_a_job_is_tried_again(retries: int, error: BaseException, again: object) -> None:
    """By the same rules as of Kafka's jobs; what asks for another try gets it."""
    assert _again(VideosWorker, retries, error) is again


class OneHost:
    """In the place of an app with that worker."""

    workers = (VideosWorker,)

    def awaits(self, worker: type[Worker]) -> bool:
        return worker is Worker

    def start(self) -> None: ...

    def perform(self, job: object, attempt: int, *, struck: type[BaseException] | None = None) -> None: ...

    def knows(self, job: object) -> bool:
        raise NotImplementedError

    def judge(self, job: object, attempt: int, error: BaseException, grave: str) -> Retry | Bury:
        raise NotImplementedError

    def buried(self, job: object, grave: str) -> None: ...

    def log(self) -> None: ...

    def stop(self) -> None: ...


def declared() -> RedisBroker:
    broker = redis_broker()
    actors = Actors([OneHost])
    actors.before_worker_boot(broker, None)
    return broker


def test_a_worker_is_an_actor_with_what_it_says() -> None:
    """Seconds are milliseconds there; a coroutine's limit is kept by its loop, so Dramatiq's comes later."""
    name = f"{__name__}:VideosWorker"
    actor = declared().get_actor(name)

    assert (actor.actor_name, actor.queue_name, actor.priority) == (name, "slow", -3)
    told = {name: actor.options[name] for name in ("max_retries", "min_backoff", "max_backoff", "time_limit")}
    assert told == {"max_retries": 2, "min_backoff": 1_000, "max_backoff": 8_000, "time_limit": 60_000}


def test_a_worker_that_is_not_there_has_an_actor_all_the_same() -> None:
    """So that Dramatiq tries its jobs again; what is no worker's name it buries, as it does."""
    broker = declared()

    actor = broker.get_actor("old.videos:GoneWorker")
    assert (actor.queue_name, actor.options["max_retries"]) == ("slow", Worker.max_retries)
    assert actor.options["time_limit"] > 60_000
    assert broker.get_actor("old.videos:GoneWorker") is actor
    with pytest.raises(dramatiq.ActorNotFound):
        broker.get_actor("gone")


class Script:
    """In the place of what Redis runs."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, **_: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RedisConnectionError("refused"), "Redis did not take the job, .*ConnectionError: refused"),
        (TimeoutError("frozen"), "Redis did not take the job, .*TimeoutError: frozen"),
        (ResponseError("@user_script: -OOM command not allowed"), "Redis is full"),
        (ResponseError("READONLY You can't write"), "Redis did not take the job"),
    ],
)
def test_what_redis_does_not_take_waits(error: Exception, said: str) -> None:
    """Whatever the reason: it is no fault of the message's."""
    broker = redis_broker()
    broker.scripts = {"dispatch": Script(error), "maxstack": lambda: 100}
    app = App("videos", kafka=KAFKA, backend=DramatiqBackend(broker))

    @app.topic("videos")
    class VideosController(Controller[Any]):
        def perform(self) -> None: ...

    (subscription,) = app.subscriptions()
    background = subscription.routes[0].background
    assert background is not None
    envelope = Envelope(
        v=1, group="g", route="r", worker="w", topic="t", partition=0, offset=0, timestamp=(0, 0), params=None
    )
    with pytest.raises(EnqueueError, match=said):
        background.backend.enqueue(app, envelope, background.worker.cls, lambda *_: None)
