"""Ten partitions are performed by ten workers at the same time."""

from __future__ import annotations

from threading import Barrier, current_thread

from karafka import Controller
from tests.specs.run import Notes, Stage, running, until


def test_partitions_run_side_by_side(stage: Stage) -> None:
    app, topic = stage.app(concurrency=10), stage.topic(10)
    workers: Notes[str] = Notes()
    together = Barrier(10)
    for partition in range(10):
        stage.send(topic, ["1"], partition=partition)

    @app.topic(topic)
    class Meet(Controller[int]):
        def perform(self) -> None:
            together.wait(20)  # nobody passes before all ten are here
            workers.add(current_thread().name)

    with running(app):
        until(lambda: len(workers) == 10)

    assert len(set(workers)) == 10
