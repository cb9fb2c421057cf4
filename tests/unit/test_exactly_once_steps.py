"""What `perform` sends and the offset of its messages: one transaction, or neither, whatever its steps answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from inspect import iscoroutinefunction
from threading import Barrier, Event, get_ident
from typing import Any, cast

import pytest

from karafka import exactly_once
from karafka.client import Kept, Refused, Remedy, Topics
from karafka.delivery import Failure, Fault
from karafka.errors import BrokerError, DeliveryError, InvalidMessageError, NotAuthorizedError, UnknownTopicError
from karafka.errors import Error as OurError
from karafka.events import TransactionAborted
from karafka.exactly_once import ASK_AGAIN, CAP, FIRST, STEP, TAKE_OVER, ExactlyOnce, take_over
from karafka.messages import Handler, Place, Record, Run
from karafka.outbox import Outbox
from karafka.producer import Producer
from tests.unit.house import AtOnce, letters, until
from tests.unit.notary import Register, on_paper, unsettled
from tests.unit.post import LATE, TOO_LARGE, Passing

AGAIN, ABORT, FENCED, END = Remedy.AGAIN, Remedy.ABORT, Remedy.FENCED, Remedy.END
PLACE = Place("orders", 0)
MEMBER = object()
SPREAD = 0.06  # two looks at whether the partition is gone

Perform = Callable[[Run, Record], object]


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> tuple[Passing, Register]:
    monkeypatch.setattr(exactly_once, "Thread", AtOnce)
    return on_paper(monkeypatch)


def pass_on(run: Run, record: Record) -> None:
    """What most performs here do: send a result."""
    keep(run, record, f"result {record.offset()}")


def keep(run: Run, record: Record, payload: Any, topic: str = "results") -> None:
    assert run.outbox is not None
    run.outbox.send(record.offset() or 0, topic, payload)


class Owner:
    """A partition whose results and offsets are one transaction, and what the brokers answer about it."""

    def __init__(
        self, register: Register, perform: Perform = pass_on, *, batch: bool = False, asynchronous: bool = False
    ) -> None:
        self.register, self._perform = register, perform
        self.producers: list[Producer] = []
        self.gone = False
        #: What questions for what is committed raise, one each; and how many were asked, by how many clients then.
        self.refusals: deque[BrokerError] = deque()
        self.asked: list[int] = []
        each: Handler = self._batches if batch else self._each
        if asynchronous:
            plain: Any = each

            async def beside(run: Run) -> None:
                plain(run)

            each = beside
        topics = cast("Topics", self)
        self.one = ExactlyOnce(each, PLACE, "group", self._make, lambda: topics, batch=batch)
        self.one.member, self.one.gone = MEMBER, lambda: self.gone

    def _make(self) -> Producer:
        self.producers.append(self.register.producer())
        return self.producers[-1]

    def _each(self, run: Run) -> None:
        for record in run:
            self._perform(run, record)

    def _batches(self, run: Run) -> None:
        """Batches of the run's size; what one sends goes by the offset of its first message."""
        records = run.walk()
        for first in range(0, len(run.records), run.batch):
            some = [record for _, record in zip(range(run.batch), records, strict=False)]
            for record in some:
                self._perform(run, record)
            run.finished = first + len(some)

    def committed(self, group: str, places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
        assert (group, list(places)) == ("group", [PLACE])
        self.asked.append(len(self.register.clients))
        if self.refusals:
            raise self.refusals.popleft()
        return {PLACE: self.register.kept.get(PLACE)}

    # ── the worker's side ────────────────────────────────────────────────────────────────────────────────────

    def perform(self, run: Run) -> None:
        answer: Any = self.one.perform(run)
        if answer is not None:
            asyncio.run(answer)

    def serve(self, run: Run, turns: int = 20) -> list[BaseException]:
        """As the engine does: what is not finished is performed again, the first that failed is given up."""
        errors: list[BaseException] = []
        records = run.records
        for _ in range(turns):
            again = Run(records, batch=run.batch if run.batch < len(run.records) else 0)
            try:
                self.perform(again)
            except Exception as error:  # noqa: BLE001 - what a test asks for
                errors.append(error)
                again.finished += 1
            records = records[again.finished :]
            if not records:
                return errors
        raise AssertionError(f"{records} are not finished after {turns} turns")

    @property
    def offset(self) -> int | None:
        """What is committed."""
        kept = self.register.kept.get(PLACE)
        return None if kept is None else kept.offset


@pytest.fixture(params=["def", "async def"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "async def")


def results(*numbers: int) -> list[str]:
    return [f"result {number}" for number in numbers]


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────


class TestOutbox:
    """What a run's messages send is checked at once, and kept until it has ended."""

    def test_it_keeps_what_would_be_sent_with_the_offset_of_its_message(self, register: Register) -> None:
        outbox = Outbox(register.producer())
        outbox.send(7, "results", {"a": 1}, "k", {"x": "1"}, 2)
        outbox.send(8, "results", None, "k")

        letter, tombstone = outbox.letters
        assert [len(outbox.below(offset)) for offset in (7, 8, 9)] == [0, 1, 2]
        assert (letter.topic, letter.value, letter.key, letter.partition) == ("results", b'{"a":1}', "k", 2)
        assert letter.headers == [("x", b"1")]
        assert tombstone.value is None
        assert register.steps == []

    @pytest.mark.parametrize("message", [("two words", b""), ("results", object())])
    def test_what_can_never_be_sent_is_refused_where_it_is_sent(
        self, register: Register, message: tuple[str, object]
    ) -> None:
        outbox = Outbox(register.producer())
        with pytest.raises(InvalidMessageError):
            outbox.send(7, *message)

        assert outbox.letters == []

    def test_after_its_run_it_takes_nothing(self, register: Register) -> None:
        """In words: it would be dropped."""
        outbox = Outbox(register.producer())
        outbox.over = True
        with pytest.raises(RuntimeError, match="'results' comes after the perform"):
            outbox.send(7, "results", b"late")

        assert outbox.letters == []


# ── one transaction ──────────────────────────────────────────────────────────────────────────────────────────────


class TestTogether:
    """Results and offset are committed together; only then a message counts as finished."""

    def test_results_and_offset_in_one_transaction(self, register: Register, *, asynchronous: bool) -> None:
        owner = Owner(register, asynchronous=asynchronous)
        owner.one.beside = lambda: "beside"
        run = Run(letters(3, first=40))
        owner.perform(run)

        assert register.steps == ["ready", "begin", "add_offsets", "commit"]
        assert register.payloads == results(40, 41, 42)
        assert register.kept == {PLACE: Kept(43, "beside")}
        assert register.members == [MEMBER]
        assert run.finished == 3

    def test_what_the_pool_calls_is_as_the_handler_is(self, register: Register, *, asynchronous: bool) -> None:
        """A coroutine function where that is one: the pool looks at it."""
        assert iscoroutinefunction(Owner(register, asynchronous=asynchronous).one.perform) is asynchronous

    def test_until_then_nothing_is_sent_nor_finished(self, register: Register, *, asynchronous: bool) -> None:
        """What another may see of the run while it is performed."""
        run = Run(letters(3))
        seen: list[tuple[int, int, list[str]]] = []

        def perform(inner: Run, record: Record) -> None:
            pass_on(inner, record)
            seen.append((run.finished, inner.finished, register.steps.copy()))

        register.meanwhile["commit"] = lambda: seen.append((run.finished, 3, []))
        Owner(register, perform, asynchronous=asynchronous).perform(run)

        assert seen == [(0, 0, []), (0, 1, []), (0, 2, []), (0, 3, [])]
        assert run.finished == 3

    def test_one_that_sends_nothing_is_finished_too(self, register: Register) -> None:
        owner = Owner(register, lambda _run, _record: None)
        owner.perform(Run(letters(2)))

        assert (owner.offset, register.payloads) == (2, [])

    def test_one_that_sends_several_sends_all(self, register: Register) -> None:
        """Over topics, in their order."""

        def perform(run: Run, record: Record) -> None:
            for topic in ("results", "others"):
                keep(run, record, f"{topic} {record.offset()}", topic)

        Owner(register, perform).perform(Run(letters(2)))

        assert register.payloads == ["results 0", "others 0", "results 1", "others 1"]

    def test_run_after_run_by_the_same_client(self, register: Register) -> None:
        owner = Owner(register)
        for first in (0, 3):
            owner.perform(Run(letters(3, first=first)))

        assert register.payloads == results(*range(6))
        assert register.steps.count("ready") == 1
        assert (len(owner.producers), len(register.clients)) == (1, 1)

    def test_gaps_in_the_log_are_no_matter(self, register: Register) -> None:
        """The offset is the one after the last of them."""
        owner = Owner(register)
        owner.perform(Run([*letters(1, first=3), *letters(1, first=90)]))

        assert (register.payloads, owner.offset) == (results(3, 90), 91)


class TestFailing:
    """What was finished before is committed; what failed has sent nothing."""

    @pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3), KeyboardInterrupt()])
    def test_a_message_in_the_midst(self, register: Register, error: BaseException, *, asynchronous: bool) -> None:
        """Its results and those behind it are not seen, though it had sent them when it failed."""

        def perform(run: Run, record: Record) -> None:
            pass_on(run, record)
            if record.offset() == 2:
                raise error

        owner = Owner(register, perform, asynchronous=asynchronous)
        run = Run(letters(5))
        with pytest.raises(type(error)) as raised:
            owner.perform(run)

        assert raised.value is error
        assert (run.finished, owner.offset) == (2, 2)
        assert register.payloads == results(0, 1)

    def test_the_first_of_them(self, register: Register, *, asynchronous: bool) -> None:
        """Nothing is finished: there is nothing to commit."""

        def perform(run: Run, record: Record) -> None:
            pass_on(run, record)
            raise ValueError

        run = Run(letters(2))
        with pytest.raises(ValueError):  # noqa: PT011 - it has no words
            Owner(register, perform, asynchronous=asynchronous).perform(run)

        assert (run.finished, register.steps) == (0, [])

    def test_performed_again_its_results_are_seen_once(self, register: Register) -> None:
        """Those of the try that succeeded."""
        tries = iter([ValueError(), ValueError(), None])

        def perform(run: Run, record: Record) -> None:
            pass_on(run, record)
            if record.offset() == 1 and (error := next(tries)) is not None:
                raise error

        owner = Owner(register, perform)
        records = letters(3)
        for left in (0, 1, 1):
            run = Run(records[left:])
            try:
                owner.perform(run)
            except ValueError:
                assert run.finished == 1 - left

        assert (register.payloads, owner.offset) == (results(0, 1, 2), 3)

    def test_cut_off_after_the_message_in_hand(self, register: Register) -> None:
        """What halts the run halts it within: no message is counted that was not performed."""
        run = Run(letters(5))

        def perform(inner: Run, record: Record) -> None:
            pass_on(inner, record)
            if record.offset() == 2:
                run.halt()

        owner = Owner(register, perform)
        owner.perform(run)

        assert (run.finished, owner.offset, run.recalled) == (3, 3, False)
        assert register.payloads == results(0, 1, 2)

    def test_recalled_by_its_own_message(self, register: Register) -> None:
        """A pause, a seek: the engine hears of it by the run that it gave out."""
        run = Run(letters(5))

        def perform(inner: Run, record: Record) -> None:
            pass_on(inner, record)
            if record.offset() == 1:
                inner.recall()

        Owner(register, perform).perform(run)

        assert (run.finished, run.recalled) == (2, True)

    def test_what_comes_late_is_refused(self, register: Register, *, asynchronous: bool) -> None:
        """From a thread that outlives its perform; while the transaction is under way, too."""
        kept: list[Run] = []

        def late() -> None:
            with pytest.raises(RuntimeError, match="too late for its transaction"):
                keep(kept[0], letters(1)[0], "late")

        def perform(run: Run, record: Record) -> None:
            kept.append(run)

        register.meanwhile["commit"] = late
        Owner(register, perform, asynchronous=asynchronous).perform(Run(letters(1)))
        late()

        assert register.payloads == []


