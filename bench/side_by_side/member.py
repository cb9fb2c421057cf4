"""One run of one scenario in a process of its own: `member SCENARIO BOOTSTRAP TOPIC GROUP`, the answer in JSON.

From the first call of `perform` to the last one's end. Each message must have been performed once, but for those that
are to fail, and those of a lane in order.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from threading import Event, Lock, Thread
from typing import Any

from bench.side_by_side.scenarios import DELAY, HOT, SCENARIOS, Item
from karafka import App, Backoff, Controller
from karafka.server import Server

name, bootstrap, topic, group = sys.argv[1:]
scenario = SCENARIOS[name]
items = scenario.items()


class Account:
    """Who was performed when, by `perf_counter`."""

    def __init__(self) -> None:
        self.began = 0.0
        self.cpu = 0.0
        self.done: list[tuple[int, float]] = []
        #: When each that is to fail did.
        self.failed: dict[int, float] = {}
        #: How much later than its delay each of them was tried again, in seconds.
        self.late: list[float] = []
        self.all = Event()
        self._lock = Lock()

    def begin(self, number: int, attempt: int) -> Item:
        now = time.perf_counter()
        if not self.began:
            with self._lock:
                if not self.began:
                    self.began, self.cpu = now, time.process_time()
        item = items[number]
        if attempt > 1:
            self.late.append(now - self.failed[number] - DELAY)
        return item

    def end(self, number: int, attempt: int) -> None:
        if items[number].fails and attempt == 1:
            self.failed[number] = time.perf_counter()
            raise RuntimeError("as planned")
        self.done.append((number, time.perf_counter()))
        if len(self.done) == len(items):
            self.cpu = time.process_time() - self.cpu
            self.all.set()

    def verdict(self) -> dict[str, Any]:
        """Raises `SystemExit` where the ledger does not add up."""
        numbers = [number for number, _ in self.done]
        if sorted(numbers) != list(range(len(items))):
            raise SystemExit(f"{len(items)} sent, {len(set(numbers))} performed, {len(numbers)} times")
        lanes: dict[object, int] = {}
        for number in numbers:
            lane = items[number].key if scenario.order == "key" else items[number].partition
            if lanes.get(lane, -1) > number:
                raise SystemExit(f"{number} was performed after {lanes[lane]}, which is behind it in its lane")
            lanes[lane] = number
        others = [at for number, at in self.done if items[number].key != HOT]
        return {
            "wall": max(at for _, at in self.done) - self.began,
            "cpu": self.cpu,
            "others": max(others) - self.began,
            "late": max(self.late, default=0.0),
        }


account = Account()
app = App(group, kafka={"bootstrap.servers": bootstrap}, retry=Backoff(DELAY, DELAY, jitter=0.0))


class SyncController(Controller[int]):
    def perform(self) -> None:
        number, attempt = self.params, self.message.attempt
        time.sleep(account.begin(number, attempt).takes)
        account.end(number, attempt)


class AsyncController(Controller[int]):
    async def perform(self) -> None:
        number, attempt = self.params, self.message.attempt
        await asyncio.sleep(account.begin(number, attempt).takes)
        account.end(number, attempt)


controller = AsyncController if scenario.asynchronous else SyncController
app.topic(topic, order=scenario.order, concurrency=scenario.workers)(controller)
server = Server(app)


def end() -> None:
    account.all.wait(120)
    server.stop()


Thread(target=end).start()
if status := server.run():  # as `karafka server` does
    raise SystemExit(f"ended with status {status}")
print(json.dumps(account.verdict()))
