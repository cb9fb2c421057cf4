"""Transactions: messages that readers of what is committed see all, or none; with offsets of a group, if wanted.

`Transactions` has one client with a `transactional.id`, and lets one transaction at a time use it. The steps block:
threads call them, and `async with` calls them on a thread beside the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock, get_ident
from types import TracebackType
from typing import Any, NoReturn, Protocol, cast

from karafka.checks import refuse_in_loop
from karafka.client import Kept, Remedy, Transactor, Unsettled
from karafka.delivery import Handle, Handles
from karafka.errors import ConfigError, FencedError, TransactionError, words
from karafka.events import Events, TransactionAborted, TransactionBegun, TransactionCommitted
from karafka.messages import Place
from karafka.outgoing import Headers, Key, Letter, Moment, Row
from karafka.poller import Poller

# How long a step may take altogether, over all its tries.
TIMEOUT = 60.0
# How long one try may.
STEP = 10.0
# How long to wait before a step is tried again that failed at once.
PAUSE = 0.05


class Pipe(Protocol):
    """What a transaction sends by: a `Producer` whose client is the transactional one."""

    def line(self) -> Poller:
        """Its client, with the `transactional.id` taken over. Raises `TransactionError`."""

    def produce_async(
        self,
        topic: str,
        payload: Any,
        *,
        key: Key = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: Moment = None,
        label: Any = None,
    ) -> Handle: ...

    def produce_many_async(self, messages: Iterable[Row]) -> Handles: ...

    def post_many(self, letters: Sequence[Letter]) -> list[Handle]: ...

    def tombstone(
        self, topic: str, key: str | bytes, *, headers: Headers | None = None, partition: int | None = None
    ) -> Handle: ...


class Aborted(Exception):  # noqa: N818 - not an error: the user's decision
    """Raised by `Transaction.abort`, and caught where the transaction ends."""


class Transaction:
    """What is open inside `with producer.transaction() as transaction`. Any thread may send by it until that ends.

    A handle that has ended means that the broker has the message; readers of what is committed see it after the commit.
    """

    def __init__(self, pipe: Pipe, poller: Poller) -> None:
        self._pipe = pipe
        self._poller = poller
        self._over = ""
        self._failures = poller.failures
        #: How many messages were sent by it.
        self.count = 0

    def produce_async(
        self,
        topic: str,
        payload: Any,
        *,
        key: Key = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: Moment = None,
        label: Any = None,
    ) -> Handle:
        """As `Producer.produce_async`. Raises `TransactionError` when the transaction is over."""
        self._check()
        handle = self._pipe.produce_async(
            topic, payload, key=key, headers=headers, partition=partition, timestamp=timestamp, label=label
        )
        self.count += 1
        return handle

    def produce_many_async(self, messages: Iterable[Row]) -> Handles:
        """As `Producer.produce_many_async`."""
        self._check()
        handles = self._pipe.produce_many_async(messages)
        self.count += len(handles)
        return handles

    def tombstone(
        self, topic: str, key: str | bytes, *, headers: Headers | None = None, partition: int | None = None
    ) -> Handle:
        """As `Producer.tombstone`."""
        self._check()
        handle = self._pipe.tombstone(topic, key, headers=headers, partition=partition)
        self.count += 1
        return handle

    def commit_offsets(self, offsets: Mapping[tuple[str, int], int], group: object, timeout: float = TIMEOUT) -> None:
        """Have `offsets` (topic and partition to the next to read) committed with the transaction.

        `group` is what `Consumer.consumer_group_metadata()` of confluent-kafka gives: who was thrown out of the group
        since cannot commit. Raises `TransactionError`.
        """
        kept = {Place(*place): Kept(offset) for place, offset in offsets.items()}
        self.keep(kept, group, time.monotonic() + timeout)

    def abort(self, reason: str = "") -> NoReturn:
        """Leave the `with` block: nothing of the transaction is ever seen, and no error is raised there."""
        raise Aborted(reason or "asked for")

    # ── the package's own ────────────────────────────────────────────────────────────────────────────────────

    def post_many(self, letters: Sequence[Letter]) -> list[Handle]:
        """Send what `Producer.letter` made."""
        self._check()
        self.count += len(letters)
        return self._pipe.post_many(letters)

    def keep(self, offsets: Mapping[Place, Kept], member: object, by: float) -> None:
        """`commit_offsets` in the engine's words."""
        self._check()
        try:
            take(partial(self.transactor.add_offsets, offsets, member), by)
        except Unsettled as unsettled:
            raise TransactionError(
                f"offsets were not taken into the transaction: {unsettled} ({unsettled.code})",
                retriable=unsettled.remedy is not Remedy.FENCED,
            ) from unsettled

    @property
    def transactor(self) -> Transactor:
        return cast("Transactor", self._poller.client)

    @property
    def poller(self) -> Poller:
        return self._poller

    def end(self, reason: str) -> None:
        self._over = self._over or reason

    @property
    def failed(self) -> bool:
        """Whether a message of it was not delivered."""
        return self._poller.failures > self._failures

    def _check(self) -> None:
        if self._over:
            raise TransactionError(f"this transaction is over: {self._over}", retriable=False)
        if self._poller.over:
            raise TransactionError(self._poller.over, retriable=True)


