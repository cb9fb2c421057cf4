"""The job queues that the contract is proven over, each as a person would set it up."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast
from uuid import uuid4

import dramatiq
import redis
from celery import Celery
from dramatiq.brokers.redis import RedisBroker

from tests.brokers import new_topic
from tests.jobs.redises import Redis
from tests.process.servers import PYTHON, send
from tests.specs import visible


class Queue(ABC):
    """A job queue that runs. `declares` is the text by which an app names it: it makes `BACKEND`."""

    name: ClassVar[str]
    declares: str
    #: Seconds after which a job comes back that a worker had in hand when it was killed.
    returns: float
    #: Jobs a second that it takes with ease, on a machine that is busy.
    rate: int = 500

    @property
    def environment(self) -> Mapping[str, str]:
        """What its processes find set."""
        return {}

    @property
    def python(self) -> Sequence[str]:
        """The interpreter, and its options."""
        return PYTHON

    @property
    def arguments(self) -> Sequence[str]:
        """What `karafka worker` is told beside the rest."""
        return ()

    @abstractmethod
    def ready(self, app: str) -> None:
        """Have what it needs for the app of that name."""

    @abstractmethod
    def put(self, app: str, job: Mapping[str, Any]) -> None:
        """Put a job into the queue `default`, as another version of the server would."""

    @abstractmethod
    def dead(self, app: str) -> list[dict[str, Any]]:
        """The jobs that were given up, in order."""


class ByKafka(Queue):
    name = "kafka"
    declares = 'BACKEND = "kafka"\n'
    returns = 3.0

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def ready(self, app: str) -> None:
        """Brokers may make its topics when the first job comes; several partitions are for several processes."""
        for name, partitions in {"default": 3, "dead": 1}.items():
            new_topic(self._bootstrap, partitions, name=f"{app}_jobs_{name}")

    def put(self, app: str, job: Mapping[str, Any]) -> None:
        send(self._bootstrap, f"{app}_jobs_default", [json.dumps(job)])

    def dead(self, app: str) -> list[dict[str, Any]]:
        return [json.loads(one) for one in visible.seen(self._bootstrap, f"{app}_jobs_dead")]


class ByCelery(Queue):
    name = "celery"
    rate = 80

    def __init__(self, redis: Redis, *, visible: float = 5, grace: float = 2, settings: str = "") -> None:
        """`visible`: seconds after which what a worker has and does not acknowledge comes back; `grace`: what none
        has noted. `settings`: Celery's, as Python, of the app `theirs`.
        """
        self.redis, self.returns = redis, visible + grace + 3
        # A database of its own beside others' in the same server.
        self.url = redis.url.removesuffix("/0") + "/1"
        options = {
            "visibility_timeout": visible,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 2,
        }
        self.declares = f"""
from celery import Celery
from karafka.backends.celery import CeleryBackend

theirs = Celery("theirs", broker={self.url!r})
theirs.conf.broker_transport_options = {options}
{settings}
BACKEND = CeleryBackend(theirs, grace={grace})
"""

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.redis.port, db=1)

    @property
    def python(self) -> Sequence[str]:
        """Tests may be root."""
        return (*PYTHON, "-W", "ignore:You're running the worker with superuser privileges")

    def ready(self, app: str) -> None:
        self.client.flushdb()

    def put(self, app: str, job: Mapping[str, Any]) -> None:
        self.send_task("karafka.perform", job, queue="default")

    def other(self) -> Celery:
        """Another program of the team's."""
        return Celery("other", broker=self.url, set_as_current=False)

    def send_task(self, name: str, *arguments: object, **options: Any) -> None:
        with self.other() as other:
            other.send_task(name, args=arguments, ignore_result=True, **options)

    def dead(self, app: str) -> list[dict[str, Any]]:
        return [json.loads(b64decode(one["body"]))[0][0] for one in self._dead()]

    def graves(self) -> list[dict[str, str]]:
        """The headers of those that were given up, in order."""
        return [one["headers"] for one in self._dead()]

    def _dead(self) -> list[dict[str, Any]]:
        found = cast("list[bytes]", self.client.lrange("default.dead", 0, -1))
        return [json.loads(one) for one in reversed(found)]


class ByDramatiq(Queue):
    name = "dramatiq"
    # When a worker is taken for dead that says nothing, and how soon others look.
    returns = 5.0

    def __init__(self, redis: Redis, namespace: str | None = None) -> None:
        self.redis = redis
        self.namespace = namespace or f"jobs-{uuid4().hex[:12]}"
        self.broker = RedisBroker(url=redis.url, namespace=self.namespace)  # type: ignore[no-untyped-call]  # it has none
        self.declares = (
            "import dramatiq\n"
            "from dramatiq.brokers.redis import RedisBroker\n"
            f"broker = RedisBroker(url='{redis.url}?socket_timeout=1', namespace={self.namespace!r},\n"
            "    heartbeat_timeout=2000)\n"
            "dramatiq.set_broker(broker)\n"
            'BACKEND = "dramatiq"\n'
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """How soon Dramatiq asks a Redis again that it has lost, in ms."""
        return {"dramatiq_restart_delay": "300"}

    def ready(self, app: str) -> None:
        """Redis is all it needs."""

    def put(self, app: str, job: Mapping[str, Any]) -> None:
        self.broker.enqueue(dramatiq.Message("default", job["worker"], (job,), {}, {}))

    def dead(self, app: str) -> list[dict[str, Any]]:
        key, client = f"{self.namespace}:default.XQ", self.redis.client
        ids = cast("list[bytes]", client.zrange(key, 0, -1))
        found = [client.hget(f"{key}.msgs", one.decode()) for one in ids]
        return [json.loads(one)["args"][0] for one in found if one is not None]
