"""Servers, workers and their Redis killed with -9, again and again: every job is performed, none is missing."""

from __future__ import annotations

import random
from collections import Counter
from time import monotonic, sleep

import pytest

from tests.brokers import until
from tests.jobs.conftest import Makes
from tests.jobs.redises import Redis
from tests.jobs.test_contract import DEFINES
from tests.specs.exact import Flow

ROUNDS = 6
RATE = 300

# One of ten fails at its first try, so that some wait for the next one whenever Redis goes.
PASS = """
class PassWorker(ApplicationWorker):
    max_retries = 1000

@app.topic({source}, backend=BACKEND, retry=Backoff(0.05, 0.5))
class PassController(ApplicationController):
    DEFINE perform(self):
        if self.params % 10 == 0 and self.message.attempt == 1:
            raise ValueError("on purpose")
        self.produce({results}, f"{self.message.partition} {self.params}")
"""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("define", DEFINES)
def test_kill_after_kill_and_of_redis_too_every_job_is_performed(dramatic: Makes, redis: Redis, define: str) -> None:
    """The ledger: of each number that was sent there is a result, wherever it was when something was killed."""
    chance, began = random.Random(5), monotonic()
    with dramatic(PASS.replace("DEFINE", define), partitions=2) as it:
        now = {"server": it.server(), "worker": it.worker()}
        with Flow(it, RATE) as flow:
            until(lambda: len(it.raw()) > RATE // 2, 60)
            for turn in range(ROUNDS):
                sleep(chance.uniform(0.2, 0.8))  # where the strike falls
                kind = ("redis", "worker", "server")[turn % 3]
                if kind == "redis":
                    redis.kill()
                    sleep(chance.uniform(0.2, 1.5))  # how long it is away
                    redis.start()
                else:
                    now[kind].kill()
                    now[kind] = it.start(kind)
                before = len(it.raw())
                until(lambda more=before: len(it.raw()) > more + RATE // 5, 60)  # type: ignore[misc]  # this turn's
        counts = flow.counts()
        it.handed_over(*counts, timeout=60)
        owed = {f"{partition} {number}" for partition, count in enumerate(counts) for number in range(count)}
        until(lambda: owed <= it.results_seen(), 60)
        seen = Counter(one.decode() for one in it.raw() if one is not None)
        print(f"{define}: {sum(counts)} sent, {sum(seen.values()) - len(seen)} came again, {monotonic() - began:.0f} s")

        assert set(seen) == owed
        assert it.dead() == []
        until(lambda: redis.client.hlen("jobs:default.msgs") + redis.client.hlen("jobs:default.DQ.msgs") == 0)
        for one in now.values():
            assert one.stop() == 0, str(one.heard)
