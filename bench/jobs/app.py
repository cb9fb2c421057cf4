"""The app whose server hands over and whose worker performs: each job's number is written down as it is performed."""

from __future__ import annotations

import os

from karafka import App, Controller

DONE = os.open(os.environ["BENCH_DONE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

app = App(
    os.environ["BENCH_GROUP"],
    kafka={"bootstrap.servers": os.environ["BENCH_BOOTSTRAP"]},
    backend=os.environ["BENCH_BACKEND"],
)


@app.topic(os.environ["BENCH_TOPIC"])
class JobsController(Controller[int]):
    def perform(self) -> None:
        os.write(DONE, self.params.to_bytes(4, "big"))
