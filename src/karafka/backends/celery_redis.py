"""What Celery leaves out about Redis: a job is noted from when it is handed over until a worker has noted it.

A worker of Celery's takes a message out of Redis's list, and in a second step notes that it has it. Where it is killed
between the two, or Redis is full, nobody has it, and no visibility timeout brings it back. So jobs are noted beside the
list, in one step with it. The list is first in, first out: what is noted and older than the message which is next has
been taken, and by nobody who lives. It goes back.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from time import time
from typing import Any

from kombu.transport.redis import Mutex, MutexHeld
from kombu.transport.virtual import QoS
from kombu.utils.json import dumps, loads

from karafka.backends.celery_post import TASK

# How many may go back at a time; and among how many of a list's next ones a job of ours is looked for.
MOST, NEXT = 100, 20
# How long one of several workers may take for it, in seconds.
MUTEX = 30
# Where jobs are noted: their messages by tag, and for each list when they came.
NOTED = "karafka.noted"
# In a message: when it was first put into a list.
SINCE = "karafka_since"


@lru_cache
def noting(usual: Any, grace: float) -> type[Any]:
    """Redis's transport, or Sentinel's, or whichever was made of those."""
    qos = type("QoS", (Noting, usual.Channel.QoS), {})
    channel = type("Channel", (Keeping, usual.Channel), {"QoS": qos, "grace": grace})
    return type("Transport", (usual,), {"Channel": channel})


_Any: Any = object


class Noting(_Any):  # type: ignore[misc]  # what stands behind it is known when it is used
    """How a worker notes what it has: in one step with that it is noted as nobody's no longer."""

    def append(self, message: Any, delivery_tag: str) -> None:
        if not _ours(message.headers):
            super().append(message, delivery_tag)
            return
        info, raw = message.delivery_info, message._raw  # noqa: SLF001 - as its own does
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: time()})
            pipe.hset(self.unacked_key, delivery_tag, dumps([raw, info["exchange"], info["routing_key"]]))
            self.channel.forget(pipe, raw)
            pipe.execute()
        QoS.append(self, message, delivery_tag)

    def restore_visible(self, *arguments: Any, **named: Any) -> None:
        """Every few seconds, where the connection is a worker's."""
        self.channel.put_back()
        super().restore_visible(*arguments, **named)


class Keeping(_Any):  # type: ignore[misc]  # as above
    """How a job comes into Redis's lists, and back."""

    grace: float

    def _put(self, queue: str, message: dict[str, Any], **more: Any) -> None:
        if queue in self._expires or not self.ack_emulation or not _ours(message["headers"]):
            super()._put(queue, message, **more)
            return
        message["properties"][SINCE] = time()
        key = self._list(queue, message)
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            self._note(pipe, key, message)
            pipe.lpush(key, dumps(message))
            pipe.execute()

    def _do_restore_message(
        self, payload: dict[str, Any], exchange: str, routing_key: str, pipe: Any, *leftmost: bool, **more: bool
    ) -> None:
        if _ours(payload["headers"]):
            self._note(pipe, self._list(routing_key, payload), payload)
        super()._do_restore_message(payload, exchange, routing_key, pipe, *leftmost, **more)

    def _list(self, queue: str, message: dict[str, Any]) -> str:
        return str(self._q_for_pri(queue, self._get_message_priority(message, reverse=False)))

    def _note(self, pipe: Any, key: str, message: dict[str, Any]) -> None:
        tag = message["properties"]["delivery_tag"]
        pipe.zadd(f"{NOTED}.{key}", {tag: time()})
        pipe.hset(NOTED, tag, dumps(message))

    def forget(self, pipe: Any, message: dict[str, Any]) -> None:
        """It is noted as a worker's."""
        properties = message["properties"]
        tag, queue = properties["delivery_tag"], properties["delivery_info"]["routing_key"]
        pipe.zrem(f"{NOTED}.{self._list(queue, message)}", tag)
        pipe.hdel(NOTED, tag)

    def put_back(self) -> None:
        """What was taken out of the lists that are read here, and noted by nobody."""
        keys = [self._q_for_pri(queue, step) for queue in self.active_queues for step in self.priority_steps]
        with self.conn_or_acquire() as client:
            if not any(self._lost(client, key) for key in keys):
                return
            with suppress(MutexHeld), Mutex(client, f"{NOTED}.mutex", MUTEX):
                for key in keys:
                    for tag in self._lost(client, key):
                        self._put_one_back(client, key, tag)

    def _lost(self, client: Any, key: str) -> list[bytes]:
        before = self._next(client, key) - self.grace
        found: list[bytes] = client.zrange(f"{NOTED}.{key}", 0, before, byscore=True, offset=0, num=MOST)
        return found

    def _put_one_back(self, client: Any, key: str, tag: bytes) -> None:
        message = client.hget(NOTED, tag)
        with client.pipeline() as pipe:
            pipe.zrem(f"{NOTED}.{key}", tag)
            if message is not None:
                pipe.zadd(f"{NOTED}.{key}", {tag: time()})
                pipe.rpush(key, message)
            pipe.execute()

    def _next(self, client: Any, key: str) -> float:
        """Since when the next job of a list waits; now where it is empty, 0 where it cannot be told."""
        waiting = client.lrange(f"{self.global_keyprefix}{key}", -NEXT, -1)
        since = [loads(one)["properties"].get(SINCE) for one in reversed(waiting)]
        return next((one for one in since if one is not None), 0.0) if waiting else time()


def _ours(headers: dict[str, Any] | None) -> bool:
    return headers is not None and headers.get("task") == TASK