class TestBatches:
    """A batch is finished as a whole."""

    def test_several_in_one_run(self, register: Register, *, asynchronous: bool) -> None:
        """One transaction for all."""
        owner = Owner(register, batch=True, asynchronous=asynchronous)
        run = Run(letters(10), batch=4)
        owner.perform(run)

        assert (register.payloads, owner.offset, run.finished) == (results(*range(10)), 10, 10)
        assert register.steps.count("commit") == 1

    def test_those_before_the_one_that_fails_are_committed(self, register: Register, *, asynchronous: bool) -> None:
        """Nothing of that one is."""

        def perform(run: Run, record: Record) -> None:
            pass_on(run, record)
            if record.offset() == 6:
                raise ValueError

        owner = Owner(register, perform, batch=True, asynchronous=asynchronous)
        run = Run(letters(10), batch=4)
        with pytest.raises(ValueError):  # noqa: PT011 - it has no words
            owner.perform(run)

        assert (register.payloads, owner.offset, run.finished) == (results(0, 1, 2, 3), 4, 4)

    @pytest.mark.parametrize("size", [1, 3, 4, 12])
    @pytest.mark.parametrize("bad", [0, 5, 11])
    def test_one_that_sends_what_can_never_be_is_found(self, register: Register, size: int, bad: int) -> None:
        """The others are committed, whether before it or after; only whole batches are."""

        def perform(run: Run, record: Record) -> None:
            keep(run, record, f"result {record.offset()}", "bad" if record.offset() == bad else "results")

        register.dress = lambda one: one.refusing.update(bad=TOO_LARGE)
        owner = Owner(register, perform, batch=True)
        records, errors = letters(12), []
        for _ in range(40):
            run = Run(records, batch=size)
            try:
                owner.perform(run)
            except DeliveryError as error:
                errors.append(error)
                assert run.finished == 0
                assert records[0].offset() == bad // size * size
                run.finished = size
            assert run.finished % size == 0 or run.finished == len(records)
            records = records[run.finished :]
            if not records:
                break

        assert (records, len(errors)) == ([], 1)
        first = bad // size * size
        assert register.payloads == results(*range(first), *range(first + size, 12))


