"""An app with plain performs and coroutines: jobs of both come by the event loop, and plain ones go on to threads."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import pytest

from tests.brokers import Running
from tests.jobs.queues import ByKafka
from tests.jobs.yard import Yard
from tests.specs.run import Stage

MIXED = """
class PlainWorker(ApplicationWorker):
    time_limit = None

@app.topic({source}, backend=BACKEND)
class PlainController(ApplicationController):
    def perform(self):
        say("begun", self.params)
        time.sleep(self.params)
        self.tell("done", seconds=self.params)

@app.topic("never", backend=BACKEND)
class AsideController(ApplicationController):
    async def perform(self):
        ...
"""


@pytest.fixture
def queue(kafka: Running) -> ByKafka:
    return ByKafka(kafka.bootstrap)


def test_a_stop_waits_for_a_plain_job_and_what_it_sends(kafka: Running, tmp_path: Path, queue: ByKafka) -> None:
    with Yard(Stage(kafka.bootstrap), tmp_path, queue, MIXED) as it:
        it.send(2)
        it.server()
        worker = it.worker()
        worker.says("begun 2")

        assert worker.stop() == 0, str(worker.heard)
        assert [one["seconds"] for one in it.told("done")] == [2]


def test_past_its_time_out_a_stop_ends_the_process_whatever_hangs(
    kafka: Running, tmp_path: Path, queue: ByKafka
) -> None:
    """A plain perform cannot be cancelled, and the interpreter would wait for its thread."""
    with Yard(Stage(kafka.bootstrap), tmp_path, queue, MIXED, shutdown_timeout=1.0) as it:
        it.send(600)
        it.server()
        worker = it.worker()
        worker.says("begun 600")
        since = monotonic()

        assert worker.stop() == 2, str(worker.heard)
        assert monotonic() - since < 15
