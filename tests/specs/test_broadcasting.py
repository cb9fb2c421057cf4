"""Each group gets every message of a topic; a group may read several topics, and a process several groups."""

from __future__ import annotations

import threading

from karafka import Controller, group, topic
from karafka.devbroker import Embedded
from karafka.events import Assigned
from tests.brokers import new_group
from tests.specs.run import Notes, Stage, running, until


def test_two_groups_get_the_same_messages_in_the_same_order(stage: Stage) -> None:
    app, name = stage.app(), stage.topic()
    first, second = new_group(), new_group()
    seen: dict[str, Notes[int]] = {first: Notes(), second: Notes()}
    stage.send(name, map(str, range(100)))

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen[self.message.id.split("/")[0]].add(self.params)

    app.routes.draw(group(first, topic(name, Keep)), topic(name, Keep, group=second))

    with running(app):
        until(lambda: all(len(notes) == 100 for notes in seen.values()))

    assert seen[first].all() == seen[second].all() == list(range(100))
    for one in (first, second):
        assert stage.committed(one, name) == {0: 100}


def test_a_group_reads_several_topics_each_by_its_own_controller(stage: Stage) -> None:
    app, names = stage.app(), [stage.topic(2) for _ in range(3)]
    seen: Notes[tuple[str, str, int]] = Notes()

    def controller(label: str) -> type[Controller[int]]:
        class Keep(Controller[int]):
            def perform(self) -> None:
                seen.add((label, self.message.topic, self.params))

        return Keep

    for name in names:
        app.topic(name)(controller(f"for {name}"))
        for partition in (0, 1):
            stage.send(name, map(str, range(10)), partition=partition)

    with running(app):
        until(lambda: len(seen) == 60)
    assert all(label == f"for {name}" for label, name, _ in seen)


def test_controllers_of_one_name_are_told_apart(stage: Stage) -> None:
    """A routing table is made of classes, not of their names."""
    app, names = stage.app(), [stage.topic() for _ in range(3)]
    seen: Notes[tuple[str, str]] = Notes()

    def made(label: str) -> type[Controller[int]]:
        def perform(self: Controller[int]) -> None:
            seen.add((label, self.message.topic))

        return type("Same", (Controller,), {"perform": perform})

    for name in names:
        app.topic(name)(made(name))
        stage.send(name, ["1"])

    with running(app):
        until(lambda: len(seen) == 3)
    assert sorted(seen) == sorted((name, name) for name in names)


def test_ten_groups_are_ten_clients(stage: Stage) -> None:
    app = stage.app()
    names = [stage.topic() for _ in range(10)]
    groups = [new_group() for _ in names]
    seen: Notes[str] = Notes()

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.message.topic)

    for name, one in zip(names, groups, strict=True):
        app.routes.draw(group(one, topic(name, Keep)))
        stage.send(name, ["1"])

    with running(app) as server:
        until(lambda: len(seen) == 10)
        threads = {thread.name for thread in threading.enumerate()}
        assert {f"karafka-listener-{one}" for one in groups} <= threads
        assert {event.group for event in server.told(Assigned)} == set(groups)
    assert sorted(seen) == sorted(names)


def test_groups_have_settings_and_clusters_of_their_own(stage: Stage) -> None:
    """One process reads two clusters, with another protocol on the second."""
    app, name, remote = stage.app(), stage.topic(), new_group().replace("group", "topic")
    seen: Notes[tuple[str, int]] = Notes()

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.topic, self.params))

    with Embedded() as other:
        elsewhere = {"bootstrap.servers": other.bootstrap, **other.consumer_settings}
        app.routes.draw(group(new_group(), topic(name, Keep)), group(new_group(), topic(remote, Keep), kafka=elsewhere))
        stage.send(name, ["1", "2"])
        Stage(other.bootstrap).send(remote, ["3", "4"])
        with running(app):
            until(lambda: len(seen) == 4)
    assert sorted(seen) == sorted([(name, 1), (name, 2), (remote, 3), (remote, 4)])
