"""The app of `bench.start`: says when it is imported, when a partition is there, and when a message is performed."""

from __future__ import annotations

import os

from bench.start.moments import tell
from karafka import App, Controller
from karafka.events import Assigned

app = App(os.environ["BENCH_GROUP"], kafka={"bootstrap.servers": os.environ["BENCH_BOOTSTRAP"]})


@app.topic(os.environ["BENCH_TOPIC"])
class NumbersController(Controller[int]):
    def perform(self) -> None:
        tell("performed", self.params)


app.events.on(Assigned, lambda _event: tell("assigned"))
tell("imported")
