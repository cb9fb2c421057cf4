"""A parser may be a coroutine where perform is: awaited before the hooks and perform, on their loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from karafka import Backoff, BatchController, Controller, DeadLetter, ParseError, before_enqueue
from karafka.events import Buried, Discarded, Failed
from tests.specs.run import Notes, Stage, running, until


@dataclass
class Order:
    number: int


class Registry:
    """Asks somebody how to read the bytes, as a registry of schemas is asked."""

    def __init__(self) -> None:
        self.parsed: Notes[bytes] = Notes()

    async def parse(self, raw: bytes, /) -> Any:
        await asyncio.sleep(0)
        self.parsed.add(raw)
        return {"number": int(raw)}

    def generate(self, payload: Any, /) -> bytes:
        return str(payload).encode()


def test_payloads_are_there_for_hooks_and_performs(stage: Stage) -> None:
    """Converted to the declared type, parsed once; a tombstone where the type admits it."""
    app, topic, parser = stage.app(), stage.topic(), Registry()
    stage.send(topic, ["1", "2", None, "3"])
    seen: Notes[tuple[str, Order | None]] = Notes()

    @app.topic(topic, parser=parser)
    class Reading(Controller[Order | None]):
        @before_enqueue
        def look(self) -> None:
            seen.add(("hook", self.params))

        async def perform(self) -> None:
            seen.add(("perform", self.params))

    with running(app):
        until(lambda: len(seen) == 8)
    assert [order for what, order in seen if what == "perform"] == [Order(1), Order(2), None, Order(3)]
    assert [order for what, order in seen if what == "hook"] == [Order(1), Order(2), None, Order(3)]
    assert parser.parsed.all() == [b"1", b"2", b"3"]


def test_what_it_refuses_fails_when_it_is_touched(stage: Stage) -> None:
    """It goes to the dead letter topic at once, but for a perform that gives it up, or has no need of it."""
    app, topic, grave = stage.app(), stage.topic(), stage.topic()
    stage.send(topic, ["1", "touched", "given up", "never touched", "2"])
    done: Notes[int] = Notes()

    @app.topic(topic, parser=Registry(), retry=Backoff(60, 60), dead_letter=DeadLetter(grave, after=9))
    class Reading(Controller[Order]):
        async def perform(self) -> None:
            if self.message.raw == b"given up":
                try:
                    _ = self.params
                except ParseError:
                    self.discard("nobody can read it")
            if self.message.raw != b"never touched":
                _ = self.params
            done.add(self.message.offset)

    with running(app, allow=(Failed,)) as server:
        until(lambda: 4 in done)
    assert done.all() == [0, 3, 4]
    assert [one.offset for one in server.told(Buried)] == [1]
    assert [one.offset for one in server.told(Discarded)] == [2]
    (failed,) = server.told(Failed)
    assert failed.kind == "ParseError"
    assert "invalid literal for int()" in failed.error


def test_of_a_batch_only_the_culprit_is_buried(stage: Stage) -> None:
    app, topic, grave = stage.app(), stage.topic(), stage.topic()
    stage.send(topic, ["1", "2", "no number", "3"])
    done: Notes[int] = Notes()

    @app.topic(
        topic, parser=Registry(), max_messages=4, max_wait=1.0, retry=Backoff(0.1, 0.1), dead_letter=DeadLetter(grave)
    )
    class Reading(BatchController[Order]):
        async def perform(self) -> None:
            for order in self.params:
                done.add(order.number)

    with running(app, allow=(Failed,)) as server:
        until(lambda: 3 in done)
    assert done.all() == [1, 2, 3]
    assert [one.offset for one in server.told(Buried)] == [2]
