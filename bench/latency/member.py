"""karafka, one run in a process of its own, the answer in JSON.

Run as `python -m bench.latency.member KIND BOOTSTRAP TOPIC GROUP RATE WARM COUNTED`.
"""

from __future__ import annotations

import json
from threading import Thread
from time import time_ns

from bench.latency.stamps import Account, Stamp, task
from karafka import App, BatchController, Controller, Server

asked = task()
account = Account(asked)
app = App(asked.group, kafka={"bootstrap.servers": asked.bootstrap})


class SyncController(Controller[Stamp]):
    def perform(self) -> None:
        at = time_ns()
        account.note(self.params, at)


class AsyncController(Controller[Stamp]):
    async def perform(self) -> None:
        at = time_ns()
        account.note(self.params, at)


class StampsController(BatchController[Stamp]):
    def perform(self) -> None:
        at = time_ns()
        for stamp in self.params:
            account.note(stamp, at)


def end() -> None:
    account.done.wait(asked.timeout)
    server.stop()


match asked.kind:
    case "perform":
        app.topic(asked.topic)(SyncController)
    case "async":
        app.topic(asked.topic)(AsyncController)
    case "batch":
        app.topic(asked.topic, max_messages=500, max_wait=0)(StampsController)
server = Server(app)
Thread(target=end, daemon=True).start()
if status := server.run():  # as `karafka server` does
    raise SystemExit(f"ended with status {status}")
print(json.dumps(account.verdict()))
