"""The app of `bench.processes`: each message keeps a processor busy, and is a line in the ledger once it has."""

from __future__ import annotations

import os
import time

from karafka import App, Controller

LEDGER = os.open(os.environ["BENCH_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
# About 2 ms.
ROUNDS = 40_000

app = App(os.environ["BENCH_GROUP"], kafka={"bootstrap.servers": os.environ["BENCH_BOOTSTRAP"]})


@app.topic(os.environ["BENCH_TOPIC"])
class BurnController(Controller[int]):
    def perform(self) -> None:
        burn()
        os.write(LEDGER, f"{self.params} {time.monotonic()!r}\n".encode())


def burn() -> None:
    total = 0
    for number in range(ROUNDS):
        total += number * number
