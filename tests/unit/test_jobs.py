"""What crosses threads: lanes with their protocol, and how a job becomes an outcome."""

from __future__ import annotations

import asyncio

import pytest

from karafka.jobs import Job, Lane, Outcome, perform, perform_async
from karafka.messages import Handler, Run
from tests.unit.house import Hands, letters


def lane(handler: Handler | None = None, replies: list[Outcome] | None = None) -> Lane:
    def finish(run: Run) -> None:
        run.finished = len(run.records)

    return Lane(handler or finish, Hands(), (replies if replies is not None else []).append)


def job(on: Lane, count: int = 3, first: int = 0) -> Job:
    return Job(Run(letters(count, first)), None, on, count)


class TestLane:
    """At most one job of a lane is performed at a time, and none is forgotten."""

    def test_one_caller_alone_gets_the_claim(self) -> None:
        """Until it is released."""
        one = lane()
        one.jobs.append(job(one))

        assert [one.claim(), one.claim()] == [True, False]
        one.release()
        assert one.claim()

    def test_an_empty_lane_is_not_claimed(self) -> None:
        """There is nothing to serve."""
        assert not lane().claim()

    def test_a_job_added_while_one_is_performed_is_seen_by_who_releases(self) -> None:
        """Whoever appends tries to claim after appending, the worker after releasing: one of the two succeeds."""
        one = lane()
        one.jobs.append(job(one))
        assert one.claim()
        one.take()

        one.jobs.append(job(one))
        assert not one.claim()
        one.release()
        assert one.claim()

    def test_jobs_are_taken_in_order(self) -> None:
        """First in, first out."""
        one = lane()
        first, second = job(one), job(one)
        one.jobs.extend([first, second])

        assert [one.take(), one.take(), one.take()] == [first, second, None]

    def test_a_job_that_nobody_took_can_be_withdrawn(self) -> None:
        """One that was taken cannot."""
        one = lane()
        first, second = job(one), job(one)
        one.jobs.extend([first, second])
        one.take()

        assert [one.withdraw(first), one.withdraw(second)] == [False, True]
        assert one.take() is None

    def test_hands_keep_to_the_protocol(self) -> None:
        """The tests' own pool serves all that is submitted, one at a time and in order."""
        hands, replies = Hands(), list[Outcome]()
        one = lane(replies=replies)
        jobs = [job(one) for _ in range(3)]
        for each in jobs:
            hands.submit(each)
        assert len(hands.ready) == 1

        hands.work()

        assert [outcome.job for outcome in replies] == jobs


class TestPerforming:
    """Whatever user code raises becomes an outcome."""

    def test_a_run_that_came_to_its_end(self) -> None:
        """No error, and the lane stays whole."""
        one = lane()
        outcome = perform(job(one))

        assert outcome.error is None
        assert outcome.elapsed >= 0
        assert not one.broken

    @pytest.mark.parametrize(
        "error", [ValueError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()]
    )
    def test_whatever_is_raised_is_carried(self, error: BaseException) -> None:
        """Nothing gets past, on a thread or on the loop; the lane is broken behind it."""

        def fail(run: Run) -> None:
            raise error

        async def fail_async(run: Run) -> None:
            raise error

        one, other = lane(fail), lane(fail_async)

        assert perform(job(one)).error is error
        assert asyncio.run(perform_async(job(other))).error is error
        assert one.broken
        assert other.broken

    def test_a_run_that_ends_early_breaks_its_lane(self) -> None:
        """The jobs behind it come back unperformed."""

        def half(run: Run) -> None:
            run.finished = 1

        one = lane(half)
        first, second = job(one), job(one)

        assert perform(first).error is None
        assert one.broken
        assert perform(second).job.run.finished == 0
        assert asyncio.run(perform_async(job(one))).job.run.finished == 0
