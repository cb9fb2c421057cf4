"""What becomes of a job that failed in another queue's worker process: as the engine judges, and told as it tells."""

from __future__ import annotations

import pytest

from karafka import Backoff, JobError, Worker
from karafka.events import Buried, Event, Events, Failed, Postponed
from karafka.policy import AskedBurial, AskedRetry, Bury, Retry
from karafka.trials import Fate, Tried, decide, tell, tell_buried, tried

JOB = {"group": "g", "topic": "t", "partition": 1, "offset": 7}


class TwiceWorker(Worker):
    max_retries = 2
    backoff = Backoff(5, 300, jitter=0).never(KeyError)


@pytest.mark.parametrize(
    ("error", "attempt", "fate"),
    [
        (ValueError(), 1, Retry(5)),
        (ValueError(), 2, Retry(10)),
        (ValueError(), 3, Bury()),
        (KeyError(), 1, Bury()),
        (AskedBurial(), 1, Bury()),
        (AskedRetry(7), 99, Retry(7)),
    ],
)
def test_the_worker_decides(error: BaseException, attempt: int, fate: Fate) -> None:
    assert decide(TwiceWorker, error, attempt) == fate


@pytest.mark.parametrize("end", [SystemExit(3), BaseExceptionGroup("both", [ValueError(), SystemExit(3)])])
def test_the_end_of_the_process_is_a_failure(end: BaseException) -> None:
    """The processes are the queue's: a job cannot end them on purpose."""
    failure = tried(end)

    assert isinstance(failure, JobError)
    assert "SystemExit(3)" in str(failure)
    assert decide(TwiceWorker, failure, 1) == Retry(5)


def heard(events: Events) -> list[Event]:
    found: list[Event] = []
    events.on(Event, found.append)
    return found


def test_a_failure_is_told_with_the_place_of_its_message() -> None:
    events = Events()
    found = heard(events)
    tell(events, Tried(JOB, 2, "VideosController", b"k"), ValueError("on purpose"), "tried again in 5.0 s")
    tell(events, Tried(JOB, 1, "VideosController", b"k"), AskedRetry(7, "not yet"), "tried again in 7.0 s")
    tell_buried(events, JOB, "default.dead")

    failed, postponed, buried = found
    assert isinstance(failed, Failed)
    assert (failed.topic, failed.partition, failed.offset, failed.attempt, failed.kind) == ("t", 1, 7, 2, "ValueError")
    assert isinstance(postponed, Postponed)
    assert postponed.reason == "not yet"
    assert isinstance(buried, Buried)
    assert buried.grave == "default.dead"


@pytest.mark.parametrize("job", [None, "text", {"partition": "x"}])
def test_of_a_job_that_nobody_understands_what_can_be_told_is_told(job: object) -> None:
    events = Events()
    found = heard(events)
    tell(events, Tried(job, 1, "", None), JobError("whose?"), "goes to default.dead")

    assert isinstance(found[0], Failed)
    assert found[0].offset == -1
