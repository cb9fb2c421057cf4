"""How jobs get into Celery's queues: a message each, confirmed by the broker within seconds, or an `EnqueueError`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import OperationalError

from karafka.errors import EnqueueError, words

# The one task of all jobs: one of a name that a worker does not know Celery throws away.
TASK = "karafka.perform"
# How much older than the next one a job in Redis must be to be taken for lost, in seconds: clocks differ, and workers
# have a moment to note what they took.
GRACE = 30.0
# How long the broker may take to answer, in seconds.
ANSWERS = 5.0
LOWEST = 9
# What is none of the team's to choose: a job is confirmed, and what was not is handed over again by the server alone.
CONFIRMED = {"confirm_publish": True, "retry_on_timeout": False, "max_retries": 0}


class Post:
    """Any thread: each that sends at once has a connection of its own. A process that was forked makes new ones."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._idle: deque[Producer] = deque()
        self._process = os.getpid()

    def send(
        self,
        queue: str,
        job: object,
        *,
        id: str,  # noqa: A002 - as Celery calls it
        shadow: str | None,
        priority: int = 0,
        retries: int = 0,
        after: float | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a job into `queue`, to be performed `after` seconds. Of two priorities the lower goes first.

        `shadow`: what Celery calls it in its log. Raises `EnqueueError`.
        """
        with self._producer() as producer:
            self._app.send_task(
                TASK,
                args=[job],
                task_id=id,
                shadow=shadow,
                queue=queue,
                priority=self.ranked(priority),
                retries=retries,
                countdown=after,
                headers=dict(headers or {}),
                # It stands in headers and logs otherwise, what people's messages say.
                argsrepr=id,
                kwargsrepr="{}",
                serializer="json",
                ignore_result=True,
                add_to_parent=False,
                expires=None,
                producer=producer,
                retry=False,
            )

    def ranked(self, priority: int) -> int:
        """A worker's priority as the broker has it, and the reverse: in RabbitMQ the higher goes first."""
        return LOWEST - priority if self._driver == "amqp" else priority

    @cached_property
    def _driver(self) -> str:
        return str(self._app.connection_for_write().transport.driver_type)

    @contextmanager
    def _producer(self) -> Iterator[Producer]:
        """One that nobody else has, and that is not used again once it has failed."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._idle = deque()
        try:
            producer = self._idle.pop()
        except IndexError:
            producer = self._app.amqp.Producer(self._connection(), auto_declare=False)
        connection = producer.connection
        try:
            yield producer
        except (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors) as error:
            with suppress(Exception):
                connection.release()
            cause = error.__cause__ or error
            # The stacks of three libraries say nothing more, and are long.
            raise EnqueueError(
                f"Celery's broker, {connection.as_uri()}, did not take a job ({type(cause).__name__}: {words(cause)})"
            ) from None
        self._idle.append(producer)

    def _connection(self) -> Connection:
        options: dict[str, Any] = {}
        if self._driver == "redis":
            options = {"socket_timeout": ANSWERS, "socket_connect_timeout": ANSWERS}
        elif self._driver == "amqp":
            options = {"read_timeout": ANSWERS, "write_timeout": ANSWERS}
        theirs = self._app.conf.broker_transport_options
        made: Connection = self._app.connection_for_write(transport_options={**options, **theirs, **CONFIRMED})
        return keeping(made)


def keeping(connection: Connection, grace: float = GRACE) -> Connection:
    """`connection`, by which jobs are kept where Celery would lose them: in Redis."""
    usual: Any = connection.get_transport_cls()
    if usual.driver_type == "redis":
        from karafka.backends.celery_redis import noting  # noqa: PLC0415 - it needs a library that not all brokers need

        transport = noting(usual, grace)
        connection.transport_cls = transport
        connection.resolve_aliases = {**connection.resolve_aliases, transport: usual.driver_type}
    return connection
