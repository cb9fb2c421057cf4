"""A spec fails by itself when its app tells of an error that it did not expect."""

from __future__ import annotations

import pytest

from karafka import Backoff, Controller
from karafka.events import Failed
from tests.specs.run import Stage, running, until


def test_an_error_that_is_not_allowed_fails_the_spec(stage: Stage) -> None:
    app, topic = stage.app(retry=Backoff(0.05)), stage.topic()
    stage.send(topic, ["1"])

    @app.topic(topic)
    class Fail(Controller[int]):
        def perform(self) -> None:
            raise ValueError(self.params)

    with pytest.raises(AssertionError, match="unexpected: Failed"), running(app) as server:
        until(lambda: server.told(Failed))
