"""What Kafka itself has to keep as a job queue: weights, jobs that fail for long, jobs handed over exactly once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.brokers import Running, until
from tests.jobs.queues import ByKafka
from tests.jobs.yard import Yard, offsets
from tests.specs import visible
from tests.specs.run import Stage


@pytest.fixture
def queue(kafka: Running) -> ByKafka:
    return ByKafka(kafka.bootstrap)


WEIGHED = """
class HeavyWorker(ApplicationWorker):
    queue = "heavy"

class LightWorker(ApplicationWorker):
    queue = "light"

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    @before_enqueue
    def choose(self):
        self.worker = HeavyWorker if self.params % 2 else LightWorker

    def perform(self):
        time.sleep(0.02)
        self.tell("done", kind="heavy" if self.params % 2 else "light")
"""


def test_a_queue_has_its_share_of_the_workers(kafka: Running, tmp_path: Path, queue: ByKafka) -> None:
    """Where both have jobs; where one has none the other has all."""
    with Yard(Stage(kafka.bootstrap), tmp_path, queue, WEIGHED) as it:
        it.send(*range(1_200))
        it.server()
        it.handed_over(1_200)
        it.worker("-q", "heavy:5", "-q", "light:1", "--concurrency", "6")
        it.heard("done", 1_200, timeout=60)
        kinds = [one["kind"] for one in it.told("done")]
        while_both = kinds[: max(at for at, kind in enumerate(kinds) if kind == "heavy")]
        share = Counter(while_both)
        print(f"while both had jobs: {share}")

        assert Counter(kinds) == {"heavy": 600, "light": 600}
        assert 3 < share["heavy"] / share["light"] < 8


def test_only_the_queues_that_are_named(kafka: Running, tmp_path: Path, queue: ByKafka) -> None:
    with Yard(Stage(kafka.bootstrap), tmp_path, queue, WEIGHED) as it:
        it.send(*range(20))
        it.server()
        light = it.worker("-q", "light")
        it.heard("done", 10)
        assert light.stop() == 0
        assert Counter(one["kind"] for one in it.told()) == {"light": 10}
        it.worker()
        it.heard("done", 20)


STUCK = """
class VideosWorker(ApplicationWorker):
    backoff = Backoff(0.5, 0.5)
    max_retries = 1000

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self):
        if self.params == 0 and not Path("mended").exists():
            raise ValueError("not yet")
        self.tell("done", at=self.params)
"""


def test_one_that_fails_for_long_holds_up_no_other(kafka: Running, tmp_path: Path, queue: ByKafka) -> None:
    """Nor do the others come again because of it, when the worker is killed."""
    count = 20_000
    with Yard(Stage(kafka.bootstrap), tmp_path, queue, STUCK, partitions=1) as it:
        it.send(*range(count))
        it.server()
        worker = it.worker()
        it.heard("done", count - 1, timeout=60)
        jobs = f"{it.group}_jobs_default"
        until(lambda: _remembered(it, jobs) >= 0, 10)
        worker.until(lambda: len(worker.happened("failed")) >= 3, "three tries")
        worker.kill()
        (tmp_path / "mended").touch()
        it.worker()
        it.heard("done", count)

        told = Counter(one["at"] for one in it.told("done"))
        assert set(told) == set(range(count))
        print(f"{sum(told.values()) - count} came again")
        assert sum(told.values()) - count < count // 10


def _remembered(it: Yard, jobs: str) -> int:
    return sum(one or 0 for one in visible.committed(it.stage.bootstrap, jobs, jobs, 3))


ONCE = """
@app.topic({source}, backend=BACKEND, exactly_once=True)
class VideosController(ApplicationController):
    def perform(self):
        self.tell("done")
"""


def test_jobs_may_be_handed_over_exactly_once(kafka: Running, tmp_path: Path, queue: ByKafka) -> None:
    """The job and the offset are one transaction: a server that is killed hands nothing over twice."""
    with Yard(Stage(kafka.bootstrap), tmp_path, queue, ONCE) as it:
        it.send(*range(3_000))
        for _ in range(3):
            server = it.server()
            more = min((it.committed()[0] or 0) + 1, 3_000)
            until(lambda least=more: (it.committed()[0] or 0) >= least, 30)  # type: ignore[misc]  # this turn's
            server.kill()
        it.server()
        it.handed_over(3_000, timeout=60)
        jobs = visible.seen(kafka.bootstrap, f"{it.group}_jobs_default", 3)
        assert len(jobs) == 3_000
        it.worker()
        assert offsets(it.heard("done", 3_000)) == [(0, at) for at in range(3_000)]
