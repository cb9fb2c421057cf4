"""The same work without Kafka or promises: `bare SCENARIO`, the answer in JSON.

As many threads, or coroutines, as the scenario has workers take the next message from a queue, one of them all those of
the hot key: what Python and this machine allow.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from queue import SimpleQueue
from threading import Thread

from bench.side_by_side.scenarios import HOT, SCENARIOS

scenario = SCENARIOS[sys.argv[1]]
items = scenario.items()


def by_threads() -> None:
    hot, others = SimpleQueue[float | None](), SimpleQueue[float | None]()

    def serve(work: SimpleQueue[float | None]) -> None:
        while (one := work.get()) is not None:
            time.sleep(one)

    queues = [hot if scenario.hot and not number else others for number in range(scenario.workers)]
    threads = [Thread(target=serve, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    for one in items:
        (hot if one.key == HOT else others).put(one.takes)
    for queue in queues:
        queue.put(None)
    for thread in threads:
        thread.join()


async def by_coroutines() -> None:
    work = iter([one.takes for one in items])

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
