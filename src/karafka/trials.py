"""What becomes of a job that failed in a worker process of its own: judged as the engine judges, and told of."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, TypeAlias

from karafka import events as told
from karafka.errors import JobError, words
from karafka.events import Events
from karafka.policy import Asked, Bury, DeadLetter, Policy, Retry, asked, judge
from karafka.stacks import traceback_of
from karafka.workers import Worker

Fate: TypeAlias = Retry | Bury


def decide(worker: type[Worker], error: BaseException, attempt: int) -> Fate:
    """What becomes of a job of `worker` whose `attempt`-th try (from 1) raised `error`, which is `tried`."""
    policy = Policy(retry=worker.backoff, dead_letter=DeadLetter("dead", after=worker.max_retries + 1))
    verdict = judge(policy, error, attempt, chance=random.random())  # noqa: S311 - jitter
    assert isinstance(verdict, Retry | Bury)  # noqa: S101 - there is one job, a backoff and a grave, and no end
    return verdict


def tried(error: BaseException) -> BaseException:
    """`error` as a failure: by SystemExit a job ends no process that is not the app's own."""
    if not isinstance(end := asked(error), SystemExit | KeyboardInterrupt):
        return error
    failure = JobError(f"it asked for the end of its process, which is the job queue's: {end!r}")
    failure.__cause__ = error
    return failure


def in_words(fate: Fate, grave: str) -> str:
    match fate:
        case Retry(after):
            return f"tried again in {after:.1f} s"
        case Bury():
            return f"goes to {grave}"


@dataclass(frozen=True, slots=True)
class Tried:
    """A try of a job. `controller` is empty, and the key unknown, where nobody knows the job."""

    job: object
    attempt: int
    controller: str
    key: bytes | None


def tell(events: Events, one: Tried, error: BaseException, verdict: str) -> None:
    """Tell of a try that failed, or asked for something else than to be finished."""
    where = {**_place(one.job), "attempt": one.attempt, "controller": one.controller, "verdict": verdict}
    if isinstance(error, Asked):
        events.tell(told.Postponed(**where, reason=error.reason))
        return
    kind, said = type(error).__name__, words(error)
    events.tell(told.Failed(**where, key=one.key, kind=kind, error=said, traceback=traceback_of(error)))


def tell_buried(events: Events, job: object, grave: str) -> None:
    events.tell(told.Buried(**_place(job), grave=grave))


def _place(job: object) -> dict[str, Any]:
    """Where the message of a job came from; what can be said of one that nobody understands."""
    found: dict[str, Any] = job if isinstance(job, dict) else {}
    numbers = {name: found.get(name) for name in ("partition", "offset")}
    return {
        "group": str(found.get("group", "")),
        "topic": str(found.get("topic", "")),
        **{name: number if isinstance(number, int) else -1 for name, number in numbers.items()},
    }
