"""The same work without Kafka, order or promises: `bare SCENARIO`, the answer in JSON.

As many threads, or coroutines, as the scenario has workers take the next message from a queue: what Python and this
machine allow.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from queue import SimpleQueue
from threading import Thread

from bench.side_by_side.scenarios import SCENARIOS

scenario = SCENARIOS[sys.argv[1]]
takes = [one.takes for one in scenario.items()]


def by_threads() -> None:
    work: SimpleQueue[float | None] = SimpleQueue()

    def serve() -> None:
        while (one := work.get()) is not None:
            time.sleep(one)

    threads = [Thread(target=serve) for _ in range(scenario.workers)]
    for thread in threads:
        thread.start()
    for one in [*takes, *(None for _ in threads)]:
        work.put(one)
    for thread in threads:
        thread.join()


async def by_coroutines() -> None:
    work = iter(takes)

    async def serve() -> None:
        for one in work:
            await asyncio.sleep(one)

    await asyncio.gather(*(serve() for _ in range(scenario.workers)))


began, cpu = time.perf_counter(), time.process_time()
if scenario.asynchronous:
    asyncio.run(by_coroutines())
else:
    by_threads()
print(json.dumps({"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}))
