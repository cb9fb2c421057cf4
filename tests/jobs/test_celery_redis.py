"""Celery's Redis is down, restarted, full, frozen: what a server hands over waits, what workers have is not lost."""

from __future__ import annotations

from time import monotonic

from tests.brokers import until
from tests.jobs.conftest import Makes
from tests.jobs.queues import ByCelery
from tests.jobs.redises import Redis
from tests.jobs.yard import offsets

PLAIN = """
@app.topic({source}, backend=BACKEND, retry=Backoff(0.05, 0.5))
class VideosController(ApplicationController):
    def perform(self):
        self.tell("done", at=self.message.offset)
"""

SLOW = PLAIN.replace("        self.tell", "        time.sleep(0.05)\n        self.tell")


def test_what_a_redis_that_is_down_does_not_take_waits_in_kafka(celery_yard: Makes, redis: Redis) -> None:
    """No offset moves, however often it is tried; the reason is told; once Redis is there all of it is handed over."""
    with celery_yard(PLAIN) as it:
        redis.kill()
        it.send(*[{}] * 20)
        server = it.server()
        failed = server.event("failed", kind="EnqueueError")
        server.until(lambda: len(server.happened("failed", kind="EnqueueError")) >= 10, "as often as it takes")
        assert f"127.0.0.1:{redis.port}/1, did not take a job (ConnectionError: " in failed["error"]
        assert it.committed() == [None]
        redis.start()
        it.handed_over(20)
        it.worker()

        assert offsets(it.heard("done", 20)) == [(0, at) for at in range(20)]
        assert server.stop() == 0


def test_a_redis_that_does_not_answer_is_not_waited_for(celery_yard: Makes, redis: Redis) -> None:
    """Celery itself would wait for ever. The job may be there all the same: then it comes twice."""
    with celery_yard(PLAIN) as it:
        server = it.server()
        it.send({})
        it.handed_over(1)
        with redis.frozen():
            began = monotonic()
            it.send({})
            server.event("failed", kind="EnqueueError")
            assert monotonic() - began < 10
            assert it.committed() == [1]
        it.handed_over(2)
        it.worker()

        until(lambda: offsets(it.told("done")) == [(0, 0), (0, 1)], 30)
        assert server.stop() == 0


def test_a_redis_that_comes_back_has_lost_nothing(celery_yard: Makes, redis: Redis) -> None:
    """It is killed with jobs in it and in a worker's hands: the worker goes on, and what it could not acknowledge
    comes again.
    """
    with celery_yard(SLOW) as it:
        it.send(*[{}] * 200)
        server, worker = it.server(), it.worker("--concurrency", "2")
        it.heard("done", 20)
        redis.kill()
        redis.start()
        it.send(*[{}] * 20)

        owed = [(0, at) for at in range(220)]
        until(lambda: offsets(it.told("done")) == owed, 60)
        assert (server.stop(), worker.stop()) == (0, 0), str(worker.heard)


def test_of_a_redis_that_is_full_nothing_is_lost(celery_yard: Makes, redis: Redis) -> None:
    """It gives jobs out and has no room to note who has them, so that Celery's worker ends: what it had and what waits
    is there for the next one.
    """
    with celery_yard(SLOW) as it:
        server = it.server()
        it.send(*[{}] * 100)
        it.handed_over(100)
        worker = it.worker("--concurrency", "2")
        it.heard("done", 10)
        with redis.full():
            it.send(*[{}] * 20)
            failed = server.event("failed", kind="EnqueueError")
            assert "maxmemory" in failed["error"]
            assert worker.ended() == 1
            assert it.committed() == [100]
        it.handed_over(120)
        it.worker("--concurrency", "2")

        owed = [(0, at) for at in range(120)]
        until(lambda: offsets(it.told("done")) == owed, 60)
        assert server.stop() == 0


FAILS_MEANWHILE = """
class VideosWorker(ApplicationWorker):
    max_retries = MOST

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self):
        if self.message.attempt == 1:
            say("begun")
            while not Path("go").exists():
                time.sleep(0.01)
            raise ValueError("on purpose")
        self.tell("done", attempt=self.message.attempt)
"""


def test_a_job_that_fails_while_redis_is_full_is_tried_again_all_the_same(celery_yard: Makes, redis: Redis) -> None:
    """It cannot be sent again meanwhile: Celery would throw it away."""
    with celery_yard(FAILS_MEANWHILE.replace("MOST", "5")) as it:
        it.send({})
        it.server()
        worker = it.worker()
        worker.says("begun")
        with redis.full():
            (it.folder / "go").touch()
            worker.until(lambda: any("could not be sent again" in line for line in worker.heard.told), "that it waits")
        (told,) = it.heard("done", timeout=60)

        assert told["attempt"] >= 2


def test_a_job_that_is_given_up_while_redis_is_full_is_not_lost(celery_yard: Makes, redis: Redis) -> None:
    with celery_yard(FAILS_MEANWHILE.replace("MOST", "0")) as it:
        it.send({})
        it.server()
        worker = it.worker()
        worker.says("begun")
        with redis.full():
            (it.folder / "go").touch()
            worker.until(lambda: any("could not be sent again" in line for line in worker.heard.told), "that it waits")
        until(lambda: len(it.dead()) == 1, 60)


def test_a_job_that_a_worker_took_and_did_not_note_comes_back(celery_yard: Makes) -> None:
    """Celery's workers take a message out of Redis's list, and note in a second step that they have it: killed between
    the two, nobody has it. So it is noted from the start.
    """
    with celery_yard(PLAIN, visible=2, grace=1) as it:
        queue = it.queue
        assert isinstance(queue, ByCelery)
        server = it.server()
        it.send({})
        it.handed_over(1)
        assert queue.client.rpop("default") is not None
        it.worker()

        assert it.heard("done", timeout=30)
        assert server.stop() == 0


def test_what_waits_for_long_is_performed_once(celery_yard: Makes) -> None:
    """What is next in a list is as old as that: nothing is lost there, however long it is."""
    with celery_yard(SLOW, visible=60, grace=0.5) as it:
        server = it.server()
        it.send(*[{}] * 100)
        it.handed_over(100)
        it.worker("--concurrency", "1")
        it.heard("done", 100)
        server.stop()

        assert len(it.told("done")) == 100
