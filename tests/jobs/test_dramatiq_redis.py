"""Dramatiq's Redis is down, restarted, full, frozen: what a server hands over waits, what workers have is not lost."""

from __future__ import annotations

from time import monotonic

import pytest

from tests.brokers import until
from tests.jobs.conftest import Makes
from tests.jobs.redises import Redis
from tests.jobs.yard import offsets

PLAIN = """
@app.topic({source}, backend=BACKEND, retry=Backoff(0.05, 0.5))
class VideosController(ApplicationController):
    def perform(self):
        self.tell("done", at=self.message.offset)
"""


def test_what_a_redis_that_is_down_cannot_take_waits_in_kafka(dramatic: Makes, redis: Redis) -> None:
    """No offset moves, however often it is tried; the reason is told; once Redis is there all of it is handed over."""
    with dramatic(PLAIN) as it:
        redis.kill()
        it.send(*[{}] * 20)
        server = it.server()
        failed = server.event("failed", kind="EnqueueError")
        server.until(lambda: len(server.happened("failed", kind="EnqueueError")) >= 10, "as often as it takes")
        assert "Redis" in failed["error"]
        assert it.committed() == [None]
        redis.start()
        it.handed_over(20)
        it.worker()

        assert offsets(it.heard("done", 20)) == [(0, at) for at in range(20)]
        assert server.stop() == 0


def test_a_redis_that_is_full_takes_nothing_and_loses_nothing(dramatic: Makes, redis: Redis) -> None:
    """The server says so and waits; a worker can neither fetch nor finish; both go on when there is memory again."""
    with dramatic(PLAIN) as it:
        server, worker = it.server(), it.worker()
        it.send(*[{}] * 20)
        it.heard("done", 20)
        with redis.full():
            it.send(*[{}] * 20)
            failed = server.event("failed", kind="EnqueueError")
            assert "full" in failed["error"]
            worker.until(lambda: any("OOM" in line for line in worker.heard.told), "that Redis is full")
        it.handed_over(40)

        assert offsets(it.heard("done", 40)) == [(0, at) for at in range(40)]
        assert (server.stop(), worker.stop()) == (0, 0), str(worker.heard)


FAILS_MEANWHILE = """
class VideosWorker(ApplicationWorker):
    backoff = Backoff(DELAY, DELAY)

@app.topic({source}, backend=BACKEND, retry=Backoff(0.05, 0.5))
class VideosController(ApplicationController):
    def perform(self):
        say("begun", self.message.attempt)
        if self.message.attempt == 1:
            while not Path("down").exists():
                time.sleep(0.01)
            raise ValueError("on purpose")
        self.tell("done", attempt=self.message.attempt)
"""


@pytest.mark.parametrize("trouble", ["down", "full", "frozen"])
def test_a_job_that_fails_while_redis_takes_nothing_is_tried_again(dramatic: Makes, redis: Redis, trouble: str) -> None:
    """Dramatiq takes it for done where Redis does not take its next try; here it waits until Redis does."""
    with dramatic(FAILS_MEANWHILE.replace("DELAY", "0.05")) as it:
        it.send({})
        it.server()
        it.handed_over(1)
        worker = it.worker()
        worker.says("begun 1")

        def fail() -> None:
            (it.folder / "down").touch()
            worker.until(lambda: any("Unexpected failure" in line for line in worker.heard.told), "what Dramatiq says")

        if trouble == "down":
            redis.kill()
            fail()
            redis.start()
        else:
            with redis.full() if trouble == "full" else redis.frozen():
                fail()

        # A frozen one may have taken what it did not answer: then it comes twice.
        assert {one["attempt"] for one in it.heard("done")} == {2}
        assert worker.stop() == 0, str(worker.heard)


@pytest.mark.parametrize("trouble", ["down", "full", "frozen"])
def test_a_job_that_waits_for_its_next_try_outlives_redis_troubles(dramatic: Makes, redis: Redis, trouble: str) -> None:
    """Dramatiq forgets what waits in a worker whose connection breaks, until that worker ends; here it comes back."""
    with dramatic(FAILS_MEANWHILE.replace("DELAY", "4")) as it:
        (it.folder / "down").touch()
        it.send({})
        it.server()
        worker = it.worker()
        worker.until(lambda: any("Retrying" in line for line in worker.heard.told), "that it is to be tried again")
        # The worker has it: it is out of the queue of those that wait.
        key = "jobs:default.DQ"
        until(lambda: redis.client.hlen(f"{key}.msgs") == 1 and redis.client.llen(key) == 0)

        def told() -> None:
            worker.until(lambda: sum("connection error" in line for line in worker.heard.told) > 4, "several times")

        if trouble == "down":
            redis.kill()
            told()
            redis.start()
        else:
            with redis.full() if trouble == "full" else redis.frozen():
                told()

        assert it.heard("done", timeout=40)[0]["attempt"] == 2
        # And its consumers are all alive: another one is tried again too.
        it.send({})
        it.heard("done", 2)
        assert worker.stop() == 0, str(worker.heard)


