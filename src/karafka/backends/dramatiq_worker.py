"""What a worker process of Dramatiq's does for an app: `Actors`, a middleware, so that Dramatiq's own command runs the
jobs as `karafka worker` does.

What Redis cannot take for the moment waits. Dramatiq alone loses a job whose next try Redis does not take (`Actors`),
and lets those lie that it had in hand as its connection broke (`Strays`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from logging import getLogger
from multiprocessing.process import BaseProcess
from signal import SIGTERM
from threading import Event, Lock, Thread
from time import time
from typing import Any

import dramatiq
from dramatiq.broker import MessageProxy
from dramatiq.errors import ConnectionClosed, DecodeError, DramatiqError
from dramatiq.middleware import TimeLimit, TimeLimitExceeded
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from karafka.backends.port import Host
from karafka.errors import ConfigError, StartError, words
from karafka.lifecycle import leave
from karafka.policy import AskedBurial, AskedRetry, asked
from karafka.workers import Worker, named

# Seconds between two tries to have Redis take the next try of a job.
AGAIN = 1.0
# At most so many seconds between two looks for jobs that nobody has in hand.
LOOK = 10.0
# Seconds that a coroutine has beyond its limit, which its loop keeps itself, before Dramatiq interrupts who waits.
GRACE = 5.0
# Seconds that Dramatiq's main thread has to heed a signal; it looks once a second.
HEEDS = 10.0
# Of a million commands, in Dramatiq's words: each one sees to what dead workers left.
ALWAYS = 1_000_000


class AskedAgain(dramatiq.Retry):
    """As `self.retry(…)` has it: however often the job was tried."""


class GoneError(ConnectionClosed, RedisConnectionError):
    """Redis could not do what a worker asked: what Dramatiq knows to wait for, as it does for a lost connection."""

    def __init__(self, error: RedisError) -> None:
        RedisConnectionError.__init__(self, error)
        self.message = f"{type(error).__name__}: {words(error)}"


class Actors(dramatiq.Middleware):
    """Makes the actors when a worker process begins, starts the app and stops it; sees that no job is lost on its way
    back to Redis. Dramatiq calls it on the process's main thread, and about a message on the thread that performs it.
    """

    def __init__(self, hosts: list[Callable[[], Host]]) -> None:
        """`hosts` may grow until a worker process begins."""
        self.logger = getLogger(f"{__name__}.Actors")
        self._promised = hosts
        self._hosts: list[Host] = []
        self._performing: dict[str, str] = {}
        self._again: ContextVar[str] = ContextVar("karafka-dramatiq-again", default="")
        self._attempt: ContextVar[int] = ContextVar("karafka-dramatiq-attempt", default=1)
        self._strays: Strays | None = None
        self._worker: Any = None
        self._stopping = Event()

    # ── a process ────────────────────────────────────────────────────────────────────────────────────────────────

    def before_worker_boot(self, broker: Any, worker: Any) -> None:  # noqa: ARG002
        """Ends the process, as a server is ended, where the app cannot work, or does not start."""
        try:
            _see_kept(broker)
            self._hosts = [make() for make in self._promised]
            self._declare(broker)
            for host in self._hosts:
                host.start()
        except (ConfigError, StartError) as error:
            self.logger.critical("%s", error, exc_info=error.__cause__)
            self._stop()
            sys.exit(1)
        broker.scripts["dispatch"] = partial(_patient, broker.scripts["dispatch"])

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        self._worker = worker
        self._strays = Strays(broker, worker, self._performing)
        self._strays.start()

    def outlive(self, parent: BaseProcess, shutdown_timeout: float) -> None:
        """Wait for the end of `parent`, which is Dramatiq's command, and of this process then. On a thread of its own.

        A process that Dramatiq has begun tells the command once it has booted, or could not. One that was killed as it
        listened never answers, and Dramatiq's main thread waits for that for ever: then what it would do is done here.
        """
        parent.join()
        os.kill(os.getpid(), SIGTERM)
        if self._stopping.wait(HEEDS):
            return
        try:
            if self._worker is not None:
                self._worker.stop(timeout=int(shutdown_timeout * 1000))
        finally:
            leave(1)

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:  # noqa: ARG002
        self._stopping.set()
        if self._strays is not None:
            self._strays.stop()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:  # noqa: ARG002
        self._stop()
        if any(one.is_alive() for one in worker.workers):
            self.logger.warning(
                "Jobs outlasted the time for a stop; they come back once this worker is taken for dead."
            )
            sys.exit(2)

    def _stop(self) -> None:
        for host in reversed(self._hosts):
            host.stop()

    def _declare(self, broker: Any) -> None:
        for host in self._hosts:
            for worker in host.workers:
                if named(worker) in broker.actors:
                    raise ConfigError(
                        f"the actor {named(worker)} is there twice: two apps share one broker of Dramatiq's"
                    )
                self._actor(broker, host, named(worker), worker, worker.queue)
        first = self._hosts[0]

        def stand_in(name: str) -> Any:
            return self._actor(broker, first, name, Worker, next(iter(broker.queues)))

        broker.actors = Register(broker.actors, stand_in)

    def _actor(self, broker: Any, host: Host, name: str, worker: type[Worker], queue: str) -> Any:
        limit = None if worker.time_limit is None else worker.time_limit + (GRACE if host.awaits(worker) else 0)

        limits: list[Any] = [one for one in broker.middleware if isinstance(one, TimeLimit)]

        def perform(job: object) -> None:
            try:
                host.perform(job, self._attempt.get(), struck=TimeLimitExceeded)
            except (Exception, BaseExceptionGroup) as error:
                if isinstance(wish := asked(error), AskedRetry):
                    raise AskedAgain(wish.reason, delay=int(wish.after * 1000)) from error
                raise
            finally:
                # The limit is the job's own. Later it would strike Dramatiq, as that has Redis take the next try.
                for one in limits:
                    one.after_process_message(broker, None)

        perform.__module__, perform.__qualname__ = worker.__module__, worker.__qualname__
        options: dict[str, Any] = {
            "max_retries": worker.max_retries,
            "min_backoff": int(worker.backoff.first * 1000),
            "max_backoff": int(worker.backoff.cap * 1000),
            "retry_when": partial(_again, worker),
            "time_limit": float("inf") if limit is None else limit * 1000,
        }
        return dramatiq.Actor(
            perform, broker=broker, actor_name=name, queue_name=queue, priority=worker.priority, options=options
        )

    # ── a message ────────────────────────────────────────────────────────────────────────────────────────────────

    def before_process_message(self, broker: Any, message: MessageProxy) -> None:  # noqa: ARG002
        self._performing[message.options["redis_message_id"]] = message.queue_name
        self._attempt.set(message.options.get("retries", 0) + 1)
        self._again.set("")

    def after_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:  # noqa: ARG002
        self._again.set(message.message_id)

    def after_process_message(
        self,
        broker: Any,
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,
    ) -> None:
        """Of a job that failed Redis has either the next try or, once this returns, the dead letter. Where it did not
        take the one, Dramatiq would say all the same that the job is done.
        """
        if exception is None or message.failed or ":" not in message.actor_name:
            return
        stop = Event()
        while self._again.get() != message.message_id:
            retries, actor = message.options["retries"], broker.get_actor(message.actor_name)
            delay = getattr(exception, "delay", None)
            if delay is None:
                delay = min(actor.options["max_backoff"], actor.options["min_backoff"] * 2 ** min(retries - 1, 32))
            try:
                broker.enqueue(message, delay=delay)
            except Exception as error:  # noqa: BLE001 - whatever it is: the job must not be taken for done
                self.logger.warning("Redis did not take the next try of %s, which waits for that: %s", message, error)
                stop.wait(AGAIN)

    def after_ack(self, broker: Any, message: MessageProxy) -> None:  # noqa: ARG002
        self._performing.pop(message.options["redis_message_id"], None)

    after_nack = after_ack


class Register(dict[str, Any]):
    """Actors by name. Of a worker that this process has not, `stand_in(name)`, which fails as the app says: so that a
    job waits for a worker that knows it, and is given up only then. Dramatiq alone would bury it at once.
    """

    def __init__(self, actors: Mapping[str, Any], stand_in: Callable[[str], Any]) -> None:
        super().__init__(actors)
        self._stand_in = stand_in
        self._lock = Lock()

    def __missing__(self, name: str) -> Any:
        """Any thread; whoever comes first makes it."""
        if ":" not in name:  # no worker's name
            raise KeyError(name)
        with self._lock:
            return self.get(name) or self._stand_in(name)


class Strays:
    """Brings back, on a thread of its own, the jobs that nobody has in hand: those of workers that died, which Dramatiq
    itself looks for by chance, once in a thousand commands; and those that this very process was given, but never got
    or has dropped, as its connection to Redis broke. Dramatiq leaves the latter until the process ends.
    """

    def __init__(self, broker: Any, worker: Any, performing: Mapping[str, str]) -> None:
        self._broker, self._worker, self._performing = broker, worker, performing
        self._lost: set[tuple[str, str]] = set()
        self._stopping = Event()
        self._logger = getLogger(f"{__name__}.Strays")

    def start(self) -> None:
        Thread(target=self._run, name="karafka-dramatiq-strays", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        try:
            self._see_policy()
        except (RedisError, OSError) as error:
            self._logger.debug("Redis does not say what it does when it is full: %s", error)
        while not self._stopping.wait(min(LOOK, self._broker.heartbeat_timeout / 3000)):
            try:
                self.look()
            except (RedisError, DramatiqError, OSError) as error:
                self._logger.debug("Redis was not asked for jobs that nobody has in hand: %s", error)

    def look(self) -> None:
        """Bring back what was lost at the last look, and still is."""
        found: set[tuple[str, str]] = set()
        for queue in list(self._worker.consumers):
            self._of_the_dead(queue)
            found |= {(queue, one) for one in self._given(self._broker.broker_id, queue)}
        found -= self._in_hand()
        for queue in {queue for queue, _ in found & self._lost}:
            self._bring_back(queue, [one for name, one in found & self._lost if name == queue])
        self._lost = found

    def _bring_back(self, queue: str, jobs: list[str]) -> None:
        legible = [one for one in jobs if self._legible(queue, one)]
        for one in set(jobs) - set(legible):
            self._logger.error("The message %s of the queue %r is none of Dramatiq's: it is given up.", one, queue)
            self._broker.do_nack(queue, one)
        if legible:
            self._logger.warning("%d jobs of the queue %r that nobody has in hand go back to it.", len(legible), queue)
            self._broker.do_requeue(queue, *legible)

    def _legible(self, queue: str, job: str) -> bool:
        """Whether Dramatiq can read it: what it cannot breaks the connection of whoever fetches it."""
        found = self._broker.client.hget(f"{self._broker.namespace}:{queue}.msgs", job)
        try:
            return found is None or bool(dramatiq.Message.decode(found))
        except DecodeError:
            return False

    def _see_policy(self) -> None:
        """Say it where Redis would throw away what it holds."""
        policy = self._broker.client.info("memory").get("maxmemory_policy", "")
        if policy.startswith("allkeys"):
            self._logger.error(
                "Redis throws away jobs when it is full: maxmemory-policy is %s, not noeviction.", policy
            )

    def _of_the_dead(self, queue: str) -> None:
        broker = self._broker
        before = int(time() * 1000) - broker.heartbeat_timeout
        dead = broker.client.zrangebyscore(f"{broker.namespace}:__heartbeats__", 0, before)
        if any(self._given(_text(one), queue) for one in dead):
            chance, broker.maintenance_chance = broker.maintenance_chance, ALWAYS
            try:
                broker.do_qsize(queue)
            finally:
                broker.maintenance_chance = chance

    def _given(self, broker_id: str, queue: str) -> list[str]:
        """What that process was given of a queue, and is not finished with."""
        key = f"{self._broker.namespace}:__acks__.{broker_id}.{queue}"
        return [_text(one) for one in self._broker.client.smembers(key)]

    def _in_hand(self) -> set[tuple[str, str]]:
        """By queue and id: what waits in this process, and what is performed."""
        consumers = list(self._worker.consumers.values())
        waiting: list[Any] = []
        for queue in (self._worker.work_queue, *(one.delay_queue for one in consumers)):
            with queue.mutex:
                waiting += (item.message for item in queue.queue)
        for one in consumers:
            for fetched in list(getattr(one.consumer, "message_cache", ())):
                with suppress(DecodeError):
                    waiting.append(dramatiq.Message.decode(fetched))
        found = {(message.queue_name, message.options["redis_message_id"]) for message in waiting}
        return found | {(queue, one) for one, queue in list(self._performing.items())}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _patient(script: Callable[..., Any], **arguments: Any) -> Any:
    """What `script` answers. Raises `GoneError` where Redis does not: full, frozen or away, it is waited for."""
    try:
        return script(**arguments)
    except RedisError as error:
        raise GoneError(error) from error


def _again(worker: type[Worker], retries: int, error: BaseException) -> bool:
    """Whether a job that failed is tried once more; it was `retries` times."""
    if isinstance(error, AskedAgain):
        return True
    return retries < worker.max_retries and worker.backoff.helps(error) and not isinstance(asked(error), AskedBurial)


def _see_kept(broker: Any) -> None:
    """Raises `ConfigError` for a broker that would take a job that failed for done, or never end one."""
    for name, needed in {"Retries": "retry_when", "TimeLimit": "time_limit"}.items():
        if needed not in broker.actor_options:
            raise ConfigError(
                f"the broker of Dramatiq has no {name} among its middleware: broker.add_middleware({name}())"
            )
