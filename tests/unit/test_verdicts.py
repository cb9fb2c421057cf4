"""What becomes of a message that failed: `judge` as a table."""

from __future__ import annotations

import asyncio

import pytest

from karafka import Backoff, Bury, ConfigError, DeadLetter, ParseError, Retry, Skip
from karafka.policy import AskedBurial, AskedRetry, End, Hold, Policy, Split, Verdict, judge

PLAIN = Backoff(1, 30, jitter=0)
GRAVE = DeadLetter("dead", after=3)
FOREVER = Policy(retry=PLAIN)
BURIED = Policy(retry=PLAIN, dead_letter=GRAVE)
ONCE = Policy(retry=None)
ONCE_BURIED = Policy(retry=None, dead_letter=GRAVE)
PICKY = Policy(retry=PLAIN.on(OSError).never(TimeoutError), dead_letter=GRAVE)


def decide(error: BaseException, attempt: int) -> Retry | Bury | Skip | None:
    """A strategy: busy is worth a minute, gone is not worth a word, the rest goes its way."""
    match str(error):
        case "busy":
            return Retry(60)
        case "gone":
            return Skip()
        case "now" if attempt > 1:
            return Bury()
        case _:
            return None


DECIDING = Policy(retry=PLAIN, dead_letter=DeadLetter("dead", after=3, strategy=decide))


@pytest.mark.parametrize(
    ("policy", "error", "attempt", "verdict"),
    [
        (FOREVER, ValueError(), 1, Retry(1)),
        (FOREVER, ValueError(), 3, Retry(4)),
        (FOREVER, ValueError(), 10_000, Retry(30)),
        (FOREVER, ParseError(), 1, Retry(1)),
        (FOREVER, asyncio.CancelledError(), 1, Retry(1)),
        (FOREVER, GeneratorExit(), 1, Retry(1)),
        (FOREVER, SystemExit(), 1, End(0)),
        (FOREVER, SystemExit(5), 1, End(5)),
        (FOREVER, SystemExit("no"), 1, End(1)),
        (FOREVER, KeyboardInterrupt(), 1, End(130)),
        (FOREVER, AskedRetry(7), 9, Retry(7)),
        (FOREVER, AskedBurial(), 1, Retry(1)),
        (BURIED, ValueError(), 2, Retry(2)),
        (BURIED, ValueError(), 3, Bury()),
        (BURIED, ParseError(), 1, Bury()),
        (BURIED, AskedBurial(), 1, Bury()),
        (BURIED, AskedRetry(7), 9, Retry(7)),
        (BURIED, SystemExit(5), 9, End(5)),
        (BURIED, KeyboardInterrupt(), 9, End(130)),
        (ONCE, ValueError(), 1, Hold()),
        (ONCE, AskedRetry(7), 1, Retry(7)),
        (ONCE_BURIED, ValueError(), 1, Bury()),
        (PICKY, OSError(), 1, Retry(1)),
        (PICKY, TimeoutError(), 1, Bury()),
        (PICKY, ValueError(), 1, Bury()),
        (DECIDING, ValueError("busy"), 9, Retry(60)),
        (DECIDING, ValueError("gone"), 1, Skip()),
        (DECIDING, ValueError("now"), 1, Retry(1)),
        (DECIDING, ValueError("now"), 2, Bury()),
        (DECIDING, ValueError("other"), 3, Bury()),
    ],
)
def test_a_failure_has_one_verdict(policy: Policy, error: BaseException, attempt: int, verdict: Verdict) -> None:
    """Policy, error and attempt decide, and nothing else does."""
    assert judge(policy, error, attempt) == verdict


@pytest.mark.parametrize("error", [ValueError(), ParseError(), AskedBurial()])
def test_of_a_batch_only_the_culprit_is_buried(error: BaseException) -> None:
    """While others could be to blame the batch is made smaller instead."""
    assert judge(BURIED, error, 3, alone=False) == Split(1)
    assert judge(BURIED, error, 3, alone=True) == Bury()


def test_a_backoff_names_types_of_errors() -> None:
    """What is no type of exception is refused where it is written."""
    with pytest.raises(ConfigError, match=r"Backoff.never\('TimeoutError'\): types of exceptions are expected"):
        Backoff().never("TimeoutError")  # type: ignore[arg-type] # the mistake that is tested


def test_a_delay_is_a_time() -> None:
    """A strategy that answers no time is its author's mistake, told where it is made."""
    with pytest.raises(ConfigError, match=r"Retry\(after\)='soon': a number of at least 0 is expected"):
        Retry("soon")  # type: ignore[arg-type] # the mistake that is tested
