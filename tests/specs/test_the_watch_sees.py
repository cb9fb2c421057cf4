"""A spec fails by itself when its app tells of an error it did not expect, or commits what is not finished."""

from __future__ import annotations

import pytest

from karafka import Backoff, Controller
from karafka.events import Assigned, Committed, Failed, Received
from tests.specs.run import Stage, Watch, running, until


def test_an_error_that_is_not_allowed_fails_the_spec(stage: Stage) -> None:
    app, topic = stage.app(retry=Backoff(0.05)), stage.topic()
    stage.send(topic, ["1"])

    @app.topic(topic)
    class Fail(Controller[int]):
        def perform(self) -> None:
            raise ValueError(self.params)

    with pytest.raises(AssertionError, match="unexpected: Failed"), running(app) as server:
        until(lambda: server.told(Failed))


def test_a_commit_above_unfinished_work_fails_the_spec(stage: Stage) -> None:
    app, group = stage.app(), "a group"

    @app.topic("any")
    class Keep(Controller[int]):
        def perform(self) -> None:
            raise AssertionError("nothing runs here")

    watch = Watch(app, ())
    app.events.tell(Assigned(group=group, starts={("any", 0): 5}))
    app.events.tell(Received(group=group, topic="any", partition=0, offset=5, count=10))
    app.events.tell(Committed(group=group, offsets={("any", 0): 5}))
    watch.check()
    app.events.tell(Committed(group=group, offsets={("any", 0): 6}))
    with pytest.raises(AssertionError, match="committed 6, but 5 is not finished"):
        watch.check()
