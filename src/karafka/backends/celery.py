"""Jobs by Celery, for teams that have it: the extra `karafka[celery]`. A job is a task of the team's own Celery app.

`celery -A … worker` performs it as well as `karafka worker`, which runs that very program: see `celery_tasks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from karafka.application import Application
from karafka.backends.envelope import Envelope, plain
from karafka.backends.port import Backend, Host, Send
from karafka.checks import number
from karafka.errors import ConfigError
from karafka.workers import Worker, named

try:
    from celery import Celery, current_app
except ImportError as error:
    raise ConfigError('backend="celery" needs Celery, which is not installed: pip install "karafka[celery]"') from error

from karafka.backends.celery_post import GRACE, Post
from karafka.backends.celery_tasks import DEAD, Jobs

# Those of Celery's own scale that all its brokers know.
PRIORITIES = range(10)


class CeleryBackend(Backend):
    """`backend=CeleryBackend(app)` with the team's own Celery app; `backend="celery"` is the one that is current where
    that is said. Its broker is Redis, or another that confirms what it takes.

    `grace`: after so many seconds a job goes back into Redis's list that a worker has taken out of it, and was killed
    before it had noted that.
    """

    name: ClassVar[str] = "celery"
    dead: ClassVar[str] = DEAD

    def __init__(self, app: Celery | None = None, *, grace: float = GRACE) -> None:
        if app is not None and not isinstance(app, Celery):
            raise ConfigError(f"CeleryBackend({app!r}): a Celery app is expected")
        # Not a proxy of it, such as `current_app`.
        self.app: Celery = _current() if app is None else getattr(app, "_get_current_object", lambda: app)()
        self._post = Post(self.app)
        self._jobs = Jobs.of(self.app, self._post, number("CeleryBackend(grace=…)", grace, 0))

    def attach(self, host: Callable[[], Host]) -> None:
        self._jobs.add(host)

    def check(self, where: str, worker: type[Worker]) -> None:
        if worker.priority not in PRIORITIES:
            raise ConfigError(
                f"{where}: {worker.__qualname__}.priority={worker.priority}, but Celery's go from 0, the first, to 9"
            )
        if worker.queue.endswith(DEAD):
            raise ConfigError(
                f"{where}: {worker.__qualname__}.queue={worker.queue!r} is the name of a queue of jobs that were given "
                "up: name another"
            )
        if "json" not in (accepted := self.app.conf.accept_content or ()) and "application/json" not in accepted:
            raise ConfigError(
                f"{where}: jobs are JSON, which a worker with accept_content={list(accepted)} would throw away: add "
                "'json' to that setting of your Celery app"
            )

    def enqueue(self, app: Application, envelope: Envelope, worker: type[Worker], send: Send) -> None:  # noqa: ARG002
        self._post.send(
            worker.queue,
            plain(envelope),
            id=envelope.id,
            shadow=named(worker),
            priority=worker.priority,
        )

    def run(
        self,
        target: str | None,  # noqa: ARG002 - its module is imported
        queues: Mapping[str, int],
        *,
        concurrency: int,
        processes: int,
        shutdown_timeout: float,  # noqa: ARG002 - Celery waits for what runs as long as it takes
    ) -> int:
        if len(set(queues.values())) > 1:
            told = " ".join(f"-q {queue}:{weight}" for queue, weight in queues.items())
            raise ConfigError(
                f"{told}: Celery's worker takes turns, one queue after the other, and knows no weights: start a worker "
                "for each queue, with a --concurrency of its own"
            )
        known = sorted({worker.queue for worker in self._jobs.workers})
        return self._jobs.run(list(queues) or known, concurrency * processes)


def _current() -> Celery:
    """The app that is current here. Raises `ConfigError` for none: Celery makes one up, with a broker of nobody's."""
    app: Any = current_app._get_current_object()  # noqa: SLF001 - of the proxy, as Celery's own docs say it
    if app.main == "default" and not app.conf.broker_url:
        raise ConfigError(
            'backend="celery": there is no Celery app yet: make it, or import it, before, or name it: '
            "backend=CeleryBackend(app)"
        )
    found: Celery = app
    return found
