"""One run in a process of its own: `member ORDER BOOTSTRAP TOPIC GROUP RECORDS KEYS`, the answer in JSON.

From the assignment to the last call of `perform`.
"""

from __future__ import annotations

import json
import sys
import time
from threading import Event, Thread
from typing import Literal

from karafka import App, Controller
from karafka.events import Assigned
from karafka.server import Server

orders: dict[str, Literal["partition", "key"] | None] = {"partition": "partition", "key": "key", "none": None}
order, bootstrap, topic, group = orders[sys.argv[1]], *sys.argv[2:5]
records, keys = int(sys.argv[5]), int(sys.argv[6])
app = App(group, kafka={"bootstrap.servers": bootstrap})
done = Event()
began = cpu = wall = 0.0
numbers: list[int] = []


@app.topic(topic, order=order, concurrency=64)
class NumbersController(Controller[int]):
    def perform(self) -> None:
        numbers.append(self.params)
        if len(numbers) == records:
            finish()


def begin(_event: Assigned) -> None:
    global began, cpu
    began, cpu = time.perf_counter(), time.process_time()


def finish() -> None:
    global wall, cpu
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    done.set()


def end() -> None:
    done.wait(300)
    server.stop()


app.events.on(Assigned, begin)
server = Server(app)
Thread(target=end, daemon=True).start()
if status := server.run():  # as `karafka server` does
    raise SystemExit(f"ended with status {status}")
if sorted(numbers) != list(range(records)):
    raise SystemExit(f"{records} sent, {len(set(numbers))} performed, {len(numbers)} times")
last = dict.fromkeys(range(keys), -1)
for number in numbers if order is not None else ():
    if number < last[number % keys]:
        raise SystemExit(f"{number} was performed after {last[number % keys]}, which is behind it in its lane")
    last[number % keys] = number
print(json.dumps({"wall": wall, "cpu": cpu}))
