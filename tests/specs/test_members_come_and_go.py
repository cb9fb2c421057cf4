"""Partitions that are taken away and given back go on where they stood: nothing is passed over, nothing is repeated."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event

import pytest

from karafka import App, Backoff, Controller, group, topic
from karafka.events import Assigned, Committed, Failed, Revoked
from tests.brokers import new_group
from tests.specs.run import EAGER, Notes, Stage, running, until

# Members that hear of a rebalance soon.
QUICK: Mapping[str, str | int] = {**EAGER, "session.timeout.ms": 10_000}


def test_ten_members_come_and_go(stage: Stage) -> None:
    """Messages flow meanwhile; one group sees it all, and another that reads the same topic none of it."""
    app, name, shaken, still = stage.app(), stage.topic(2), new_group(), new_group()
    seen: dict[str, Notes[tuple[int, int]]] = {shaken: Notes(), still: Notes()}

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen[self.message.id.split("/")[0]].add((self.message.partition, self.params))

    app.routes.draw(*(group(one, topic(name, Keep), kafka=QUICK) for one in (shaken, still)))

    with running(app) as server:
        for sent in range(0, 200, 20):
            with stage.member(shaken, name):
                for partition in (0, 1):
                    stage.send(name, map(str, range(sent, sent + 20)), partition=partition)
            until(lambda wanted=2 * (sent + 20): len(seen[shaken]) == wanted)  # type: ignore[misc]
        until(lambda: len(seen[still]) == 400)
        came = [event.group for event in server.told(Assigned)]
        went = [event.group for event in server.told(Revoked)]
        assert came.count(shaken) > 10
        assert went.count(shaken) >= 10
        assert (came.count(still), went.count(still)) == (1, 0)
    assert [event.group for event in server.told(Revoked)].count(still) == 1

    for notes in seen.values():
        for partition in (0, 1):
            assert [number for place, number in notes if place == partition] == list(range(200))
    for one in (shaken, still):
        assert stage.committed(one, name, 2) == {0: 200, 1: 200}


def test_ten_rebalances_leave_no_gap_in_what_is_marked_and_committed(stage: Stage) -> None:
    """Each message is committed by its perform. Only where that was answered with no it may come again."""
    app, name = stage.app(kafka=QUICK, commit_interval=3_600.0), stage.topic(2)
    seen: Notes[tuple[int, int, bool]] = Notes()

    @app.topic(name, marking="manual")
    class Keep(Controller[int]):
        def perform(self) -> None:
            kept = self.mark() and self.commit()
            seen.add((self.message.partition, self.params, kept))

    def performed() -> set[tuple[int, int]]:
        return {(place, number) for place, number, _ in seen}

    with running(app) as server:
        for sent in range(0, 200, 20):
            with stage.member(app.config.client_id, name):
                for partition in (0, 1):
                    stage.send(name, map(str, range(sent, sent + 20)), partition=partition)
            until(lambda wanted=2 * (sent + 20): len(performed()) == wanted, 60)  # type: ignore[misc]
        assert len(server.told(Assigned)) > 10
    for partition in (0, 1):
        numbers = [number for place, number, _ in seen if place == partition]
        assert list(dict.fromkeys(numbers)) == list(range(200))
        kept = [number for place, number, kept in seen if place == partition and kept]
        assert len(set(kept)) == len(kept)
    assert stage.committed(app.config.client_id, name, 2) == {0: 200, 1: 200}


def test_what_is_finished_is_committed_when_a_partition_goes(stage: Stage) -> None:
    """However far the next commit would have been off: who takes over begins behind what was performed."""
    name, one = stage.topic(2), new_group()
    seen: Notes[tuple[int, int]] = Notes()
    for partition in (0, 1):
        stage.send(name, map(str, range(50)), partition=partition)

    def app() -> App:
        made = stage.app(client_id=one, kafka=QUICK, commit_interval=3_600.0)

        @made.topic(name)
        class Keep(Controller[int]):
            def perform(self) -> None:
                seen.add((self.message.partition, self.params))

        return made

    with running(app()) as older:
        until(lambda: len(seen) == 100)
        assert not older.told(Committed)
        with running(app()) as newer:
            until(lambda: any(event.starts for event in newer.told(Assigned)), 60)
            (starts,) = (event.starts for event in newer.told(Assigned) if event.starts)
        assert set(starts.values()) == {50}
    assert len(seen) == 100
    assert stage.committed(one, name, 2) == {0: 50, 1: 50}


def test_attempts_begin_anew_with_an_assignment(stage: Stage) -> None:
    """What failed before a partition went is not held against its message when the partition comes back."""
    app, name = stage.app(kafka=QUICK, retry=Backoff(0.05, 0.05)), stage.topic(2)
    for partition in (0, 1):
        stage.send(name, ["0"], partition=partition)

    @app.topic(name)
    class Fail(Controller[int]):
        def perform(self) -> None:
            raise ValueError

    def attempts(partition: int) -> list[int]:
        return [event.attempt for event in server.told(Failed) if event.partition == partition]

    with running(app, allow=(Failed,)) as server:
        until(lambda: all(max(attempts(one), default=0) >= 5 for one in (0, 1)))
        with stage.member(app.config.client_id, name) as member:
            (taken,) = (one.partition for one in member.assignment())
            before = attempts(taken)
        until(lambda: len(attempts(taken)) > len(before))
        after = attempts(taken)[len(before) :]
    assert before == list(range(1, len(before) + 1))
    assert after == list(range(1, len(after) + 1))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_static_member_comes_back_to_its_partitions(stage: Stage, protocol: str) -> None:
    """Stopped and started again within its session it goes on with what it had, and its neighbour hears nothing."""
    name, one = stage.topic(2), new_group()
    seen: Notes[tuple[str, int, int]] = Notes()

    def app(instance: str) -> App:
        kafka = {"group.instance.id": instance, **(QUICK if protocol == "classic" else {"group.protocol": protocol})}
        made = stage.app(client_id=one, kafka=kafka)

        @made.topic(name)
        class Keep(Controller[int]):
            def perform(self) -> None:
                seen.add((instance, self.message.partition, self.params))

        return made

    with running(app("first")) as first:
        until(lambda: first.told(Assigned))
        with running(app("second")) as second:
            until(lambda: any(event.starts for event in second.told(Assigned)), 60)
            (theirs,) = {place for event in second.told(Assigned) for place in event.starts}
            for partition in (0, 1):
                stage.send(name, ["0", "1"], partition=partition)
            until(lambda: len(seen) == 4)
        came = len(first.told(Assigned))
        for partition in (0, 1):
            stage.send(name, ["2", "3"], partition=partition)
        with running(app("second")) as again:
            until(lambda: len(seen) == 8, 60)
            assert [event.starts for event in again.told(Assigned)] == [{theirs: 2}]
        assert len(first.told(Assigned)) == came
    mine = 1 - theirs[1]
    for instance, partition in (("first", mine), ("second", theirs[1])):
        assert [number for who, place, number in seen if (who, place) == (instance, partition)] == [0, 1, 2, 3]


def test_nothing_of_a_partition_that_goes_is_begun(stage: Stage) -> None:
    """With thousands in hand a revocation waits for the message that runs, and the next owner begins behind it."""
    app, name = stage.app(kafka=QUICK), stage.topic(2)
    seen: Notes[tuple[int, int]] = Notes()
    ours: list[int] = []
    for partition in (0, 1):
        stage.send(name, map(str, range(2_000)), partition=partition)

    @app.topic(name)
    class Slow(Controller[int]):
        def perform(self) -> None:
            Event().wait(0.005)
            seen.add((self.message.partition, self.params))

    with running(app) as server:
        until(lambda: len(seen) > 50)
        with stage.member(app.config.client_id, name) as member:
            (taken,) = (one.partition for one in member.assignment())
            ours += [number for place, number in seen if place == taken]
            position = stage.committed(app.config.client_id, name, 2)[taken]
            later = len(seen) + 50
            until(lambda: len(seen) >= later)
            assert [number for place, number in seen if place == taken] == ours
        assert ours == list(range(position))
        until(lambda: any(event.starts.get((name, taken)) == position for event in server.told(Assigned)))
