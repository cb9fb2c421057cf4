"""Jobs by Dramatiq, on Redis: each `Worker` is an actor, each job a message of its; all else is Dramatiq's.

This is what a server uses; what a worker process does is in `dramatiq_worker`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from multiprocessing import parent_process
from threading import Thread
from typing import ClassVar, NoReturn

from karafka.application import Application
from karafka.backends.envelope import Envelope, plain
from karafka.backends.port import Backend, Host, Send
from karafka.errors import ConfigError, EnqueueError, words
from karafka.workers import Worker, named

try:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.errors import DramatiqError
    from dramatiq.middleware import MiddlewareError
    from redis.exceptions import RedisError

    from karafka.backends.dramatiq_worker import Actors
except ImportError as missing:
    raise ConfigError(
        f"backend=\"dramatiq\" needs {missing.name}, which is not installed: pip install 'karafka[dramatiq]'"
    ) from missing

# What Dramatiq takes for the name of a queue; the two ends are its own.
_QUEUE = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]*(?<!\.DQ)(?<!\.XQ)")
# Named by text, for Dramatiq's command imports it: how the app is loaded stands above this module.
BOOT = "karafka.cli.worker:serve_dramatiq"


class DramatiqBackend(Backend):
    """`backend="dramatiq"`, by the broker that `dramatiq.set_broker` has set; or one of your own is named here.

    Raises `ConfigError` where there is none, or where it is not Redis's.
    """

    name: ClassVar[str] = "dramatiq"

    def __init__(self, broker: dramatiq.Broker | None = None) -> None:
        self.broker = _checked(broker)
        self._hosts: list[Callable[[], Host]] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DramatiqBackend) and other.broker is self.broker

    def __hash__(self) -> int:
        return hash((DramatiqBackend, id(self.broker)))

    def attach(self, host: Callable[[], Host]) -> None:
        if not self._hosts:
            # The first: what it does after a message it does after all others, Dramatiq's own `Retries` among them.
            first = self.broker.middleware[:1]
            before = type(first[0]) if first else None
            self.broker.add_middleware(Actors(self._hosts), before=before)
        self._hosts.append(host)

    def check(self, where: str, worker: type[Worker]) -> None:
        if not _QUEUE.fullmatch(worker.queue):
            raise ConfigError(
                f"{where}: {worker.__qualname__}.queue={worker.queue!r}: Dramatiq wants a letter or an underscore "
                "first, and .DQ and .XQ at the end are its own"
            )

    def enqueue(self, app: Application, envelope: Envelope, worker: type[Worker], send: Send) -> None:  # noqa: ARG002
        job = plain(envelope)
        message = dramatiq.Message[None](
            queue_name=worker.queue, actor_name=named(worker), args=(job,), kwargs={}, options={}
        )
        try:
            self.broker.enqueue(message)
        except MiddlewareError:
            raise  # the user's own: it refuses the message
        except (RedisError, DramatiqError, OSError) as error:
            raise EnqueueError(_why(error)) from error

    def run(
        self,
        target: str | None,
        queues: Mapping[str, int],
        *,
        concurrency: int,
        processes: int,
        shutdown_timeout: float,
    ) -> NoReturn:
        if len(set(queues.values())) > 1:
            told = " ".join(f"-q {queue}:{weight}" for queue, weight in queues.items())
            raise ConfigError(
                f"{told}: Dramatiq's queues have no weights: give a worker a lower priority=, or a queue processes of "
                "its own"
            )
        warnings = [word for one in sys.warnoptions for word in ("-W", one)]
        command = [sys.executable, *warnings, "-m", "dramatiq", BOOT]
        command += ["--processes", str(processes), "--threads", str(concurrency)]
        command += ["--worker-shutdown-timeout", str(int(shutdown_timeout * 1000))]
        if queues:
            command += ["--queues", *queues]
        # At HUP it starts anew whatever `python` is: this one.
        path = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)))
        environment = {**os.environ, "PATH": path, **({"KARAFKA_APP": target} if target else {})}
        # It forks its processes, which nothing of Kafka's survives: so it begins as one that has not imported the app.
        os.execve(sys.executable, command, environment)  # noqa: S606 - the command is ours

    def serve(self, shutdown_timeout: float) -> None:
        """In a process that Dramatiq's command has begun for `run`: it is to serve this broker, and to stop when the
        command itself was killed.
        """
        dramatiq.set_broker(self.broker)
        if (parent := parent_process()) is not None:
            actors = next(one for one in self.broker.middleware if isinstance(one, Actors))
            watched = (parent, shutdown_timeout)
            Thread(target=actors.outlive, args=watched, name="karafka-dramatiq-parent", daemon=True).start()


def _checked(broker: dramatiq.Broker | None) -> RedisBroker:
    # `get_broker` would make one for RabbitMQ, or for a Redis on this machine.
    found = broker if broker is not None else dramatiq.broker.global_broker
    if found is None:
        raise ConfigError(
            'backend="dramatiq" found no broker of Dramatiq\'s: dramatiq.set_broker(RedisBroker(url="redis://…")) '
            "before the app is declared, or backend=DramatiqBackend(RedisBroker(…))"
        )
    if not isinstance(found, RedisBroker):
        raise ConfigError(
            f"DramatiqBackend({type(found).__name__}): a RedisBroker is expected, which confirms each job"
        )
    return found


def _why(error: Exception) -> str:
    said = f"{type(error).__name__}: {words(error)}"
    if isinstance(error, RedisError) and "OOM " in said:
        return f"Redis is full, so that it takes no job until it has memory (maxmemory) again ({said})"
    return f"Redis did not take the job, which is handed over again until it does ({said})"
