"""Servers and workers killed with -9, again and again: every job is performed, none is missing; some come twice."""

from __future__ import annotations

import random
from collections import Counter
from time import monotonic, sleep

import pytest

from tests.brokers import until
from tests.jobs.conftest import Makes
from tests.specs.exact import Flow

ROUNDS = 6
# Each queue, and each way to perform, once at least: a round takes most of a minute.
KINDS = [("kafka", "def"), ("kafka", "async def"), ("dramatiq", "def"), ("celery", "async def")]

PASS = """
class PassWorker(ApplicationWorker):
    max_retries = 1000

@app.topic({source}, backend=BACKEND, retry=Backoff(0.05, 0.5))
class PassController(ApplicationController):
    @before_enqueue
    def look(self):
        self.params

    DEFINE perform(self):
        self.produce({results}, f"{self.message.partition} {self.params}")
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("queue", "define"), KINDS, indirect=["queue"])
def test_kill_after_kill_every_job_is_performed(yard: Makes, define: str) -> None:
    """The ledger: of each number that was sent there is a result, whatever had it in hand when it was killed."""
    chance, began = random.Random(11), monotonic()
    with yard(PASS.replace("DEFINE", define), partitions=2) as it:
        rate = it.queue.rate
        now = {"server": it.server(), "worker": it.worker()}
        with Flow(it, rate) as flow:
            until(lambda: len(it.raw()) > rate // 2, 60)
            for turn in range(ROUNDS):
                sleep(chance.uniform(0.2, 0.8))  # where the strike falls
                kind = ("worker", "server")[turn % 2]
                now[kind].kill()
                now[kind] = it.start(kind)
                before = len(it.raw())
                until(lambda more=before: len(it.raw()) > more + rate // 5, 60 + it.queue.returns)  # type: ignore[misc]  # this turn's
        counts = flow.counts()
        it.handed_over(*counts, timeout=60)
        owed = {f"{partition} {number}" for partition, count in enumerate(counts) for number in range(count)}
        until(lambda: owed <= it.results_seen(), 60 + it.queue.returns)
        seen = Counter(one.decode() for one in it.raw() if one is not None)
        print(
            f"{it.queue.name}, {define}: {sum(counts)} sent, {sum(seen.values()) - len(seen)} came again, "
            f"{ROUNDS} kills in {monotonic() - began:.0f} s"
        )

        assert set(seen) == owed
        assert it.dead() == []
        for one in now.values():
            assert one.stop() == 0, str(one.heard)
