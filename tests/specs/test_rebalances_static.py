"""A member with a name of its own (`group.instance.id`) comes back to its partitions, and no other one notices."""

from __future__ import annotations

import time

from karafka import Controller
from karafka.controllers import AnyController
from karafka.events import Assigned, Lost, Revoked, ServerStopping
from tests.specs.groups import Group, owned
from tests.specs.run import Notes, Stage, until

SESSION = 30_000


def keeping(seen: Notes[tuple[int, int]]) -> type[AnyController]:
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.partition, self.message.offset))

    return Keep


def test_a_restart_moves_nothing_and_repeats_nothing(stage: Stage, protocol: str) -> None:
    """Each of three in turn, as a rolling deployment does."""
    group, topic = Group(stage, protocol, session=SESSION), stage.topic(6)
    seen: Notes[tuple[int, int]] = Notes()

    def named(number: int) -> dict[str, str | int]:
        return {"group.instance.id": f"{group.name}-{number}"}

    def member(number: int) -> Running:
        return Running(group, topic, seen, named(number))

    members = [member(number) for number in range(3)]
    try:
        for one in members:
            one.begin()
        until(lambda: [len(owned(one.watch)) for one in members] == [2, 2, 2], 60)
        shares = [owned(one.watch) for one in members]
        for round_, one in enumerate(members):
            for partition in range(6):
                stage.send(topic, ["1"], partition=partition)
            until(lambda wanted=6 * (2 * round_ + 1): len(seen) >= wanted)  # type: ignore[misc]
            told = [(len(other.watch.told(Assigned)), len(other.watch.told(Revoked))) for other in members]
            one.end()
            for partition in range(6):
                stage.send(topic, ["1"], partition=partition)
            one.begin()
            until(lambda wanted=6 * (2 * round_ + 2): len(seen) >= wanted)  # type: ignore[misc]
            assert owned(one.watch) == shares[round_]
            now = [(len(other.watch.told(Assigned)), len(other.watch.told(Revoked))) for other in members]
            assert [told[place] for place in range(3) if place != round_] == [
                now[place] for place in range(3) if place != round_
            ]
    finally:
        for one in members:
            one.end()
    for partition in range(6):
        assert [offset for place, offset in seen if place == partition] == list(range(6))


def test_of_two_with_one_name_one_ends_and_says_why(stage: Stage, protocol: str) -> None:
    """The classic protocols end the older one, KIP-848 the newer: its status is not 0, and the other one goes on."""
    group, topic = Group(stage, protocol, session=SESSION), stage.topic(2)
    seen: Notes[tuple[int, int]] = Notes()
    name: dict[str, str | int] = {"group.instance.id": f"{group.name}-only"}
    gone, stays = (0, 1) if protocol != "consumer" else (1, 0)
    status = [3 if number == gone else 0 for number in (0, 1)]
    app = keeping(seen)
    with group.running(group.app(topic, app, kafka=name), allow=(Lost,), status=status[0]) as older:
        until(lambda: len(owned(older)) == 2)
        with group.running(group.app(topic, app, kafka=name), status=status[1]) as newer:
            both = [older, newer]
            began = time.monotonic()
            assert both[gone].server.join(30) == 3
            print(f"{protocol}: fenced after {time.monotonic() - began:.2f} s: {both[gone].told(ServerStopping)}")
            (told,) = both[gone].told(ServerStopping)
            assert group.name in told.reason
            assert "nstance" in told.reason
            stage.send(topic, ["1"])
            until(lambda: seen.all() == [(0, 0)])
            assert both[stays].server.join(0) is None


class Running:
    """A member that is stopped and started again; each life is a server of its own."""

    def __init__(self, group: Group, topic: str, seen: Notes[tuple[int, int]], name: dict[str, str | int]) -> None:
        self._group, self._topic, self._seen, self._name = group, topic, seen, name
        self._runs = False

    def begin(self) -> None:
        app = self._group.app(self._topic, keeping(self._seen), kafka=self._name)
        self._life = self._group.running(app)
        self.watch = self._life.__enter__()
        self._runs = True

    def end(self) -> None:
        if self._runs:
            self._runs = False
            self._life.__exit__(None, None, None)