# ── what cannot be delivered ─────────────────────────────────────────────────────────────────────────────────────


def odd(*bad: int) -> Perform:
    """Sends on, some of it to a topic that takes nothing."""

    def perform(run: Run, record: Record) -> None:
        keep(run, record, f"result {record.offset()}", "bad" if record.offset() in bad else "results")

    return perform


class TestRefused:
    """A message that sends what can never be delivered fails alone."""

    @pytest.mark.parametrize("bad", [0, 1, 4, 7])
    def test_it_is_found_among_the_others(self, register: Register, bad: int) -> None:
        """Whoever was performed with it is committed, once and in order."""
        register.dress = lambda one: one.refusing.update(bad=TOO_LARGE)
        owner = Owner(register, odd(bad))
        (error,) = owner.serve(Run(letters(8)))

        assert isinstance(error, DeliveryError)
        assert error.topic == "bad"
        assert register.payloads == results(*(one for one in range(8) if one != bad))

    def test_several_of_them(self, register: Register) -> None:
        register.dress = lambda one: one.refusing.update(bad=TOO_LARGE)
        errors = Owner(register, odd(2, 3, 6)).serve(Run(letters(8)), turns=40)

        assert len(errors) == 3
        assert register.payloads == results(0, 1, 4, 5, 7)

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            (Fault.INVALID, InvalidMessageError),
            (Fault.UNKNOWN_TOPIC, UnknownTopicError),
            (Fault.NOT_AUTHORIZED, NotAuthorizedError),
        ],
    )
    @pytest.mark.parametrize("accepted", [True, False], ids=["by the broker", "by the client"])
    def test_whoever_refuses_it(self, register: Register, fault: Fault, kind: type, *, accepted: bool) -> None:
        """With the error that says who has to act."""
        failure = Failure(fault, "CODE", "said code", retriable=False)
        register.dress = lambda one: (
            one.refusing.update(bad=failure) if accepted else setattr(one, "error", Refused(failure))
        )
        owner, run, told = Owner(register, odd(0)), Run(letters(1)), list[str]()
        owner.producers[0].events.on(TransactionAborted, lambda one: told.append(one.error))
        with pytest.raises(kind):
            owner.perform(run)

        assert run.finished == 0
        assert register.steps == ["ready", "begin", "abort"]
        assert len(told) == 1
        assert "a message to 'bad' was not delivered: said code" in told[0]

    def test_an_error_behind_it_is_not_judged_yet(self, register: Register) -> None:
        """That message is performed again, once what came before it is settled."""

        def perform(run: Run, record: Record) -> None:
            odd(1)(run, record)
            if record.offset() == 3:
                raise KeyError

        register.dress = lambda one: one.refusing.update(bad=TOO_LARGE)
        owner = Owner(register, perform)
        run = Run(letters(5))
        owner.perform(run)
        assert run.finished == 1
        errors = owner.serve(Run(letters(4, first=1)))

        assert [isinstance(one, DeliveryError) for one in errors] == [True, False]
        assert isinstance(errors[1], KeyError)
        assert register.payloads == results(0, 2, 4)

    def test_what_may_be_delivered_the_next_time_blames_nobody(self, register: Register, passing: Passing) -> None:
        """A time-out: all of it is performed again, by another client."""
        register.dress = lambda one: one.refusing.update(results=LATE) if len(register.clients) == 1 else None
        owner = Owner(register)
        run = Run(letters(3))
        owner.perform(run)
        assert (run.finished, register.seen) == (0, [])
        assert register.steps == ["ready", "begin", "abort"]

        assert owner.serve(Run(letters(3))) == []
        assert (register.payloads, owner.offset, len(register.clients)) == (results(0, 1, 2), 3, 2)


