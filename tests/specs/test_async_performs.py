"""`async def perform` runs on one loop, partitions side by side, each in its own order."""

from __future__ import annotations

import asyncio
from threading import current_thread

from karafka import Controller
from tests.specs.run import Notes, Stage, running, until


def test_partitions_wait_side_by_side(stage: Stage) -> None:
    """Ten that all wait for each other, on one thread."""
    app, topic = stage.app(concurrency=1), stage.topic(10)
    threads: Notes[str] = Notes()
    here: set[int] = set()
    for partition in range(10):
        stage.send(topic, ["1"], partition=partition)

    @app.topic(topic)
    class Meet(Controller[int]):
        async def perform(self) -> None:
            here.add(self.message.partition)
            while len(here) < 10:
                await asyncio.sleep(0.01)
            threads.add(current_thread().name)

    with running(app):
        until(lambda: len(threads) == 10)
    assert len(set(threads)) == 1


def test_each_partition_stays_in_order(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic(3)
    seen: Notes[tuple[int, int]] = Notes()
    for partition in range(3):
        stage.send(topic, map(str, range(200)), partition=partition)

    @app.topic(topic)
    class Keep(Controller[int]):
        async def perform(self) -> None:
            await asyncio.sleep(0.001 * (self.params % 3))
            seen.add((self.message.partition, self.params))

    with running(app):
        until(lambda: len(seen) == 600)
    for partition in range(3):
        assert [number for place, number in seen if place == partition] == list(range(200))


def test_concurrency_bounds_what_runs_side_by_side(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic(6)
    side_by_side: Notes[int] = Notes()
    running_now: list[int] = [0]
    for partition in range(6):
        stage.send(topic, map(str, range(20)), partition=partition)

    @app.topic(topic, concurrency=2)
    class Count(Controller[int]):
        async def perform(self) -> None:
            running_now[0] += 1
            await asyncio.sleep(0.005)
            side_by_side.add(running_now[0])
            running_now[0] -= 1

    with running(app):
        until(lambda: len(side_by_side) == 120)
    assert max(side_by_side) == 2
