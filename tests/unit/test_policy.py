"""What becomes of a message: values that check themselves, and one function that decides."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karafka.errors import ConfigError, ParseError
from karafka.policy import (
    AskedBurial,
    AskedRetry,
    Backoff,
    Bury,
    DeadLetter,
    End,
    Hold,
    Policy,
    Retry,
    Skip,
    Split,
    Verdict,
    grave_headers,
    judge,
)
from tests.unit.house import Letter

STEADY = Backoff(1.0, 30.0, jitter=0.0)
PLAIN = Policy(retry=STEADY)
GRAVE = Policy(retry=STEADY, dead_letter=DeadLetter("dead", after=3))
ONCE = Policy(retry=None)
ONCE_GRAVE = Policy(retry=None, dead_letter=DeadLetter("dead", after=3))
PICKY = Policy(retry=STEADY.on(TimeoutError), dead_letter=DeadLetter("dead", after=3))
NEVER = Policy(retry=STEADY.never(KeyError), dead_letter=DeadLetter("dead", after=3))
NEVER_NO_GRAVE = Policy(retry=STEADY.never(KeyError))


GROUPS = Policy(retry=STEADY.on(BaseExceptionGroup).never(KeyError), dead_letter=DeadLetter("dead", after=3))


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("tasks", errors)


def strategic(answer: Any) -> Policy:
    return Policy(retry=STEADY, dead_letter=DeadLetter("dead", after=3, strategy=lambda _error, _attempt: answer))


TABLE: list[tuple[str, Policy, BaseException, int, bool, Verdict]] = [
    ("a failure is tried again", PLAIN, ValueError(), 1, True, Retry(1.0)),
    ("later and later", PLAIN, ValueError(), 3, True, Retry(4.0)),
    ("for ever", PLAIN, ValueError(), 10_000, True, Retry(30.0)),
    ("a parser's error too, where there is no grave", PLAIN, ParseError(), 1, True, Retry(1.0)),
    ("a batch as well", PLAIN, ValueError(), 1, False, Retry(1.0)),
    ("with a grave it is tried again", GRAVE, ValueError(), 2, True, Retry(2.0)),
    ("until its tries are spent", GRAVE, ValueError(), 3, True, Bury()),
    ("and no longer", GRAVE, ValueError(), 4, True, Bury()),
    ("a parser's error is buried at once", GRAVE, ParseError(), 1, True, Bury()),
    ("in company the batch is split", GRAVE, ValueError(), 3, False, Split(1.0)),
    ("for a parser's error at once", GRAVE, ParseError(), 1, False, Split(1.0)),
    ("SystemExit ends the process", PLAIN, SystemExit(7), 1, True, End(7)),
    ("with a grave too", GRAVE, SystemExit(7), 9, True, End(7)),
    ("in a batch too", GRAVE, SystemExit(7), 9, False, End(7)),
    ("without a code it is 0", PLAIN, SystemExit(), 1, True, End(0)),
    ("a text is status 1, as Python has it", PLAIN, SystemExit("why"), 1, True, End(1)),
    ("KeyboardInterrupt is 130, as shells have it", GRAVE, KeyboardInterrupt(), 9, True, End(130)),
    ("a leaked CancelledError is a failure", PLAIN, asyncio.CancelledError(), 1, True, Retry(1.0)),
    ("and is buried like one", GRAVE, asyncio.CancelledError(), 3, True, Bury()),
    ("GeneratorExit is a failure", PLAIN, GeneratorExit(), 1, True, Retry(1.0)),
    ("a group of exceptions is a failure", PLAIN, group(ValueError()), 1, True, Retry(1.0)),
    ("with SystemExit in it, it ends the process", GRAVE, group(ValueError(), SystemExit(4)), 9, True, End(4)),
    ("deep in it too", GRAVE, group(ValueError(), group(KeyboardInterrupt())), 9, False, End(130)),
    ("before all else that is asked", GRAVE, group(AskedRetry(42.0), SystemExit(4)), 9, True, End(4)),
    ("a leaked CancelledError in it is a failure", GRAVE, group(asyncio.CancelledError()), 3, True, Bury()),
    ("another try asked for in a group", GRAVE, group(ValueError(), AskedRetry(42.0)), 9, True, Retry(42.0)),
    ("before a burial: that can still be asked for", GRAVE, group(AskedBurial(), AskedRetry(42)), 9, True, Retry(42)),
    ("a burial asked for in a group", GRAVE, group(ValueError(), AskedBurial()), 1, True, Bury()),
    ("a group of what is worth a try is tried", PICKY, group(TimeoutError(), TimeoutError()), 1, True, Retry(1.0)),
    ("one in it that is not: at once", PICKY, group(TimeoutError(), ValueError()), 1, True, Bury()),
    ("one in it that never is: at once", NEVER, group(ValueError(), group(KeyError())), 1, True, Bury()),
    ("a group with none of them is tried", NEVER, group(ValueError()), 1, True, Retry(1.0)),
    ("a parser's error in a group goes at once", GRAVE, group(ValueError(), ParseError()), 1, True, Bury()),
    ("a group can be named itself", GROUPS, group(ValueError()), 1, True, Retry(1.0)),
    ("whatever is in it but for what never is", GROUPS, group(KeyError()), 1, True, Bury()),
    ("no second try, no grave: it stands still", ONCE, ValueError(), 1, True, Hold()),
    ("no second try, a grave: there", ONCE_GRAVE, ValueError(), 1, True, Bury()),
    ("no second try, in company: halves at once", ONCE_GRAVE, ValueError(), 1, False, Split(0.0)),
    ("what is worth a try is tried", PICKY, TimeoutError(), 1, True, Retry(1.0)),
    ("what is not goes at once", PICKY, ValueError(), 1, True, Bury()),
    ("what is never worth one goes at once", NEVER, KeyError(), 1, True, Bury()),
    ("the rest is tried", NEVER, ValueError(), 1, True, Retry(1.0)),
    ("without a grave nothing is skipped", NEVER_NO_GRAVE, KeyError(), 1, True, Retry(1.0)),
    ("a strategy may skip", strategic(Skip()), ValueError(), 1, True, Skip()),
    ("in company it may not yet", strategic(Skip()), ValueError(), 1, False, Split(1.0)),
    ("a strategy may bury", strategic(Bury()), ValueError(), 1, True, Bury()),
    ("a strategy may wait", strategic(Retry(99.0)), ValueError(), 7, True, Retry(99.0)),
    ("a strategy may leave it", strategic(None), ValueError(), 1, True, Retry(1.0)),
    ("to the end of its tries", strategic(None), ValueError(), 3, True, Bury()),
    ("no strategy is asked about SystemExit", strategic(Skip()), SystemExit(3), 1, True, End(3)),
    ("perform may ask for another try", GRAVE, AskedRetry(42.0), 9, True, Retry(42.0)),
    ("perform may ask for its burial", GRAVE, AskedBurial(), 1, True, Bury()),
    ("which needs a grave", PLAIN, AskedBurial(), 1, True, Retry(1.0)),
]


@pytest.mark.parametrize(
    ("policy", "error", "attempt", "alone", "verdict"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_verdict(policy: Policy, error: BaseException, attempt: int, alone: bool, verdict: Verdict) -> None:  # noqa: FBT001
    """The whole of `judge`, a row for each rule."""
    assert judge(policy, error, attempt, alone=alone) == verdict


class TestStrategiesAndGroups:
    """A strategy that was written for single errors is right for what tasks raise together."""

    ANSWERS: ClassVar[dict[type[BaseException], Any]] = {
        TimeoutError: Retry(60.0),
        ConnectionError: Retry(5.0),
        KeyError: Bury(),
        LookupError: Skip(),
        IndexError: Skip(),
        OSError: "nonsense",
    }

    def decide(self, error: BaseException, _attempt: int) -> Any:
        return self.ANSWERS.get(type(error))

    @pytest.mark.parametrize(
        ("errors", "verdict"),
        [
            ((TimeoutError(), ConnectionError(), KeyError(), LookupError()), Retry(60.0)),
            ((ConnectionError(), ValueError()), Retry(5.0)),
            ((LookupError(), KeyError()), Bury()),
            ((ValueError(), KeyError()), Bury()),
            ((LookupError(), IndexError()), Skip()),
            ((LookupError(), group(IndexError())), Skip()),
            ((LookupError(), ValueError()), Retry(1.0)),
            ((ValueError(), TypeError()), Retry(1.0)),
            ((OSError(), LookupError()), "nonsense"),
        ],
    )
    def test_each_error_in_it_is_asked_about(self, errors: tuple[BaseException, ...], verdict: Any) -> None:
        """The longest retry, then burial; skipped only if all are; the rule where it says nothing to one."""
        policy = Policy(retry=STEADY, dead_letter=DeadLetter("dead", after=3, strategy=self.decide))

        assert judge(policy, group(*errors), 1) == verdict

    def test_it_may_decide_on_the_whole(self) -> None:
        """It is shown the group first, and asked about nothing more if it answers."""
        shown: list[BaseException] = []

        def decide(error: BaseException, _attempt: int) -> Skip | None:
            shown.append(error)
            return Skip() if isinstance(error, BaseExceptionGroup) else None

        both = group(ValueError(), TypeError())

        assert judge(Policy(dead_letter=DeadLetter("dead", strategy=decide)), both, 1) == Skip()
        assert shown == [both]


class TestBackoff:
    """Seconds between tries: doubling, capped, spread."""

    def test_by_default_1_second_to_30_for_ever(self) -> None:
        """Without jitter: 1, 2, 4, 8, 16, 30, 30, …"""
        delays = [Backoff(jitter=0).delay(attempt) for attempt in range(1, 9)]

        assert delays == [1, 2, 4, 8, 16, 30, 30, 30]

    @settings(derandomize=True, deadline=None)
    @given(
        st.integers(1, 10**12),
        st.floats(0, 1, exclude_max=True),
        st.floats(0.001, 1e6),
        st.floats(0, 1e6),
        st.floats(1, 1e6),
        st.floats(0, 0.99),
    )
    def test_a_delay_stays_within_its_bounds_at_any_attempt(
        self, attempt: int, chance: float, first: float, more: float, factor: float, jitter: float
    ) -> None:
        """From the first to the cap, give or take the jitter: no overflow, however long it has failed."""
        backoff = Backoff(first, first + more, factor, jitter)

        delay = backoff.delay(attempt, chance)

        assert first * (1 - jitter) * 0.999 <= delay <= backoff.cap * (1 + jitter) * 1.001

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"first": 0}, "first=0"),
            ({"first": -1}, "first=-1"),
            ({"first": 31}, "cap=30"),
            ({"first": float("nan")}, "first=nan"),
            ({"factor": 0.5}, "factor=0.5"),
            ({"factor": float("nan")}, "factor=nan"),
            ({"jitter": 1}, "jitter=1"),
            ({"jitter": -0.1}, "jitter=-0.1"),
            ({"first": "1"}, "first='1'"),
        ],
    )
    def test_what_cannot_work_is_refused(self, values: dict[str, Any], said: str) -> None:
        """In one sentence with the thing and the value found."""
        with pytest.raises(ConfigError, match=said):
            Backoff(**values)

    def test_on_and_never_add_to_what_was_said(self) -> None:
        """A backoff is a value: each gives a new one."""
        backoff = STEADY.on(TimeoutError).on(OSError)

        assert backoff.helps(OSError())
        assert not backoff.helps(ValueError())
        assert STEADY.helps(ValueError())
        assert not backoff.never(BrokenPipeError).helps(BrokenPipeError())

    @pytest.mark.parametrize("wrong", [1, "ValueError", ValueError(), int])
    def test_only_types_of_exceptions_are_named(self, wrong: Any) -> None:
        """Anything else is refused where it is written."""
        with pytest.raises(ConfigError, match="types of exceptions are expected"):
            STEADY.on(wrong)


class TestDeadLetter:
    """Where a message goes once its tries are spent."""

    @pytest.mark.parametrize("after", [0, -1, "3", 1.5, None])
    def test_one_try_always_happens(self, after: Any) -> None:
        """Fewer than one, or what is no number of tries, is refused in words."""
        with pytest.raises(ConfigError, match="'dead'"):
            DeadLetter("dead", after=after)


class TestGraveHeaders:
    """A buried message tells where it came from."""

    def test_its_own_headers_stay_in_front_as_they_came(self) -> None:
        """In order, doubles and nulls too."""
        own: list[tuple[str, bytes | None]] = [("a", b"1"), ("a", b"2"), ("b", None)]
        letter = Letter("orders", 3, 42, b"{}", headers=own)

        headers = grave_headers(letter, "g", 5, ValueError("no"), 1_700_000_000.25)

        assert headers[:3] == own
        assert dict(headers[3:]) == {
            "karafka-topic": b"orders",
            "karafka-partition": b"3",
            "karafka-offset": b"42",
            "karafka-group": b"g",
            "karafka-attempts": b"5",
            "karafka-error": b"builtins.ValueError",
            "karafka-reason": b"no",
            "karafka-buried-at": b"1700000000.250",
        }

    @pytest.mark.parametrize("text", ["x" * 100_000, "é" * 50_000, "\ud800" * 50_000])
    def test_what_is_added_stays_below_4_kib(self, text: str) -> None:
        """Kafka bounds a message with its headers: a long text must not make burial impossible."""
        letter = Letter("t" * 249, 0, 2**62)
        unspeakable = type("E" * 50_000, (ValueError,), {})

        headers = grave_headers(letter, "g" * 50_000, 1, unspeakable(text), 0.0)

        assert sum(len(name) + len(value or b"") for name, value in headers) <= 4_096

    def test_a_group_is_named_with_what_is_in_it(self) -> None:
        """The text of the group alone would tell nobody why."""
        error = group(ValueError("no"), TimeoutError(), group(KeyError("a")), *[OSError(str(one)) for one in range(9)])

        reason = dict(grave_headers(Letter("orders", 0, 0), "g", 1, error, 0.0))["karafka-reason"]

        assert reason == (
            b"tasks (12 sub-exceptions): ValueError: no; TimeoutError; ExceptionGroup: tasks (1 sub-exception): "
            b"KeyError: 'a'; OSError: 0; OSError: 1; and 7 more"
        )

    def test_an_exception_without_words_has_headers_too(self) -> None:
        """Its own `__str__` may raise."""

        class UnspeakableError(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        assert grave_headers(Letter("orders", 0, 0), "g", 1, UnspeakableError(), 0.0)
