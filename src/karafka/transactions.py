"""Transactions: messages that readers of what is committed see all, or none; with offsets of a group, if wanted.

`Transactions` has one client with a `transactional.id`, and lets one transaction at a time use it. The steps block:
threads call them, and `async with` calls them on a thread beside the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Lock, get_ident
from types import TracebackType
from typing import Any, NoReturn, Protocol, TypeVar, cast

from karafka.aside import aside
from karafka.checks import refuse_in_loop
from karafka.client import Kept, Remedy, Transactor, Unsettled
from karafka.clock import NEVER
from karafka.delivery import Handle, Handles
from karafka.errors import (
    ConfigError,
    DeliveryError,
    FencedError,
    ProducerClosedError,
    TransactionError,
    words,
)
from karafka.events import Events, TransactionAborted, TransactionBegun, TransactionCommitted
from karafka.letters import Headers, Key, Letter, Moment, Row, check_tombstone
from karafka.messages import Place
from karafka.poller import Poller

T = TypeVar("T")

# How long a step may take altogether, over all its tries.
TIMEOUT = 60.0
# How long one try may.
STEP = 10.0
# Threads beside an event loop.
ASIDE = "karafka-transaction"
# How long to wait before a step is tried again that failed at once.
PAUSE = 0.05


class Pipe(Protocol):
    """What a transaction sends by: a `Producer` whose client is made by nobody but `renewed`."""

    def renewed(self, by: float) -> Poller:
        """Its client, with the `transactional.id` taken over: another one if there is none of use. Until `by`.

        Raises `TransactionError`, `ProducerClosedError`.
        """

    def letter(
        self,
        topic: str,
        payload: Any,
        key: Key = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: Moment = None,
        label: Any = None,
    ) -> Letter: ...

    def letters(self, messages: Iterable[Row]) -> list[Letter]: ...

    def post(self, letter: Letter) -> Handle: ...

    def post_many(self, letters: Sequence[Letter], by: float) -> list[Handle]: ...


class Aborted(Exception):  # noqa: N818 - not an error: the user's decision
    """Raised by `Transaction.abort`, and caught where the transaction ends."""


class Transaction:
    """What is open inside `with producer.transaction() as transaction`. Any thread may send by it until that ends.

    A handle that has ended means that the broker has the message; readers of what is committed see it after the commit.
    """

    def __init__(self, owner: Transactions, pipe: Pipe, poller: Poller) -> None:
        self._owner = owner
        self._pipe = pipe
        self._poller = poller
        self._over = ""
        # Held while a message goes to the client, so that none goes after the end: into the next transaction.
        self._gate = Lock()
        self._failures = poller.failures
        #: Why a message of it was not accepted, of several that were sent at once.
        self.refused: DeliveryError | None = None
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
        letter = self._pipe.letter(topic, payload, key, headers, partition, timestamp, label)
        with self._gate:
            self._check()
            handle = self._pipe.post(letter)
            self.count += 1
        return handle

    def produce_many_async(self, messages: Iterable[Row]) -> Handles:
        """As `Producer.produce_many_async`."""
        self._check()
        return Handles(self.post_many(self._pipe.letters(messages)))

    def tombstone(
        self, topic: str, key: str | bytes, *, headers: Headers | None = None, partition: int | None = None
    ) -> Handle:
        """As `Producer.tombstone`."""
        check_tombstone(topic, key)
        return self.produce_async(topic, None, key=key, headers=headers, partition=partition)

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

    def post_many(self, letters: Sequence[Letter], by: float = NEVER) -> list[Handle]:
        """Send what `Producer.letters` made; as `Producer.post_many` does, which waits for room until `by`."""
        with self._gate:
            self._check()
            handles = self._pipe.post_many(letters, by)
            refused = [one.error for one in handles if one.error is not None]
            self.count += len(letters) - len(refused)
            self.refused = self.refused or next(iter(refused), None)
        return handles

    def keep(
        self, offsets: Mapping[Place, Kept], member: object, by: float, stopped: Callable[[], object] = bool
    ) -> None:
        """`commit_offsets` in the engine's words; not tried again once it is `stopped`."""
        try:
            with self._owner.stepping:
                self._check()
                take(partial(self.transactor.add_offsets, offsets, member), by, stopped=stopped)
        except Unsettled as unsettled:
            if unsettled.remedy is Remedy.FENCED:
                raise self._owner.given_up(self, unsettled, "its offsets were not taken") from unsettled
            raise TransactionError(
                f"offsets were not taken into the transaction: {unsettled} ({unsettled.code})",
                retriable=unsettled.passes,
            ) from unsettled

    @property
    def transactor(self) -> Transactor:
        return cast("Transactor", self._poller.client)

    @property
    def poller(self) -> Poller:
        return self._poller

    @property
    def over(self) -> str:
        """Why nothing can be sent by it any more; empty while it can."""
        return self._over

    def end(self, reason: str) -> None:
        """From here on nothing goes to the client by it."""
        with self._gate:
            self._over = self._over or reason

    @property
    def failed(self) -> DeliveryError | None:
        """Why a message of it was not delivered; None if none is known to have failed."""
        return self._poller.last_error if self._poller.failures > self._failures else None

    def leave_behind(self) -> None:
        """This is a child, after a fork: a thread of the parent's may hold the gate."""
        self._gate = Lock()
        self._over = self._over or "the process was forked: it is the parent's"

    def _check(self) -> None:
        if self._over:
            raise TransactionError(f"this transaction is over: {self._over}", retriable=False)
        if self._poller.over:
            raise TransactionError(self._poller.over, retriable=True)


