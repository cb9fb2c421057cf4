"""One run of slow work by key with Java's Parallel Consumer, in a process of its own: see `ParallelConsumer.java`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

from bench.work.java.environment import command

# So often the topic is read before it is measured, by the same Java: its first reading takes five times the processor
# time, most of that for compiling; after so many little of it is left.
WARM = 8


def answered(takes: Sequence[float], workers: int, bootstrap: str, topic: str, group: str) -> dict[str, float]:
    """What the run says: `wall` and `cpu` in seconds, measured as `member` measures ours, and `count`.

    `takes`: the seconds that each message of the topic takes, whole milliseconds; a message's value is its number.
    Ends the bench when not each was performed once, or those of a key not in order. What is committed the caller asks.
    """
    milliseconds = "".join(f"{one * 1e3:g}\n" for one in takes)
    run = [*command(), bootstrap, topic, group, str(workers), str(WARM)]
    done = subprocess.run(run, input=milliseconds, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"the Parallel Consumer on {topic} ended with status {done.returncode}:\n{done.stderr}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer
