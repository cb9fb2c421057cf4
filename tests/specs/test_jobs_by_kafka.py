"""What a route hands to a job queue that Kafka is, is performed by a worker: all of it, as a server would."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from karafka import App, Backoff, Controller, Server, Worker
from karafka.background import subscriptions
from tests.specs.run import Notes, Stage, running, until


def test_first(stage: Stage) -> None:
    source = stage.topic(3)
    app = stage.app(backend="kafka")
    seen: Notes[Any] = Notes()

    @app.topic(source)
    class VideosController(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.partition, self.params))

    for at in range(3):
        stage.send(source, (str(n) for n in range(500)), partition=at)
    worker = Server(app, subscriptions(app))
    with running(app):
        worker.start()
        until(lambda: len(seen) >= 1500)
        worker.stop()
    assert len(seen) == 1500
