"""Of a transaction only what was committed is performed, and its markers leave no lag."""

from __future__ import annotations

from confluent_kafka import Producer

from karafka import Controller
from karafka.events import Committed
from tests.brokers import new_group
from tests.specs.run import Notes, Stage, running, until


def test_markers_leave_no_lag(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    for numbers, kept in ((range(3), True), (range(100, 102), False), (range(3, 4), True), (range(200, 204), False)):
        producer = Producer({"bootstrap.servers": stage.bootstrap, "transactional.id": new_group()})
        producer.init_transactions(10)
        producer.begin_transaction()
        for number in numbers:
            producer.produce(topic, str(number), partition=0)
        producer.flush(10)
        if kept:
            producer.commit_transaction(10)
        else:
            producer.abort_transaction(10)

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    with running(app) as server:
        until(lambda: len(seen) == 4)
        # 10 messages and 4 markers.
        until(lambda: any(event.offsets == {(topic, 0): 14} for event in server.told(Committed)), 10)
    assert seen.all() == [0, 1, 2, 3]
    assert stage.committed(app.config.client_id, topic) == {0: 14}