class Transactions:
    """See the module. Any thread. `pipe` sends."""

    def __init__(self, transactional_id: str, pipe: Pipe, events: Events) -> None:
        self._id = transactional_id
        self._pipe = pipe
        self._events = events
        self._turn = Lock()
        #: Held while a step is taken: the client takes one at a time.
        self.stepping = Lock()
        self._open: Transaction | None = None
        self._owner: object = None
        self._since = 0.0
        # The last one's, whose client may have heard since that another has taken over.
        self._last: Transaction | None = None
        self._fenced = ""
        self._closed = ""

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
        opening = aside(ASIDE, self._opened, by, task)
        begun = asyncio.wrap_future(opening)
        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(asyncio.Future.exception)  # asked for, so that asyncio does not tell of it
            aside(ASIDE, self._drop, opening)  # nobody will end it who has not got it
            raise

    def _drop(self, opening: Future[Transaction]) -> None:
        if opening.exception() is None:
            self.abort(opening.result(), "cancelled")

    def _refuse(self, caller: object) -> None:
        if self._owner == caller:
            raise ConfigError(
                f"a transaction of {self._id!r} is begun inside another: send by the one that is open, or end it first"
            )
        self._refuse_for_good()

    def _refuse_for_good(self) -> None:
        if self._last is not None and self._last.transactor.fenced:
            self._fenced = self._fenced or self._said_fenced
        if self._fenced:
            raise FencedError(self._fenced)
        if self._closed:
            raise ProducerClosedError(self._closed)

    @property
    def _said_fenced(self) -> str:
        return (
            f"another producer has taken over the transactional.id {self._id!r}: what this one sends counts no more. "
            "Each live producer needs an id of its own; make a new Producer only if this one is to go on"
        )

    def _taken(self, timeout: float) -> TransactionError:
        said = f"another transaction of {self._id!r} has been open for {timeout:g} s"
        return TransactionError(said, retriable=True)

    def _opened(self, by: float, caller: object) -> Transaction:
        """With the turn, which it gives back where it fails."""
        try:
            self._refuse_for_good()  # what happened while the turn was waited for
            opened = self._last = Transaction(self, self._pipe, self._pipe.renewed(by))
            try:
                with self.stepping:
                    take(lambda _left: opened.transactor.begin(), by)
            except Unsettled as unsettled:
                raise self.given_up(opened, unsettled, "not begun") from unsettled
            except BaseException:
                opened.poller.end(f"a beginning of {self._id!r} was interrupted")  # nobody knows whether one is open
                raise
        except BaseException:
            self._turn.release()
            raise
        self._open, self._owner, self._since = opened, caller, time.monotonic()
        self._events.tell(TransactionBegun(transactional_id=self._id))
        return opened

    def commit(self, opened: Transaction, timeout: float = TIMEOUT) -> None:
        """All that was sent is confirmed, and committed; else it is aborted. Raises `TransactionError`."""
        by = time.monotonic() + timeout
        over = opened.over
        opened.end("it is being committed")
        try:
            with self.stepping:
                self._commit(opened, over, by)
            elapsed = time.monotonic() - self._since
            self._events.tell(TransactionCommitted(transactional_id=self._id, count=opened.count, elapsed=elapsed))
        except TransactionError:
            raise
        except BaseException:
            # Nobody knows how far it came: another client's beginning brings it to its end.
            opened.poller.end(f"a commit of {self._id!r} was interrupted")
            raise
        finally:
            self._release(opened)

    def _commit(self, opened: Transaction, over: str, by: float) -> None:
        if over:
            if self._open is opened:
                self._abort(opened, over, by)
            raise TransactionError(f"a transaction of {self._id!r} was not committed: {over}", retriable=False)
        if opened.refused is not None:
            self._abort(opened, str(opened.refused), by)
            said = f"a transaction of {self._id!r} was aborted: {opened.refused}"
            raise TransactionError(said, retriable=opened.refused.retriable) from opened.refused
        try:
            opened.poller.flush(max(0.0, by - time.monotonic()))
            if opened.poller.over:  # it was not asked to commit
                self._abort(opened, opened.poller.over, by)
                raise self.given_up(opened, Unsettled(Remedy.END, "", opened.poller.over), "not committed")
            take(opened.transactor.commit, by)
        except Unsettled as unsettled:
            if unsettled.remedy is not Remedy.ABORT:
                raise self.given_up(opened, unsettled, "whether it is committed is not known", unknown=True) from None
            cause, why = opened.failed or unsettled, opened.failed or f"{unsettled} ({unsettled.code})"
            self._abort(opened, str(why), by)
            retriable = unsettled.passes and (opened.failed is None or opened.failed.retriable)
            raise TransactionError(f"a transaction of {self._id!r} was aborted: {why}", retriable=retriable) from cause

    def abort(self, opened: Transaction, reason: str, timeout: float = TIMEOUT) -> None:
        """Nothing of it is ever seen. Where that cannot be said to the brokers the client is given up: they abort it
        when another one takes over, or its time is over. Raises nothing; nothing if it was ended already.
        """
        opened.end("it was aborted")
        try:
            with self.stepping:
                if self._open is opened:
                    self._abort(opened, reason, time.monotonic() + timeout)
        except BaseException:
            opened.poller.end(f"an abort of {self._id!r} was interrupted")
            raise
        finally:
            self._release(opened)

    def close(self, reason: str, timeout: float) -> None:
        """Abort what is open, unless it is just being committed, and begin nothing more."""
        self._closed = reason
        opened = self._open
        if opened is None:
            return
        opened.end(reason)
        if self.stepping.acquire(timeout=max(0.0, timeout)):
            try:
                if self._open is opened:
                    self._open = None  # whoever ends it finds it ended
                    self._abort(opened, reason, time.monotonic() + max(STEP, timeout))
            finally:
                self.stepping.release()

    def leave_behind(self) -> None:
        """This is a child, after a fork: what is open is the parent's, and so are the locks that its threads held."""
        self._turn, self.stepping = Lock(), Lock()
        self._open = self._owner = None
        if self._last is not None:
            self._last.leave_behind()

    def _abort(self, opened: Transaction, reason: str, by: float) -> None:
        failed = opened.failed
        try:
            take(opened.transactor.abort, by)
        except Unsettled as unsettled:
            self.given_up(opened, unsettled, "not aborted")
        if failed is not None:
            # The brokers miss its number in the sequence, and would refuse the next transaction (seen with librdkafka
            # 2.16 on Kafka 4.3: OUT_OF_ORDER_SEQUENCE_NUMBER); another client begins a sequence of its own.
            opened.poller.end("a message of its transaction was not delivered", quiet=True)
        elapsed = time.monotonic() - self._since
        self._events.tell(
            TransactionAborted(transactional_id=self._id, count=opened.count, elapsed=elapsed, error=reason)
        )

    def given_up(
        self, opened: Transaction, unsettled: Unsettled, said: str, *, unknown: bool = False
    ) -> TransactionError:
        """The client is of no more use, or nobody knows: the next transaction gets another one."""
        fenced = unsettled.remedy is Remedy.FENCED or opened.transactor.fenced
        reason = f"a transaction of {self._id!r}: {said}: {unsettled} ({unsettled.code})"
        opened.poller.end(reason)
        if fenced:
            self._fenced = self._said_fenced
            return FencedError(self._fenced)
        return TransactionError(reason, retriable=not unknown, unknown=unknown)

    def _release(self, opened: Transaction) -> None:
        """By whoever ends it, once."""
        opened.end("it has ended")
        if self._last is opened and self._owner is not None:
            self._open = self._owner = None
            self._turn.release()


