"""Who performs: threads and the loop, without either being started."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextvars import Context, ContextVar
from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest

from karafka.aio import LoopPool
from karafka.jobs import Job, Lane, Outcome, serve
from karafka.messages import Handler, Run
from karafka.pool import ThreadPool
from tests.unit.house import letters, until


def job(lane: Lane) -> Job:
    return Job(Run(letters(1)), None, lane, 2)


def work(pool: ThreadPool) -> None:
    """What waits is performed on this thread, a worker's for so long."""
    while not pool._ready.empty():
        pool._ready.put(None)
        pool._work()


def refuse(_run: Run) -> None:
    raise ValueError("no")


class TestThreadPool:
    """A lane that has been served goes behind all that wait."""

    @pytest.fixture
    def pool(self) -> ThreadPool:
        return ThreadPool(2, "test")

    def lane(self, pool: ThreadPool, name: str, order: list[str]) -> Lane:
        def handler(run: Run) -> None:
            order.append(name)
            run.finished = len(run.records)

        return Lane(handler, pool, lambda _outcome: None)

    def test_lanes_take_turns(self, pool: ThreadPool) -> None:
        """A job each, however many one of them brought."""
        order: list[str] = []
        first, second = self.lane(pool, "first", order), self.lane(pool, "second", order)
        for lane in (first, first, first, second, second):
            pool.submit(job(lane))

        work(pool)

        assert order == ["first", "second", "first", "second", "first"]

    def test_a_lane_stands_in_the_queue_once(self, pool: ThreadPool) -> None:
        """So that two workers never serve it at once."""
        lane = self.lane(pool, "one", [])
        for _ in range(5):
            pool.submit(job(lane))

        assert pool._ready.qsize() == 1

    def test_a_job_that_was_withdrawn_is_passed_over(self, pool: ThreadPool) -> None:
        """And the lane is free for the next."""
        order: list[str] = []
        lane = self.lane(pool, "one", order)
        one = job(lane)
        pool.submit(one)
        lane.withdraw(one)
        pool.submit(job(lane))
        work(pool)

        assert order == ["one"]

    def test_no_more_is_performed_at_once_than_there_are_seats(self) -> None:
        """Whoever has borrowed a worker's seat performs in its place."""
        pool = ThreadPool(1, "test")
        order: list[str] = []
        seat = pool.borrow()
        assert seat is not None
        pool.start()
        pool.submit(job(self.lane(pool, "waits", order)))

        assert pool.borrow() is None
        sleep(0.05)
        assert order == []
        seat.give_back()
        assert until(lambda: order == ["waits"])

    def test_a_seat_is_free_again_after_a_job(self) -> None:
        """Whatever became of it."""
        pool = ThreadPool(1, "test")
        pool.submit(job(Lane(refuse, pool, lambda _outcome: None)))
        work(pool)

        assert pool.borrow() is not None

    def test_a_lane_is_lined_up_for_a_worker_by_who_has_its_claim(self, pool: ThreadPool) -> None:
        """As somebody leaves it who served it in a seat of ours."""
        order: list[str] = []
        lane = self.lane(pool, "one", order)
        lane.jobs += [job(lane), job(lane)]
        assert lane.claim()
        assert serve(lane)
        pool.line_up(lane)
        work(pool)

        assert order == ["one", "one"]

    def test_stopping_what_was_never_started_is_nothing(self, pool: ThreadPool) -> None:
        """No thread waits for a word."""
        pool.stop()

        assert pool._ready.empty()


