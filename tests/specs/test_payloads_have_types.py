"""`Controller[Video]` gets a checked `Video`, whichever way that is declared, and a tombstone only if it says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pytest

from karafka import Backoff, Controller, DeadLetter
from karafka.events import Buried, Failed
from karafka.parsers import Raw, Text
from tests.specs.run import Notes, Stage, running, until


@dataclass
class Video:
    id: int
    title: str


class Clip(msgspec.Struct):
    id: int
    title: str


class Film(TypedDict):
    id: int
    title: str


RAW = b'{"id": 7, "title": "Seven"}'


class AsDataclass(Controller[Video]):
    def perform(self) -> None:
        self.app.state.seen.add(self.params)


class AsStruct(Controller[Clip]):
    def perform(self) -> None:
        self.app.state.seen.add(self.params)


class AsTypedDict(Controller[Film]):
    def perform(self) -> None:
        self.app.state.seen.add(self.params)


class ByName(Controller["Video"]):
    def perform(self) -> None:
        self.app.state.seen.add(self.params)


class Plain(Controller):  # type: ignore[type-arg]  # without a type is a form of its own
    def perform(self) -> None:
        self.app.state.seen.add(self.params)


class OrNone(Controller[Video | None]):
    def perform(self) -> None:
        self.app.state.seen.add((self.params, self.message.tombstone))


@pytest.mark.parametrize(
    ("controller", "expected"),
    [
        (AsDataclass, Video(7, "Seven")),
        (AsStruct, Clip(7, "Seven")),
        (AsTypedDict, {"id": 7, "title": "Seven"}),
        (ByName, Video(7, "Seven")),
        (Plain, {"id": 7, "title": "Seven"}),
    ],
)
def test_params_are_of_the_declared_type(stage: Stage, controller: type[Controller[Any]], expected: object) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[Any] = Notes()
    app.state.seen = seen
    app.topic(topic)(controller)
    stage.send(topic, [RAW])

    with running(app):
        until(lambda: len(seen) == 1)
    assert seen.all() == [expected]


def test_a_tombstone_comes_where_the_type_admits_it(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[Any] = Notes()
    app.state.seen = seen
    app.topic(topic)(OrNone)
    stage.send(topic, [RAW, None])

    with running(app):
        until(lambda: len(seen) == 2)
    assert seen.all() == [(Video(7, "Seven"), False), (None, True)]


@pytest.mark.parametrize("payload", [None, b'{"id": "x", "title": "y"}', b"{no json", b'{"id": 7}', b""])
def test_what_is_not_of_the_type_is_buried_at_its_first_try(stage: Stage, payload: bytes | None) -> None:
    app, topic, grave = stage.app(), stage.topic(), stage.topic()
    seen: Notes[Any] = Notes()
    app.state.seen = seen
    app.topic(topic, dead_letter=DeadLetter(grave, after=5))(AsDataclass)
    stage.send(topic, [RAW, payload, RAW])

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(seen) == 2 and server.told(Buried))
        (failure,) = server.told(Failed)
    assert (failure.kind, failure.attempt, failure.offset) == ("ParseError", 1, 1)
    assert [message.value() for message in stage.read(grave, 1)] == [payload]


def test_a_parse_error_that_perform_swallows_is_still_one(stage: Stage) -> None:
    app, topic, grave = stage.app(), stage.topic(), stage.topic()
    swallowed: Notes[int] = Notes()
    stage.send(topic, [b"{no json"])

    @app.topic(topic, dead_letter=DeadLetter(grave))
    class Careless(Controller[Video]):
        def perform(self) -> None:
            try:
                assert self.params
            except Exception:  # noqa: BLE001 - what careless code does
                swallowed.add(self.message.offset)

    with running(app, allow=(Failed,)) as server:
        until(lambda: server.told(Buried))
    assert swallowed.all() == [0]
    assert stage.read(grave, 1)[0].value() == b"{no json"


def test_without_a_dead_letter_topic_it_is_tried_again_and_never_passed(stage: Stage) -> None:
    app, topic = stage.app(retry=Backoff(0.05, 0.1)), stage.topic()
    seen: Notes[Any] = Notes()
    app.state.seen = seen
    app.topic(topic)(AsDataclass)
    stage.send(topic, [RAW, b"{no json", RAW])

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(server.told(Failed)) >= 3)
    assert len(seen) == 1
    assert stage.committed(app.config.client_id, topic) == {0: 1}


class Csv:
    """A parser of one's own."""

    def parse(self, raw: bytes, /) -> list[str]:
        return raw.decode().split(",")

    def generate(self, payload: list[str], /) -> bytes:
        return ",".join(payload).encode()


@pytest.mark.parametrize(
    ("parser", "raw", "expected"),
    [
        (Text(), "grüße".encode(), "grüße"),
        (Text("latin-1"), b"gr\xfc\xdfe", "grüße"),
        (Raw(), b"\xff\x00", b"\xff\x00"),
        (Csv(), b"a,b", ["a", "b"]),
    ],
)
def test_a_route_has_its_own_parser(stage: Stage, parser: Any, raw: bytes, expected: object) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[Any] = Notes()
    app.state.seen = seen
    app.topic(topic, parser=parser)(Plain)
    stage.send(topic, [raw])

    with running(app):
        until(lambda: len(seen) == 1)
    assert seen.all() == [expected]
