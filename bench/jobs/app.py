"""The app whose server hands over and whose worker performs: each job's number is written down as it is performed."""

from __future__ import annotations

import os

from karafka import App, Controller
from karafka.backends.port import Backend

DONE = os.open(os.environ["BENCH_DONE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def backend(name: str) -> Backend | str:
    """As its users would declare it."""
    if name == "dramatiq":
        from dramatiq.brokers.redis import RedisBroker  # noqa: PLC0415 - only who measures it has it

        from karafka.backends.dramatiq import DramatiqBackend  # noqa: PLC0415

        return DramatiqBackend(RedisBroker(url=os.environ["BENCH_REDIS"]))  # type: ignore[no-untyped-call]  # it has none
    if name == "celery":
        from celery import Celery  # noqa: PLC0415

        from karafka.backends.celery import CeleryBackend  # noqa: PLC0415

        return CeleryBackend(Celery("bench", broker=os.environ["BENCH_REDIS"]))
    return name


app = App(
    os.environ["BENCH_GROUP"],
    kafka={"bootstrap.servers": os.environ["BENCH_BOOTSTRAP"]},
    backend=backend(os.environ["BENCH_BACKEND"]),
)


@app.topic(os.environ["BENCH_TOPIC"])
class JobsController(Controller[int]):
    def perform(self) -> None:
        os.write(DONE, self.params.to_bytes(4, "big"))