# ── steps that fail ──────────────────────────────────────────────────────────────────────────────────────────────


class TestSteps:
    """Where a transaction is not committed nobody has seen any of it: it is performed again, after a while."""

    @pytest.mark.parametrize(
        ("step", "remedy"),
        [("ready", END), ("begin", END), ("add_offsets", ABORT), ("add_offsets", END), ("commit", ABORT)],
    )
    def test_no_message_is_blamed_for_it(
        self, register: Register, passing: Passing, step: str, remedy: Remedy, *, asynchronous: bool
    ) -> None:
        owner = Owner(register, asynchronous=asynchronous)
        register.before[step].append(unsettled(remedy))
        began, run = passing.monotonic(), Run(letters(3))
        owner.perform(run)

        assert (run.finished, owner.offset, register.seen) == (0, None, [])
        assert FIRST <= passing.monotonic() - began < FIRST + SPREAD
        owner.perform(again := Run(letters(3)))
        assert (register.payloads, owner.offset, again.finished) == (results(0, 1, 2), 3, 3)

    def test_nor_is_the_one_that_failed_meanwhile(self, register: Register) -> None:
        """It is performed again with those before it: its error counts when that happens."""

        def perform(run: Run, record: Record) -> None:
            pass_on(run, record)
            if record.offset() == 2:
                raise ValueError

        owner = Owner(register, perform)
        register.before["commit"].append(unsettled(ABORT))
        run = Run(letters(3))
        owner.perform(run)
        assert run.finished == 0

        with pytest.raises(ValueError):  # noqa: PT011 - it has no words
            owner.perform(again := Run(letters(3)))
        assert (again.finished, register.payloads) == (2, results(0, 1))

    def test_the_wait_grows_and_begins_anew_after_a_success(self, register: Register, passing: Passing) -> None:
        owner = Owner(register)

        def waited() -> float:
            register.before["commit"].append(unsettled(ABORT))
            began = passing.monotonic()
            owner.perform(Run(letters(1)))
            return passing.monotonic() - began

        for expected in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, CAP, CAP):
            assert expected <= waited() < expected + SPREAD
        owner.perform(Run(letters(1)))
        assert waited() < FIRST + SPREAD

    def test_a_mistake_is_raised(self, register: Register) -> None:
        """What is no answer of a step is somebody's error: not waited out, and nothing of it is seen."""
        register.before["add_offsets"].append(TypeError("no member"))
        run = Run(letters(1))
        with pytest.raises(TypeError, match="no member"):
            Owner(register).perform(run)

        assert register.steps == ["ready", "begin", "add_offsets", "abort"]
        assert (run.finished, register.seen) == (0, [])


