"""The port to a job queue: what `Backend` promises, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol, TypeAlias

from karafka.application import Application
from karafka.backends.envelope import Envelope
from karafka.policy import Bury, Retry
from karafka.workers import Worker

#: Sends a payload to a topic by the server's own producer; the offset of the message in hand waits for it.
Send: TypeAlias = Callable[[str, bytes], None]


class Host(Protocol):
    """What a queue's own worker processes need of the app, once they have imported it whole. Raises `ConfigError`, when
    it is made, for routes that cannot work.
    """

    @property
    def workers(self) -> Sequence[type[Worker]]:
        """Those that jobs of this queue may name."""

    def awaits(self, worker: type[Worker]) -> bool:
        """Whether jobs of that worker may be coroutines, whose time limit is kept by `perform`."""

    def start(self) -> None:
        """Once in a process, before its first job: the app's `on_start` hooks, its controllers' `setup`.

        Raises `ConfigError`, `StartError`.
        """

    def perform(self, job: object, attempt: int, *, struck: type[BaseException] | None = None) -> None:
        """Try a job, as `envelope.plain` has made it, for the `attempt`-th time (from 1); what it sends is confirmed on
        return. Any thread. It takes no longer than the worker's time limit, unless it waits in C, which only the queue
        may be able to interrupt. Where `perform` is a coroutine it runs on the process's one loop. `struck`: the queue
        watches the time of what is no coroutine, and raises that in this thread when it is over.

        Raises what `perform` raises, `JobError`, `ParseError`, `TimeLimitError`.
        """

    def knows(self, job: object) -> bool:
        """Whether a route of the app has it. Any thread, and before `start` too, as the following."""

    def judge(self, job: object, attempt: int, error: BaseException, grave: str) -> Retry | Bury:
        """What is to become of a job whose `attempt`-th try raised `error`, by its worker's settings. It is told as an
        event, with `grave` as the place where it goes once it is given up. `SystemExit` is a failure: the processes are
        the queue's.
        """

    def buried(self, job: object, grave: str) -> None:
        """Tell that it is there."""

    def log(self) -> None:
        """Have the app's events logged, where no command of karafka's does so."""

    def stop(self) -> None:
        """Once, after the last job: the app's `on_stop` hooks; the producers are flushed."""


class Backend(ABC):
    """A job queue. Used from several threads at once."""

    #: What `topic(…, backend="…")` calls it.
    name: ClassVar[str]
    #: Whether `enqueue` waits for an answer, so that an event loop must not call it.
    waits: ClassVar[bool] = True
    #: What ends the name of a queue of jobs that were given up, where a worker may be told to perform them again.
    dead: ClassVar[str] = ""

    def attach(self, host: Callable[[], Host]) -> None:  # noqa: B027 - Kafka's jobs are performed by the engine itself
        """Called when an app that hands jobs over by this queue is declared, for worker processes of its own: once the
        app is imported whole, `host()` is what they need of it.
        """

    def topics(self, app: Application, queue: str) -> Mapping[str, str]:  # noqa: ARG002 - most have none
        """The topics of Kafka's that it needs for `queue`, and what each is for."""
        return {}

    def run(
        self,
        target: str | None,
        queues: Mapping[str, int],
        *,
        concurrency: int,
        processes: int,
        shutdown_timeout: float,
    ) -> int:
        """`karafka worker` of the app that `target` names: perform what is in `queues` (all, if none is named; with
        their weights) until told to stop, by the queue's own worker program. The exit status.
        """
        raise NotImplementedError(f"{self.name} has no worker program of its own")

    def check(self, where: str, worker: type[Worker]) -> None:  # noqa: B027 - most have nothing to refuse
        """Raises `ConfigError` for a worker that the queue cannot do justice to."""

    @abstractmethod
    def enqueue(self, app: Application, envelope: Envelope, worker: type[Worker], send: Send) -> None:
        """Hand a job over. On return the queue has confirmed it, or it went by `send`.

        Raises `EnqueueError` where the queue did not take it: the message waits, and is handed over again. Raises
        `InterchangeError` for what the queue cannot carry.
        """
