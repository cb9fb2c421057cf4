"""Where messages were deleted before a group read them its route says how it goes on: never silently, if at all."""

from __future__ import annotations

from typing import Literal

import pytest
from confluent_kafka import TopicPartition

from karafka import Controller
from karafka.events import ErrorOccurred, OutOfRange
from tests.specs.run import Notes, Stage, running, until


@pytest.mark.parametrize(("gap", "resumed"), [("earliest", 40), ("latest", 100)])
def test_it_goes_on_there_and_says_so(stage: Stage, gap: Literal["earliest", "latest"], resumed: int) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(100)))
    stage.commit(app.config.client_id, TopicPartition(topic, 0, 10))
    stage.delete(topic, before=40)

    @app.topic(topic, on_gap=gap)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    with running(app, allow=(OutOfRange,)) as server:
        until(lambda: server.told(OutOfRange))
        stage.send(topic, ["100"])
        until(lambda: 100 in seen.all())
        (event,) = server.told(OutOfRange)
    assert (event.wanted, event.low, event.resumed) == (10, 40, resumed)
    assert seen.all() == list(range(resumed, 101))
    assert stage.committed(app.config.client_id, topic) == {0: 101}


def test_it_stands_still_where_a_person_is_to_decide(stage: Stage) -> None:
    """Nothing is performed nor committed of that partition, and its neighbour goes on."""
    app, topic = stage.app(), stage.topic(2)
    seen: Notes[tuple[int, int]] = Notes()
    for partition in (0, 1):
        stage.send(topic, map(str, range(100)), partition=partition)
    stage.commit(app.config.client_id, TopicPartition(topic, 0, 10))
    stage.delete(topic, before=40)

    @app.topic(topic, on_gap="stop")
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.partition, self.params))

    with running(app, allow=(ErrorOccurred,)) as server:
        until(lambda: len(seen) == 100)
        stage.send(topic, ["100"], partition=1)
        until(lambda: len(seen) == 101)
        assert [event.wanted for event in server.told(OutOfRange)] == [10]
        assert {type(event) for event in server.told(ErrorOccurred)} <= {OutOfRange}
    assert {partition for partition, _ in seen} == {1}
    assert stage.committed(app.config.client_id, topic, 2) == {0: 10, 1: 101}
