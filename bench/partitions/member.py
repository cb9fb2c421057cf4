"""One run in a process of its own: `member BOOTSTRAP TOPIC GROUP PARTITIONS RECORDS`, the answer in JSON.

From the first call of `perform` to the last, but processor time from the start: fetching begins before. Then, with all
partitions idle, the processor and the memory it takes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from threading import Event

from karafka import App, Controller
from karafka.events import Assigned
from karafka.server import Server

# Seconds for which the idle server is watched.
IDLE = 5.0

bootstrap, topic, group, partitions, records = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
app = App(group, kafka={"bootstrap.servers": bootstrap})
done, owned = Event(), Event()
began = cpu = wall = 0.0
count = total = 0


@app.topic(topic, concurrency=1)
class RecordsController(Controller[int]):
    def perform(self) -> None:
        global began, count, total, cpu, wall
        total += self.params
        count += 1
        if count == 1:
            began = time.perf_counter()
        if count == records:
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            done.set()


def assigned(event: Assigned) -> None:
    if len(event.starts) == partitions:
        owned.set()


def resident() -> int:
    """Bytes of memory that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


app.events.on(Assigned, assigned)
server = Server(app)
cpu = time.process_time()
server.start()
if not owned.wait(60):
    raise SystemExit("not assigned within 60 s")
if records and not done.wait(300):
    raise SystemExit(f"{count} of {records} within 300 s")
time.sleep(3)
before = time.process_time()
time.sleep(IDLE)
idle, memory = (time.process_time() - before) / IDLE, resident()
if status := server.stop():
    raise SystemExit(f"ended with status {status}")
print(json.dumps({"count": count, "total": total, "wall": wall, "cpu": cpu, "idle": idle, "memory": memory}))
