"""Work that takes longer than `max.poll.interval.ms` keeps its partitions, under each protocol."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest

from karafka import Controller
from karafka.controllers import AnyController
from karafka.events import Assigned, Lost, Revoked
from tests.specs.groups import Group
from tests.specs.run import Notes, Stage, until

LIMIT, LONG = 2.0, 4.5


@pytest.fixture
def group(stage: Stage, protocol: str) -> Group:
    """Its session is no longer than the limit, as the client demands."""
    return Group(stage, protocol, session=int(LIMIT * 1000))


@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_long_work_keeps_its_partitions(stage: Stage, group: Group, partitions: int, *, asynchronous: bool) -> None:
    """And is performed once, whether one partition has it or all at once."""
    topic = stage.topic(partitions)
    done: Notes[tuple[int, int]] = Notes()

    class Blocking(Controller[int]):
        def perform(self) -> None:
            Event().wait(LONG if self.message.offset == 0 else 0)
            done.add((self.message.partition, self.message.offset))

    class Awaiting(Controller[int]):
        async def perform(self) -> None:
            await asyncio.sleep(LONG if self.message.offset == 0 else 0)
            done.add((self.message.partition, self.message.offset))

    controller: type[AnyController] = Awaiting if asynchronous else Blocking
    for partition in range(partitions):
        stage.send(topic, ["1"] * 3, partition=partition)
    limits = {"max.poll.interval.ms": int(LIMIT * 1000)}
    with group.running(group.app(topic, controller, kafka=limits, concurrency=4)) as member:
        until(lambda: len(done) >= 3 * partitions)
        assert not member.told(Lost)
        assert not member.told(Revoked)
        assert len(member.told(Assigned)) == 1
    for partition in range(partitions):
        assert [offset for place, offset in done if place == partition] == [0, 1, 2]
    assert stage.committed(group.name, topic, partitions) == dict.fromkeys(range(partitions), 3)
