"""A transaction is committed or aborted, whatever its steps answer, and in bounded time; who is left goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from threading import Event, get_ident
from typing import Any, TypeVar

import pytest

from karafka.client import Kept, Remedy, Unsettled
from karafka.delivery import Failure, Handle
from karafka.errors import (
    ClientFailedError,
    ConfigError,
    DeliveryError,
    FencedError,
    InvalidMessageError,
    PartlyDeliveredError,
    ProducerClosedError,
    TransactionError,
)
from karafka.events import (
    DeliveryFailed,
    ProducerReplaced,
    TransactionAborted,
    TransactionBegun,
    TransactionCommitted,
)
from karafka.events import Event as Happening
from karafka.messages import Place
from karafka.producer import TRY, Producer
from karafka.transactions import PAUSE, STEP, Transaction, take
from tests.unit.house import until
from tests.unit.notary import Notary, Register, unsettled
from tests.unit.post import BROKEN, LATE, REFUSED, Passing, poller_of, turn

E = TypeVar("E", bound=BaseException)
# Returns once what was begun on another thread waits for its turn.
Waits = Callable[[Future[Any]], Future[Any]]

AGAIN, ABORT, FENCED, END = Remedy.AGAIN, Remedy.ABORT, Remedy.FENCED, Remedy.END
MEMBER = object()


@pytest.fixture
def producer(register: Register) -> Producer:
    return register.producer()


@pytest.fixture
def told(producer: Producer) -> list[Happening]:
    """What it tells, of single messages nothing but failures."""
    heard: list[Happening] = []
    for kind in (TransactionBegun, TransactionCommitted, TransactionAborted, DeliveryFailed, ProducerReplaced):
        producer.events.on(kind, heard.append)
    return heard


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def names(told: list[Happening]) -> list[str]:
    return [type(one).__name__ for one in told]


def send(producer: Producer, *payloads: str, topic: str = "orders", timeout: float = 60.0) -> None:
    """A transaction of its own."""
    with producer.transaction(timeout) as transaction:
        for payload in payloads:
            transaction.produce_async(topic, payload)


def refused(error: type[E], body: Callable[[], object], said: str | None = None) -> E:
    with pytest.raises(error, match=said) as raised:
        body()
    return raised.value


@contextmanager
def interrupted(error: type[BaseException]) -> Iterator[None]:
    with pytest.raises(error):
        yield


def goes_on(producer: Producer, register: Register, *, clients: int) -> None:
    """The very next transaction is committed, by the last of so many clients."""
    before = register.payloads
    send(producer, "goes on")
    assert register.payloads == [*before, "goes on"]
    assert len(register.clients) == clients


# ── the block ────────────────────────────────────────────────────────────────────────────────────────────────────


class TestBlock:
    """Committed where it ends, aborted where it raises."""

    def test_at_its_end_it_is_committed(self, producer: Producer, register: Register) -> None:
        """Until then nothing is seen, though the broker has it."""
        with producer.transaction() as transaction:
            handles = [transaction.produce_async("orders", str(number)) for number in range(3)]
            register.clients[0].serve(0)
            assert [one.error for one in handles if one.done] == [None] * 3
            assert register.seen == []

        assert register.payloads == ["0", "1", "2"]
        assert register.steps == ["ready", "begin", "commit"]

    def test_the_next_goes_by_the_same_client(self, producer: Producer, register: Register) -> None:
        """Its id is taken over once."""
        for payload in "abc":
            send(producer, payload)

        assert register.payloads == ["a", "b", "c"]
        assert register.steps == ["ready", *["begin", "commit"] * 3]

    @pytest.mark.parametrize("error", [ZeroDivisionError("mine"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
    def test_what_it_raises_aborts_it_and_goes_on(
        self, producer: Producer, register: Register, error: BaseException
    ) -> None:
        """As it was: an interrupt and an exit too."""

        def body() -> None:
            with producer.transaction() as transaction:
                transaction.produce_async("orders", "never")
                raise error

        assert refused(type(error), body) is error
        assert register.steps == ["ready", "begin", "abort"]
        assert register.seen == []
        goes_on(producer, register, clients=1)

    @pytest.mark.parametrize(("reason", "said"), [("not today", "not today"), ("", "asked for")])
    def test_abort_leaves_it_without_an_error(
        self, producer: Producer, register: Register, told: list[Happening], reason: str, said: str
    ) -> None:
        with producer.transaction() as transaction:
            transaction.produce_async("orders", "never")
            transaction.abort(reason)
            raise AssertionError("it went on behind the abort")

        assert register.seen == []
        (aborted,) = [one for one in told if isinstance(one, TransactionAborted)]
        assert said in aborted.error
        goes_on(producer, register, clients=1)

    def test_one_of_nothing_is_committed_too(self, producer: Producer, register: Register) -> None:
        send(producer)
        assert register.steps == ["ready", "begin", "commit"]

    def test_the_same_opening_may_be_entered_again(self, producer: Producer, register: Register) -> None:
        """One after the other: each time it is a transaction of its own."""
        opening = producer.transaction()
        for payload in "ab":
            with opening as transaction:
                transaction.produce_async("orders", payload)

        assert register.payloads == ["a", "b"]

    def test_without_an_id_there_is_none(self) -> None:
        """With what to write."""
        with Producer.recorder() as producer:
            refused(ConfigError, producer.transaction, r"no transactions.*transactional\.id")


# ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Step:
    """Answers each try as it was told beforehand, the last answer for ever; a try may take time."""

    def __init__(self, passing: Passing, *answers: Unsettled | None, takes: float = 0.0) -> None:
        self._passing, self._answers, self._takes = passing, list(answers), takes
        self.patience: list[float] = []

    def __call__(self, patience: float) -> None:
        self.patience.append(patience)
        self._passing.clock.advance(min(self._takes, patience))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is not None:
            raise answer


class TestTake:
    """A step is taken again where that may help, and no longer than it may."""

    def test_one_that_is_taken_is_taken_once(self, passing: Passing) -> None:
        step = Step(passing, None)
        take(step, passing.monotonic() + 60)

        assert step.patience == [STEP]

    def test_one_that_may_pass_is_tried_again_after_a_pause(self, passing: Passing) -> None:
        began = passing.monotonic()
        step = Step(passing, unsettled(AGAIN), unsettled(AGAIN), None)
        take(step, began + 60)

        assert step.patience == [STEP] * 3
        assert passing.monotonic() - began == pytest.approx(2 * PAUSE)

    def test_it_is_given_up_when_its_time_is_over(self, passing: Passing) -> None:
        """With the last answer; a try takes no more than there is left."""
        began = passing.monotonic()
        step = Step(passing, unsettled(AGAIN, "_FIRST"), unsettled(AGAIN, "_TIMED_OUT"), takes=STEP)
        said = refused(Unsettled, lambda: take(step, began + 25))

        assert said.code == "_TIMED_OUT"
        assert 25 <= passing.monotonic() - began < 25 + 2 * PAUSE
        assert max(step.patience) == STEP
        assert sum(step.patience) <= 25

    def test_a_try_takes_no_longer_than_most(self, passing: Passing) -> None:
        step = Step(passing, None)
        take(step, passing.monotonic() + 60, most=0.5)

        assert step.patience == [0.5]

    def test_once_it_is_tried_even_where_there_is_no_time(self, passing: Passing) -> None:
        """It may be done in no time; an abort that is not said leaves readers waiting."""
        step = Step(passing, unsettled(AGAIN))
        refused(Unsettled, lambda: take(step, passing.monotonic() - 5))

        assert step.patience == [0.0]

    @pytest.mark.parametrize("remedy", [ABORT, FENCED, END])
    def test_what_another_try_cannot_help_is_raised_at_once(self, passing: Passing, remedy: Remedy) -> None:
        began = passing.monotonic()
        step = Step(passing, unsettled(remedy), None)
        said = refused(Unsettled, lambda: take(step, began + 60))

        assert (said.remedy, len(step.patience), passing.monotonic()) == (remedy, 1, began)

    def test_once_it_is_stopped_it_is_tried_no_more(self, passing: Passing) -> None:
        began = passing.monotonic()
        step = Step(passing, unsettled(AGAIN))
        refused(Unsettled, lambda: take(step, began + 60, stopped=lambda: len(step.patience) == 3))

        assert len(step.patience) == 3
        assert passing.monotonic() - began == pytest.approx(2 * PAUSE)

    def test_one_that_succeeds_as_it_is_stopped_has_succeeded(self, passing: Passing) -> None:
        take(Step(passing, None), passing.monotonic() + 60, stopped=lambda: True)

    def test_what_is_no_answer_goes_on(self, passing: Passing) -> None:
        """A mistake, an interrupt: not tried again."""

        def mistaken(_patience: float) -> None:
            raise TypeError

        refused(TypeError, lambda: take(mistaken, passing.monotonic() + 60))


# ── its beginning ────────────────────────────────────────────────────────────────────────────────────────────────


class TestBeginning:
    """The id is taken over, once; where that fails nobody's turn is lost."""

    def test_the_id_is_taken_over_in_short_tries(self, producer: Producer, register: Register) -> None:
        """So that a close is not late."""
        register.before["ready"].extend([unsettled(AGAIN)] * 3)
        send(producer, "x")

        assert register.steps == [*["ready"] * 4, "begin", "commit"]
        assert register.patience[:4] == [TRY] * 4
        assert len(register.clients) == 1

    def test_no_longer_than_asked(self, producer: Producer, register: Register, passing: Passing) -> None:
        """The client that could not is let go; the next attempt makes another."""
        began = passing.monotonic()
        register.before["ready"].extend([unsettled(AGAIN, "_TIMED_OUT")] * 1_000)
        failed = refused(TransactionError, partial(send, producer, "never", timeout=3), "could not be taken over")

        assert (failed.retriable, failed.unknown) == (True, False)
        assert "_TIMED_OUT" in str(failed)
        assert 3 <= passing.monotonic() - began < 4
        assert [one.closed for one in register.clients] == [True]
        register.before["ready"].clear()
        goes_on(producer, register, clients=2)

    @pytest.mark.parametrize("remedy", [END, ABORT])
    def test_an_id_that_cannot_be_taken_over_is_said_at_once(
        self, producer: Producer, register: Register, passing: Passing, remedy: Remedy
    ) -> None:
        """Such as for want of a right."""
        began = passing.monotonic()
        register.before["ready"].append(unsettled(remedy, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"))
        failed = refused(TransactionError, partial(send, producer, "never"), "TRANSACTIONAL_ID_AUTHORIZATION_FAILED")

        assert (failed.retriable, passing.monotonic()) == (False, began)
        assert [one.closed for one in register.clients] == [True]
        goes_on(producer, register, clients=2)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
    def test_interrupted_as_the_id_is_taken_over(
        self, producer: Producer, register: Register, error: BaseException
    ) -> None:
        """Nobody's turn is lost with it, nor a client kept."""
        register.before["ready"].append(error)
        refused(type(error), partial(send, producer, "never"))

        assert [one.closed for one in register.clients] == [True]
        goes_on(producer, register, clients=2)

    def test_a_client_that_begins_nothing_is_given_up(
        self, producer: Producer, register: Register, told: list[Happening]
    ) -> None:
        """Nothing was sent: the same work may be done again."""
        register.before["begin"].append(unsettled(END, "_STATE"))
        failed = refused(TransactionError, partial(send, producer, "never"), r"'shop-1': not begun: .*\(_STATE\)")

        assert (failed.retriable, failed.unknown) == (True, False)
        assert names(told) == ["ProducerReplaced"]
        goes_on(producer, register, clients=2)

    def test_a_beginning_that_may_pass_is_tried_again(self, producer: Producer, register: Register) -> None:
        register.before["begin"].extend([unsettled(AGAIN)] * 2)
        send(producer, "x")

        assert register.steps == ["ready", "begin", "begin", "begin", "commit"]

    def test_who_is_fenced_there_is_so_for_good(self, producer: Producer, register: Register) -> None:
        """No client is made that would take the id back."""
        register.before["begin"].append(unsettled(FENCED))
        for _ in range(2):
            failed = refused(FencedError, partial(send, producer, "never"), "taken over the transactional.id 'shop-1'")
            assert (failed.retriable, failed.unknown) == (False, False)

        assert len(register.clients) == 1
        assert register.steps == ["ready", "begin"]

    def test_what_the_client_has_heard_since_counts(self, producer: Producer, register: Register) -> None:
        """Between two transactions: the next is refused before it begins."""
        send(producer, "mine")
        register.clients[0].fenced = True
        refused(FencedError, partial(send, producer, "never"))

        assert register.steps == ["ready", "begin", "commit"]

    def test_another_producer_of_the_id_takes_it_over(self, producer: Producer, register: Register) -> None:
        """What the first has open is aborted."""
        with interrupted(FencedError), producer.transaction() as transaction:
            transaction.produce_async("orders", "left")
            send(register.producer(), "theirs")

        assert register.payloads == ["theirs"]
        refused(FencedError, partial(send, producer, "never"))


class Turn:
    """A producer's turn, that says how many wait for it."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.waiting = 0
        self.release = lock.release

    def acquire(self, **options: Any) -> bool:
        self.waiting += 1
        try:
            return bool(self._lock.acquire(**options))
        finally:
            self.waiting -= 1


@pytest.fixture
def waits(producer: Producer) -> Waits:
    """Returns once what was begun on another thread waits for its turn."""
    transactions: Any = producer.transactions
    transactions._turn = watched = Turn(transactions._turn)

    def waiting(future: Future[Any]) -> Future[Any]:
        assert until(lambda: watched.waiting == 1)
        assert not future.done()
        return future

    return waiting


class TestTurns:
    """One is open at a time: others wait for it, no longer than asked."""

    def test_another_thread_is_told_when_its_time_is_up(
        self, producer: Producer, register: Register, aside: ThreadPoolExecutor
    ) -> None:
        with producer.transaction() as transaction:
            transaction.produce_async("orders", "mine")
            late = aside.submit(refused, TransactionError, partial(send, producer, "theirs", timeout=0), "open for 0 s")
            assert late.result(10).retriable

        assert register.payloads == ["mine"]

    def test_another_thread_has_its_turn_afterwards(
        self, producer: Producer, register: Register, waits: Waits, aside: ThreadPoolExecutor
    ) -> None:
        with producer.transaction() as transaction:
            transaction.produce_async("orders", "mine")
            waiting = waits(aside.submit(send, producer, "theirs"))
        waiting.result(10)

        assert register.payloads == ["mine", "theirs"]

    def test_one_inside_another_is_refused_at_once(self, producer: Producer, register: Register) -> None:
        """It would wait for itself; the one that is open is none the worse."""
        with producer.transaction() as transaction:
            refused(ConfigError, partial(send, producer, "inside"), "'shop-1' is begun inside another")
            refused(ConfigError, lambda: producer.produce_sync("orders", "inside"), "inside another")
            transaction.produce_async("orders", "mine")

        assert register.payloads == ["mine"]

    def test_who_waited_is_told_that_it_is_closed(
        self, producer: Producer, register: Register, waits: Waits, aside: ThreadPoolExecutor
    ) -> None:
        with interrupted(TransactionError), producer.transaction():
            waiting = waits(aside.submit(refused, ProducerClosedError, partial(send, producer, "theirs")))
            producer.close()
        waiting.result(10)

        assert register.seen == []

    def test_who_waited_is_told_that_it_is_fenced(
        self, producer: Producer, register: Register, waits: Waits, aside: ThreadPoolExecutor
    ) -> None:
        with interrupted(FencedError), producer.transaction():
            waiting = waits(aside.submit(refused, FencedError, partial(send, producer, "theirs")))
            send(register.producer(), "another's")
        waiting.result(10)

        assert register.payloads == ["another's"]

    def test_who_asks_while_one_is_open_that_is_fenced_need_not_wait(
        self, producer: Producer, register: Register, aside: ThreadPoolExecutor
    ) -> None:
        """There is nothing to wait for."""
        with interrupted(FencedError), producer.transaction():
            send(register.producer(), "another's")
            register.clients[0].fenced = True
            aside.submit(refused, FencedError, partial(send, producer, "theirs")).result(5)

    def test_a_message_that_is_waited_for_is_a_transaction(self, producer: Producer, register: Register) -> None:
        """And so are many."""
        delivery = producer.produce_sync("orders", "one")
        many = producer.produce_many_sync([{"topic": "orders", "payload": "two"}, {"topic": "clicks", "payload": "3"}])

        assert (delivery.offset, [one.topic for one in many]) == (0, ["orders", "clicks"])
        assert register.steps == ["ready", *["begin", "commit"] * 2]
        assert register.payloads == ["one", "two", "3"]

    def test_of_many_that_are_waited_for_none_is_seen_if_one_fails(
        self, producer: Producer, register: Register
    ) -> None:
        """It says of each what became of it."""
        register.dress = lambda one: one.refusing.update(clicks=REFUSED)
        failed = refused(
            PartlyDeliveredError,
            lambda: producer.produce_many_sync([{"topic": topic, "payload": "x"} for topic in ("orders", "clicks")]),
        )

        assert [isinstance(one, DeliveryError) for one in failed.results] == [False, True]
        assert register.steps[-1] == "abort"
        assert register.seen == []


# ── its end ──────────────────────────────────────────────────────────────────────────────────────────────────────


class TestCommitting:
    """What cannot be committed is aborted where that is possible, and said as it is."""

    def test_one_that_may_pass_is_tried_again(self, producer: Producer, register: Register) -> None:
        register.before["commit"].extend([unsettled(AGAIN)] * 3)
        send(producer, "x")

        assert register.steps == ["ready", "begin", *["commit"] * 4]
        assert register.payloads == ["x"]
        goes_on(producer, register, clients=1)

    def test_when_its_time_is_over_nobody_knows(
        self, producer: Producer, register: Register, passing: Passing, told: list[Happening]
    ) -> None:
        """It says so, and the client is given up: what it has asked for comes to its end by another's beginning."""
        began = passing.monotonic()
        register.before["commit"].extend([unsettled(AGAIN, "_TIMED_OUT")] * 1_000)
        failed = refused(TransactionError, partial(send, producer, "x", timeout=5), "not known: .*_TIMED_OUT")

        assert (failed.retriable, failed.unknown) == (False, True)
        assert 5 <= passing.monotonic() - began < 6
        assert names(told) == ["TransactionBegun", "ProducerReplaced"]
        register.before["commit"].clear()
        goes_on(producer, register, clients=2)

    def test_a_client_that_is_of_no_more_use_leaves_it_unknown(self, producer: Producer, register: Register) -> None:
        """It had been asked for."""
        register.after["commit"].append(unsettled(END, "_FATAL"))
        failed = refused(TransactionError, partial(send, producer, "x"))

        assert (failed.retriable, failed.unknown) == (False, True)
        assert "abort" not in register.steps
        goes_on(producer, register, clients=2)

    @pytest.mark.parametrize("passes", [True, False])
    def test_one_that_can_only_be_aborted_is(
        self, producer: Producer, register: Register, told: list[Happening], *, passes: bool
    ) -> None:
        """The reason is said, and whether the same work may succeed; the client is as good as before."""
        register.before["commit"].append(unsettled(ABORT, "INVALID_TXN_STATE", passes=passes))
        failed = refused(TransactionError, partial(send, producer, "never"), r"was aborted: .*\(INVALID_TXN_STATE\)")

        assert (failed.retriable, failed.unknown) == (passes, False)
        assert names(told) == ["TransactionBegun", "TransactionAborted"]
        assert register.steps[-1] == "abort"
        assert register.seen == []
        goes_on(producer, register, clients=1)

    @pytest.mark.parametrize("failure", [REFUSED, LATE])
    def test_one_message_that_failed_aborts_all(
        self, producer: Producer, register: Register, told: list[Happening], failure: Failure
    ) -> None:
        """The error is that message's; the next goes by another client, whose sequence begins anew, without a word."""
        register.dress = lambda one: one.refusing.update(clicks=failure)

        def body() -> None:
            with producer.transaction() as transaction:
                transaction.produce_async("orders", "good")
                transaction.produce_async("clicks", "bad", key="the bad one")

        failed = refused(TransactionError, body, "the bad one")
        assert (failed.retriable, failed.unknown) == (failure.retriable, False)
        assert isinstance(failed.__cause__, DeliveryError)
        assert register.seen == []
        assert names(told) == ["TransactionBegun", "DeliveryFailed", "TransactionAborted"]
        goes_on(producer, register, clients=2)

    def test_a_failure_of_the_one_before_is_not_its(self, producer: Producer, register: Register) -> None:
        """Each is judged by its own messages."""
        register.dress = lambda one: one.refusing.update(clicks=REFUSED)
        refused(TransactionError, partial(send, producer, "bad", topic="clicks"))
        register.before["commit"].append(unsettled(ABORT, "OTHER"))
        failed = refused(TransactionError, partial(send, producer, "good"))

        assert "clicks" not in str(failed)
        assert "OTHER" in str(failed)

    @pytest.mark.parametrize("remedy", [END, AGAIN])
    def test_one_that_cannot_even_be_aborted_leaves_its_client(
        self, producer: Producer, register: Register, remedy: Remedy
    ) -> None:
        """The brokers abort it when another takes over."""
        register.before["commit"].append(unsettled(ABORT))
        register.before["abort"].extend([unsettled(remedy)] * 5_000)
        failed = refused(TransactionError, partial(send, producer, "never"), "was aborted")

        assert not failed.unknown
        register.before["abort"].clear()
        goes_on(producer, register, clients=2)

    def test_who_is_fenced_there_is_so_for_good(self, producer: Producer, register: Register) -> None:
        register.before["commit"].append(unsettled(FENCED))
        for _ in range(2):
            assert not refused(FencedError, partial(send, producer, "never")).retriable

        assert register.seen == []
        assert register.steps == ["ready", "begin", "commit"]

    def test_what_the_client_knows_of_a_rival_is_said(self, producer: Producer, register: Register) -> None:
        """Though the step was answered with something else."""
        register.meanwhile["commit"] = lambda: setattr(register.clients[0], "fenced", True)
        register.before["commit"].append(unsettled(END, "_FATAL"))

        refused(FencedError, partial(send, producer, "never"))

    def test_what_is_not_confirmed_in_time_is_not_waited_for_longer(
        self, producer: Producer, register: Register, passing: Passing
    ) -> None:
        register.dress = lambda one: setattr(one, "open", False)
        began = passing.monotonic()
        failed = refused(TransactionError, partial(send, producer, "x", timeout=5))

        assert failed.unknown
        assert 5 <= passing.monotonic() - began < 6
        register.dress = bool
        goes_on(producer, register, clients=2)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_interrupted_there_its_client_is_given_up(
        self, producer: Producer, register: Register, told: list[Happening], error: BaseException, when: str
    ) -> None:
        """Nobody knows how far it came: the next transaction is not refused for what was left behind."""
        getattr(register, when)["commit"].append(error)
        refused(type(error), partial(send, producer, "x"))

        assert register.payloads == (["x"] if when == "after" else [])
        assert names(told) == ["TransactionBegun", "ProducerReplaced"]
        goes_on(producer, register, clients=2)


class TestAborting:
    """Nothing of it is seen, and nothing is raised by that itself."""

    def raising(self, producer: Producer) -> None:
        with interrupted(ZeroDivisionError), producer.transaction() as transaction:
            transaction.produce_async("orders", "never")
            raise ZeroDivisionError

    def test_one_that_may_pass_is_tried_again(self, producer: Producer, register: Register) -> None:
        register.before["abort"].extend([unsettled(AGAIN)] * 3)
        self.raising(producer)

        assert register.steps == ["ready", "begin", *["abort"] * 4]
        goes_on(producer, register, clients=1)

    @pytest.mark.parametrize("remedy", [AGAIN, ABORT, END])
    def test_one_that_cannot_be_said_leaves_its_client(
        self, producer: Producer, register: Register, told: list[Happening], remedy: Remedy
    ) -> None:
        """What was raised goes on all the same, and it is told as aborted: nothing of it can be committed."""
        register.before["abort"].extend([unsettled(remedy)] * 5_000)
        self.raising(producer)

        assert "TransactionAborted" in names(told)
        assert register.seen == []
        register.before["abort"].clear()
        goes_on(producer, register, clients=2)

    def test_who_is_fenced_there_hears_so_the_next_time(self, producer: Producer, register: Register) -> None:
        register.before["abort"].append(unsettled(FENCED))
        self.raising(producer)

        refused(FencedError, partial(send, producer, "never"))
        assert register.steps == ["ready", "begin", "abort"]

    def test_interrupted_there_nobodys_turn_is_lost(self, producer: Producer, register: Register) -> None:
        register.after["abort"].append(KeyboardInterrupt())
        with interrupted(KeyboardInterrupt), producer.transaction():
            raise ZeroDivisionError
        send(producer, "goes on")

        assert register.payloads == ["goes on"]

    def test_what_is_on_its_way_ends_as_aborted(
        self, producer: Producer, register: Register, told: list[Happening], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Which is what was wanted: no failure that anybody is told of."""
        register.dress = lambda one: setattr(one, "open", False)
        handles: list[Handle] = []
        with producer.transaction() as transaction:
            handles.append(transaction.produce_async("orders", "never"))
            transaction.abort()
        turn(producer.pipe)

        assert "aborted" in str(handles[0].error)
        assert "DeliveryFailed" not in names(told)
        assert producer.statistics().failed == 0
        assert caplog.records == []

    def test_what_has_ended_is_not_aborted(self, producer: Producer, register: Register) -> None:
        """Late, by whoever comes too late with it: not the next one either."""
        with producer.transaction() as first:
            pass
        transactions = producer.transactions
        assert transactions is not None
        with producer.transaction() as second:
            second.produce_async("orders", "second")
            transactions.abort(first, "late")

        assert "abort" not in register.steps
        assert register.payloads == ["second"]


# ── what is sent by it ───────────────────────────────────────────────────────────────────────────────────────────


def sends(transaction: Transaction) -> list[Callable[[], object]]:
    """The ways to send by it."""
    return [
        lambda: transaction.produce_async("orders", "late"),
        lambda: transaction.produce_many_async([{"topic": "orders", "payload": "late"}]),
        lambda: transaction.tombstone("orders", "late"),
        lambda: transaction.commit_offsets({("orders", 0): 1}, MEMBER),
    ]


class TestSending:
    """By the transaction that is open, and in no other way."""

    @pytest.mark.parametrize("ending", ["committed", "aborted", "raised", "failed"])
    def test_one_that_is_over_takes_nothing(self, producer: Producer, register: Register, ending: str) -> None:
        """Not into the next one either."""
        kept: list[Transaction] = []
        if ending == "failed":
            register.before["commit"].append(unsettled(ABORT))
        with suppress(ZeroDivisionError, TransactionError), producer.transaction() as transaction:
            kept.append(transaction)
            if ending == "aborted":
                transaction.abort()
            if ending == "raised":
                raise ZeroDivisionError
        with producer.transaction() as second:
            for late in sends(kept[0]):
                assert not refused(TransactionError, late, "is over: it ").retriable
            second.produce_async("orders", "second")

        assert register.payloads == ["second"]
        assert register.kept == {}
        assert kept[0].over

    @pytest.mark.parametrize("ending", ["commit", "abort"])
    def test_one_that_is_ending_takes_nothing(self, producer: Producer, register: Register, ending: str) -> None:
        """Another thread's message would be in it, or not, by chance."""
        kept: list[Transaction] = []
        late: list[TransactionError] = []

        def in_the_midst() -> None:
            late.append(refused(TransactionError, lambda: kept[0].produce_async("orders", "late"), "is over: it "))

        register.meanwhile[ending] = in_the_midst
        with producer.transaction() as transaction:
            kept.append(transaction)
            if ending == "abort":
                transaction.abort()

        assert (len(late), register.seen) == (1, [])

    def test_outside_of_it_nothing_is_sent(self, producer: Producer, register: Register) -> None:
        """In words that say how; also while one is open."""
        ways: list[Callable[[], object]] = [
            lambda: producer.produce_async("orders", "outside"),
            lambda: producer.produce_many_async([{"topic": "orders", "payload": "outside"}]),
            lambda: producer.tombstone("orders", "outside"),
        ]
        for way in ways:
            refused(ConfigError, way, r"'shop-1'.*with producer\.transaction\(\) as t")
        with producer.transaction() as transaction:
            for way in ways:
                refused(ConfigError, way)
            transaction.produce_async("orders", "inside")

        assert register.payloads == ["inside"]

    def test_it_counts_what_it_sent(self, producer: Producer) -> None:
        """However; not what was refused."""
        with producer.transaction() as transaction:
            transaction.produce_async("orders", "1")
            transaction.produce_many_async([{"topic": "orders", "payload": "2"}] * 3)
            transaction.tombstone("orders", "k")
            refused(InvalidMessageError, lambda: transaction.produce_async("two words", "x"))
            refused(InvalidMessageError, lambda: transaction.tombstone("orders", ""))
            assert transaction.count == 5

    def test_of_many_one_that_cannot_be_sends_none(self, producer: Producer, register: Register) -> None:
        """And the transaction goes on."""
        with producer.transaction() as transaction:
            rows: Any = [{"topic": "orders", "payload": "1"}, {"topic": "orders", "payload": object()}]
            refused(InvalidMessageError, lambda: transaction.produce_many_async(rows))
            transaction.produce_async("orders", "alone")

        assert register.payloads == ["alone"]

    def test_a_client_that_dies_under_it_is_not_replaced_within(
        self, producer: Producer, register: Register, told: list[Happening]
    ) -> None:
        """Another one would send half of it: it is over, and may be done again from its beginning."""

        def body() -> None:
            with producer.transaction() as transaction:
                transaction.produce_async("orders", "first half")
                register.clients[0].die(silently=True)
                refused(ClientFailedError, lambda: transaction.produce_async("orders", "second half"))
                for again in sends(transaction):
                    assert refused(TransactionError, again, BROKEN.text[:12]).retriable
                raise ZeroDivisionError

        refused(ZeroDivisionError, body)
        assert register.seen == []
        assert names(told).count("ProducerReplaced") == 1
        goes_on(producer, register, clients=2)

    def test_one_whose_client_said_that_it_is_done_for_is_not_committed(
        self, producer: Producer, register: Register
    ) -> None:
        """Though its block never noticed."""

        def body() -> None:
            with producer.transaction() as transaction:
                transaction.produce_async("orders", "never")
                register.clients[0].die()
                turn(producer.pipe)
                poller_of_first.give_up("it has said so")
                register.clients[0].closed = True

        send(producer, "before")
        poller_of_first = poller_of(producer.pipe)
        refused(TransactionError, body)
        assert register.payloads == ["before"]
        goes_on(producer, register, clients=2)


class TestOffsets:
    """Committed with it, or not at all."""

    def test_both(self, producer: Producer, register: Register) -> None:
        """What was said last counts."""
        with producer.transaction() as transaction:
            transaction.commit_offsets({("in", 0): 1, ("in", 1): 7}, MEMBER)
            transaction.produce_async("orders", "x")
            transaction.commit_offsets({("in", 0): 2}, MEMBER)
            assert register.kept == {}

        assert register.kept == {Place("in", 0): Kept(2), Place("in", 1): Kept(7)}
        assert register.members == [MEMBER, MEMBER]

    def test_neither(self, producer: Producer, register: Register) -> None:
        with producer.transaction() as transaction:
            transaction.produce_async("orders", "x")
            transaction.commit_offsets({("in", 0): 2}, MEMBER)
            transaction.abort()

        assert (register.kept, register.seen) == ({}, [])

    def test_what_may_pass_is_tried_again(self, producer: Producer, register: Register) -> None:
        register.before["add_offsets"].extend([unsettled(AGAIN)] * 3)
        with producer.transaction() as transaction:
            transaction.commit_offsets({("in", 0): 2}, MEMBER)

        assert register.steps.count("add_offsets") == 4
        assert register.kept == {Place("in", 0): Kept(2)}

    def test_no_longer_than_asked(self, producer: Producer, register: Register, passing: Passing) -> None:
        register.before["add_offsets"].extend([unsettled(AGAIN)] * 1_000)

        def body() -> None:
            with producer.transaction() as transaction:
                transaction.commit_offsets({("in", 0): 2}, MEMBER, timeout=3)

        began = passing.monotonic()
        failed = refused(TransactionError, body, "offsets were not taken")
        assert failed.retriable
        assert 3 <= passing.monotonic() - began < 4
        assert register.steps[-1] == "abort"

    @pytest.mark.parametrize("remedy", [ABORT, END])
    def test_a_member_that_may_not_aborts_it(self, producer: Producer, register: Register, remedy: Remedy) -> None:
        """Such as one that was thrown out: another has its partitions, and does the work."""
        register.before["add_offsets"].append(unsettled(remedy, "ILLEGAL_GENERATION"))

        def body() -> None:
            with producer.transaction() as transaction:
                transaction.produce_async("orders", "never")
                transaction.commit_offsets({("in", 0): 2}, MEMBER)

        assert not isinstance(refused(TransactionError, body, "ILLEGAL_GENERATION"), FencedError)
        assert register.steps == ["ready", "begin", "add_offsets", "abort"]
        assert (register.kept, register.seen) == ({}, [])
        goes_on(producer, register, clients=1)

    def test_who_is_fenced_there_is_so_for_good(self, producer: Producer, register: Register) -> None:
        register.before["add_offsets"].append(unsettled(FENCED))

        def body() -> None:
            with producer.transaction() as transaction:
                transaction.commit_offsets({("in", 0): 2}, MEMBER)

        for _ in range(2):
            refused(FencedError, body)
        assert register.kept == {}

    def test_once_it_is_stopped_they_are_not_tried_again(
        self, producer: Producer, register: Register, passing: Passing
    ) -> None:
        """A partition that is being taken away does not wait for a broker."""
        register.before["add_offsets"].extend([unsettled(AGAIN)] * 1_000)
        stop = False

        def body() -> None:
            with producer.transaction() as transaction:
                transaction.keep({Place("in", 0): Kept(2)}, MEMBER, passing.monotonic() + 60, lambda: stop)

        def stopping() -> None:
            nonlocal stop
            stop = register.steps.count("add_offsets") == 3

        register.meanwhile["add_offsets"] = stopping
        refused(TransactionError, body)
        assert register.steps.count("add_offsets") == 3


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────


class TestEvents:
    """Each from begin to end, with its figures."""

    def test_committed(self, producer: Producer, told: list[Happening], passing: Passing) -> None:
        with producer.transaction() as transaction:
            transaction.produce_many_async([{"topic": "orders", "payload": "x"}] * 3)
            passing.wait(2)

        begun, committed = told
        assert isinstance(begun, TransactionBegun)
        assert isinstance(committed, TransactionCommitted)
        assert (begun.transactional_id, committed.transactional_id) == ("shop-1", "shop-1")
        assert committed.count == 3
        assert committed.elapsed == pytest.approx(2)

    def test_aborted(self, producer: Producer, told: list[Happening], passing: Passing) -> None:
        """With what was raised."""
        with interrupted(KeyError), producer.transaction() as transaction:
            transaction.produce_async("orders", "x")
            passing.wait(3)
            raise KeyError("which")

        begun, aborted = told
        assert isinstance(begun, TransactionBegun)
        assert isinstance(aborted, TransactionAborted)
        assert (aborted.transactional_id, aborted.count) == ("shop-1", 1)
        assert aborted.elapsed == pytest.approx(3)
        assert aborted.error == "KeyError: 'which'"

    def test_one_that_never_began_is_not_told(
        self, producer: Producer, register: Register, told: list[Happening]
    ) -> None:
        register.before["ready"].append(unsettled(END))
        refused(TransactionError, partial(send, producer, "never"))

        assert told == []

    def test_a_listener_that_raises_breaks_nothing(self, producer: Producer, register: Register) -> None:
        def raising(_event: Happening) -> None:
            raise RuntimeError

        for kind in (TransactionBegun, TransactionCommitted, TransactionAborted):
            producer.events.on(kind, raising)
        send(producer, "x")
        with producer.transaction() as transaction:
            transaction.abort()

        goes_on(producer, register, clients=1)
        assert producer.events.failures == 6


# ── closed ───────────────────────────────────────────────────────────────────────────────────────────────────────


class TestClosing:
    """What is open then is aborted, once; nothing begins any more."""

    def test_inside_the_block(self, producer: Producer, register: Register, told: list[Happening]) -> None:
        """It ends with the word that it was closed; what it sends then too."""

        def body() -> None:
            with producer.transaction() as transaction:
                transaction.produce_async("orders", "never")
                producer.close()
                assert register.steps == ["ready", "begin", "abort"]  # nobody knows when the block ends
                assert "closed" in transaction.over
                for late in sends(transaction):
                    refused(TransactionError, late, "closed")

        assert not refused(TransactionError, body, "not committed: the producer was closed").retriable
        assert names(told) == ["TransactionBegun", "TransactionAborted"]
        assert register.steps == ["ready", "begin", "abort"]
        assert register.seen == []

    def test_what_a_block_raises_that_was_closed_goes_on(self, producer: Producer, register: Register) -> None:
        def body() -> None:
            with producer.transaction():
                producer.close()
                raise ZeroDivisionError

        refused(ZeroDivisionError, body)
        assert register.steps == ["ready", "begin", "abort"]

    def test_afterwards_none_begins(self, producer: Producer, register: Register) -> None:
        """Nor by one that was asked for before."""
        opening = producer.transaction()
        send(producer, "x")
        producer.close()

        refused(ProducerClosedError, producer.transaction, "closed")
        refused(ProducerClosedError, opening.__enter__, "closed")
        assert register.steps == ["ready", "begin", "commit"]

    def test_while_it_is_being_committed_that_comes_to_its_end(
        self, producer: Producer, register: Register, told: list[Happening], aside: ThreadPoolExecutor
    ) -> None:
        """A close that may not wait leaves it alone."""

        def closing() -> None:
            aside.submit(producer.close, 0).result(10)

        register.meanwhile["commit"] = closing
        send(producer, "x")

        assert register.payloads == ["x"]
        assert names(told) == ["TransactionBegun", "TransactionCommitted"]

    def test_a_close_that_waits_for_the_commit_aborts_nothing(
        self, producer: Producer, register: Register, told: list[Happening], aside: ThreadPoolExecutor
    ) -> None:
        """When it has its turn there is nothing left to abort."""
        closing: list[Future[int]] = []
        transactions: Any = producer.transactions

        def begin_closing() -> None:
            closing.append(aside.submit(producer.close, 10))
            assert until(lambda: bool(transactions._closed))

        register.meanwhile["commit"] = begin_closing
        send(producer, "x")

        assert closing[0].result(10) == 0
        assert register.payloads == ["x"]
        assert names(told) == ["TransactionBegun", "TransactionCommitted"]

    def test_in_the_midst_of_another_step_the_block_aborts_it(
        self, producer: Producer, register: Register, told: list[Happening], aside: ThreadPoolExecutor
    ) -> None:
        """Where a close may not wait for its turn; though the step itself succeeds."""
        register.meanwhile["add_offsets"] = lambda: aside.submit(producer.close, 0).result(10)

        def body() -> None:
            with producer.transaction() as transaction:
                transaction.commit_offsets({("in", 0): 2}, MEMBER)

        refused(TransactionError, body, "not committed: the producer was closed")
        assert names(told) == ["TransactionBegun", "TransactionAborted"]
        assert (register.seen, register.kept) == ([], {})

    def test_who_takes_the_id_over_is_not_waited_for(
        self, producer: Producer, register: Register, passing: Passing, aside: ThreadPoolExecutor
    ) -> None:
        """It is told after the try that it is in."""
        register.before["ready"].extend([unsettled(AGAIN)] * 1_000)
        register.meanwhile["ready"] = lambda: aside.submit(producer.close, 0).result(10)
        began = passing.monotonic()
        refused(TransactionError, partial(send, producer, "never"))

        assert register.steps == ["ready"]
        assert passing.monotonic() - began < TRY
        assert [one.closed for one in register.clients] == [True]

    def test_closed_as_the_id_was_taken_over_no_client_is_kept(
        self, producer: Producer, register: Register, aside: ThreadPoolExecutor
    ) -> None:
        register.meanwhile["ready"] = lambda: aside.submit(producer.close, 0).result(10)
        refused(ProducerClosedError, partial(send, producer, "never"))

        assert [one.closed for one in register.clients] == [True]


# ── on an event loop ─────────────────────────────────────────────────────────────────────────────────────────────


async def send_on_loop(producer: Producer, *payloads: str, timeout: float = 60.0) -> None:
    async with producer.transaction(timeout) as transaction:
        for payload in payloads:
            transaction.produce_async("orders", payload)


class Gate:
    """A step that is let in by the test, and says when it is reached."""

    def __init__(self, register: Register, step: str) -> None:
        self.reached, self._open = Event(), Event()
        register.meanwhile[step] = self._pass

    def _pass(self) -> None:
        self.reached.set()
        assert self._open.wait(10)

    async def met(self) -> None:
        await asyncio.to_thread(self.reached.wait, 10)

    def open(self) -> None:
        self._open.set()


class TestLoops:
    """`async with` is the same; its steps hold up nobody, and end whoever is cancelled."""

    def test_committed_aborted_raised(self, producer: Producer, register: Register) -> None:
        async def run() -> None:
            await send_on_loop(producer, "a", "b")
            async with producer.transaction() as transaction:
                transaction.produce_async("orders", "never")
                transaction.abort()
            with interrupted(ZeroDivisionError):
                async with producer.transaction() as transaction:
                    transaction.produce_async("orders", "never")
                    raise ZeroDivisionError
            register.before["commit"].append(unsettled(ABORT))
            with interrupted(TransactionError):
                await send_on_loop(producer, "never")

        asyncio.run(run())
        assert register.payloads == ["a", "b"]
        goes_on(producer, register, clients=1)

    def test_a_plain_with_is_refused(self, producer: Producer, register: Register) -> None:
        """It would hold up the loop: in words that say what to write."""

        async def run() -> None:
            refused(ConfigError, partial(send, producer, "never"), r"async with producer\.transaction\(\)")

        asyncio.run(run())
        assert register.steps == []

    @pytest.mark.parametrize("step", ["ready", "begin", "commit", "abort"])
    def test_a_step_is_taken_beside_the_loop(self, producer: Producer, register: Register, step: str) -> None:
        """Which goes on meanwhile."""
        threads: list[int] = []
        gate = Gate(register, step)
        passes = register.meanwhile[step]

        def noted() -> None:
            threads.append(get_ident())
            passes()

        register.meanwhile[step] = noted

        async def body() -> None:
            async with producer.transaction() as transaction:
                transaction.produce_async("orders", "x")
                if step == "abort":
                    transaction.abort()

        async def run() -> None:
            task = asyncio.ensure_future(body())
            await gate.met()
            assert not task.done()
            gate.open()
            await task

        asyncio.run(run())
        assert get_ident() not in threads

    def test_one_inside_another_is_refused_at_once(self, producer: Producer, register: Register) -> None:
        async def run() -> None:
            async with producer.transaction() as transaction:
                with pytest.raises(ConfigError, match="inside another"):
                    await send_on_loop(producer, "inside")
                transaction.produce_async("orders", "mine")

        asyncio.run(run())
        assert register.payloads == ["mine"]

    def test_tasks_wait_for_one_another_no_longer_than_asked(self, producer: Producer, register: Register) -> None:
        async def run() -> None:
            async with producer.transaction() as transaction:
                transaction.produce_async("orders", "mine")
                late = asyncio.ensure_future(send_on_loop(producer, "late", timeout=0))
                waits = asyncio.ensure_future(send_on_loop(producer, "waits"))
                with pytest.raises(TransactionError, match="open for 0 s"):
                    await late
                assert not waits.done()
            await waits

        asyncio.run(run())
        assert register.payloads == ["mine", "waits"]

    def test_cancelled_inside_it_is_aborted(self, producer: Producer, register: Register) -> None:
        """Before whoever cancelled it goes on."""
        inside = asyncio.Event()

        async def body() -> None:
            async with producer.transaction() as transaction:
                transaction.produce_async("orders", "never")
                inside.set()
                await asyncio.sleep(60)

        async def run() -> None:
            task = asyncio.ensure_future(body())
            await inside.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert register.steps == ["ready", "begin", "abort"]

        asyncio.run(run())
        assert register.seen == []
        goes_on(producer, register, clients=1)

    def test_cancelled_as_it_waits_for_its_turn(self, producer: Producer, register: Register) -> None:
        """The turn is another's then, not lost."""

        async def run() -> None:
            async with producer.transaction():
                given_up = asyncio.ensure_future(send_on_loop(producer, "never"))
                waits = asyncio.ensure_future(send_on_loop(producer, "waits"))
                await asyncio.sleep(0)
                given_up.cancel()
            await asyncio.wait([given_up, waits])
            assert given_up.cancelled()
            await waits

        asyncio.run(run())
        assert register.payloads == ["waits"]

    @pytest.mark.parametrize("step", ["ready", "begin"])
    def test_cancelled_as_it_begins_it_is_ended_by_itself(
        self, producer: Producer, register: Register, step: str
    ) -> None:
        """Nobody will end it who has not got it."""
        gate = Gate(register, step)

        async def run() -> None:
            task = asyncio.ensure_future(send_on_loop(producer, "never"))
            await gate.met()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            gate.open()
            await send_on_loop(producer, "next")

        asyncio.run(run())
        assert register.payloads == ["next"]
        assert register.steps == ["ready", "begin", "abort", "begin", "commit"]

    def test_cancelled_as_its_beginning_fails_nobodys_turn_is_lost(
        self, producer: Producer, register: Register
    ) -> None:
        register.before["begin"].append(unsettled(END))
        gate = Gate(register, "begin")

        async def run() -> None:
            task = asyncio.ensure_future(send_on_loop(producer, "never"))
            await gate.met()
            task.cancel()
            await asyncio.wait([task])
            gate.open()
            await send_on_loop(producer, "next")

        asyncio.run(run())
        assert register.payloads == ["next"]

    @pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
    def test_cancelled_as_it_is_committed_it_is_committed(
        self, producer: Producer, register: Register, times: int
    ) -> None:
        """It comes to its end all the same, and the next has its turn only then."""
        gate = Gate(register, "commit")

        async def run() -> None:
            task = asyncio.ensure_future(send_on_loop(producer, "whole"))
            await gate.met()
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0)
            following = asyncio.ensure_future(send_on_loop(producer, "next"))
            await asyncio.sleep(0)
            assert register.steps == ["ready", "begin", "commit"]
            gate.open()
            await following
            await asyncio.wait([task])
            assert task.cancelled()

        asyncio.run(run())
        assert register.payloads == ["whole", "next"]

    def test_cancelled_as_its_commit_fails_it_is_cancelled(self, producer: Producer, register: Register) -> None:
        """The failure is told as an event; the task ends as it was asked to."""
        heard: list[Happening] = []
        producer.events.on(TransactionAborted, heard.append)
        register.before["commit"].append(unsettled(ABORT))
        gate = Gate(register, "commit")

        async def run() -> None:
            task = asyncio.ensure_future(send_on_loop(producer, "never"))
            await gate.met()
            task.cancel()
            await asyncio.sleep(0)
            gate.open()
            await asyncio.wait([task])
            assert task.cancelled()

        asyncio.run(run())
        assert until(lambda: len(heard) == 1)
        assert register.seen == []

    def test_a_message_may_be_awaited_inside(self, producer: Producer, register: Register) -> None:
        async def run() -> None:
            async with producer.transaction() as transaction:
                handle = transaction.produce_async("orders", "x")
                register.clients[0].serve(0)
                assert (await handle).offset == 0

        asyncio.run(run())
        assert register.payloads == ["x"]


def test_a_client_is_dressed_before_it_is_ready(register: Register) -> None:
    """What these tests stand on: their clients refuse what is out of turn, as the real one does."""
    one, other = register.make(), register.make()
    one.ready(1)
    one.begin()
    assert refused(Unsettled, one.begin).remedy is END
    other.ready(1)
    assert refused(Unsettled, lambda: one.commit(1)).remedy is FENCED
    assert [isinstance(client, Notary) and client.fenced for client in (one, other)] == [True, False]
