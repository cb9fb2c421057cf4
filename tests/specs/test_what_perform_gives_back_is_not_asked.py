"""Whatever a hook or a perform gives back, nothing or something false, its message is finished and no worker dies."""

from __future__ import annotations

from typing import Any

import pytest

from karafka import BatchController, Controller, before_enqueue
from tests.specs.run import Notes, Stage, running, until


@pytest.mark.parametrize("answer", [None, False, 0, "", [], NotImplemented, Exception()], ids=repr)
def test_what_is_given_back_changes_nothing(stage: Stage, answer: Any) -> None:
    """Six messages, two workers, hooks and performs of each kind."""
    app, topics = stage.app(concurrency=2), [stage.topic(2) for _ in range(3)]
    seen: Notes[tuple[str, int, int]] = Notes()
    for topic in topics:
        for partition in (0, 1):
            stage.send(topic, ["0", "1", "2"], partition=partition)

    @app.topic(topics[0])
    class Plain(Controller[int]):
        @before_enqueue
        def hook(self) -> Any:
            return answer

        def perform(self) -> Any:
            seen.add(("plain", self.message.partition, self.params))
            return answer

    @app.topic(topics[1])
    class Aside(Controller[int]):
        @before_enqueue
        async def hook(self) -> Any:
            return answer

        async def perform(self) -> Any:
            seen.add(("aside", self.message.partition, self.params))
            return answer

    @app.topic(topics[2], max_messages=1)
    class Batch(BatchController[int]):
        @before_enqueue
        def hook(self) -> Any:
            return answer

        def perform(self) -> Any:
            seen.add(("batch", self.messages[0].partition, self.params[0]))
            return answer

    with running(app):
        until(lambda: len(seen) == 18)
    wanted = [
        (kind, partition, number) for kind in ("plain", "aside", "batch") for partition in (0, 1) for number in range(3)
    ]
    assert sorted(seen) == sorted(wanted)
    for topic in topics:
        assert stage.committed(app.config.client_id, topic, 2) == {0: 3, 1: 3}
