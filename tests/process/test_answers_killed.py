"""Processes that answer by responders, killed with -9 again and again: each answer is there, in order, none missing."""

from __future__ import annotations

import random
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.brokers import Running, until
from tests.process.answers import Servers, judged, text
from tests.specs.exact import Flow, Line
from tests.specs.run import Stage

ROUNDS = 5
RATE = 900


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["def", "async batch"])
def test_kill_after_kill_each_answer_is_there_and_in_order(kafka: Running, tmp_path: Path, kind: str) -> None:
    """An answer that was not confirmed comes again: after a kill answers start over a little further back."""
    line, chance, began = Line(Stage(kafka.bootstrap), 3), random.Random(7), monotonic()
    with Servers(tmp_path, text(line, kind)) as servers:
        servers.start(0)
        servers.start(1)
        with Flow(line, RATE) as flow:
            until(lambda: sum(filter(None, line.committed())) > RATE // 2, 30)
            for turn in range(ROUNDS):
                sleep(chance.uniform(0.3, 1.0))  # where the strike falls
                servers.now[turn % 2].kill()
                servers.start(turn % 2)
                before = sum(filter(None, line.committed()))
                until(lambda more=before: sum(filter(None, line.committed())) > more + RATE // 3, 30)  # type: ignore[misc]  # this turn's
        counts = flow.counts()
        until(lambda: line.committed() == counts, 30)
        failed = servers.failed()
        servers.stop()
    print(f"{kind}: {ROUNDS} kills in {monotonic() - began:.0f} s")
    assert list(judged(line, counts)) == []
    assert failed == 0
