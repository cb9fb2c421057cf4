"""A message that fails is tried again until it succeeds, told of once each time, and nothing after it goes first."""

from __future__ import annotations

import asyncio

import pytest

from karafka import Backoff, Controller
from karafka.events import Failed, Performed, Retried
from tests.specs.run import Notes, Stage, running, until


class Odd(BaseException):
    """Outside the usual tree."""


@pytest.mark.parametrize("error", [ValueError, Odd, GeneratorExit, asyncio.CancelledError, StopIteration])
def test_whatever_is_raised_is_tried_again(stage: Stage, error: type[BaseException]) -> None:
    app, topic = stage.app(retry=Backoff(0.05), concurrency=1), stage.topic()
    tries: Notes[tuple[int, int]] = Notes()
    stage.send(topic, map(str, range(5)))

    @app.topic(topic)
    class Stumble(Controller[int]):
        def perform(self) -> None:
            tries.add((self.params, self.message.attempt))
            if self.params == 2 and self.message.attempt < 3:
                raise error("on purpose")

    with running(app, allow=(Failed,)) as server:
        until(lambda: sum(event.count for event in server.told(Performed)) == 5)
        failures, retries = server.told(Failed), server.told(Retried)

    assert tries.all() == [(0, 1), (1, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1)]
    assert [(event.offset, event.attempt, event.kind) for event in failures] == [
        (2, 1, error.__name__),
        (2, 2, error.__name__),
    ]
    assert [(event.offset, event.attempt) for event in retries] == [(2, 2), (2, 3)]
    assert "on purpose" in failures[0].traceback
    assert failures[0].controller.endswith("Stumble")


def test_an_async_failure_is_tried_again(stage: Stage) -> None:
    """A task that is cancelled from within is a failure like any other."""
    app, topic = stage.app(retry=Backoff(0.05)), stage.topic()
    tries: Notes[tuple[int, int]] = Notes()
    stage.send(topic, map(str, range(3)))

    @app.topic(topic)
    class Stumble(Controller[int]):
        async def perform(self) -> None:
            tries.add((self.params, self.message.attempt))
            if self.params == 1 and self.message.attempt == 1:
                raise asyncio.CancelledError

    with running(app, allow=(Failed,)):
        until(lambda: len(tries) == 4)

    assert tries.all() == [(0, 1), (1, 1), (1, 2), (2, 1)]
