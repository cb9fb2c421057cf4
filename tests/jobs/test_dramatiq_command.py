"""Dramatiq stays Dramatiq: its command and middleware, actors of the user's own; `karafka worker` is that command."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGHUP
from typing import Any

import dramatiq
import psutil
import pytest

from tests.brokers import until
from tests.jobs.conftest import Makes
from tests.jobs.queues import ByDramatiq
from tests.jobs.yard import Family, Yard, offsets
from tests.process.servers import PYTHON, started

OWN = """
from dramatiq.middleware import CurrentMessage, Middleware
from karafka.backends.dramatiq import DramatiqBackend

# Not the one that `set_broker` has: one of our own.
own_broker, dramatiq.broker.global_broker = broker, None
BACKEND = DramatiqBackend(own_broker)

class Counts(Middleware):
    def before_process_message(self, broker, message):
        say("before", message.actor_name)

own_broker.add_middleware(Counts())
own_broker.add_middleware(CurrentMessage())

@dramatiq.actor(broker=own_broker)
def own(number):
    say("own", number)

class VideosWorker(ApplicationWorker):
    time_limit = None
    priority = 3

@app.on_stop
def end():
    say("on_stop")
    raise ValueError("at the end")

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    DEFINE perform(self):
        own.send(7)
        message = CurrentMessage.get_current_message()
        self.tell("done", actor=message.actor_name, queue=message.queue_name)
"""


@contextmanager
def program(it: Yard, *words: str) -> Iterator[Family]:
    """Dramatiq's own command."""
    with started(Family(it.folder, [*PYTHON, "-m", "dramatiq", *words], it.queue.environment)) as process:
        it.all.append(process)
        yield process


@pytest.mark.parametrize("define", ["def", "async def"])
def test_dramatiqs_own_command_performs_jobs_and_actors(dramatic: Makes, define: str) -> None:
    """A broker of one's own, whose middleware sees each job as an actor's message; hooks as `karafka worker` has."""
    with dramatic(OWN.replace("DEFINE", define)) as it:
        it.send({})
        it.server()
        with program(it, "app:own_broker", "--processes", "1", "--threads", "2") as worker:
            (told,) = it.heard("done")
            worker.says("own 7")

            assert told == {**told, "actor": "app:VideosWorker", "queue": "default"}
            assert {"before app:VideosWorker", "before own"} <= set(worker.heard.said)
            assert worker.stop() == 0
            assert "on_stop" in worker.heard.said
            assert any("on_stop hook end failed" in line for line in worker.heard.told)


def test_karafka_worker_takes_a_broker_of_ones_own(dramatic: Makes) -> None:
    """Its actors are performed there too."""
    with dramatic(OWN.replace("DEFINE", "def")) as it:
        it.send({})
        it.server()
        worker = it.worker()
        it.heard("done")
        worker.says("own 7")

        assert worker.stop() == 0


QUEUES = """
class SlowWorker(ApplicationWorker):
    queue = "slow"

class VideosWorker(ApplicationWorker):
    queue = "quick"

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    @before_enqueue
    def choose(self):
        if self.message.offset % 2:
            self.worker = SlowWorker

    def perform(self):
        say("performed", self.message.offset, os.getpid())
        self.tell("done", at=self.message.offset)
"""


def test_a_worker_of_some_queues_leaves_the_others(dramatic: Makes) -> None:
    """Each of several processes takes from them."""
    with dramatic(QUEUES) as it:
        it.send(*[{}] * 40)
        it.server()
        it.handed_over(40)
        slow = it.worker("-q", "slow", "--processes", "2", "--concurrency", "1")
        it.heard("done", 20)
        assert slow.stop() == 0
        assert {one["at"] % 2 for one in it.told("done")} == {1}
        it.worker("-q", "quick:1", "-q", "slow:1")

        assert offsets(it.heard("done", 40)) == [(0, at) for at in range(40)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--max-age", "6h"), "--max-age is not for jobs by dramatiq, whose own program runs the processes"),
        (("-q", "slow:5", "-q", "quick:1"), "Dramatiq's queues have no weights"),
        (("-q", "nobodys"), "no worker has that queue; there are default, quick, slow"),
    ],
)
def test_what_dramatiq_cannot_do_is_refused_in_a_sentence(
    dramatic: Makes, arguments: tuple[str, ...], said: str
) -> None:
    with dramatic(QUEUES) as it:
        worker = it.worker(*arguments)

        assert worker.ended() == 1
        assert said in worker.heard.told[-1]


