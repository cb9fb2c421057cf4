"""`karafka worker`, and `karafka server --jobs`: what is meant, and what is wrong, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.servers import run

HEAD = """\
from karafka import *
from karafka.backends.port import Backend

class Paper(Backend):
    name = "paper"

    def enqueue(self, app, envelope, worker, send): ...

    def run(self, target, queues, *, concurrency, processes, shutdown_timeout):
        print("running", target, dict(queues), concurrency, processes)
        return 7

class SlowWorker(Worker):
    queue = "slow"

class VideosController(Controller):
    def perform(self): ...

class OthersController(Controller):
    def perform(self): ...

app = App("shop", kafka={"bootstrap.servers": "127.0.0.1:9"}, concurrency=3)
"""
KAFKA = 'app.routes.draw(topic("videos", VideosController, backend="kafka"))\n'
PAPER = 'app.routes.draw(topic("others", OthersController, backend=Paper(), worker=SlowWorker))\n'


def written(folder: Path, text: str) -> Path:
    (folder / "app.py").write_text(HEAD + text)
    return folder


@pytest.mark.parametrize("command", ["worker", "w"])
def test_without_a_backend_it_says_how_to_name_one(tmp_path: Path, command: str) -> None:
    written(tmp_path, 'app.routes.draw(topic("videos", VideosController))\n')

    status, said, told = run(tmp_path, command)

    assert (status, said) == (1, "")
    assert told == (
        "karafka: no route hands its messages over to a job queue: "
        'topic(…, backend="kafka"), or App(…, backend="kafka")'
    )


@pytest.mark.parametrize("text", ['app.routes.draw(topic("videos", VideosController))\n', PAPER])
def test_a_server_has_no_jobs_to_perform_that_kafka_does_not_queue(tmp_path: Path, text: str) -> None:
    status, said, told = run(written(tmp_path, text), "server", "--jobs")

    assert (status, said) == (1, "")
    assert told.startswith("karafka: no route hands its messages over to a job queue that Kafka is: topic(…, backend=")
    assert len(told.splitlines()) == 1


def test_a_queue_that_nobody_has(tmp_path: Path) -> None:
    status, said, told = run(written(tmp_path, KAFKA), "worker", "-q", "slwo")

    assert (status, said) == (1, "")
    assert told == "karafka: -q slwo: no worker has that queue; there are default, slow"


@pytest.mark.parametrize("queue", ["slow:", "slow:0", "slow:-1", "slow:many", "slow:1.5", ":5", "", "slow:1:2"])
def test_a_weight_that_is_none(tmp_path: Path, queue: str) -> None:
    status, said, told = run(written(tmp_path, KAFKA), "worker", "-q", queue)

    assert (status, said) == (2, "")
    assert (
        f"Invalid value for '-q' / '--queue': {queue!r}: QUEUE or QUEUE:WEIGHT is expected, such as critical:5" in told
    )


def test_of_several_job_queues_one_must_be_meant(tmp_path: Path) -> None:
    status, said, told = run(written(tmp_path, KAFKA + PAPER), "worker")

    assert (status, said) == (1, "")
    assert told == (
        "karafka: the app has several job queues (kafka, paper): say which one's jobs are meant, --backend …"
    )


def test_a_job_queue_that_the_app_has_not(tmp_path: Path) -> None:
    status, said, told = run(written(tmp_path, KAFKA + PAPER), "worker", "--backend", "celery")

    assert (status, said) == (1, "")
    assert told == "karafka: --backend celery: the app hands nothing over to it; it has kafka, paper"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "running None {} 3 1"),
        (("-q", "slow:5"), "running None {'slow': 5} 3 1"),
        (("-A", "app:app", "--concurrency", "9", "--processes", "2"), "running app:app {} 9 2"),
    ],
)
def test_a_queue_with_a_worker_program_of_its_own_is_told_what_was_said(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """And its exit status is the command's."""
    assert run(written(tmp_path, PAPER), "worker", *arguments)[:2] == (7, said)
    assert run(written(tmp_path, KAFKA + PAPER), "worker", "--backend", "paper", *arguments)[:2] == (7, said)


def test_it_is_told_of_no_queue_that_nobody_has(tmp_path: Path) -> None:
    status, said, told = run(written(tmp_path, PAPER), "worker", "-q", "slwo")

    assert (status, said) == (1, "")
    assert told == "karafka: -q slwo: no worker has that queue; there are slow"


@pytest.mark.parametrize("option", [("--max-memory", "1GB"), ("--static-membership",)])
def test_what_is_for_several_processes_says_so(tmp_path: Path, option: tuple[str, ...]) -> None:
    status, _, told = run(written(tmp_path, KAFKA), "worker", *option)

    assert status == 1
    assert option[0] in told
    assert "--processes" in told


def test_a_job_that_cannot_be_handed_over_is_told_before_it_starts(tmp_path: Path) -> None:
    batches = "class Batches(BatchController):\n    def perform(self): ...\n"
    text = batches + 'app.routes.draw(topic("b", Batches, backend="kafka"))\n'
    for command in ("worker", "server"):
        status, said, told = run(written(tmp_path, text), command)

        assert (status, said) == (1, "")
        assert told.startswith("karafka: topic('b'): a job is one message, but Batches takes batches")
