"""Exactly once from a partition to what is sent: results and the offset of their messages in one transaction.

What `perform` sends through its controller is kept (`Outbox`) until the run of messages has ended. Then what the
finished ones sent goes out, and the offset after the last of them with it, in a transaction of the partition's own:
readers of what is committed see both or neither. Only then do the messages count as finished. There is one client for
each such partition, with a `transactional.id` that names it: the next owner takes that over, so that what a process
left open that died is aborted at once, and cannot be committed later. Nor can a member commit that was thrown out of
the group: its generation is past.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from inspect import iscoroutinefunction
from threading import Thread
from typing import Any

from karafka.client import Kept, Topics
from karafka.delivery import Handle
from karafka.errors import (
    BrokerError,
    DeliveryError,
    Error,
    FencedError,
    InvalidMessageError,
    NotAuthorizedError,
    TooLargeError,
    TransactionError,
    UnknownTopicError,
)
from karafka.letters import Letter
from karafka.messages import Handler, Place, Run
from karafka.outbox import Outbox
from karafka.producer import Producer

# How long to wait before what could not be committed is performed again: the first time, and at most.
FIRST, CAP = 0.1, 5.0
# How long taking over may hold up an assignment, and how many are taken over side by side.
TAKE_OVER = 5.0
SIDE_BY_SIDE = 16
# How long one question for what is committed may take, and how long to wait before it is asked again.
ASK, ASK_AGAIN = 10.0, 0.5
# How long the results may take to be confirmed, and the offset to be taken.
FLUSH = STEP = 60.0
# How long the client of a partition that is gone may take to end.
CLOSE = 5.0


class ExactlyOnce:
    """One assignment of one partition: `perform` takes the place of the route's handler. See the module.

    `member` is the listener's to set: what the group knows this process by, as of the last turn in which the partition
    was not being taken away. `beside` answers what goes beside the offset, `gone` whether it is being taken away.
    """

    def __init__(
        self,
        handler: Handler,
        place: Place,
        group: str,
        producer: Callable[[], Producer],
        topics: Callable[[], Topics],
        *,
        batch: bool,
    ) -> None:
        """`producer` makes one with the `transactional.id`; `batch`: messages are finished by batches."""
        self._handler: Any = handler
        self._place = place
        self._group = group
        self._make = producer
        self._producer = producer()
        self._topics = topics
        self._batch = batch
        self._failures = 0
        self.member: object = None
        self.beside: Callable[[], str] = str
        self.gone: Callable[[], bool] = bool
        #: What the pool calls: a coroutine function where the route's handler is one.
        self.perform: Handler = self._perform_async if iscoroutinefunction(handler) else self._perform

    def take_over(self) -> None:
        """Abort what a former owner left open. Raises nothing: it is done at the first transaction otherwise."""
        with suppress(Error):
            self._producer.pipe.renewed(time.monotonic() + TAKE_OVER)

    def close(self) -> None:
        """The partition is gone. Does not wait."""
        self._let_go(self._producer)

    def _let_go(self, producer: Producer) -> None:
        Thread(target=producer.close, args=(CLOSE,), name="karafka-closing-producer", daemon=True).start()

    def _perform(self, run: Run) -> None:
        inner, outbox = self._begun(run)
        error: BaseException | None = None
        try:
            self._handler(inner)
        except BaseException as raised:  # noqa: BLE001 - raised again, once what was finished before is committed
            error = raised
        error = self._settle(run, inner, outbox, error)
        if error is not None:
            raise error

    async def _perform_async(self, run: Run) -> None:
        inner, outbox = self._begun(run)
        error: BaseException | None = None
        try:
            await self._handler(inner)
        except BaseException as raised:  # noqa: BLE001 - the same
            error = raised
        error = await asyncio.shield(asyncio.to_thread(self._settle, run, inner, outbox, error))
        if error is not None:
            raise error

    def _begun(self, run: Run) -> tuple[Run, Outbox]:
        """What the handler is given: nothing it finishes counts before it is committed."""
        outbox = Outbox(self._producer)
        return run.within(outbox), outbox

    def _settle(self, run: Run, inner: Run, outbox: Outbox, error: BaseException | None) -> BaseException | None:
        """Commit what `inner` has finished: then, and only then, `run` has finished it. What is to be raised."""
        outbox.close()
        run.recalled = run.recalled or inner.recalled
        finished = inner.finished
        while finished:
            position = (run.records[finished - 1].offset() or 0) + 1
            sent = outbox.below(position)
            try:
                self._commit(sent, position)
            except Refusal as refusal:
                # One of them sent what can never be delivered, and the brokers refuse what came with it too: so fewer,
                # until it stands alone; those behind are performed again.
                least = run.batch if self._batch else 1
                alone = finished <= least
                error, finished = (refusal.error, 0) if alone else (None, max(least, finished // least // 2 * least))
                continue
            except Error as failed:
                if not self._committed(position, failed):
                    # Nobody saw any of it: it is performed again.
                    return None
            self._failures = 0
            run.finished = finished
            break
        return error

    def _commit(self, sent: list[Letter], position: int) -> None:
        """Raises `Refusal` for what cannot be delivered, `Error` where it was not committed, or nobody knows."""
        transactions = self._producer.transactions
        assert transactions is not None  # noqa: S101 - it was made with a transactional.id
        opened = transactions.begin()
        try:
            handles = opened.post_many(sent)
            opened.poller.flush(FLUSH)
            _refuse(handles)
            kept = Kept(position, self.beside())
            opened.keep({self._place: kept}, self.member, time.monotonic() + STEP, self.gone)
        except BaseException as error:
            transactions.abort(opened, f"{type(error).__name__}: {error}")
            raise
        transactions.commit(opened)

    def _committed(self, position: int, failed: Error) -> bool:
        """A commit failed. Whether it took place all the same, as the brokers have it; waits before it answers no."""
        self._failures += 1
        if isinstance(failed, FencedError) and not self.gone():
            # Somebody had it for a moment, a former owner most likely. As long as the group says that the partition is
            # ours nobody else can commit its offsets.
            before, self._producer = self._producer, self._make()
            self._let_go(before)
        # Who was fenced in its commit may have asked for it before: the client asks again where an answer is lost.
        unknown = isinstance(failed, FencedError) or (isinstance(failed, TransactionError) and failed.unknown)
        while unknown and not self.gone():
            try:
                # Another client of that id: the brokers bring to its end what the one before has begun.
                self._producer.pipe.renewed(time.monotonic() + ASK)
                kept = self._topics().committed(self._group, [self._place], ASK)[self._place]
            except (BrokerError, TransactionError):
                time.sleep(ASK_AGAIN)
            else:
                return kept is not None and kept.offset >= position
        until = time.monotonic() + min(CAP, FIRST * 2 ** min(self._failures - 1, 10))
        while time.monotonic() < until and not self.gone():
            time.sleep(0.05)
        return False


class Refusal(Exception):  # noqa: N818 - a way to answer
    """One of them sent what can never be delivered."""

    def __init__(self, error: DeliveryError) -> None:
        super().__init__(str(error))
        self.error = error


# What an error of these kinds is about is the message.
BLAMED = (InvalidMessageError, TooLargeError, UnknownTopicError, NotAuthorizedError)


def _refuse(handles: Iterable[Handle]) -> None:
    """Raises `Refusal` for what can never be delivered, its error for what was not this time."""
    failed = [one.error for one in handles if one.error is not None]
    for error in failed:
        if isinstance(error, BLAMED):
            raise Refusal(error)
    if failed:
        raise failed[0]


def take_over(several: Iterable[ExactlyOnce]) -> None:
    """`ExactlyOnce.take_over` of all, side by side; no longer than an assignment may wait for it."""
    workers = ThreadPoolExecutor(SIDE_BY_SIDE, "karafka-taking-over")
    futures = [workers.submit(one.take_over) for one in several]
    by = time.monotonic() + TAKE_OVER
    for future in futures:
        with suppress(TimeoutError):
            future.result(max(0.0, by - time.monotonic()))
    workers.shutdown(wait=False)