HELD = """
@app.topic({source}, backend=BACKEND, retry=Backoff(0.05, 0.5))
class VideosController(ApplicationController):
    def perform(self):
        say("begun", self.message.offset)
        while not Path("open").exists():
            time.sleep(0.01)
        self.tell("done", at=self.message.offset)
"""


def test_what_was_in_hand_while_redis_was_restarted_is_finished_once(dramatic: Makes, redis: Redis) -> None:
    """Dramatiq tells Redis of its end as soon as it can."""
    with dramatic(HELD) as it:
        it.send({}, {})
        it.server()
        worker = it.worker()
        worker.until(lambda: len(worker.heard.said) == 2, "both have begun")
        redis.kill()
        (it.folder / "open").touch()
        it.heard("done", 2)
        redis.start()
        until(lambda: redis.client.hlen("jobs:default.msgs") == 0)

        assert worker.stop() == 0, str(worker.heard)
        assert offsets(it.told("done")) == [(0, 0), (0, 1)]
        assert len(it.told("done")) == 2


def test_a_frozen_redis_holds_up_no_stop(dramatic: Makes, redis: Redis) -> None:
    """What a server could not hand over it reads again; each try ends after the client's socket_timeout."""
    with dramatic(PLAIN, shutdown_timeout=10) as it:
        server = it.server()
        with redis.frozen():
            it.send(*[{}] * 20)
            server.event("failed", kind="EnqueueError")
            began = monotonic()
            assert server.stop() == 0
            assert monotonic() - began < 5
        assert it.committed() == [None]
        it.server()
        it.worker()

        assert offsets(it.heard("done", 20)) == [(0, at) for at in range(20)]


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with an end to tell"])
def test_a_worker_stops_in_time_while_redis_is_down(dramatic: Makes, redis: Redis, *, busy: bool) -> None:
    """What Redis was not told the end of is performed once more, by another: a job is never taken for done."""
    with dramatic(HELD, shutdown_timeout=4) as it:
        it.server()
        worker = it.worker("--concurrency", "2")
        it.send(*[{}] * 20)
        worker.until(lambda: len(worker.heard.said) == 2, "two have begun")
        it.handed_over(20)
        if not busy:
            (it.folder / "open").touch()
            it.heard("done", 20)
            until(lambda: redis.client.hlen("jobs:default.msgs") == 0)
        redis.kill()
        worker.until(lambda: any("connection error" in line for line in worker.heard.told), "that it is gone")
        (it.folder / "open").touch()
        began = monotonic()
        assert worker.stop() == (2 if busy else 0), str(worker.heard)
        assert monotonic() - began < 15
        redis.start()
        it.worker()

        assert offsets(it.heard("done", 22 if busy else 20, timeout=40)) == [(0, at) for at in range(20)]


def test_what_is_none_of_dramatiqs_messages_is_given_up(dramatic: Makes, redis: Redis) -> None:
    """In Dramatiq's hands it would break its consumer for ever, and hold up those that came with it."""
    with dramatic(PLAIN) as it:
        redis.client.hset("jobs:default.msgs", "odd", "no message")
        redis.client.rpush("jobs:default", "odd")
        it.send({}, {})
        it.server()
        worker = it.worker()
        it.heard("done", 2)
        until(lambda: redis.client.hget("jobs:default.XQ.msgs", "odd") == b"no message")

        assert worker.stop() == 0, str(worker.heard)


def test_a_redis_that_would_throw_jobs_away_is_told(dramatic: Makes, redis: Redis) -> None:
    redis.client.config_set("maxmemory-policy", "allkeys-lru")
    with dramatic(PLAIN) as it:
        worker = it.worker()
        worker.until(
            lambda: any("maxmemory-policy is allkeys-lru" in line for line in worker.heard.told), "that it does"
        )


TRIES_FOR_A_MINUTE = """
from redis.backoff import ConstantBackoff
from redis.retry import Retry
broker.client.connection_pool.connection_kwargs["retry"] = Retry(ConstantBackoff(1), 60)

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    @before_enqueue
    def look(self):
        say("handed over", self.message.offset)

    def perform(self):
        self.tell("done", at=self.message.offset)
"""


def test_a_client_that_tries_for_a_minute_holds_up_no_stop_either(dramatic: Makes, redis: Redis) -> None:
    """As Redis's does that is made with `host=`: the stop waits for `shutdown_timeout`, and says what it left."""
    with dramatic(TRIES_FOR_A_MINUTE, shutdown_timeout=3) as it:
        server = it.server()
        with redis.frozen():
            it.send({})
            server.says("handed over 0")
            began = monotonic()
            assert server.stop() == 2
            assert monotonic() - began < 8
        it.server()
        it.worker()

        assert offsets(it.heard("done")) == [(0, 0)]