class Transactions:
    """See the module. Any thread. `pipe` sends by a client that `connected` made."""

    def __init__(self, transactional_id: str, pipe: Pipe, events: Events) -> None:
        self._id = transactional_id
        self._pipe = pipe
        self._events = events
        self._turn = Lock()
        self._open: Transaction | None = None
        self._owner: object = None
        self._since = 0.0
        self._fenced = ""

    def begin(self, timeout: float = TIMEOUT) -> Transaction:
        """Open one, once the one before has ended. Raises `TransactionError`; `ConfigError` for one inside another."""
        by = time.monotonic() + timeout
        self._refuse(get_ident())
        if not self._turn.acquire(timeout=max(0.0, timeout)):
            raise self._taken(timeout)
        return self._opened(by, get_ident())

    async def begin_async(self, timeout: float = TIMEOUT) -> Transaction:
        """`begin` for `async def`."""
        by, task = time.monotonic() + timeout, asyncio.current_task()
        self._refuse(task)
        # Not on a thread: those that wait for the turn would leave none for the one that has it.
        while not self._turn.acquire(blocking=False):
            if time.monotonic() >= by:
                raise self._taken(timeout)
            await asyncio.sleep(PAUSE / 10)
        opening = asyncio.ensure_future(asyncio.to_thread(self._opened, by, task))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # Nobody will end it who has not got it.
            with suppress(TransactionError, ConfigError):
                await asyncio.to_thread(self.abort, await opening, "cancelled", timeout)
            raise

    def _refuse(self, caller: object) -> None:
        if self._fenced:
            raise FencedError(self._fenced)
        if self._owner == caller:
            raise ConfigError(
                f"a transaction of {self._id!r} is begun inside another: send by the one that is open, or end it first"
            )

    def _taken(self, timeout: float) -> TransactionError:
        said = f"another transaction of {self._id!r} has been open for {timeout:g} s"
        return TransactionError(said, retriable=True)

    def _opened(self, by: float, caller: object) -> Transaction:
        """With the turn, which it gives back where it fails."""
        try:
            opened = Transaction(self._pipe, self._pipe.line())
            try:
                take(lambda _left: opened.transactor.begin(), by)
            except Unsettled as unsettled:
                raise self._given_up(opened, unsettled, "not begun") from unsettled
        except BaseException:
            self._turn.release()
            raise
        self._open, self._owner, self._since = opened, caller, time.monotonic()
        self._events.tell(TransactionBegun(transactional_id=self._id))
        return opened

    def commit(self, opened: Transaction, timeout: float = TIMEOUT) -> None:
        """All that was sent is confirmed, and committed; else it is aborted. Raises `TransactionError`."""
        by = time.monotonic() + timeout
        opened.end("it is being committed")
        try:
            opened.poller.flush(timeout)
            take(opened.transactor.commit, by)
        except Unsettled as unsettled:
            if unsettled.remedy is Remedy.ABORT:
                self._abort(opened, str(unsettled), by)
                raise TransactionError(
                    f"a transaction of {self._id!r} was aborted: {unsettled} ({unsettled.code})",
                    retriable=unsettled.passes,
                ) from unsettled
            said = "whether it is committed is not known"
            raise self._given_up(opened, unsettled, said, unknown=True) from unsettled
        finally:
            self._release(opened, "it has ended")
        elapsed = time.monotonic() - self._since
        self._events.tell(TransactionCommitted(transactional_id=self._id, count=opened.count, elapsed=elapsed))

    def abort(self, opened: Transaction, reason: str, timeout: float = TIMEOUT) -> None:
        """Nothing of it is ever seen. Where that cannot be said to the brokers the client is given up: they abort it
        when another one takes over, or its time is over. Raises nothing.
        """
        opened.end("it was aborted")
        try:
            self._abort(opened, reason, time.monotonic() + timeout)
        finally:
            self._release(opened, "it has ended")

    def close(self, timeout: float) -> None:
        """Abort what is open, and begin nothing more."""
        opened = self._open
        if opened is not None:
            self.abort(opened, "the producer was closed", timeout)

    def _abort(self, opened: Transaction, reason: str, by: float) -> None:
        try:
            take(opened.transactor.abort, by)
        except Unsettled as unsettled:
            self._given_up(opened, unsettled, "not aborted")
        if opened.failed:
            # The brokers miss its number in the sequence, and would refuse the next transaction (seen with librdkafka
            # 2.16 on Kafka 4.3: OUT_OF_ORDER_SEQUENCE_NUMBER); another client begins a sequence of its own.
            opened.poller.end("a message of its transaction was not delivered")
        elapsed = time.monotonic() - self._since
        self._events.tell(
            TransactionAborted(transactional_id=self._id, count=opened.count, elapsed=elapsed, error=reason)
        )

    def _given_up(
        self, opened: Transaction, unsettled: Unsettled, said: str, *, unknown: bool = False
    ) -> TransactionError:
        """The client is of no more use, or nobody knows: the next transaction gets another one."""
        reason = f"a transaction of {self._id!r}: {said}: {unsettled} ({unsettled.code})"
        opened.poller.end(reason)
        if unsettled.remedy is Remedy.FENCED:
            self._fenced = (
                f"another producer has taken over the transactional.id {self._id!r}: what this one sends counts no "
                "more. Each live producer needs an id of its own; make a new Producer only if this one is to go on"
            )
            return FencedError(self._fenced)
        return TransactionError(reason, retriable=not unknown, unknown=unknown)

    def _release(self, opened: Transaction, reason: str) -> None:
        opened.end(reason)
        if self._open is opened:
            self._open = self._owner = None
            self._turn.release()


