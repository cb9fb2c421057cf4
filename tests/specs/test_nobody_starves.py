"""A slow topic with workers of its own delays nobody; among the others partitions take turns."""

from __future__ import annotations

import time
from threading import Event

from karafka import Controller
from tests.specs.run import Notes, Stage, running, until


def test_a_slow_route_keeps_to_its_own_workers(stage: Stage) -> None:
    """While all slow workers are stuck for 2 s, 1,000 messages of another topic are performed."""
    app = stage.app(concurrency=1)
    slow, quick = stage.topic(4), stage.topic()
    stuck: Notes[int] = Notes()
    done: Notes[float] = Notes()
    open_ = Event()
    for partition in range(4):
        stage.send(slow, ["1", "2"], partition=partition)

    @app.topic(slow, concurrency=2)
    class Slow(Controller[int]):
        def perform(self) -> None:
            stuck.add(self.params)
            open_.wait(2)

    @app.topic(quick)
    class Quick(Controller[int]):
        def perform(self) -> None:
            done.add(time.monotonic())

    with running(app):
        until(lambda: len(stuck) == 2)
        began = time.monotonic()
        stage.send(quick, map(str, range(1_000)))
        until(lambda: len(done) == 1_000)
        assert time.monotonic() - began < 2
        assert len(stuck) == 2, "a third slow worker"
        open_.set()


def test_partitions_take_turns_in_the_shared_pool(stage: Stage) -> None:
    """No partition gets a second turn while another waits for its first: runs are handed back after 50 ms."""
    app, topic = stage.app(concurrency=1), stage.topic(4)
    turns: Notes[int] = Notes()
    for partition in range(4):
        stage.send(topic, map(str, range(400)), partition=partition)

    @app.topic(topic)
    class Work(Controller[int]):
        def perform(self) -> None:
            Event().wait(0.001)
            turns.add(self.message.partition)

    with running(app):
        until(lambda: len(turns) == 1_600)

    order = turns.all()
    blocks = [number for index, number in enumerate(order) if not index or order[index - 1] != number]
    # From the first turn of the last to come on, until the first has nothing left, all four alternate.
    begun = max(blocks.index(number) for number in range(4))
    ended = min(len(order) - 1 - order[::-1].index(number) for number in range(4))
    together = [blocks[index : index + 4] for index in range(begun, len(blocks) - 8)]
    assert ended > 400
    assert all(len(set(four)) >= 3 for four in together), blocks


def test_a_perform_of_any_length_keeps_its_membership(stage: Stage) -> None:
    """Longer than the poll limit: polling goes on beside it, and nothing is lost or repeated."""
    limits = {"max.poll.interval.ms": 1_500, "session.timeout.ms": 1_500, "heartbeat.interval.ms": 300}
    app, topic = stage.app(kafka=limits), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, ["1", "2"])

    @app.topic(topic)
    class Long(Controller[int]):
        def perform(self) -> None:
            Event().wait(4)
            seen.add(self.params)

    with running(app):
        until(lambda: len(seen) == 2)
    assert seen.all() == [1, 2]
