"""`SystemExit` in a perform is no failure: its message is not finished nor buried, the next start begins with it."""

from __future__ import annotations

import pytest

from karafka import Controller, DeadLetter
from karafka.events import Failed
from tests.specs.run import Notes, Stage, running, until


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_next_start_begins_with_it(stage: Stage, error: type[BaseException]) -> None:
    topic, grave = stage.topic(), stage.topic()
    first = stage.app()
    second = stage.app(client_id=first.config.client_id)
    seen: Notes[int] = Notes()
    again: Notes[int] = Notes()
    stage.send(topic, map(str, range(5)))

    @first.topic(topic, dead_letter=DeadLetter(grave, after=1))
    class Leave(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)
            if self.params == 2:
                raise error

    @second.topic(topic)
    class Stay(Controller[int]):
        def perform(self) -> None:
            again.add(self.params)

    with running(first, allow=(Failed,), status=0 if error is SystemExit else 130) as server:
        until(lambda: server.told(Failed))
    assert seen.all() == [0, 1, 2]
    assert stage.committed(first.config.client_id, topic) == {0: 2}
    assert stage.end(grave) == 0

    with running(second):
        until(lambda: len(again) == 3)
    assert again.all() == [2, 3, 4]
