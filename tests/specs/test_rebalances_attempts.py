"""Attempts belong to an assignment: whoever is given a partition begins to count anew."""

from __future__ import annotations

from karafka import Backoff, Controller
from karafka.events import Failed
from tests.specs.groups import Group, owned
from tests.specs.run import Notes, Stage, until


def test_attempts_begin_anew_with_each_owner(stage: Stage, group: Group) -> None:
    topic = stage.topic(2)
    tried: Notes[tuple[str, int, int]] = Notes()

    def fail(name: str) -> type[Controller[int]]:
        class Fail(Controller[int]):
            def perform(self) -> None:
                tried.add((name, self.message.partition, self.message.attempt))
                raise ValueError(name)

        return Fail

    def attempts(name: str, partition: int) -> list[int]:
        return [attempt for member, place, attempt in tried if (member, place) == (name, partition)]

    for partition in (0, 1):
        stage.send(topic, ["1"], partition=partition)
    quick = Backoff(0.1, 0.1)
    with group.running(group.app(topic, fail("elder"), retry=quick), allow=(Failed,)):
        until(lambda: min(len(attempts("elder", 0)), len(attempts("elder", 1))) >= 5)
        with group.running(group.app(topic, fail("guest"), retry=quick), allow=(Failed,)) as guest:
            until(lambda: len(owned(guest)) == 1)
            (gone,) = owned(guest)
            until(lambda: len(attempts("guest", gone)) >= 3)
            before = len(attempts("elder", gone))
        until(lambda: len(attempts("elder", gone)) >= before + 3)
    assert attempts("elder", gone)[:5] == [1, 2, 3, 4, 5]
    assert attempts("guest", gone)[:3] == [1, 2, 3]
    assert attempts("elder", gone)[before : before + 3] == [1, 2, 3]
