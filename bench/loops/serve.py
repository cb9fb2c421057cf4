"""Runs an app as `karafka server` does, until it has performed all records."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from bench.loops.report import Stopwatch
from karafka import App, Server
from karafka.events import Performed, Received


def serve(app: App, records: int, total: Callable[[], int]) -> None:
    """Measured from the first message received to the last performed; then it stops in order and commits."""
    watch, count = Stopwatch(), 0

    def received(event: Received) -> None:
        if event.offset == 0:
            watch.start()

    def performed(event: Performed) -> None:
        nonlocal count
        count += event.count
        if count >= records:
            watch.report(count, total())
            os.kill(os.getpid(), signal.SIGTERM)

    app.events.on(Received, received)
    app.events.on(Performed, performed)
    Server(app).run()
