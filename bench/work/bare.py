"""The same work without Kafka or promises: `bare SCENARIO COUNT`, the answer in JSON.

As many threads, or coroutines, as the scenario has workers take the next message from a queue, one of them all those of
the hot key, and keep the same account of it: what Python and this machine allow.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from queue import SimpleQueue
from threading import Thread

from bench.work.scenarios import HOT, scaled

scenario = scaled(sys.argv[1], int(sys.argv[2]))
items = scenario.items()


now, takes = time.perf_counter, [one.takes for one in items]
done: list[tuple[int, float, float]] = []


def by_threads() -> None:
    hot, others = SimpleQueue[int | None](), SimpleQueue[int | None]()

    def serve(work: SimpleQueue[int | None]) -> None:
        while (number := work.get()) is not None:
            began = now()
            time.sleep(takes[number])
            done.append((number, began, now()))

    queues = [hot if scenario.hot and not number else others for number in range(scenario.workers)]
    threads = [Thread(target=serve, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    for number, one in enumerate(items):
        (hot if one.key == HOT else others).put(number)
    for queue in queues:
        queue.put(None)
    for thread in threads:
        thread.join()


async def by_coroutines() -> None:
    work = iter(range(len(items)))

    async def serve() -> None:
        for number in work:
            began = now()
            await asyncio.sleep(takes[number])
            done.append((number, began, now()))

    await asyncio.gather(*(serve() for _ in range(scenario.workers)))


began, cpu = time.perf_counter(), time.process_time()
if scenario.asynchronous:
    asyncio.run(by_coroutines())
else:
    by_threads()
answer = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
others = [at for number, _, at in done if items[number].key != HOT]
print(json.dumps({**answer, "others": max(others) - began}))
