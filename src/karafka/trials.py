"""What becomes of a job that failed in a worker process of its own: judged as the engine judges, and told of."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, TypeAlias

from karafka import events as told
from karafka.errors import JobError
from karafka.events import Events
from karafka.policy import Bury, DeadLetter, Policy, Retry, asked, judge
from karafka.setbacks import tell_try
from karafka.workers import Worker

Fate: TypeAlias = Retry | Bury


def policy_of(worker: type[Worker], grave: str) -> Policy:
    """What a worker says, as the engine has it; `grave` is the topic of those that are given up."""
    return Policy(retry=worker.backoff, dead_letter=DeadLetter(grave, after=worker.max_retries + 1))


def decide(worker: type[Worker], error: BaseException, attempt: int) -> Fate:
    """What becomes of a job of `worker` whose `attempt`-th try (from 1) raised `error`, which is `tried`."""
    verdict = judge(policy_of(worker, "dead"), error, attempt, chance=random.random())  # noqa: S311 - jitter
    assert isinstance(verdict, Retry | Bury)  # noqa: S101 - there is one job, a backoff and a grave, and no end
    return verdict


def tried(error: BaseException) -> BaseException:
    """`error` as a failure: by SystemExit a job ends no process that is not the app's own."""
    if not isinstance(end := asked(error), SystemExit | KeyboardInterrupt):
        return error
    failure = JobError(f"it asked for the end of its process, which is the job queue's: {end!r}")
    failure.__cause__ = error
    return failure


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
    tell_try(events, error, key=one.key, **where)


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
