"""Job queues by name: `backend="kafka"`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from karafka.backends.port import Backend
from karafka.errors import ConfigError

#: By name: the class, in the module of that name here. Imported when it is named, for each has its own library.
BACKENDS = {"kafka": "KafkaBackend", "celery": "CeleryBackend", "dramatiq": "DramatiqBackend"}


class Backends:
    """Those of one app: each name is one, equal ones are one. `attach` is told of each, once."""

    def __init__(self, attach: Callable[[Backend], None] = lambda _: None) -> None:
        self._attach = attach
        self._named: dict[str, Backend] = {}
        self._known: list[Backend] = []

    def get(self, where: str, backend: object) -> Backend | None:
        """The one that was named, or given; None for none. Raises `ConfigError`."""
        named = check_backend(where, backend)
        if isinstance(named, str):
            if named not in self._named:
                self._named[named] = _made(named)
            named = self._named[named]
        if named is None:
            return None
        for one in self._known:
            if one == named:
                return one
        self._known.append(named)
        self._attach(named)
        return named


def check_backend(where: str, backend: object) -> Backend | str | None:
    """`backend`, if it is a job queue, the name of one, or None. Raises `ConfigError`."""
    if backend is None or isinstance(backend, Backend) or (isinstance(backend, str) and backend in BACKENDS):
        return backend
    known = ", ".join(map(repr, BACKENDS))
    raise ConfigError(f"{where}={backend!r}: there is no such job queue; there are {known}, or None for none")


def _made(name: str) -> Backend:
    made: Backend = getattr(import_module(f"karafka.backends.{name}"), BACKENDS[name])()
    return made
