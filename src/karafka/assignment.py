"""A partition as user code sees it for as long as it is ours: mark, commit, pause, seek, and whether it is going.

Any thread may ask. Marks are kept here, under a lock; what only the listener can do becomes a `Wish` on its inbox.
The listener opens an assignment with the partition and closes it when the partition goes, or when a seek makes all
that was said before void: from then on every answer is `False`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import TypeAlias

from karafka.checks import number, refuse_in_loop, whole

# How long the broker's word on a commit is waited for, unless told otherwise.
COMMIT_TIMEOUT = 10.0


class Assignment:
    """See the module. `offset` is where the partition began; `revoked` is True once it is being taken away."""

    __slots__ = ("_closed", "_lock", "_put", "_told", "group", "marked", "offset", "partition", "revoked", "topic")

    def __init__(self, group: str, topic: str, partition: int, offset: int, put: Callable[[Wish], None]) -> None:
        """`put` is the listener's inbox."""
        self.group = group
        self.topic = topic
        self.partition = partition
        self.offset = offset
        #: True from the moment the partition is being taken away.
        self.revoked = False
        #: All below was marked. Read by the listener without the lock: it only rises.
        self.marked = offset
        self._put = put
        self._lock = Lock()
        self._closed = False
        self._told = False

    def mark(self, offset: int) -> bool:
        """The message at `offset` and all before it are finished. True while the partition is ours."""

        def note() -> None:
            self.marked = max(self.marked, offset + 1)

        return self._note(note)

    def _note(self, note: Callable[[], None]) -> bool:
        with self._lock:
            if self._closed:
                return False
            note()
            told, self._told = self._told, True
        if not told:
            self._put(Marked(self))
        return True

    def commit(self, timeout: float = COMMIT_TIMEOUT) -> bool:
        """Have what is finished committed, and wait for the broker's word up to `timeout` seconds.

        False: not ours any more, or no answer in time. For threads; see `commit_async`.
        """
        refuse_in_loop("commit", "await commit_async()")
        try:
            return self._commit().result(number("commit(timeout)", timeout, 0))
        except Late:
            return False

    async def commit_async(self, timeout: float = COMMIT_TIMEOUT) -> bool:
        """`commit` for `async def perform`."""
        number("commit_async(timeout)", timeout, 0)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._commit()), timeout)
        except TimeoutError:
            return False

    def _commit(self) -> Future[bool]:
        answer: Future[bool] = Future()
        if self.revoked or self._closed:
            answer.set_result(False)
        else:
            self._put(CommitWanted(self, answer))
        return answer

    def pause(self, until: float | datetime) -> bool:
        """Give out nothing more of this partition for `until` seconds, or until that time. Replaces an earlier pause.

        What is in hand ends first; other partitions go on. False when the partition is not ours any more.
        """
        if isinstance(until, datetime):
            seconds = _aware("pause", until).timestamp() - time.time()
        else:
            seconds = number("pause(seconds)", until, 0)
        return self._wish(PauseWanted(self, max(0.0, seconds)))

    def seek(self, to: int | datetime) -> bool:
        """Go on at offset `to`, or at the first message of that time or later, once what is in hand has ended.

        Forwards or backwards; the new position is committed. What was fetched, and marks, are void. False when the
        partition is not ours any more.
        """
        checked = _aware("seek", to) if isinstance(to, datetime) else whole("seek(offset)", to, 0)
        return self._wish(SeekWanted(self, checked))

    def _wish(self, wish: PauseWanted | SeekWanted) -> bool:
        if self.revoked or self._closed:
            return False
        self._put(wish)
        return True

    @property
    def closed(self) -> bool:
        """Whether it has ended, so that nothing asked of it is heard."""
        return self._closed

    @property
    def marks(self) -> bool:
        """Whether there are marks that each stand for one message, and were not `taken`."""
        return False

    def taken(self) -> list[int]:
        """Those marks."""
        return []

    # ── the listener's ───────────────────────────────────────────────────────────────────────────────────────

    def heard(self) -> None:
        """The listener looks at the marks now: a later one is said again."""
        with self._lock:
            self._told = False

    def close(self) -> None:
        """No mark counts from here on. Any number of times."""
        with self._lock:
            self._closed = True

    def revoke(self) -> None:
        """The partition is being taken away; marks still count until `close`."""
        self.revoked = True


class LaneAssignment(Assignment):
    """The same where only messages of one lane are in order: a mark says of its message that it is finished."""

    __slots__ = ("_marks",)

    def __init__(self, group: str, topic: str, partition: int, offset: int, put: Callable[[Wish], None]) -> None:
        super().__init__(group, topic, partition, offset, put)
        self._marks: list[int] = []

    @property
    def marks(self) -> bool:
        # Without the lock: the listener looks again when it is told.
        return bool(self._marks)

    def mark(self, offset: int) -> bool:
        """The message at `offset` is finished. True while the partition is ours."""
        return self._note(lambda: self._marks.append(offset))

    def taken(self) -> list[int]:
        with self._lock:
            taken, self._marks = self._marks, []
        return taken


class TransactedAssignment(Assignment):
    """The same where a transaction finishes messages, and no mark does."""

    __slots__ = ()

    def mark(self, offset: int) -> bool:
        raise RuntimeError(
            f"mark({offset}): on a route with exactly_once=True a message is finished by the transaction that sends "
            "its results, and by nothing else"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """There are new marks."""

    assignment: Assignment


@dataclass(frozen=True, slots=True, eq=False)
class CommitWanted:
    """Commit what is finished now, and answer whether the broker keeps it."""

    assignment: Assignment
    answer: Future[bool]


@dataclass(frozen=True, slots=True, eq=False)
class PauseWanted:
    """Give out nothing more for so many seconds."""

    assignment: Assignment
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class SeekWanted:
    """Go on at an offset, or at the first message of that time or later."""

    assignment: Assignment
    to: int | datetime


Wish: TypeAlias = Marked | CommitWanted | PauseWanted | SeekWanted


def _aware(call: str, moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(
            f"{call}({moment!r}): a time without a zone is not a moment; give it one, such as datetime.UTC"
        )
    return moment
