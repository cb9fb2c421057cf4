"""Jobs in Celery's own worker program: the team's, or ours; its pools, its processes that die, its limits."""

from __future__ import annotations

import os
from contextlib import ExitStack
from signal import SIGKILL

import pytest

from tests.brokers import until
from tests.jobs.conftest import Makes
from tests.jobs.queues import ByCelery
from tests.jobs.yard import Family, Yard, offsets
from tests.process.servers import Server, started

HOOKED = """
@theirs.task(name="team.task")
def team(word):
    say("team's", word, os.getpid())

@app.on_start
def begin():
    say("on_start", os.getpid())

@app.on_stop
def end():
    say("on_stop", os.getpid())

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self):
        if self.params == "fails" and self.message.attempt == 1:
            raise ValueError("on purpose")
        self.tell("done", pid=os.getpid())
"""


def celery(it: Yard, stack: ExitStack, *arguments: str) -> Family:
    """The team's own command."""
    words = [*it.queue.python, "-m", "celery", "-A", "app:theirs", "worker", "-l", "info", "-Q", "default,celery"]
    return stack.enter_context(started(Family(it.folder, [*words, *arguments], it.queue.environment)))


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_the_teams_own_worker_performs_jobs_beside_its_tasks(celery_yard: Makes, pool: str) -> None:
    """It needs nothing but to import the app; hooks are called in each process that performs, and failures are told."""
    with celery_yard(HOOKED) as it, ExitStack() as stack:
        it.send('"fails"', '"goes"')
        it.server()
        worker = celery(it, stack, "--pool", pool, "--concurrency", "2")
        told = it.heard("done", 2)
        assert isinstance(it.queue, ByCelery)
        it.queue.send_task("team.task", "hello")
        worker.until(lambda: any(line.startswith("team's hello") for line in worker.heard.said), "the team's task")

        pids = {one["pid"] for one in told}
        assert (pool == "prefork") == (worker.process.pid not in pids)
        assert any(
            "ValueError: on purpose" in line and "failed in VideosController" in line for line in worker.heard.told
        )
        assert worker.stop() == 0, str(worker.heard)
        began, ended = (by(worker, word) for word in ("on_start", "on_stop"))
        assert pids <= set(began)
        assert sorted(began) == sorted(ended)
        assert len(set(began)) == len(began) == (2 if pool == "prefork" else 1)


def by(worker: Server, word: str) -> list[int]:
    """Whose processes said that."""
    return [int(line.split()[1]) for line in worker.heard.said if line.startswith(f"{word} ")]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_whose_app_cannot_start_ends(celery_yard: Makes, pool: str) -> None:
    """With status 1, as a server does; its jobs wait for the next one."""
    body = HOOKED.replace('say("on_start", os.getpid())', 'raise OSError("no database")')
    with celery_yard(HOOKED, celery=f"theirs.conf.worker_pool = {pool!r}") as it:
        it.send('"goes"')
        it.server()
        it.handed_over(1)
        it.write(body)
        worker = it.worker()
        assert worker.ended() == 1, str(worker.heard)
        assert any("no database" in line for line in worker.heard.told)
        it.write(HOOKED)
        it.worker()

        it.heard("done", timeout=30 + it.queue.returns)


DIES = """
class VideosWorker(ApplicationWorker):
    max_retries = 1

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self):
        say("begun", self.params, self.message.attempt, os.getpid())
        if self.params == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.params == "exits":
            sys.exit(3)
        while self.params == "waits" and self.message.attempt == 1:
            time.sleep(0.01)
        self.tell("done", attempt=self.message.attempt)
"""


def test_a_job_whose_process_is_killed_is_tried_again_at_once(celery_yard: Makes) -> None:
    """Long before the broker's visibility timeout: the rest of the worker has noticed."""
    with celery_yard(DIES, visible=600) as it:
        it.send('"waits"')
        it.server()
        worker = it.worker()
        worker.until(lambda: any(line.startswith("begun waits 1") for line in worker.heard.said), "it has begun")
        os.kill(int(worker.heard.said[-1].split()[-1]), SIGKILL)

        assert [one["attempt"] for one in it.heard("done")] == [2]
        assert worker.stop() == 0, str(worker.heard)


def test_a_job_that_a_person_revokes_is_gone(celery_yard: Makes) -> None:
    """By Celery's own means, whose id of a job is its message's; also while it is performed."""
    with celery_yard(DIES, visible=600) as it:
        it.send('"waits"', '"goes"')
        it.server()
        worker = it.worker("--concurrency", "1")
        worker.until(lambda: any(line.startswith("begun waits 1") for line in worker.heard.said), "it has begun")
        assert isinstance(it.queue, ByCelery)
        with it.queue.other() as other:
            other.control.revoke(f"{it.group}/{it.source}/0/0", terminate=True)

        assert offsets(it.heard("done")) == [(0, 1)]
        assert worker.stop() == 0, str(worker.heard)
        assert len([line for line in worker.heard.said if line.startswith("begun waits")]) == 1
        assert it.queue.client.hlen("unacked") == it.queue.client.hlen("karafka.noted") == 0
        assert it.dead() == []


