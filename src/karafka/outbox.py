"""What messages send by their controllers: kept until they are performed, confirmed before they are finished.

`perform` waits for none of it. Nothing of a message leaves before its `perform` has ended well, so that what failed has
sent nothing. The confirmations of a run are waited for together, at its end, and the offset waits with them. What a
long run has performed is put on its way meanwhile, and counts as it is confirmed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import copy
from inspect import iscoroutinefunction
from itertools import starmap
from threading import Lock
from typing import Any

from karafka.assignment import Assignment
from karafka.clock import NEVER
from karafka.delivery import Handle, Handles, delivered
from karafka.errors import DeliveryError, QueueFullError
from karafka.letters import Letter
from karafka.messages import Handler, Run
from karafka.policy import asked
from karafka.producer import Producer

# How often who waits for confirmations looks whether its partition is gone, in seconds.
LOOK = 0.5
# How long confirmations are waited for where user code asked for the end of the process.
LAST_WAIT = 5.0


class Outbox:
    """What one run's messages sent so far, each with the offset of its message.

    The worker's, but for `post_early` and `unsure`, which are the listener's.
    """

    __slots__ = (
        "_broken",
        "_lock",
        "_marks",
        "_offsets",
        "_posted",
        "_posted_offsets",
        "_producer",
        "_sure",
        "letters",
        "over",
        "used",
    )

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        #: What is not on its way yet, in the order it was sent.
        self.letters: list[Letter] = []
        # Of each, which message has sent it.
        self._offsets: list[int] = []
        #: Whether its run has ended.
        self.over = False
        #: Whether anything was sent by it.
        self.used = False
        # What was marked while something was not confirmed.
        self._marks: list[tuple[int, int, Assignment]] = []
        self._posted: list[Handle] = []
        self._posted_offsets: list[int] = []
        # So many of them are confirmed, from the front, as far as anyone has looked.
        self._sure = 0
        # Whether one was refused for good: what is behind it would only be sent again.
        self._broken = False
        self._lock = Lock()

    def send(self, offset: int, *letter: Any) -> None:
        """Keep what the message at `offset` sends, checked now: the arguments of `Producer.letter`, in their order.

        Raises `InvalidMessageError`, `RuntimeError`.
        """
        made = self._producer.letter(*letter)
        with self._lock:
            if self.over:
                raise self._late(made)
            self.used = True
            self._offsets.append(offset)
            self.letters.append(made)

    def add(self, offset: int, letters: Iterable[tuple[Any, ...]]) -> None:
        """The same for several, all of them or none."""
        made = list(starmap(self._producer.letter, letters))
        if not made:
            return
        with self._lock:
            if self.over:
                raise self._late(made[0])
            self.used = True
            self._offsets += [offset] * len(made)
            self.letters += made

    def _late(self, letter: Letter) -> RuntimeError:
        return RuntimeError(
            f"a message to {letter.topic!r} comes after the perform that sends it has ended: too late for its "
            "transaction, or for its offset to wait for it"
        )

    def mark(self, at: int, offset: int, assignment: Assignment) -> bool:
        """The message `at` marks the one at `offset`: now, or once all that was sent before is confirmed; never if that
        is not.
        """
        with self._lock:
            if self.unsure is not None:
                self._marks.append((at, offset, assignment))
                return not assignment.revoked
        return assignment.mark(offset)

    def marked(self) -> list[tuple[int, int, Assignment]]:
        """The marks that waited: by the message at which offset, and which one. Its run has ended, and all it sent."""
        with self._lock:
            return self._marks

    @property
    def unsure(self) -> int | None:
        """The offset of the first message that has sent what is not confirmed; None if there is none. Any thread."""
        # In this order: what is not among those that wait any more is among those that are on their way.
        offsets = self._offsets
        waits = offsets[0] if offsets else None
        posted = self._posted
        self._sure = sure = delivered(posted, self._sure)
        return self._posted_offsets[sure] if sure < len(posted) else waits

    @property
    def error(self) -> DeliveryError | None:
        """Why the message at `unsure` is not confirmed; None where nobody has said so."""
        posted = self._posted
        sure = delivered(posted, self._sure)
        return posted[sure].error if sure < len(posted) else None

    def below(self, offset: int) -> list[Letter]:
        """What messages below `offset` sent, in order, and is not on its way."""
        if not self._offsets or self._offsets[-1] < offset:
            return self.letters
        return [one for at, one in zip(self._offsets, self.letters, strict=True) if at < offset]

    def post(self, before: int, by: float = NEVER, unless: Callable[[], bool] = bool) -> QueueFullError | None:
        """Put on its way, in order, what messages below `before` sent; on threads it waits for room: until `by`, unless
        `unless` says that nobody wants it any more. Once its run has ended.

        Answers why the rest stays here, if it found none.
        """
        return self._post(before, by, unless)

    def post_early(self, before: int) -> None:
        """The same while the run goes on, as far as there is room. Any thread; does not wait."""
        if self._lock.acquire(blocking=False):
            try:
                if not self.over:
                    self._post(before, 0.0)
                    self._count_marks()
            finally:
                self._lock.release()

    def _count_marks(self) -> None:
        """Those behind which nothing is unconfirmed any more."""
        unsure, marks = self.unsure, self._marks
        while marks and (unsure is None or marks[0][0] < unsure):
            _, offset, assignment = marks.pop(0)
            assignment.mark(offset)

    def _post(self, before: int, by: float, unless: Callable[[], bool] = bool) -> QueueFullError | None:
        due = self.below(before)
        if not due or self._broken:
            return None
        handles = self._producer.post_many(due, by, in_order=True, unless=unless)
        error = handles[-1].error
        full = error if isinstance(error, QueueFullError) else None
        self._broken = error is not None and full is None
        if full is not None:
            handles.pop()
        self._move(before, handles)
        return full

    def _move(self, before: int, handles: list[Handle]) -> None:
        """The first of those below `before` are on their way."""
        count, offsets, letters = len(handles), self._offsets, self.letters
        if offsets[-1] >= before:  # they may lie between others
            places = [at for at, one in enumerate(offsets) if one < before][:count]
            moved = [offsets[at] for at in places]
            left = sorted(set(range(len(offsets))) - set(places))
            offsets, letters = [offsets[at] for at in left], [letters[at] for at in left]
        else:
            moved, offsets, letters = offsets[:count], offsets[count:], letters[count:]
        # In this order, for `unsure`.
        self._posted_offsets += moved
        self._posted += handles
        self._offsets, self.letters = offsets, letters

    def close(self) -> None:
        """Its run has ended: nothing more is taken, and nobody else puts anything on its way."""
        with self._lock:
            self.over = True

    @property
    def handles(self) -> Handles:
        """All that is on its way, or was."""
        return Handles(self._posted)


class Confirmed:
    """A route's handler whose messages are finished once what they sent is confirmed. Several workers at once."""

    def __init__(self, handler: Handler, producer: Producer) -> None:
        self._handler: Any = handler
        self._producer = producer
        #: What the pool calls: a coroutine function where the route's handler is one.
        self.perform: Handler = self._perform_async if iscoroutinefunction(handler) else self._perform

    def _perform(self, run: Run) -> None:
        run.outbox = outbox = Outbox(self._producer)
        try:
            self._handler(run)
        except BaseException as error:
            self._settle(run, outbox, error)
            raise
        self._settle(run, outbox, None)

    async def _perform_async(self, run: Run) -> None:
        run.outbox = outbox = Outbox(self._producer)
        try:
            await self._handler(run)
        except BaseException as error:
            await self._settle_async(run, outbox, error)
            raise
        await self._settle_async(run, outbox, None)

    def _settle(self, run: Run, outbox: Outbox, error: BaseException | None) -> None:
        """What the finished ones sent goes out; they are finished once it is confirmed. Raises why one is not."""
        outbox.close()
        if not outbox.used:
            return
        wait = Wait(run, error)
        full = None if wait.over() else outbox.post(wait.end, wait.by, wait.over)
        handles = outbox.handles
        while not wait.over():
            with suppress(TimeoutError):
                handles.end(LOOK)
                break
        wait.conclude(outbox, full)

    async def _settle_async(self, run: Run, outbox: Outbox, error: BaseException | None) -> None:
        outbox.close()
        if not outbox.used:
            return
        wait = Wait(run, error)
        full = None if wait.over() else outbox.post(wait.end, wait.by, wait.over)
        if full is not None:
            full = await asyncio.to_thread(outbox.post, wait.end, wait.by, wait.over)  # a loop must not wait for room
        handles = outbox.handles
        while not wait.over():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await handles.end_async()
                break
        wait.conclude(outbox, full)