FAILS_TO_START = """
@app.on_start
def begin():
    raise ValueError("on purpose")

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self): ...
"""
NO_RETRIES = """
from dramatiq.brokers.redis import RedisBroker
from karafka.backends.dramatiq import DramatiqBackend

@app.topic({source}, backend=DramatiqBackend(RedisBroker(client=broker.client, middleware=[])))
class VideosController(ApplicationController):
    def perform(self): ...
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [(FAILS_TO_START, "on_start hook begin raised ValueError: on purpose"), (NO_RETRIES, "no Retries among its")],
)
def test_a_worker_that_cannot_start_ends_with_status_1_and_says_why(dramatic: Makes, body: str, said: str) -> None:
    with dramatic(body) as it:
        worker = it.worker()

        assert worker.ended() == 1
        assert any(said in line for line in worker.heard.told), str(worker.heard)


def test_processes_whose_command_was_killed_stop_in_order(dramatic: Makes) -> None:
    """Nobody else would ever stop them: they finish what they have, and leave the rest."""
    with dramatic(QUEUES) as it:
        it.send({})
        it.server()
        worker = it.worker("--processes", "2")
        it.heard("done")
        children = worker.children
        assert len(children) >= 2
        worker.process.kill()

        _, alive = psutil.wait_procs(children, timeout=60)
        assert alive == []


ORPHANED = """
from multiprocessing import parent_process

@app.on_start
def begin():
    if (parent := parent_process()) is not None:
        os.kill(os.getppid(), 9)
        parent.join()
        say("orphaned", os.getpid())
        MORE

@app.on_stop
def end():
    say("on_stop")

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self): ...
"""


@pytest.mark.parametrize(
    ("more", "last"),
    [("pass", "on_stop"), ("raise ValueError", "on_stop"), ("time.sleep(3600)", "orphaned")],
    ids=["starts", "fails to start", "never starts"],
)
def test_a_process_whose_command_is_killed_as_it_begins_stops_too(dramatic: Makes, more: str, last: str) -> None:
    """It tells the command that it has booted, and one that was killed as it listened never answers."""
    with dramatic(ORPHANED.replace("MORE", more)) as it:
        worker = it.worker("--processes", "1")
        worker.until(lambda: any(one.startswith("orphaned") for one in worker.heard.said), "an orphan")
        orphan = int(worker.heard.said[-1].split()[1])

        until(lambda: not psutil.pid_exists(orphan), 60)
        worker.ended()
        assert worker.heard.said[-1].startswith(last)


def test_a_job_of_a_worker_class_that_is_gone_is_tried_again_and_given_up_in_the_end(dramatic: Makes) -> None:
    """Dramatiq alone buries at once what it has no actor for: so it would what a newer server hands over."""
    with dramatic(QUEUES.replace('queue = "slow"', 'queue = "quick"')) as it:
        it.send({}, {})
        server = it.server()
        it.handed_over(2)
        it.write(QUEUES.replace("SlowWorker", "OtherWorker"))
        worker = it.worker()
        it.refused(worker, "app:SlowWorker")
        assert [one["at"] for one in it.heard("done")] == [0]
        assert worker.stop() == 0
        assert it.dead() == []
        it.write(QUEUES)
        worker = it.worker()
        assert sorted(one["at"] for one in it.heard("done", 2)) == [0, 1]

        queue = it.queue
        assert isinstance(queue, ByDramatiq)
        job: dict[str, Any] = {
            "v": 1,
            "group": it.group,
            "route": it.source,
            "worker": "app:NobodysWorker",
            "topic": it.source,
            "partition": 0,
            "offset": 9,
            "timestamp": [1, 0],
            "params": "{}",
        }
        queue.broker.enqueue(dramatiq.Message("default", "app:NobodysWorker", (job,), {}, {"retries": 20}))
        until(lambda: [one["offset"] for one in it.dead()] == [9])
        it.refused(worker, "app:NobodysWorker")
        assert (server.stop(), worker.stop()) == (0, 0)


def test_a_worker_begins_anew_on_hup(dramatic: Makes) -> None:
    """As Dramatiq's command does: with what is in the app's file by then."""
    with dramatic(QUEUES) as it:
        it.server()
        worker = it.worker()
        it.send({})
        it.heard("done")
        before = {one.pid for one in worker.children}
        it.write(QUEUES.replace('"done"', '"anew"'))
        worker.signal(SIGHUP)
        until(lambda: not before & {one.pid for one in worker.children})
        it.send({})

        it.heard("anew")
        assert worker.stop() == 0, str(worker.heard)


def test_dead_letters_are_put_back_as_the_docs_say(dramatic: Makes) -> None:
    """The lines of docs/jobs-dramatiq.md."""
    page = (Path(__file__).parents[2] / "docs" / "jobs-dramatiq.md").read_text()
    lines = (
        page.split("## Dead letters")[1]
        .split("```python")[1]
        .split("```")[0]
        .replace("dramatiq:default", "jobs:default")
    )
    buries = """
@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self):
        if not Path("mended").exists():
            self.bury()
        self.tell("done", attempt=self.message.attempt)
"""
    with dramatic(buries) as it:
        it.send({})
        it.server()
        it.worker()
        until(lambda: len(it.dead()) == 1)
        (it.folder / "mended").touch()
        subprocess.run([*PYTHON, "-c", lines], cwd=it.folder, check=True)

        assert [one["attempt"] for one in it.heard("done")] == [1]
        assert it.dead() == []
