"""In the place of the client: what is sent is kept in memory, and said to be delivered. For tests, and for development.

A transaction's messages are kept once it is committed, and never if it is aborted, as readers of committed messages see
it. Any thread.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

from karafka.client import Kept, Posted, Quick, Refused, Trouble
from karafka.delivery import Failure, Handle, no_utf8
from karafka.letters import Letter
from karafka.messages import Header, Place

# So many messages are kept, the last ones.
KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message as it would have been sent: payload and key as bytes. `timestamp` in seconds since 1970."""

    topic: str
    payload: bytes | None
    key: bytes | None
    headers: tuple[Header, ...]
    partition: int
    offset: int
    timestamp: float
    label: Any


class Taken(NamedTuple):
    """A receipt."""

    number: int
    at: int

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def latency(self) -> float:
        return 0.0


class Recorder:
    """`client.Transactor` in memory; see the module. Messages without a partition go to partition 0."""

    def __init__(self) -> None:
        self.messages: deque[Recorded] = deque(maxlen=KEPT)
        #: What transactions committed of each group's offsets.
        self.offsets: dict[Place, Kept] = {}
        self.quick: Quick = self._send_quick
        self._lock = Lock()
        self._told: deque[tuple[Posted, Taken]] = deque()
        self._ends: Counter[tuple[str, int]] = Counter()
        self._open: list[Recorded] | None = None
        self._open_offsets: dict[Place, Kept] = {}

    def beside(self) -> Recorder:
        """Another client whose messages are kept in the same place; a transaction of this one is none of its."""
        other = Recorder()
        other.messages, other._ends, other._lock = self.messages, self._ends, self._lock
        return other

    def send(self, letter: Letter, posted: Posted) -> None:
        with self._lock:
            payload, key = _bytes(letter.value), _bytes(letter.key)
            topic, partition = letter.topic, max(0, letter.partition)
            offset = self._ends[topic, partition]
            self._ends[topic, partition] += 1
            one = Recorded(
                topic=topic,
                payload=payload,
                key=key,
                headers=tuple(letter.headers or ()),
                partition=partition,
                offset=offset,
                timestamp=letter.timestamp / 1_000 if letter.timestamp else time.time(),
                label=letter.label,
            )
            (self.messages if self._open is None else self._open).append(one)
            self._told.append((posted, Taken(partition, offset)))

    def _send_quick(
        self,
        topic: str,
        value: bytes | str | None,
        key: bytes | str | None,
        partition: int,
        posted: Posted,
        _older: None,
        timestamp: int,
        headers: list[Header] | None,
    ) -> None:
        label = posted.label if isinstance(posted, Handle) else None
        self.send(Letter(topic, value, key, headers, partition, timestamp, label), posted)

    def judge(self, error: Any) -> Failure | None: ...

    def serve(self, timeout: float) -> None:  # noqa: ARG002 - the port's signature: nothing is waited for here
        while self._told:
            posted, receipt = self._told.popleft()
            posted(None, receipt)

    hasten = serve

    def waiting(self) -> int:
        return len(self._told)

    def purge(self, failure: Failure) -> None: ...

    def news(self) -> list[Trouble]:
        return []

    def statistics(self) -> str:
        return ""

    def close(self) -> None: ...

    def leave_behind(self) -> None:
        self._lock = Lock()

    # ── transactions ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def fenced(self) -> bool:
        return False

    def ready(self, timeout: float) -> None: ...

    def begin(self) -> None:
        with self._lock:
            self._open, self._open_offsets = [], {}

    def add_offsets(self, offsets: Mapping[Place, Kept], member: object, timeout: float) -> None:  # noqa: ARG002
        self._open_offsets |= offsets

    def commit(self, timeout: float) -> None:
        self.serve(timeout)
        with self._lock:
            self.messages.extend(self._open or ())
            self.offsets |= self._open_offsets
            self._open = None

    def abort(self, timeout: float) -> None:
        self.serve(timeout)
        with self._lock:
            self._open = None


def _bytes(text: bytes | str | None) -> bytes | None:
    try:
        return text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise Refused(no_utf8(error)) from None
