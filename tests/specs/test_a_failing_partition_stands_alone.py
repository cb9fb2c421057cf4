"""A partition whose first message always fails holds back no other, even with one worker for all."""

from __future__ import annotations

from karafka import Backoff, Controller
from karafka.events import Failed
from tests.specs.run import Notes, Stage, running, until


def test_a_failing_partition_stands_alone(stage: Stage) -> None:
    app, topic = stage.app(retry=Backoff(0.05, 0.1), concurrency=1), stage.topic(3)
    seen: Notes[tuple[int, int]] = Notes()
    for partition in range(3):
        stage.send(topic, map(str, range(100)), partition=partition)

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            if self.message.partition == 0:
                raise ValueError
            seen.add((self.message.partition, self.params))

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(seen) == 200 and len(server.told(Failed)) >= 5)
        assert {event.offset for event in server.told(Failed)} == {0}

    for partition in (1, 2):
        assert [number for place, number in seen if place == partition] == list(range(100))
    kept = stage.committed(app.config.client_id, topic, 3)
    assert (kept.get(0, 0), kept[1], kept[2]) == (0, 100, 100)
