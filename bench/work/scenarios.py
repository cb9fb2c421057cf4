"""What is performed side by side: how many messages of which keys, how long each takes, and how soon all could be done.

The rows of the table, by name. What is random in them is the same in every run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, NamedTuple

# A failing message is tried again after so many seconds.
DELAY = 0.5
HOT = "hot"


class Item(NamedTuple):
    """One message: its key, its partition, the seconds it takes, and whether its first try fails."""

    key: str
    partition: int
    takes: float
    fails: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`hot`, `slow`, `failing`: shares from 0 to 1 of messages with the same key, that take `long`, that fail once.

    `takes` and `long` in seconds; `workers` are threads, or how many coroutines may be in flight.
    """

    said: str
    count: int
    takes: float
    workers: int
    order: Literal["partition", "key"] = "key"
    asynchronous: bool = False
    partitions: int = 1
    keys: int = 1_000
    hot: float = 0.0
    slow: float = 0.0
    long: float = 0.0
    failing: float = 0.0

    def items(self) -> list[Item]:
        chance = Random(7)
        made = []
        for number in range(self.count):
            key = HOT if chance.random() < self.hot else f"key-{number % self.keys}"
            takes = self.long if chance.random() < self.slow else self.takes
            made.append(Item(key, number % self.partitions, takes, chance.random() < self.failing))
        return made

    def ideal(self, items: list[Item]) -> float:
        """Seconds in which nobody could do it faster: all workers always at work, or the longest lane, with the delays
        of those that fail.
        """
        lanes: dict[object, float] = defaultdict(float)
        work = 0.0
        for one in items:
            tries = one.takes * (2 if one.fails else 1)
            work += tries
            lanes[one.key if self.order == "key" else one.partition] += tries + (DELAY if one.fails else 0.0)
        return max(work / self.workers, *lanes.values())


SCENARIOS: Mapping[str, Scenario] = {
    "key": Scenario(said="1,000 keys, 5 ms, 64 threads", count=10_000, takes=0.005, workers=64),
    "slow": Scenario(said="the same, 1 % take 250 ms", count=10_000, takes=0.005, workers=64, slow=0.01, long=0.25),
    "partitions": Scenario(
        said="10 partitions in their order, 5 ms, 10 threads",
        count=10_000,
        takes=0.005,
        workers=10,
        order="partition",
        partitions=10,
    ),
    "async": Scenario(
        said="10,000 keys, 50 ms, 1,000 coroutines in flight",
        count=40_000,
        takes=0.05,
        workers=1_000,
        keys=10_000,
        asynchronous=True,
    ),
    "hot": Scenario(said="one key has 20 %, 1 ms, 64 threads", count=10_000, takes=0.001, workers=64, hot=0.2),
    "failing": Scenario(
        said="10 % fail once and wait 0.5 s, 5 ms, 64 threads", count=10_000, takes=0.005, workers=64, failing=0.1
    ),
}


def scaled(name: str, count: int | None) -> Scenario:
    """The scenario of that name, with so many messages where it is said."""
    return SCENARIOS[name] if count is None else replace(SCENARIOS[name], count=count)