@pytest.mark.parametrize("kind", ["dies", "exits"])
def test_a_job_that_ends_its_process_each_time_is_given_up(celery_yard: Makes, kind: str) -> None:
    """It counts as failed, so that it comes to an end; others go on."""
    with celery_yard(DIES, visible=600) as it:
        it.send(f'"{kind}"', '"goes"')
        it.server()
        worker = it.worker("--concurrency", "2")
        until(lambda: len(it.dead()) == 1, 40)

        assert [one["offset"] for one in it.dead()] == [0]
        assert offsets(it.heard("done")) == [(0, 1)]
        assert len([line for line in worker.heard.said if line.startswith(f"begun {kind}")]) == 2
        assert worker.stop() == 0, str(worker.heard)


BLOCKS = """
class VideosWorker(ApplicationWorker):
    time_limit = 1.0
    max_retries = 0

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self):
        if self.params == "sleeps":
            time.sleep(600)
        while self.params == "stubborn":
            try:
                time.sleep(600)
            except BaseException:
                say("not me")
        self.tell("done")

    def after_failure(self, error):
        say("after", type(error).__name__)
"""


def test_a_job_that_waits_in_c_is_interrupted_by_a_signal(celery_yard: Makes) -> None:
    """Python itself would come to it only when the call returns."""
    with celery_yard(BLOCKS, visible=600) as it:
        it.send('"sleeps"', '"goes"')
        it.server()
        worker = it.worker("--concurrency", "1")
        worker.says("after TimeLimitError")
        until(lambda: len(it.dead()) == 1, 30)

        it.heard("done")
        assert worker.stop() == 0, str(worker.heard)


def test_a_job_that_lets_nothing_interrupt_it_loses_its_process(celery_yard: Makes) -> None:
    with celery_yard(BLOCKS, visible=600) as it:
        it.send('"stubborn"', '"goes"')
        it.server()
        worker = it.worker("--concurrency", "1")
        worker.says("not me")
        until(lambda: len(it.dead()) == 1, 40)

        it.heard("done")
        assert any("its process was killed" in line for line in worker.heard.told)
        assert worker.stop() == 0, str(worker.heard)


GIVEN_UP = """
class VideosWorker(ApplicationWorker):
    max_retries = 0

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self):
        if not Path("mended").exists():
            raise ValueError("on purpose")
        self.tell("done", attempt=self.message.attempt)
"""


def test_what_was_given_up_can_be_performed_again(celery_yard: Makes) -> None:
    """It waits in a queue like any other, with the reason in its headers."""
    with celery_yard(GIVEN_UP) as it:
        it.send({}, {})
        it.server()
        worker = it.worker()
        until(lambda: len(it.dead()) == 2, 30)
        assert worker.stop() == 0
        assert isinstance(it.queue, ByCelery)
        assert {one["karafka-reason"] for one in it.queue.graves()} == {"on purpose"}
        (it.folder / "mended").touch()
        it.worker("-q", "default.dead")

        assert [one["attempt"] for one in it.heard("done", 2)] == [1, 1]
        until(lambda: it.dead() == [], 10)


PRIORITIES = """
class UrgentWorker(ApplicationWorker):
    priority = 0

class LazyWorker(ApplicationWorker):
    priority = 9

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    @before_enqueue
    def choose(self):
        self.worker = UrgentWorker if self.message.offset >= 20 else LazyWorker

    def perform(self):
        self.tell("done", at=self.message.offset)
"""


def test_those_of_a_lower_priority_go_first(celery_yard: Makes) -> None:
    with celery_yard(PRIORITIES, celery="theirs.conf.worker_prefetch_multiplier = 1") as it:
        it.send(*[{}] * 30)
        it.server()
        it.handed_over(30)
        it.worker("--concurrency", "1")

        assert [one["at"] for one in it.heard("done", 30)] == [*range(20, 30), *range(20)]


TWO = """
@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self):
        self.tell("done", app=self.app.config.client_id)

other = App(app.config.client_id + "-other", kafka=dict(app.config.kafka), commit_interval=0.1)

class OthersWorker(ApplicationWorker):
    max_retries = 0

@other.topic({source}, backend=BACKEND)
class OthersController(ApplicationController):
    def perform(self):
        if self.params == "fails":
            raise ValueError("on purpose")
        self.tell("done", app=self.app.config.client_id)
"""


def test_several_apps_may_share_a_celery_app(celery_yard: Makes) -> None:
    """Each performs, and judges, its own jobs."""
    with celery_yard(TWO) as it:
        it.send('"goes"', '"fails"')
        it.server()
        it.start("server", "-A", "app:other").event("server_started")
        worker = it.worker()
        told = it.heard("done", 3)
        until(lambda: len(it.dead()) == 1, 30)

        assert sorted(one["app"] for one in told) == [it.group, it.group, f"{it.group}-other"]
        assert [(one["group"], one["offset"]) for one in it.dead()] == [(f"{it.group}-other", 1)]
        assert worker.stop() == 0, str(worker.heard)
