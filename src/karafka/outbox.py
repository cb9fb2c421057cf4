"""What messages send by their controllers: kept until they are performed, confirmed before they are finished.

`perform` waits for none of it. Nothing of a message leaves before its `perform` has ended well, so that what failed has
sent nothing. The confirmations of a run are waited for together, at its end, and the offset waits with them. What a
long run has performed is put on its way meanwhile, and counts as it is confirmed.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from copy import copy
from inspect import iscoroutinefunction
from threading import Lock
from time import perf_counter
from typing import Any

from karafka.assignment import Assignment
from karafka.clock import NEVER
from karafka.delivery import Handle, Handles
from karafka.errors import DeliveryError, PartlyDeliveredError, QueueFullError
from karafka.letters import Letter, Row
from karafka.messages import Handler, Run, offset_of
from karafka.policy import asked
from karafka.producer import Producer

# How often who waits for confirmations looks whether its partition is gone, in seconds.
LOOK = 0.5


class Outbox:
    """What one run's messages sent so far, each with the offset of its message.

    The worker's, but for `post_early` and `unsure`, which are the listener's.
    """

    __slots__ = ("_broken", "_lock", "_posted", "_producer", "_sure", "letters", "marks", "over", "used")

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        #: What is not on its way yet, in the order it was sent.
        self.letters: list[tuple[int, Letter]] = []
        #: What was marked while something was not confirmed: by the message at which offset, and which one.
        self.marks: list[tuple[int, int, Assignment]] = []
        #: Whether its run has ended.
        self.over = False
        #: Whether anything was sent by it.
        self.used = False
        self._posted: list[tuple[int, Handle]] = []
        # So many of them are confirmed, from the front, as far as anyone has looked.
        self._sure = 0
        # Whether one was refused for good: what is behind it would only be sent again.
        self._broken = False
        self._lock = Lock()

    def add(self, offset: int, rows: Iterable[Row]) -> None:
        """Keep what the message at `offset` sends, all of it or nothing; checked now.

        Raises `InvalidMessageError`, `RuntimeError`.
        """
        letters = [(offset, self._producer.letter(**row)) for row in rows]
        with self._lock:
            if self.over and letters:
                raise RuntimeError(
                    f"a message to {letters[0][1].topic!r} comes after the perform that sends it has ended: too late "
                    "for its transaction, or for its offset to wait for it"
                )
            self.used = self.used or bool(letters)
            self.letters += letters

    def mark(self, at: int, offset: int, assignment: Assignment) -> bool:
        """The message `at` marks the one at `offset`: now, or once all that was sent before is confirmed."""
        with self._lock:
            if not self.over and self.unsure is not None:
                self.marks.append((at, offset, assignment))
                return not assignment.revoked
        return assignment.mark(offset)

    @property
    def unsure(self) -> int | None:
        """The offset of the first message that has sent what is not confirmed; None if there is none. Any thread."""
        # In this order: what is not among those that wait any more is among those that are on their way.
        waits = self.letters[0][0] if self.letters else None
        posted, sure = self._posted, self._sure
        while sure < len(posted) and posted[sure][1].done and posted[sure][1].error is None:
            sure += 1
        self._sure = sure
        return posted[sure][0] if sure < len(posted) else waits

    def post(self, before: int) -> QueueFullError | None:
        """Put on its way, in order, what messages below `before` sent; on threads it waits for room.

        Answers why the rest stays here, if it found none.
        """
        with self._lock:
            return self._post(before, NEVER)

    def post_early(self, before: int) -> None:
        """The same while the run goes on, as far as there is room. Any thread; does not wait."""
        if self._lock.acquire(blocking=False):
            try:
                self._post(before, 0.0)
            finally:
                self._lock.release()

    def _post(self, before: int, by: float) -> QueueFullError | None:
        due = [one for one in self.letters if one[0] < before]
        if not due or self._broken:
            return None
        handles = self._producer.post_many([letter for _, letter in due], by, in_order=True)
        error = handles[-1].error
        full = error if isinstance(error, QueueFullError) else None
        self._broken = error is not None and full is None
        if full is not None:
            handles.pop()
        self._posted += [(at, handle) for (at, _), handle in zip(due, handles, strict=False)]
        self.letters = due[len(handles) :] + [one for one in self.letters if one[0] >= before]
        return full

    def close(self) -> None:
        """Its run has ended: nothing more is taken."""
        with self._lock:
            self.over = True

    @property
    def handles(self) -> Handles:
        """All that is on its way, or was."""
        return Handles([handle for _, handle in self._posted])

    @property
    def failed(self) -> tuple[int, DeliveryError | None] | None:
        """The offset of the first message of which something was not delivered, and why, where that is known."""
        return next(((at, one.error) for at, one in self._posted if not one.done or one.error is not None), None)


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
        finished, end = _withheld(run)
        since = perf_counter()
        full, handles = outbox.post(end), outbox.handles
        while not _gone(run):
            with suppress(TimeoutError):
                with suppress(PartlyDeliveredError):
                    handles.wait(LOOK)
                break
        run.waited = perf_counter() - since
        _conclude(run, outbox, finished, full, error)

    async def _settle_async(self, run: Run, outbox: Outbox, error: BaseException | None) -> None:
        outbox.close()
        if not outbox.used:
            return
        finished, end = _withheld(run)
        since = perf_counter()
        full = outbox.post(end)
        if full is not None:
            full = await asyncio.to_thread(outbox.post, end)  # a loop must not wait for room
        handles = outbox.handles
        while not _gone(run):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    with suppress(PartlyDeliveredError):
                        await handles
                break
        run.waited = perf_counter() - since
        _conclude(run, outbox, finished, full, error)


def _withheld(run: Run) -> tuple[int, int]:
    """How many messages of `run` are performed, and the offset after them. From here on none counts that has sent what
    is not confirmed, whatever becomes of who waits for that.
    """
    finished = run.finished
    run.finished = run.sure(finished)
    return finished, (run.records[finished - 1].offset() or 0) + 1 if finished else -1


def _gone(run: Run) -> bool:
    """Whether its partition is not ours any more, so that nobody asks how it ends."""
    return run.assignment is not None and run.assignment.closed


def _conclude(
    run: Run, outbox: Outbox, finished: int, full: QueueFullError | None, error: BaseException | None
) -> None:
    """All has ended, or nobody waits for it any more: what of `run` is finished. Raises why its next message is not,
    unless user code asked by `error` for the end of the process.
    """
    failed = outbox.failed
    if failed is None and full is not None:
        failed = outbox.letters[0][0], full
    if failed is not None:
        finished = min(finished, bisect_left(run.records, failed[0], key=offset_of))
    run.finished = finished
    end = (run.records[finished - 1].offset() or 0) + 1 if finished else -1
    for at, offset, assignment in outbox.marks:
        if at < end:
            assignment.mark(offset)
    ends = error is not None and isinstance(asked(error), SystemExit | KeyboardInterrupt)
    if failed is not None and failed[1] is not None and not ends:
        raise copy(failed[1]) from error
