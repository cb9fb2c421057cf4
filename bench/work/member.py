"""One run of one scenario in a process of its own: `member SCENARIO BOOTSTRAP TOPIC GROUP COUNT`, the answer in JSON.

From the first call of `perform` to the last one's end; processor time from the assignment, so that fetching is in it.
Each message must have been performed once, but for those that are to fail, and those of a lane in order.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from threading import Event, Thread
from typing import Any

from bench.work.scenarios import DELAY, HOT, scaled
from karafka import App, Backoff, Controller
from karafka.events import Assigned
from karafka.server import Server

name, bootstrap, topic, group, count = sys.argv[1:]
scenario = scaled(name, int(count))
items = scenario.items()
now, takes = time.perf_counter, [one.takes for one in items]


class Account:
    """Who was performed when, by `perf_counter`."""

    def __init__(self) -> None:
        self.cpu = 0.0
        #: A number, and when its `perform` began and ended.
        self.done: list[tuple[int, float, float]] = []
        #: Those that are to fail and have not yet; when each of the others did.
        self.failing = {number for number, one in enumerate(items) if one.fails}
        self.failed: dict[int, float] = {}
        self.all = Event()

    def begin(self, _event: Assigned) -> None:
        self.cpu = time.process_time()

    def fail(self, number: int) -> None:
        self.failing.discard(number)
        self.failed[number] = now()
        raise RuntimeError("as planned")

    def end(self) -> None:
        self.cpu = time.process_time() - self.cpu
        self.all.set()

    def verdict(self) -> dict[str, Any]:
        """Raises `SystemExit` where the ledger does not add up."""
        numbers = [number for number, _, _ in self.done]
        if sorted(numbers) != list(range(len(items))):
            raise SystemExit(f"{len(items)} sent, {len(set(numbers))} performed, {len(numbers)} times")
        lanes: dict[object, int] = {}
        for number in numbers:
            lane = items[number].key if scenario.order == "key" else items[number].partition
            if lanes.get(lane, -1) > number:
                raise SystemExit(f"{number} was performed after {lanes[lane]}, which is behind it in its lane")
            lanes[lane] = number
        began = min(at for _, at, _ in self.done)
        late = (at - self.failed[number] - DELAY for number, at, _ in self.done if number in self.failed)
        return {
            "wall": max(at for _, _, at in self.done) - began,
            "cpu": self.cpu,
            "others": max(at for number, _, at in self.done if items[number].key != HOT) - began,
            "late": max(late, default=0.0),
        }


account = Account()
done, failing = account.done, account.failing
app = App(group, kafka={"bootstrap.servers": bootstrap}, retry=Backoff(DELAY, DELAY, jitter=0.0))


class SyncController(Controller[int]):
    def perform(self) -> None:
        number, began = self.params, now()
        time.sleep(takes[number])
        if number in failing:
            account.fail(number)
        done.append((number, began, now()))
        if len(done) == len(items):
            account.end()


class AsyncController(Controller[int]):
    async def perform(self) -> None:
        number, began = self.params, now()
        await asyncio.sleep(takes[number])
        if number in failing:
            account.fail(number)
        done.append((number, began, now()))
        if len(done) == len(items):
            account.end()


controller = AsyncController if scenario.asynchronous else SyncController
app.topic(topic, order=scenario.order, concurrency=scenario.workers)(controller)
app.events.on(Assigned, account.begin)
server = Server(app)


def end() -> None:
    account.all.wait(120)
    server.stop()


Thread(target=end, daemon=True).start()
if status := server.run():  # as `karafka server` does
    raise SystemExit(f"ended with status {status}")
print(json.dumps(account.verdict()))