class TestLoopPool:
    """Lanes as tasks, so many side by side."""

    def run(self, limit: int | None, lanes: int, jobs: int) -> tuple[int, list[Outcome], dict[int, int]]:
        """Serve `jobs` jobs on each of `lanes`; the most at once, the outcomes, the most at once in one lane."""
        outcomes: list[Outcome] = []
        now, most = 0, 0
        inside: dict[int, int] = {}
        crowd: dict[int, int] = {}

        def handler(number: int) -> Handler:
            async def perform(run: Run) -> None:
                nonlocal now, most
                now, inside[number] = now + 1, inside.get(number, 0) + 1
                most, crowd[number] = max(most, now), max(crowd.get(number, 0), inside[number])
                await asyncio.sleep(0)
                now, inside[number] = now - 1, inside[number] - 1
                run.finished = len(run.records)

            return perform

        async def serving() -> None:
            thread: Any = SimpleNamespace(loop=asyncio.get_running_loop(), context=Context(), serving=set())
            pool = LoopPool(thread, limit)
            made = [Lane(handler(number), pool, outcomes.append) for number in range(lanes)]
            for _ in range(jobs):
                for lane in made:
                    pool.submit(job(lane))
            while len(outcomes) < lanes * jobs:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not thread.serving
            assert not pool._serving
            assert not pool._waiting

        asyncio.run(asyncio.wait_for(serving(), 5))
        return most, outcomes, crowd

    @pytest.mark.parametrize(("limit", "most"), [(None, 4), (1, 1), (3, 3), (10, 4)])
    def test_so_many_side_by_side(self, limit: int | None, most: int) -> None:
        """And all are served in the end."""
        found, outcomes, crowd = self.run(limit, lanes=4, jobs=3)

        assert found == most
        assert len(outcomes) == 12
        assert all(outcome.error is None for outcome in outcomes)
        assert set(crowd.values()) == {1}

    def test_a_lane_that_comes_as_the_last_one_ends_is_served(self) -> None:
        """What a listener gives out upon an outcome may come before the task that told it is quite gone."""
        served: list[str] = []

        def handler(name: str) -> Handler:
            async def perform(run: Run) -> None:
                served.append(name)
                run.finished = 1

            return perform

        async def serving() -> None:
            thread: Any = SimpleNamespace(loop=asyncio.get_running_loop(), context=Context(), serving=set())
            pool = LoopPool(thread, 1)
            second = Lane(handler("second"), pool, lambda _: None)
            pool.submit(job(Lane(handler("first"), pool, lambda _: pool.submit(job(second)))))
            while len(served) < 2:
                await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(serving(), 5))

        assert served == ["first", "second"]

    def test_what_was_cancelled_before_it_began_begins_again(self) -> None:
        """By user code that cancels all tasks there are: nobody would hear of its job any more."""
        outcomes: list[Outcome] = []

        async def cancel(run: Run) -> None:
            for task in asyncio.all_tasks() - keep:
                task.cancel()
            await asyncio.sleep(0)
            run.finished = 1

        async def finish(run: Run) -> None:
            run.finished = 1

        async def serving() -> None:
            keep.update(asyncio.all_tasks())
            thread: Any = SimpleNamespace(loop=asyncio.get_running_loop(), context=Context(), serving=set())
            pool = LoopPool(thread, 2)
            for handler in (cancel, finish):
                pool.submit(job(Lane(handler, pool, outcomes.append)))
            while len(outcomes) < 2:
                await asyncio.sleep(0)

        keep: set[asyncio.Task[Any]] = set()
        asyncio.run(asyncio.wait_for(serving(), 5))

        assert sorted(type(outcome.error).__name__ for outcome in outcomes) == ["CancelledError", "NoneType"]

    @pytest.mark.parametrize("others", [0, 1, 5])
    def test_what_cancels_itself_and_returns_is_served_once(self, others: int) -> None:
        """Its task ends as cancelled, though it began and its job was told: its lane is free for others by then."""
        outcomes: list[Outcome] = []
        troubles: list[Any] = []

        async def cancel(run: Run) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            run.finished = 1

        async def serving() -> int:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: troubles.append(context))
            thread: Any = SimpleNamespace(loop=loop, context=Context(), serving=set())
            pool = LoopPool(thread, 1)
            lanes = [Lane(cancel, pool, outcomes.append) for _ in range(others + 1)]
            for lane in lanes:
                pool.submit(job(lane))
            for _ in range(50):
                await asyncio.sleep(0)
            assert all(not lane.jobs and not lane._turn.locked() for lane in lanes)
            return pool._serving

        assert asyncio.run(asyncio.wait_for(serving(), 5)) == 0
        gc.collect()
        assert troubles == []
        assert [outcome.job.run.finished for outcome in outcomes] == [1] * (others + 1)

    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), ValueError()])
    def test_whatever_is_raised_the_loop_goes_on(self, error: BaseException) -> None:
        """It becomes an outcome; the next lane is served."""
        outcomes: list[Outcome] = []

        async def fail(_run: Run) -> None:
            raise error

        async def finish(run: Run) -> None:
            run.finished = 1

        async def serving() -> None:
            thread: Any = SimpleNamespace(loop=asyncio.get_running_loop(), context=Context(), serving=set())
            pool = LoopPool(thread, 1)
            reply: Callable[[Outcome], None] = outcomes.append
            for handler in (fail, finish):
                pool.submit(job(Lane(handler, pool, reply)))
            while len(outcomes) < 2:
                await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(serving(), 5))

        assert [outcome.error for outcome in outcomes] == [error, None]

    def test_what_never_waits_holds_up_nobody_else_on_the_loop(self) -> None:
        """Tasks serve lane after lane; between two of them whatever else is to run has its turn."""
        turns: list[str] = []

        async def perform(run: Run) -> None:
            turns.append("job")
            run.finished = 1

        async def serving() -> None:
            loop = asyncio.get_running_loop()
            thread: Any = SimpleNamespace(loop=loop, context=Context(), serving=set())
            pool = LoopPool(thread, 1)
            for _ in range(10):
                pool.submit(job(Lane(perform, pool, lambda _: None)))
            while turns.count("job") < 10:
                turns.append("other")
                await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(serving(), 5))

        assert "job job job" not in " ".join(turns)

    def test_a_task_that_user_code_cancelled_serves_no_other_lane(self) -> None:
        """The next one must not be struck by it."""
        outcomes: list[Outcome] = []

        async def cancel(run: Run) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            run.finished = 1

        async def finish(run: Run) -> None:
            await asyncio.sleep(0)
            run.finished = 1

        async def serving() -> None:
            thread: Any = SimpleNamespace(loop=asyncio.get_running_loop(), context=Context(), serving=set())
            pool = LoopPool(thread, 1)
            for handler in (cancel, finish, finish):
                pool.submit(job(Lane(handler, pool, outcomes.append)))
            while len(outcomes) < 3:
                await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(serving(), 5))

        assert [outcome.error for outcome in outcomes] == [None, None, None]

    def test_once_stopped_nothing_is_begun(self) -> None:
        """What runs is the loop's to cancel; what waits is left."""
        begun: list[str] = []

        async def serving() -> None:
            thread: Any = SimpleNamespace(loop=asyncio.get_running_loop(), context=Context(), serving=set())
            pool = LoopPool(thread, 1)

            def lane(name: str) -> Lane:
                async def perform(run: Run) -> None:
                    begun.append(name)
                    await asyncio.sleep(0)
                    run.finished = len(run.records)

                return Lane(perform, pool, lambda _outcome: None)

            first = lane("first")
            for one in (first, first, lane("second")):
                pool.submit(job(one))
            while not begun:
                await asyncio.sleep(0)
            pool.stop()
            await asyncio.gather(*thread.serving)
            pool.submit(job(lane("third")))
            await asyncio.sleep(0.01)
            assert not thread.serving

        asyncio.run(asyncio.wait_for(serving(), 5))
        assert begun == ["first"]

    def test_lanes_share_no_context(self) -> None:
        """Each begins with the server's, whoever was served before it by the same worker."""
        variable: ContextVar[str] = ContextVar("variable", default="")
        base = Context()
        base.run(variable.set, "the server's")
        found: list[str] = []

        async def serving() -> None:
            thread: Any = SimpleNamespace(loop=asyncio.get_running_loop(), context=base, serving=set())
            pool = LoopPool(thread, 1)

            async def perform(run: Run) -> None:
                found.append(variable.get())
                variable.set("mine")
                run.finished = len(run.records)

            for _ in range(3):
                pool.submit(job(Lane(perform, pool, lambda _outcome: None)))
            while len(found) < 3:
                await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(serving(), 5))
        assert found == ["the server's"] * 3
