"""Members that come and go ten times skip nothing, keep each partition in order, and leave other groups alone."""

from __future__ import annotations

from threading import Event, Thread

from karafka import Controller
from karafka.events import Assigned, Revoked
from tests.specs.groups import Group, owned
from tests.specs.run import Notes, Stage, until

PARTITIONS = 4


def test_ten_rebalances_skip_nothing_and_no_other_group_notices(stage: Stage, group: Group) -> None:
    topic, other = stage.topic(PARTITIONS), Group(stage, group.protocol)
    seen: Notes[tuple[int, int]] = Notes()
    over = Event()
    sent = [0] * PARTITIONS

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.partition, self.message.offset))

    class Bystander(Controller[int]):
        def perform(self) -> None:
            pass

    def flow() -> None:
        while not over.wait(0.02):
            for partition in range(PARTITIONS):
                stage.send(topic, [str(sent[partition])], partition=partition)
                sent[partition] += 1

    sending = Thread(target=flow)
    with other.running(other.app(topic, Bystander)) as bystander, group.running(group.app(topic, Keep)) as elder:
        until(lambda: len(owned(bystander)) == len(owned(elder)) == PARTITIONS)
        sending.start()
        try:
            for _ in range(10):
                with group.running(group.app(topic, Keep)) as guest:
                    until(lambda: len(owned(guest)) == 2 and len(owned(elder)) == 2)
                until(lambda: len(owned(elder)) == PARTITIONS)
        finally:
            over.set()
            sending.join()
        until(lambda: len(seen) >= sum(sent))
        assert len(elder.told(Revoked)) >= 10
        assert [len(event.starts) for event in bystander.told(Assigned)] == [PARTITIONS]
        assert not bystander.told(Revoked)

    for partition in range(PARTITIONS):
        assert [offset for place, offset in seen if place == partition] == list(range(sent[partition]))
    assert stage.committed(group.name, topic, PARTITIONS) == dict(enumerate(sent))
