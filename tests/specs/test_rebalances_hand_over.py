"""The next owner of a partition begins where the one before it ended: nothing is repeated, nothing waits for long."""

from __future__ import annotations

import time
from threading import Event

from karafka import BatchController, Controller
from karafka.events import Assigned, Overran, Paused, Revoked
from tests.brokers import until as until_true
from tests.specs.groups import Group, leaving, owned
from tests.specs.run import Notes, Stage, until

# A rebalance among members that ask five times a second, on a busy machine.
REBALANCE = 8.0


def test_it_begins_where_the_other_committed(stage: Stage, group: Group) -> None:
    """What is finished is committed as a partition goes, whatever the interval; attempts and batches aside."""
    topic = stage.topic(2)
    seen: Notes[tuple[int, int]] = Notes()

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.partition, self.message.offset))

    for partition in (0, 1):
        stage.send(topic, ["1"] * 10, partition=partition)
    with group.running(group.app(topic, Keep, commit_interval=3_600.0)) as elder:
        until(lambda: len(seen) == 20)
        with group.running(group.app(topic, Keep, commit_interval=3_600.0)) as newer:
            until(lambda: len(owned(newer)) == len(owned(elder)) == 1)
            (start,) = (offset for event in newer.told(Assigned) for offset in event.starts.values())
            assert start == 10
            for partition in (0, 1):
                stage.send(topic, ["1"] * 5, partition=partition)
            until(lambda: len(seen) >= 30)
        until(lambda: len(owned(elder)) == 2)
    for partition in (0, 1):
        assert [offset for place, offset in seen if place == partition] == list(range(15))
    assert stage.committed(group.name, topic, 2) == {0: 15, 1: 15}


def test_what_runs_is_waited_for_and_the_rest_is_left_to_the_next(stage: Stage, group: Group) -> None:
    """Of what is in hand only the message that runs is finished; the next owner performs those behind it."""
    topic = stage.topic(2)
    begun: Notes[tuple[str, int, int]] = Notes()
    done: Notes[tuple[str, int, int]] = Notes()
    open_ = Event()

    def keep(name: str) -> type[Controller[int]]:
        class Keep(Controller[int]):
            def perform(self) -> None:
                note = (name, self.message.partition, self.message.offset)
                begun.add(note)
                if self.message.offset == 2:
                    open_.wait(30)
                done.add(note)

        return Keep

    for partition in (0, 1):
        stage.send(topic, ["1"] * 6, partition=partition)
    with group.running(group.app(topic, keep("elder"), drain_timeout=20.0)) as elder:
        until(lambda: {("elder", 0, 2), ("elder", 1, 2)} <= set(begun))
        with group.running(group.app(topic, keep("newer"))) as newer:
            until_true(lambda: bool(leaving(elder)))
            open_.set()
            until(lambda: len(done) == 12)
            until(lambda: len(owned(newer)) == len(owned(elder)) == 1)
            (gone,) = owned(newer)
    assert [note for note in done if note[1] == gone] == [
        *(("elder", gone, offset) for offset in range(3)),
        *(("newer", gone, offset) for offset in range(3, 6)),
    ]
    assert sorted(note[1:] for note in done) == [(place, offset) for place in (0, 1) for offset in range(6)]


def test_others_wait_no_longer_than_the_drain(stage: Stage, group: Group) -> None:
    """Work that does not end is left behind: its partition goes to the next owner all the same, and stays his."""
    topic, drain = stage.topic(2), 1.5
    begun: Notes[int] = Notes()
    done: Notes[tuple[str, int, int]] = Notes()
    open_ = Event()

    class Stuck(Controller[int]):
        def perform(self) -> None:
            begun.add(self.message.partition)
            open_.wait(60)
            done.add(("stuck", self.message.partition, self.message.offset))

    class Quick(Controller[int]):
        def perform(self) -> None:
            done.add(("quick", self.message.partition, self.message.offset))

    for partition in (0, 1):
        stage.send(topic, ["1"] * 3, partition=partition)
    stuck = group.app(topic, Stuck, drain_timeout=drain, commit_interval=0.1)
    with group.running(stuck, allow=(Overran,)) as elder:
        until(lambda: sorted(begun) == [0, 1])
        began = time.monotonic()
        try:
            with group.running(group.app(topic, Quick, commit_interval=0.1)) as newer:
                until(lambda: len(done) == 3)
                took = time.monotonic() - began
                (taken,) = owned(newer)
                assert done.all() == [("quick", taken, offset) for offset in range(3)]
                until(lambda: stage.committed(group.name, topic, 2) == {taken: 3})
                # The late result: told to nobody, committed by nobody.
                open_.set()
                until(lambda: {("stuck", taken, 0), ("stuck", 1 - taken, 2)} <= set(done))
                until(lambda: stage.committed(group.name, topic, 2) == {taken: 3, 1 - taken: 3})
                assert [event.waited < drain + 0.5 for event in elder.told(Revoked)] == [True]
        finally:
            open_.set()
    print(f"{group.protocol}: a drain of {drain} s kept the next owner waiting for {took:.2f} s")
    assert took < drain + REBALANCE
    assert ("stuck", taken, 1) not in done.all()


def test_a_partition_that_was_paused_flows_when_it_comes_back(stage: Stage, group: Group) -> None:
    """The client remembers what was paused; the new assignment of it begins flowing."""
    topic, count = stage.topic(2), 30_000
    open_ = Event()
    seen: Notes[tuple[int, int, int]] = Notes()

    class Keep(BatchController[str]):
        def perform(self) -> None:
            open_.wait(60)
            first, last = self.messages[0], self.messages[-1]
            seen.add((first.partition, first.offset, last.offset))

    for partition in (0, 1):
        stage.send(topic, ['"x"'] * count, partition=partition)
    app = group.app(topic, Keep, drain_timeout=0.5)
    with group.running(app, allow=(Overran,)) as elder:
        until(lambda: {event.partition for event in elder.told(Paused)} == {0, 1})
        with group.running(group.app(topic, Keep, drain_timeout=0.5), allow=(Overran,)) as guest:
            until(lambda: len(owned(guest)) == len(owned(elder)) == 1)
            guest.server.stop()
            until(lambda: len(owned(elder)) == 2)
            open_.set()
        until(lambda: {(0, count - 1), (1, count - 1)} <= {(place, last) for place, _, last in seen}, 60)
    for partition in (0, 1):
        assert {offset for place, first, last in seen if place == partition for offset in range(first, last + 1)} == {
            *range(count)
        }
    assert stage.committed(group.name, topic, 2) == {0: count, 1: count}


def test_partitions_that_are_added_are_read_from_their_beginning(stage: Stage, group: Group) -> None:
    """While two members run: what was sent there before they knew is performed too."""
    topic = stage.topic(2)
    seen: Notes[tuple[int, int]] = Notes()

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.partition, self.message.offset))

    with group.running(group.app(topic, Keep)) as one, group.running(group.app(topic, Keep)) as two:
        until(lambda: len(owned(one)) == len(owned(two)) == 1)
        stage.grow(topic, 4)
        for partition in range(4):
            stage.send(topic, ["1"] * 10, partition=partition)
        until(lambda: len(seen) >= 40)
        until(lambda: owned(one) | owned(two) == {0, 1, 2, 3} and len(owned(one)) == 2)
    for partition in range(4):
        assert [offset for place, offset in seen if place == partition] == list(range(10))
