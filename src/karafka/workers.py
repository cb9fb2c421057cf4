"""`Worker`: how a controller's background jobs are performed: in which queue, how long, how often."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from types import ModuleType, new_class
from typing import Any, ClassVar

from karafka.checks import number, refuse_slip, whole
from karafka.errors import ConfigError
from karafka.naming import Found, around, belonging
from karafka.policy import Backoff

# The class that workers are made from which nobody wrote, where there is one.
APPLICATION = "ApplicationWorker"
# What a class is made for that nobody wrote.
_MADE_FOR = "__karafka_made_for__"
_QUEUE = re.compile(r"[a-zA-Z0-9._-]{1,100}")
# How like one of its settings a name must be to be taken for that, misspelt.
ALIKE = 0.75


class Worker:
    """Settings of a controller's background jobs: subclass it. One class per controller.

    `VideosCreatedWorker` is the one of `VideosCreatedController`; where nobody wrote it, it is made, from the app's
    `ApplicationWorker` if there is one. Raises `ConfigError` where it is declared wrongly.
    """

    #: Which queue its jobs go to.
    queue: ClassVar[str] = "default"
    #: Within its queue those of a lower number go first.
    priority: ClassVar[int] = 0
    #: Seconds a job may take, None for ever. A longer one fails.
    time_limit: ClassVar[float | None] = 60.0
    #: How often a job that failed is tried again before it is given up, to the dead letters of its queue.
    max_retries: ClassVar[int] = 20
    #: How long to wait before.
    backoff: ClassVar[Backoff] = Backoff(1, 300)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        name = cls.__qualname__
        if not isinstance(cls.queue, str) or not _QUEUE.fullmatch(cls.queue):
            raise ConfigError(
                f"{name}.queue={cls.queue!r}: a name of letters, digits, dots, hyphens and underscores is expected"
            )
        if isinstance(cls.priority, bool) or not isinstance(cls.priority, int):
            raise ConfigError(f"{name}.priority={cls.priority!r}: a whole number is expected, lower goes first")
        if cls.time_limit is not None and number(f"{name}.time_limit", cls.time_limit, 0) == 0:
            raise ConfigError(f"{name}.time_limit=0: seconds are expected, or None for no limit")
        whole(f"{name}.max_retries", cls.max_retries, 0)
        if not isinstance(cls.backoff, Backoff):
            raise ConfigError(f"{name}.backoff={cls.backoff!r}: a Backoff is expected, such as Backoff(1, 300)")
        settings = Worker.__annotations__
        for own in vars(cls).keys() - settings:
            refuse_slip(f"{name}.{own}", own, settings, ALIKE)


def check_worker(where: str, worker: object) -> type[Worker]:
    """`worker`, if it is one. Raises `ConfigError`."""
    if not isinstance(worker, type) or not issubclass(worker, Worker) or worker is Worker:
        raise ConfigError(f"{where}: {worker!r} is no worker: a subclass of Worker is expected")
    return worker


def worker_of(controller: type) -> Found[Worker]:
    """The worker that `controller` names, or that belongs to it by its name; made where there is none.

    Raises `ConfigError`.
    """
    if (own := getattr(controller, "worker", None)) is not None:
        return Found(check_worker(f"{controller.__qualname__}.worker", own), "named by its controller")
    found = belonging(controller, "Worker", Worker, "name another: topic(…, worker=…)")
    if found is not None:
        return found
    base = next((one for module in around(controller, "workers") if (one := _application(module))), Worker)
    name = controller.__name__.removesuffix("Controller") + "Worker"
    source = "made, as none is written" if base is Worker else f"made from {base.__module__}.{base.__qualname__}"
    known = (one for one in base.__subclasses__() if vars(one).get(_MADE_FOR) is controller)
    return Found(next(known, None) or _made(name, base, controller), source)


def _application(module: ModuleType) -> type[Worker] | None:
    found = vars(module).get(APPLICATION)
    return None if found is None else check_worker(f"{module.__name__}.{APPLICATION}", found)


def _made(name: str, base: type[Worker], controller: type) -> type[Worker]:
    outside = controller.__qualname__.rpartition(".")[0]
    space = {
        "__module__": controller.__module__,
        "__qualname__": f"{outside}.{name}" if outside else name,
        "__doc__": f"Made for {controller.__qualname__}.",
        _MADE_FOR: controller,
    }
    return new_class(name, (base,), exec_body=lambda body: body.update(space))


def named(worker: type[Worker]) -> str:
    """How a job names it."""
    return f"{worker.__module__}:{worker.__qualname__}"


def find(name: str) -> type[Worker] | None:
    """The worker that a job names so; None where there is none in this process. Imports nothing."""
    found = [one for one in _all(Worker) if named(one) == name]
    # Of one that was declared again, in a module that was loaded again, the last counts.
    return found[-1] if found else None


def home(cls: type) -> str:
    """The outermost package, or module, that a class is written in."""
    return cls.__module__.partition(".")[0]


def every(homes: Collection[str]) -> Iterator[type[Worker]]:
    """All workers that are written in these packages: what was made is its controller's."""
    return (one for one in _all(Worker) if home(one) in homes and _MADE_FOR not in vars(one))


def _all(base: type[Worker]) -> Iterator[type[Worker]]:
    for one in base.__subclasses__():
        yield one
        yield from _all(one)
