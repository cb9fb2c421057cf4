"""A payload is parsed when it is touched, once, and never when it is not."""

from __future__ import annotations

from typing import Any

from karafka import Controller
from tests.specs.run import Notes, Stage, running, until


class Counting:
    """A parser that counts."""

    def __init__(self) -> None:
        self.parsed: Notes[bytes] = Notes()

    def parse(self, raw: bytes, /) -> int:
        self.parsed.add(raw)
        return int(raw)

    def generate(self, payload: Any, /) -> bytes:
        return str(payload).encode()


def test_half_of_the_messages_are_parsed(stage: Stage) -> None:
    app, topic, parser = stage.app(), stage.topic(), Counting()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(100)))

    @app.topic(topic, parser=parser)
    class Half(Controller[int]):
        def perform(self) -> None:
            if self.message.offset % 2:
                assert self.params == self.params == self.message.payload
            seen.add(self.message.offset)

    with running(app):
        until(lambda: len(seen) == 100)
    assert parser.parsed.all() == [str(number).encode() for number in range(1, 100, 2)]


def test_a_controller_that_reads_params_first_parses_each_once(stage: Stage) -> None:
    app, topic, parser = stage.app(), stage.topic(), Counting()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(100)))

    @app.topic(topic, parser=parser)
    class All(Controller[int]):
        def perform(self) -> None:
            params = self.params
            assert params == self.message.payload
            seen.add(params)

    with running(app):
        until(lambda: len(seen) == 100)
    assert parser.parsed.all() == [str(number).encode() for number in range(100)]


def test_a_controller_that_touches_nothing_takes_what_cannot_be_parsed(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[bytes | None] = Notes()
    stage.send(topic, [b"{no json", b"", None])

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.message.raw)

    with running(app):
        until(lambda: len(seen) == 3)
    assert seen.all() == [b"{no json", b"", None]
