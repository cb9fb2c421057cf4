"""A server that stops in the middle of a rebalance leaves at once: the others soon go on where it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread

from karafka import Backoff, Controller
from karafka.controllers import AnyController
from karafka.events import Assigned, Committed, Failed, Revoked
from karafka.lifecycle import Phase
from tests.brokers import until as until_true
from tests.specs.groups import Group, leaving, owned
from tests.specs.run import Notes, Stage, until

# The client's own: a member may be three seconds late to hear of a rebalance, which then has a middle to stop in.
HEARTBEAT = 3_000
# Who does not leave is missed after so long.
SESSION = 30_000
# Two heartbeats under KIP-848 (its slowest way), on a busy machine.
SOON = 12.0


def keeping(seen: Notes[tuple[int, int]]) -> type[AnyController]:
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.partition, self.message.offset))

    return Keep


def flows_again(stage: Stage, topic: str, seen: Notes[tuple[int, int]], offset: int) -> float:
    """Send one more to both partitions; the seconds until both are performed."""
    began = time.monotonic()
    for partition in (0, 1):
        stage.send(topic, ["1"], partition=partition)
    until(lambda: {(0, offset), (1, offset)} <= set(seen), SESSION / 1000 + 20)
    return time.monotonic() - began


def stopping_at(stage: Stage, protocol: str, moment: Callable[[list[object], list[object]], bool]) -> float:
    """A newcomer stops when `moment` has come, looking at its events and the elder's; until all flows again."""
    group, topic = Group(stage, protocol, heartbeat=HEARTBEAT, session=SESSION), stage.topic(2)
    seen: Notes[tuple[int, int]] = Notes()
    with group.running(group.app(topic, keeping(seen))) as elder:
        until(lambda: len(owned(elder)) == 2)
        with group.running(group.app(topic, keeping(seen))) as newcomer:
            until(lambda: moment(list(newcomer.events), list(elder.events)))
            began = time.monotonic()
            newcomer.server.stop()
            stopped = time.monotonic() - began
        took = flows_again(stage, topic, seen, 0)
    print(f"{protocol}: stopped within {stopped:.2f} s, all flows again after {took:.2f} s")
    assert stopped < SOON
    return took


def test_a_newcomer_that_stops_before_it_was_answered_holds_up_nobody(stage: Stage, protocol: str) -> None:
    assert stopping_at(stage, protocol, lambda _own, _elders: True) < SOON


def test_a_newcomer_that_stops_as_the_other_gives_up_holds_up_nobody(stage: Stage, protocol: str) -> None:
    """Under the cooperative protocol it has been answered, with nothing: the second round is under way."""

    def moment(_own: list[object], elders: list[object]) -> bool:
        return any(isinstance(event, Revoked) for event in elders)

    assert stopping_at(stage, protocol, moment) < SOON


def test_a_newcomer_that_stops_at_its_first_answer_holds_up_nobody(stage: Stage, protocol: str) -> None:
    def moment(own: list[object], _elders: list[object]) -> bool:
        return any(isinstance(event, Assigned) for event in own)

    assert stopping_at(stage, protocol, moment) < SOON


def test_one_with_nothing_to_do_leaves_too(stage: Stage, protocol: str) -> None:
    """More members than partitions: when the idle one has stopped, no rebalance waits for it."""
    group, topic = Group(stage, protocol, session=SESSION), stage.topic(2)
    seen: Notes[tuple[int, int]] = Notes()
    app = keeping(seen)
    with group.running(group.app(topic, app)) as one, group.running(group.app(topic, app)) as two:
        until(lambda: len(owned(one)) == len(owned(two)) == 1)
        with group.running(group.app(topic, app)) as three:
            # Under KIP-848 who gets nothing is told nothing: the broker is asked.
            until_true(lambda: stage.members(group.name) == [0, 1, 1])
            (idle,) = (member for member in (one, two, three) if not owned(member))
            idle.server.stop()
            until_true(lambda: stage.members(group.name) == [1, 1])
            next(member for member in (one, two) if member is not idle).server.stop()
            took = flows_again(stage, topic, seen, 0)
    print(f"{protocol}: all flows again after {took:.2f} s")
    assert took < SOON


