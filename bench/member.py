"""The app of `bench.rebalances`: one member of a group. Each message it has performed is a line in the ledger."""

from __future__ import annotations

import json
import os
import time

from bench.ledger import Line
from karafka import App, Controller

NAME = os.environ["BENCH_MEMBER"]
LEDGER = os.open(os.environ["BENCH_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

app = App(
    os.environ["BENCH_GROUP"],
    kafka={"bootstrap.servers": os.environ["BENCH_BOOTSTRAP"], **json.loads(os.environ["BENCH_KAFKA"])},
)


@app.topic(os.environ["BENCH_TOPIC"])
class StreamController(Controller[int]):
    def perform(self) -> None:
        line = Line(NAME, self.message.partition, self.params, time.monotonic())
        os.write(LEDGER, str(line).encode())