class Wait:
    """The end of a run that has sent something: how long it waits for confirmations, and what it makes of them.

    From its making on no message counts that has sent what is not confirmed, whatever becomes of who waits for that.
    """

    def __init__(self, run: Run, error: BaseException | None) -> None:
        """`error` is what the run's next message raised."""
        self._run = run
        self._error = error
        self._ends = error is not None and isinstance(asked(error), SystemExit | KeyboardInterrupt)
        # How many of its messages are performed.
        self._performed = run.finished
        self._since = time.monotonic()
        #: The offset after the last of them.
        self.end = _end(run, run.finished)
        self.by = self._since + LAST_WAIT if self._ends else NEVER
        run.finished = run.sure(run.finished)

    def over(self) -> bool:
        """Whether nobody waits any more: the partition is not ours, or the process is to end. Any thread."""
        return self._gone or time.monotonic() >= self.by

    @property
    def _gone(self) -> bool:
        return self._run.assignment is not None and self._run.assignment.closed

    def conclude(self, outbox: Outbox, full: QueueFullError | None) -> None:
        """What of the run is finished. Raises why its next message is not, unless nobody asks, or user code has asked
        for the end of the process.
        """
        run, error = self._run, self._error
        run.waited = time.monotonic() - self._since
        run.finished = finished = run.sure(self._performed)
        end = _end(run, finished)
        for at, offset, assignment in outbox.marked():
            if at < end:
                assignment.mark(offset)
        failed = (outbox.error or full) if finished < self._performed else None
        if failed is not None and not self._ends and not self._gone:
            raise copy(failed) from error


def _end(run: Run, count: int) -> int:
    """The offset after the first `count` messages of `run`, -1 for none."""
    return (run.records[count - 1].offset() or 0) + 1 if count else -1