class Opening:
    """`with` or `async with` it: a transaction, committed at the end, aborted when the block raises.

    Each takes `timeout` seconds at most, and none goes on after `by`.
    """

    def __init__(self, transactions: Transactions, timeout: float, by: float = NEVER) -> None:
        self._transactions = transactions
        self._timeout = timeout
        self._by = by
        self._opened: Transaction | None = None

    def __enter__(self) -> Transaction:
        refuse_in_loop("with producer.transaction()", "async with producer.transaction()")
        self._opened = opened = self._transactions.begin(self._left)
        return opened

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._opened is not None  # noqa: S101 - entered before it is left
        if error is None:
            self._transactions.commit(self._opened, self._left)
            return False
        self._transactions.abort(self._opened, f"{type(error).__name__}: {words(error)}", self._left)
        return isinstance(error, Aborted)

    async def __aenter__(self) -> Transaction:
        self._opened = opened = await self._transactions.begin_async(self._left)
        return opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        ending = asyncio.wrap_future(aside(ASIDE, self.__exit__, kind, error, trace))
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            # It comes to its end all the same, before the caller goes on.
            with suppress(TransactionError):
                await asyncio.shield(ending)
            raise

    @property
    def _left(self) -> float:
        return min(self._timeout, max(0.0, self._by - time.monotonic()))


def take(
    step: Callable[[float], object], by: float, *, most: float = STEP, stopped: Callable[[], object] = bool
) -> None:
    """Take a step of a transaction, again and again where that may help, until `by`, or until it is `stopped`; one try
    takes `most` seconds. Raises `Unsettled`.
    """
    while True:
        left = by - time.monotonic()
        try:
            step(max(0.0, min(most, left)))
        except Unsettled as unsettled:
            if unsettled.remedy is not Remedy.AGAIN or left <= 0 or stopped():
                raise
            time.sleep(PAUSE)
        else:
            return
