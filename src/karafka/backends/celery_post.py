"""How jobs get into Celery's queues: a message each, confirmed by the broker within seconds, or an `EnqueueError`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from time import time
from typing import Any

from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps

from karafka.errors import EnqueueError, words

# The one task of all jobs: one of a name that a worker does not know Celery throws away.
TASK = "karafka.perform"
DAY = 86_400.0
# How long the broker may take to answer, in seconds.
ANSWERS = 5.0
LOWEST = 9
# What is none of the team's to choose: a job is confirmed, and what was not is handed over again by the server alone.
CONFIRMED = {"confirm_publish": True, "retry_on_timeout": False, "max_retries": 0}


class Post:
    """Any thread: each that sends at once has a connection of its own. A process that was forked makes new ones."""

    def __init__(self, app: Celery, kept: float) -> None:
        self._app = app
        self.kept = kept
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
        return keeping(made, self.kept)


def keeping(connection: Connection, kept: float) -> Connection:
    """`connection`, by which jobs in Redis are noted as if a worker had them, until one has: for `kept` seconds, beyond
    the visibility timeout.

    A worker of Celery's takes a message out of Redis's list, and notes in a second step that it has it. Where it is
    killed between the two, or Redis is full, nobody has it, and nothing would bring it back.
    """
    usual: Any = connection.get_transport_cls()
    if usual.driver_type == "redis":
        transport = _transport(usual, kept)
        connection.transport_cls = transport
        connection.resolve_aliases = {**connection.resolve_aliases, transport: usual.driver_type}
    return connection


@lru_cache
def _transport(usual: Any, kept: float) -> type[Any]:
    class Keeping(usual.Channel):  # type: ignore[misc]  # whichever it is: Redis's, or Sentinel's
        def _put(self, queue: str, message: dict[str, Any], **more: Any) -> None:
            if queue in self._expires:
                super()._put(queue, message, **more)
                return
            info = message["properties"]["delivery_info"]
            key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
            with self.conn_or_acquire() as client, client.pipeline() as pipe:
                self._note(pipe, message, info["exchange"], info["routing_key"])
                pipe.lpush(key, dumps(message))
                pipe.execute()

        def _do_restore_message(
            self, payload: dict[str, Any], exchange: str, routing_key: str, pipe: Any, *leftmost: bool, **more: bool
        ) -> None:
            if payload["headers"].get("task") == TASK:
                self._note(pipe, payload, exchange, routing_key)
            super()._do_restore_message(payload, exchange, routing_key, pipe, *leftmost, **more)

        def _note(self, pipe: Any, message: dict[str, Any], exchange: str, routing_key: str) -> None:
            tag = message["properties"]["delivery_tag"]
            pipe.zadd(self.unacked_index_key, {tag: time() + kept})
            pipe.hset(self.unacked_key, tag, dumps([message, exchange, routing_key]))

    return type("Transport", (usual,), {"Channel": Keeping})
