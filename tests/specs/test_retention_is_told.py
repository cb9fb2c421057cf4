"""Where retention was faster than the group, an event says what is missing, and the partition goes on."""

from __future__ import annotations

from confluent_kafka import TopicPartition

from karafka import Controller
from karafka.events import OutOfRange
from tests.specs.run import Notes, Stage, running, until


def test_a_committed_offset_that_was_deleted(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(100)))
    stage.commit(app.config.client_id, TopicPartition(topic, 0, 10))
    stage.delete(topic, before=40)

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    with running(app, allow=(OutOfRange,)) as server:
        until(lambda: len(seen) == 60)
        (event,) = server.told(OutOfRange)
    assert (event.wanted, event.low, event.high, event.resumed) == (10, 40, 100, 40)
    assert seen.all() == list(range(40, 100))
    assert stage.committed(app.config.client_id, topic) == {0: 100}
