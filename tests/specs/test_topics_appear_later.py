"""A routed topic that is not there yet is named once, and read from its beginning when it appears."""

from __future__ import annotations

import re
import time

from karafka import Controller
from karafka.events import Assigned, TopicFound, TopicMissing
from tests.specs.run import Notes, Stage, running, until


def test_a_missing_topic_is_told_once_and_picked_up(stage: Stage) -> None:
    app, there, later = stage.app(), stage.topic(), stage.name_of_topic()
    seen: Notes[tuple[str, int]] = Notes()
    stage.send(there, ["1"])

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.topic, self.params))

    app.topic(there)(Keep)
    app.topic(later)(Keep)

    with running(app) as server:
        until(lambda: seen.all() == [(there, 1)] and server.told(TopicMissing))
        began = time.monotonic()
        stage.create(later)
        stage.send(later, ["2"])
        until(lambda: len(seen) == 2)
        took = time.monotonic() - began
        until(lambda: server.told(TopicFound))
        assert [event.topic for event in server.told(TopicMissing)] == [later]
        assert [event.topic for event in server.told(TopicFound)] == [later]
    assert seen.all() == [(there, 1), (later, 2)]
    assert took < 10, f"picked up after {took:.1f} s"


def test_a_pattern_takes_topics_as_they_appear(stage: Stage) -> None:
    app = stage.app()
    name = stage.name_of_topic()
    first, second, other = f"{name}.first", f"{name}.second", f"not-{name}.first"
    seen: Notes[tuple[str, int]] = Notes()
    stage.create(first)
    stage.create(other)
    stage.send(first, ["1"])
    stage.send(other, ["0"])

    @app.topic(re.compile(re.escape(name) + r"\..*"))
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.topic, self.params))

    with running(app) as server:
        until(lambda: seen.all() == [(first, 1)])
        began = time.monotonic()
        stage.create(second)
        stage.send(second, ["2"])
        until(lambda: (second, 2) in seen)
        took = time.monotonic() - began
        stage.send(first, ["3"])
        until(lambda: (first, 3) in seen)
        assert all({topic for topic, _ in event.starts} <= {first, second} for event in server.told(Assigned))
    assert sorted(seen) == sorted([(first, 1), (second, 2), (first, 3)])
    assert took < 10, f"picked up after {took:.1f} s"