class TestUnknown:
    """Where nobody could say whether it was committed the brokers are asked."""

    def uncommitted(self, register: Register) -> None:
        """The commit fails, and it did not take place."""
        register.before["commit"].append(unsettled(END, "_FATAL"))

    def committed(self, register: Register) -> None:
        """It did."""
        register.after["commit"].append(unsettled(END, "_FATAL"))

    def test_it_was(self, register: Register, *, asynchronous: bool) -> None:
        """So it is finished: performed again it would be doubled."""
        owner = Owner(register, asynchronous=asynchronous)
        self.committed(register)
        run = Run(letters(3))
        owner.perform(run)

        assert run.finished == 3
        owner.perform(Run(letters(3, first=3)))
        assert (register.payloads, owner.offset) == (results(*range(6)), 6)

    def test_it_was_not(self, register: Register, *, asynchronous: bool) -> None:
        owner = Owner(register, asynchronous=asynchronous)
        self.uncommitted(register)
        run = Run(letters(3))
        owner.perform(run)

        assert run.finished == 0
        assert owner.serve(Run(letters(3))) == []
        assert (register.payloads, owner.offset) == (results(0, 1, 2), 3)

    def test_of_an_older_commit_it_was_not(self, register: Register) -> None:
        """The group has an offset, and it is not this one."""
        owner = Owner(register)
        owner.perform(Run(letters(2)))
        self.uncommitted(register)
        run = Run(letters(2, first=2))
        owner.perform(run)

        assert (run.finished, owner.offset) == (0, 2)

    def test_it_is_asked_once_another_client_has_ended_what_was_begun(self, register: Register) -> None:
        """Before that the answer may still change."""
        owner = Owner(register)
        self.uncommitted(register)
        owner.perform(Run(letters(1)))

        assert owner.asked == [2]
        assert register.steps == ["ready", "begin", "add_offsets", "commit", "ready"]

    @pytest.mark.parametrize("times", [1, 30])
    def test_it_is_asked_until_there_is_an_answer(self, register: Register, passing: Passing, times: int) -> None:
        """However long brokers are away: to guess would double it, or lose it."""
        owner = Owner(register)
        owner.refusals.extend([BrokerError("away", retriable=True)] * times)
        self.committed(register)
        began, run = passing.monotonic(), Run(letters(1))
        owner.perform(run)

        assert run.finished == 1
        assert len(owner.asked) == times + 1
        assert passing.monotonic() - began >= times * ASK_AGAIN

    def test_nor_is_it_guessed_where_the_id_cannot_be_taken_over(self, register: Register) -> None:
        owner = Owner(register)
        self.committed(register)

        def fails_twice() -> None:
            if len(register.clients) in (2, 3):
                raise unsettled(END)

        register.meanwhile["ready"] = fails_twice
        run = Run(letters(1))
        owner.perform(run)

        assert (run.finished, owner.asked) == (1, [4])

    def test_when_its_partition_is_gone_nobody_is_asked(self, register: Register, passing: Passing) -> None:
        """The next owner reads what is committed."""
        owner = Owner(register)
        owner.refusals.extend([BrokerError("away", retriable=True)] * 1_000)
        self.committed(register)

        def going() -> None:
            owner.gone = len(owner.asked) == 3

        passing.meanwhile = going
        run = Run(letters(1))
        owner.perform(run)

        assert (run.finished, len(owner.asked)) == (0, 3)


