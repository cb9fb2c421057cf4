"""Between tries of one message the pauses double up to their cap, for ever."""

from __future__ import annotations

import time
from itertools import pairwise

from karafka import Backoff, Controller
from karafka.events import Failed
from tests.specs.run import Notes, Stage, running, until


def test_retries_back_off(stage: Stage) -> None:
    app, topic = stage.app(retry=Backoff(0.1, 0.8, jitter=0.1)), stage.topic()
    times: Notes[float] = Notes()
    stage.send(topic, ["1"])

    @app.topic(topic)
    class Fail(Controller[int]):
        def perform(self) -> None:
            times.add(time.monotonic())
            raise ValueError

    with running(app, allow=(Failed,)):
        until(lambda: len(times) == 7)

    pauses = [after - before for before, after in pairwise(times)]
    for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.8, 0.8, 0.8), strict=False):
        assert 0.9 * least <= pause <= 1.1 * least + 0.3
    assert stage.committed(app.config.client_id, topic) in ({}, {0: 0})
