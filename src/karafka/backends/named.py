"""Job queues by name: `backend="kafka"`."""

from __future__ import annotations

from importlib import import_module

from karafka.backends.port import Backend
from karafka.errors import ConfigError

#: By name: the class, in the module of that name here. Imported when it is named, for each has its own library.
BACKENDS = {"kafka": "KafkaBackend"}


def check_backend(where: str, backend: object) -> Backend | None:
    """The backend that was named, or given; None for none. Raises `ConfigError`."""
    if backend is None or isinstance(backend, Backend):
        return backend
    if not isinstance(backend, str) or backend not in BACKENDS:
        known = ", ".join(map(repr, BACKENDS))
        raise ConfigError(f"{where}={backend!r}: there is no such job queue; there are {known}, or None for none")
    made: Backend = getattr(import_module(f"karafka.backends.{backend}"), BACKENDS[backend])()
    return made