class TestFenced:
    """Somebody has taken the id over: who has the partition goes on, another does not."""

    @pytest.mark.parametrize("step", ["begin", "add_offsets", "commit"])
    def test_whose_partition_it_is_takes_it_back(self, register: Register, step: str, *, asynchronous: bool) -> None:
        owner = Owner(register, asynchronous=asynchronous)
        register.before[step].append(unsettled(FENCED))
        run = Run(letters(2))
        owner.perform(run)
        assert (run.finished, register.seen) == (0, [])

        assert owner.serve(Run(letters(2))) == []
        assert (register.payloads, owner.offset) == (results(0, 1), 2)
        first, second = owner.producers
        with pytest.raises(OurError, match="closed"):
            first.transaction()
        with second.transaction():
            pass

    def test_once_for_each_time(self, register: Register) -> None:
        """Not more producers than that."""
        owner = Owner(register)
        for turn in range(3):
            register.before["commit"].append(unsettled(FENCED))
            owner.perform(Run(letters(1)))
            assert len(owner.producers) == turn + 2
        owner.perform(Run(letters(1)))

        assert (len(owner.producers), register.payloads) == (4, results(0))

    def test_whose_partition_is_gone_takes_nothing_back(self, register: Register, passing: Passing) -> None:
        """It is the next owner's: he would be fenced by it."""
        owner = Owner(register)

        def taken_over() -> None:
            owner.gone = True
            register.make().ready(1)

        register.meanwhile["commit"] = taken_over
        began, run = passing.monotonic(), Run(letters(2))
        owner.perform(run)

        assert (run.finished, register.seen, owner.asked) == (0, [], [])
        assert (len(owner.producers), len(register.clients)) == (1, 2)
        assert register.owner is register.clients[1]
        assert passing.monotonic() == began


# ── a partition that goes ────────────────────────────────────────────────────────────────────────────────────────


