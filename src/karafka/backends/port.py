"""The port to a job queue: what `Backend` promises, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeAlias

from karafka.application import Application
from karafka.backends.envelope import Envelope
from karafka.letters import Row
from karafka.workers import Worker

#: Sends by the server's own producer; the offset of the message in hand waits for it.
Send: TypeAlias = Callable[[Row], None]


class Backend(ABC):
    """A job queue. Used from several threads at once."""

    #: What `topic(…, backend="…")` calls it.
    name: ClassVar[str]
    #: Whether `enqueue` waits for an answer, so that an event loop must not call it.
    waits: ClassVar[bool] = True

    def check(self, where: str, worker: type[Worker]) -> None:  # noqa: B027 - most have nothing to refuse
        """Raises `ConfigError` for a worker that the queue cannot do justice to."""

    @abstractmethod
    def enqueue(self, app: Application, envelope: Envelope, worker: type[Worker], send: Send) -> None:
        """Hand a job over. On return the queue has confirmed it, or it went by `send`.

        Raises `EnqueueError` where the queue did not take it: the message waits, and is handed over again. Raises
        `InterchangeError` for what the queue cannot carry.
        """