def test_an_elder_that_stops_as_another_joins_repeats_nothing(stage: Stage, protocol: str) -> None:
    """What it has finished is committed as it leaves, though a commit that meets a rebalance is refused at first."""
    group, topic, count = Group(stage, protocol, heartbeat=HEARTBEAT, session=SESSION), stage.topic(8), 20
    seen: Notes[tuple[int, int]] = Notes()
    for partition in range(8):
        stage.send(topic, ["1"] * count, partition=partition)
    with group.running(group.app(topic, keeping(seen), commit_interval=3_600.0)) as elder:
        until(lambda: len(seen) == 8 * count)
        assert not elder.told(Committed)
        with group.running(group.app(topic, keeping(seen))) as newcomer:
            until(lambda: elder.told(Revoked))
            elder.server.stop()
            until(lambda: len(owned(newcomer)) == 8, SESSION / 1000 + 20)
            starts = {place: start for event in newcomer.told(Assigned) for place, start in event.starts.items()}
    assert set(starts.values()) == {count}
    assert len(seen) == 8 * count


def test_a_commit_that_a_rebalance_refused_is_sent_again_by_a_stop(stage: Stage) -> None:
    """Between its two rounds the cooperative protocol takes no commits: a stop lets the second one end first."""
    group, topic = Group(stage, "cooperative", heartbeat=HEARTBEAT, session=SESSION), stage.topic(8)
    seen: Notes[tuple[int, int]] = Notes()
    over = Event()
    sent = [0]

    def flow() -> None:
        while not over.wait(0.02):
            for partition in range(8):
                stage.send(topic, ["1"], partition=partition)
            sent[0] += 1

    sending = Thread(target=flow)
    sending.start()
    try:
        with group.running(group.app(topic, keeping(seen), commit_interval=0.1)) as elder:
            until(lambda: elder.told(Committed))
            with group.running(group.app(topic, keeping(seen))) as newcomer:
                until(lambda: elder.told(Revoked))
                elder.server.stop()
                over.set()
                sending.join()
                until(lambda: len(owned(newcomer)) == 8, SESSION / 1000 + 20)
                until(lambda: len(set(seen)) == 8 * sent[0])
    finally:
        over.set()
        sending.join()
    assert len(seen) == len(set(seen)), f"{len(seen) - len(set(seen))} performed twice"


def test_an_elder_that_stops_while_it_gives_up_finishes_what_runs(stage: Stage, protocol: str) -> None:
    """The stop waits for the work in hand, in a revocation as out of one."""
    group, topic = Group(stage, protocol), stage.topic(2)
    begun: Notes[int] = Notes()
    done: Notes[tuple[int, int]] = Notes()
    open_ = Event()

    class Slow(Controller[int]):
        def perform(self) -> None:
            begun.add(self.message.partition)
            open_.wait(30)
            done.add((self.message.partition, self.message.offset))

    for partition in (0, 1):
        stage.send(topic, ["1"] * 3, partition=partition)
    with group.running(group.app(topic, Slow, drain_timeout=25.0)) as elder:
        until(lambda: sorted(begun) == [0, 1])
        with group.running(group.app(topic, keeping(done))):
            until_true(lambda: bool(leaving(elder)))
            stopping = Thread(target=elder.server.stop)
            stopping.start()
            until_true(lambda: elder.server.phase is Phase.STOPPING)
            open_.set()
            stopping.join(30)
            until(lambda: len(done) >= 6)
    assert sorted(done) == [(place, offset) for place in (0, 1) for offset in range(3)]
    assert stage.committed(group.name, topic, 2) == {0: 3, 1: 3}


def test_a_stop_does_not_wait_for_a_back_off(stage: Stage, protocol: str) -> None:
    """Nor does a rebalance: the next owner tries what failed, and finds the rest in order."""
    group, topic = Group(stage, protocol), stage.topic(2)
    seen: Notes[tuple[int, int]] = Notes()

    class Fail(Controller[int]):
        def perform(self) -> None:
            if self.message.offset == 1:
                raise ValueError
            seen.add((self.message.partition, self.message.offset))

    for partition in (0, 1):
        stage.send(topic, ["1"] * 3, partition=partition)
    with group.running(group.app(topic, Fail, retry=Backoff(600, 600)), allow=(Failed,)) as elder:
        until(lambda: len(elder.told(Failed)) == 2)
        with group.running(group.app(topic, keeping(seen))) as newcomer:
            until(lambda: len(owned(newcomer)) == 1)
            (moved,) = owned(newcomer)
            until(lambda: (moved, 2) in seen)
            assert max(event.waited for event in elder.told(Revoked)) < 1
            began = time.monotonic()
            elder.server.stop()
            took = time.monotonic() - began
            until(lambda: (1 - moved, 2) in seen)
    assert took < 3
    for partition in (0, 1):
        assert [offset for place, offset in seen if place == partition] == [0, 1, 2]