class TestGone:
    """A partition that is taken away waits for nothing that does not concern it any more."""

    def test_offsets_are_not_tried_again(self, register: Register, passing: Passing, *, asynchronous: bool) -> None:
        """What it has sent is aborted at once."""
        owner = Owner(register, asynchronous=asynchronous)
        register.before["add_offsets"].extend([unsettled(AGAIN)] * 10_000)

        def going() -> None:
            owner.gone = register.steps.count("add_offsets") == 3

        register.meanwhile["add_offsets"] = going
        began, run = passing.monotonic(), Run(letters(2))
        owner.perform(run)

        assert register.steps == ["ready", "begin", *["add_offsets"] * 3, "abort"]
        assert (run.finished, register.seen) == (0, [])
        assert passing.monotonic() - began < 1

    def test_as_long_as_it_is_ours_they_are(self, register: Register, passing: Passing) -> None:
        """No longer than a step may take."""
        owner = Owner(register)
        register.before["add_offsets"].extend([unsettled(AGAIN)] * 10_000)
        began = passing.monotonic()
        owner.perform(Run(letters(2)))

        assert STEP <= passing.monotonic() - began < STEP + 1
        assert register.steps[-1] == "abort"

    def test_the_wait_before_another_try_ends(self, register: Register, passing: Passing) -> None:
        owner = Owner(register)
        for _ in range(8):
            register.before["commit"].append(unsettled(ABORT))
            owner.perform(Run(letters(1)))
        register.before["commit"].append(unsettled(ABORT))
        began = passing.monotonic()

        def going() -> None:
            owner.gone = passing.monotonic() - began > 0.5

        passing.meanwhile = going
        owner.perform(Run(letters(1)))

        assert passing.monotonic() - began < 0.5 + 2 * SPREAD

    def test_revoked_in_the_midst_of_a_run_what_is_finished_is_committed(self, register: Register) -> None:
        """It is still ours until we say that we are done."""
        run = Run(letters(5))

        def perform(inner: Run, record: Record) -> None:
            pass_on(inner, record)
            if record.offset() == 2:
                owner.gone = True
                run.halt()

        owner = Owner(register, perform)
        owner.perform(run)

        assert (run.finished, owner.offset, register.payloads) == (3, 3, results(0, 1, 2))

    def test_a_member_that_was_thrown_out_commits_nothing(self, register: Register, passing: Passing) -> None:
        """Its generation is past: the next owner has the messages."""
        owner = Owner(register)

        def thrown_out() -> None:
            owner.gone = True

        register.meanwhile["add_offsets"] = thrown_out
        register.before["add_offsets"].append(unsettled(ABORT, "ILLEGAL_GENERATION"))
        began, run = passing.monotonic(), Run(letters(2))
        owner.perform(run)

        assert (run.finished, owner.offset, register.seen) == (0, None, [])
        assert passing.monotonic() == began

    def test_the_member_is_the_one_of_the_moment(self, register: Register) -> None:
        """Not that of the run's beginning: the group has known it by another since."""
        later = object()

        def perform(run: Run, record: Record) -> None:
            owner.one.member = later

        owner = Owner(register, perform)
        owner.perform(Run(letters(1)))

        assert register.members == [later]

    def test_closed_it_commits_nothing_and_raises_nothing(self, register: Register, passing: Passing) -> None:
        """A perform that comes back after its partition went: its producer is closed by then."""

        def perform(run: Run, record: Record) -> None:
            pass_on(run, record)
            owner.gone = True
            owner.one.close()

        owner = Owner(register, perform)
        began, run = passing.monotonic(), Run(letters(2))
        owner.perform(run)

        assert (run.finished, register.seen, owner.asked) == (0, [], [])
        assert passing.monotonic() == began
        assert len(owner.producers) == 1

    def test_closed_in_the_midst_of_its_transaction_it_is_aborted(self, register: Register) -> None:
        owner = Owner(register)

        def going() -> None:
            owner.gone = True
            with ThreadPoolExecutor(1) as aside:  # the listener's thread
                aside.submit(owner.one.close).result(10)

        register.meanwhile["begin"] = going
        run = Run(letters(2))
        owner.perform(run)

        assert (run.finished, register.seen, owner.offset) == (0, [], None)


# ── on an event loop ─────────────────────────────────────────────────────────────────────────────────────────────