class Opening:
    """`with` or `async with` it: a transaction, committed at the end, aborted when the block raises."""

    def __init__(self, transactions: Transactions, timeout: float) -> None:
        self._transactions = transactions
        self._timeout = timeout
        self._opened: Transaction | None = None

    def __enter__(self) -> Transaction:
        refuse_in_loop("with producer.transaction()", "async with producer.transaction()")
        self._opened = opened = self._transactions.begin(self._timeout)
        return opened

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._opened is not None  # noqa: S101 - entered before it is left
        if error is None:
            self._transactions.commit(self._opened, self._timeout)
            return False
        self._transactions.abort(self._opened, f"{type(error).__name__}: {words(error)}", self._timeout)
        return isinstance(error, Aborted)

    async def __aenter__(self) -> Transaction:
        self._opened = opened = await self._transactions.begin_async(self._timeout)
        return opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        ending = asyncio.ensure_future(asyncio.to_thread(self.__exit__, kind, error, trace))
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            # It comes to its end all the same, before the caller goes on.
            with suppress(TransactionError):
                await ending
            raise


def take(step: Callable[[float], object], by: float) -> None:
    """Take a step of a transaction, again and again where that may help, until `by`. Raises `Unsettled`."""
    while True:
        left = by - time.monotonic()
        try:
            step(max(0.0, min(STEP, left)))
        except Unsettled as unsettled:
            if unsettled.remedy is not Remedy.AGAIN or left <= 0:
                raise
            time.sleep(PAUSE)
        else:
            return
