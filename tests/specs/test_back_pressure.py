"""A slow partition holds what it needs and no more, and its neighbours keep flowing."""

from __future__ import annotations

from collections import Counter
from threading import Event
from typing import Literal

import pytest

from karafka import Controller
from karafka.events import Committed, Paused, Received, Resumed
from karafka.flow import FETCH
from karafka.policy import MIB, Policy
from tests.specs.run import Notes, Stage, running, until


def test_a_stuck_partition_leaves_its_neighbours_flowing(stage: Stage) -> None:
    """It is paused alone, holding high water and one fetch; the other is fetched, performed and committed on."""
    app, topic = stage.app(concurrency=2), stage.topic(2)
    open_ = Event()
    done: Counter[int] = Counter()
    thousands: Notes[int] = Notes()
    stage.send(topic, ['"x"'] * 50_000)

    @app.topic(topic)
    class Slow(Controller[str]):
        def perform(self) -> None:
            if self.message.partition == 0:
                open_.wait(60)
            done[self.message.partition] += 1
            if self.message.offset % 1_000 == 999:
                thousands.add(self.message.partition)

    with running(app) as server:
        try:
            until(lambda: server.told(Paused))
            for more in (1, 2, 3):
                stage.send(topic, ['"x"'] * 5_000, partition=1)
                until(lambda more=more: thousands.all().count(1) == 5 * more, 8)  # type: ignore[misc]
            until(lambda: any(event.offsets.get((topic, 1)) == 15_000 for event in server.told(Committed)), 8)
            assert done[0] == 0
            assert {event.partition for event in server.told(Paused)} == {0}
            held = sum(event.count for event in server.told(Received) if event.partition == 0)
            assert held <= Policy().high + FETCH
        finally:
            open_.set()
        until(lambda: thousands.all().count(0) == 50)
        assert {event.partition for event in server.told(Resumed)} == {0}
    assert done == {0: 50_000, 1: 15_000}


@pytest.mark.parametrize("order", ["partition", None])
def test_large_messages_are_bounded_in_bytes(stage: Stage, order: Literal["partition"] | None) -> None:
    """200 of 1 MB, and work that stands still: what is in hand stays within the app's memory, over all queues.

    With messages side by side too, of which 16 are with the workers.
    """
    app = stage.app(memory=64 * MIB, concurrency=2 if order else 16)
    topic = stage.topic(2, max_message_bytes="1100000")
    open_ = Event()
    seen: Notes[int] = Notes()
    payload = '"' + "x" * 1_000_000 + '"'
    for partition in (0, 1):
        stage.send(topic, [payload] * 100, partition=partition)

    @app.topic(topic, order=order)
    class Slow(Controller[str]):
        def perform(self) -> None:
            open_.wait(60)
            seen.add(self.message.offset)

    with running(app) as server:
        until(lambda: len({event.partition for event in server.told(Paused)}) == 2)
        settled = len(server.told(Received))
        Event().wait(1)  # time for more to come, which must not
        assert len(server.told(Received)) == settled
        held = sum(event.count for event in server.told(Received))
        assert held <= 64, f"{held} MB in hand"
        open_.set()
        until(lambda: len(seen) == 200)