class TestLoops:
    """A handler that is awaited; its transaction is no burden on the loop."""

    def test_the_transaction_is_beside_the_loop(self, register: Register) -> None:
        threads: list[int] = []
        for step in ("ready", "begin", "add_offsets", "commit"):
            register.meanwhile[step] = lambda: threads.append(get_ident())
        Owner(register, asynchronous=True).perform(Run(letters(1)))

        assert len(threads) == 4
        assert get_ident() not in threads

    def test_cancelled_in_its_handler_what_was_finished_is_committed(self, register: Register) -> None:
        """As where it failed."""
        run, reached = Run(letters(3)), asyncio.Event()

        async def handler(inner: Run) -> None:
            for record in inner:
                pass_on(inner, record)
                if record.offset() == 2:
                    reached.set()
                    await asyncio.sleep(60)

        topics = cast("Topics", None)
        one = ExactlyOnce(handler, PLACE, "group", register.producer, lambda: topics, batch=False)

        async def main() -> None:
            performed: Any = one.perform(run)
            task = asyncio.ensure_future(performed)
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert (run.finished, register.payloads) == (2, results(0, 1))
        assert register.kept == {PLACE: Kept(2)}

    def test_cancelled_in_its_transaction_that_comes_to_its_end(self, register: Register) -> None:
        """Whole: its results with its offset."""
        reached, go_on = Event(), Event()

        def commit() -> None:
            reached.set()
            assert go_on.wait(10)

        register.meanwhile["commit"] = commit
        owner = Owner(register, asynchronous=True)

        async def main() -> None:
            performed: Any = owner.one.perform(Run(letters(2)))
            task = asyncio.ensure_future(performed)
            await asyncio.to_thread(reached.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert register.seen == []
            go_on.set()

        asyncio.run(main())
        assert until(lambda: register.payloads == results(0, 1))
        assert owner.offset == 2


# ── taking over ──────────────────────────────────────────────────────────────────────────────────────────────────


class TestTakingOver:
    """What a former owner left open is aborted as the partition comes, before anything is read."""

    def test_it_is_done_at_once_and_not_again(self, register: Register) -> None:
        owner = Owner(register)
        owner.one.take_over()
        assert register.steps == ["ready"]
        owner.perform(Run(letters(1)))

        assert register.steps == ["ready", "begin", "add_offsets", "commit"]

    def test_what_the_former_owner_has_open_is_never_seen(self, register: Register) -> None:
        """Though he was about to commit it."""
        former = Owner(register)

        def taken_over() -> None:
            del register.meanwhile["commit"]
            former.gone = True
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(take_over, [owner.one]).result(10)

        register.meanwhile["commit"] = taken_over
        owner = Owner(register)
        late = Run(letters(2))
        former.perform(late)
        owner.perform(Run(letters(2)))

        assert (late.finished, register.payloads, owner.offset) == (0, results(0, 1), 2)

    def test_where_it_fails_the_first_transaction_does_it(self, register: Register, passing: Passing) -> None:
        """Nothing is raised, and an assignment does not wait for ever."""
        owner = Owner(register)
        register.before["ready"].extend([unsettled(AGAIN)] * 10_000)
        began = passing.monotonic()
        owner.one.take_over()
        assert TAKE_OVER <= passing.monotonic() - began < TAKE_OVER + 1

        register.before["ready"].clear()
        run = Run(letters(1))
        owner.perform(run)
        assert (run.finished, register.payloads) == (1, results(0))

    def test_several_are_taken_over_side_by_side(self, passing: Passing) -> None:
        """Each waits for the others: one after the other they would wait in vain."""
        owners = [Owner(Register(passing)) for _ in range(5)]
        meeting = Barrier(5)
        for owner in owners:
            owner.register.meanwhile["ready"] = lambda: meeting.wait(10)
        take_over(owner.one for owner in owners)

        assert [owner.register.steps for owner in owners] == [["ready"]] * 5

    def test_it_is_over_when_the_partitions_begin(self, register: Register) -> None:
        """However long it takes, up to that bound."""
        owner, takes = Owner(register), Event()
        register.meanwhile["ready"] = lambda: takes.wait(0.1)
        take_over([owner.one])

        assert register.owner is not None

    def test_one_that_hangs_holds_up_no_assignment(self, passing: Passing, monkeypatch: pytest.MonkeyPatch) -> None:
        """The others are taken over; it ends by itself."""
        monkeypatch.setattr(exactly_once, "TAKE_OVER", 0.05)
        hanging, other = (Owner(Register(passing)) for _ in range(2))
        let_go = Event()
        hanging.register.meanwhile["ready"] = lambda: let_go.wait(10)
        take_over([hanging.one, other.one])

        assert hanging.register.owner is None
        assert until(lambda: other.register.owner is not None)
        let_go.set()
        assert until(lambda: hanging.register.owner is not None)

    def test_of_none_there_is_nothing_to_do(self) -> None:
        take_over([])
