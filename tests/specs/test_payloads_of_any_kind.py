"""Whatever bytes come, each message is performed, or refused in words and buried as it came: none is lost or fatal."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest

from karafka import Backoff, BatchController, Controller, DeadLetter, before_enqueue
from karafka.events import Buried, Failed
from karafka.routing import TopicOptions
from tests.specs import wire
from tests.specs.run import Notes, Stage, running, until

Header: TypeAlias = tuple[str, str | bytes | None]


@dataclass
class Video:
    id: int
    title: str = ""


FINE = b'{"id": 1, "title": "One"}'
MIB = 1024 * 1024
DEEP = 100_000

# Payloads, and what each is: untyped, and as a `Video`; REFUSED where it is neither.
REFUSED: Any = object()
PAYLOADS: Mapping[str, tuple[bytes | None, Any, Any]] = {
    "empty": (b"", REFUSED, REFUSED),
    "blank": (b" \n", REFUSED, REFUSED),
    "a tombstone": (None, None, REFUSED),
    "null": (b"null", None, REFUSED),
    "truncated": (FINE[:-3], REFUSED, REFUSED),
    "two in one": (FINE + FINE, REFUSED, REFUSED),
    "Latin-1": ('{"id": 1, "title": "é"}'.encode("latin-1"), REFUSED, REFUSED),
    "UTF-16": (FINE.decode().encode("utf-16"), REFUSED, REFUSED),
    "a byte order mark": (b"\xef\xbb\xbf" + FINE, REFUSED, REFUSED),
    "half a surrogate pair": (b'{"id": 1, "title": "\\ud83d"}', REFUSED, REFUSED),
    "compressed": (gzip.compress(FINE, mtime=0), REFUSED, REFUSED),
    "zeros": (bytes(100), REFUSED, REFUSED),
    "every byte": (bytes(range(256)), REFUSED, REFUSED),
    "deep lists": (b"[" * DEEP + b"]" * DEEP, REFUSED, REFUSED),
    "deep objects": (b'{"id":' * DEEP + b"1" + b"}" * DEEP, REFUSED, REFUSED),
    "deep and never closed": (b"[" * DEEP, REFUSED, REFUSED),
    "NaN": (b'{"id": NaN}', REFUSED, REFUSED),
    "Infinity": (b'{"id": -Infinity}', REFUSED, REFUSED),
    "a number of 65 bits": (b'{"id": 18446744073709551616}', {"id": 2**64}, Video(2**64)),
    "a number of 1,000 bits": (b'{"id": %d}' % 2**1_000, {"id": 2**1_000}, Video(2**1_000)),
    "a number of 100,000 digits": (b'{"id": 1' + b"0" * 100_000 + b"}", REFUSED, REFUSED),
    "doubled keys": (b'{"id": 1, "id": 2}', {"id": 2}, Video(2)),
    "another type": (b'{"id": "1"}', {"id": "1"}, REFUSED),
    "a field too many": (b'{"id": 1, "age": 2}', {"id": 1, "age": 2}, Video(1)),
    "a field too few": (b"{}", {}, REFUSED),
    "text beyond the plane": (
        b'{"id": 1, "title": "\\ud83d\\ude00"}',
        {"id": 1, "title": "\U0001f600"},
        Video(1, "\U0001f600"),
    ),
    "NUL in a text": (b'{"id": 1, "title": "\\u0000"}', {"id": 1, "title": "\0"}, Video(1, "\0")),
}
# Keys and headers that travel with the payloads, in turn.
KEYS: tuple[bytes | None, ...] = (None, b"", b"key", b"\x00\xff\xfe", "schlüssel".encode("latin-1"), b"k" * 10_000)
HEADERS: tuple[list[Header], ...] = (
    [],
    [("none", None), ("empty", b""), ("raw", b"\xff\xfe\x00")],
    [("twice", b"1"), ("twice", None), ("twice", b"\xff")],
    [("", b"no name"), ("ünï", b"code"), ("long", b"h" * 10_000)],
)

Kind: TypeAlias = Callable[[Any, Notes[tuple[int, Any]]], Any]


def first(of: Any, seen: Notes[tuple[int, Any]]) -> Any:
    class First(Controller[of]):
        def perform(self) -> None:
            params = self.params
            seen.add((self.message.offset, params))

    return First


def later(of: Any, seen: Notes[tuple[int, Any]]) -> Any:
    class Later(Controller[of]):
        def perform(self) -> None:
            offset = self.message.offset
            seen.add((offset, self.params))

    return Later


def hooked(of: Any, seen: Notes[tuple[int, Any]]) -> Any:
    class Hooked(Controller[of]):
        @before_enqueue
        def touch(self) -> None:
            self.touched = self.params

        def perform(self) -> None:
            seen.add((self.message.offset, self.touched))

    return Hooked


def aside(of: Any, seen: Notes[tuple[int, Any]]) -> Any:
    class Aside(Controller[of]):
        async def perform(self) -> None:
            seen.add((self.message.offset, self.params))

    return Aside


def batch(of: Any, seen: Notes[tuple[int, Any]]) -> Any:
    class Batch(BatchController[of]):
        def perform(self) -> None:
            for message, params in zip(self.messages, self.params, strict=True):
                seen.add((message.offset, params))

    return Batch


def torture(stage: Stage, topic: str) -> dict[int, tuple[str, bytes | None, list[Header]]]:
    """Send every payload, a good one before each: by offset its name, key and headers."""
    sent: dict[int, tuple[str, bytes | None, list[Header]]] = {}
    for number, (name, (payload, _, _)) in enumerate(PAYLOADS.items()):
        key, headers = KEYS[number % len(KEYS)], HEADERS[number % len(HEADERS)]
        stage.send(topic, [FINE, payload], key=key, headers=headers)
        sent[2 * number + 1] = name, key, headers
    return sent


@pytest.mark.parametrize("kind", [first, later, hooked, aside, batch])
@pytest.mark.parametrize("typed", [False, True], ids=["untyped", "typed"])
def test_each_is_performed_or_buried_as_it_came(stage: Stage, kind: Kind, *, typed: bool) -> None:
    app, topic, grave = stage.app(retry=Backoff(0.02)), stage.topic(), stage.topic()
    seen: Notes[tuple[int, Any]] = Notes()
    sent = torture(stage, topic)
    options: TopicOptions = {"dead_letter": DeadLetter(grave, after=9)}
    if kind is batch:
        options["max_wait"] = 0.05
    app.topic(topic, **options)(kind(Video if typed else Any, seen))
    count = 2 * len(PAYLOADS)

    expected: dict[int, Any] = dict.fromkeys(range(0, count, 2), Video(1, "One") if typed else json.loads(FINE))
    expected |= {offset: PAYLOADS[name][2 if typed else 1] for offset, (name, _, _) in sent.items()}
    refused = [offset for offset, payload in expected.items() if payload is REFUSED]

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(server.told(Buried)) == len(refused) and len(dict(seen)) == count - len(refused), 60)
        failures = {event.offset: event for event in server.told(Failed)}
    assert dict(seen) == {offset: payload for offset, payload in expected.items() if payload is not REFUSED}
    assert [event.offset for event in server.told(Buried)] == sorted(refused)
    assert {event.kind for event in failures.values()} == {"ParseError"}
    if kind is not batch:
        assert sorted(failures) == sorted(refused)
        assert {event.attempt for event in failures.values()} == {1}
        assert [offset for offset, _ in seen] == sorted(dict(seen))
    assert stage.committed(app.config.client_id, topic) == {0: count}

    for offset, buried in zip(sorted(refused), stage.read(grave, len(refused)), strict=True):
        name, key, headers = sent[offset]
        assert (buried.value(), buried.key()) == (PAYLOADS[name][0], key), name
        told = stage.headers(buried)
        assert told[: len(headers)] == headers, name
        assert dict(told[len(headers) :])["karafka-offset"] == str(offset).encode()


@pytest.mark.parametrize("name", PAYLOADS)
def test_without_a_dead_letter_topic_what_is_refused_waits(stage: Stage, name: str) -> None:
    """It is tried again and again, loudly; nothing behind it is performed, and nothing of it committed."""
    app, topic = stage.app(retry=Backoff(0.02, 0.05)), stage.topic()
    seen: Notes[tuple[int, Any]] = Notes()
    payload, _, expected = PAYLOADS[name]
    stage.send(topic, [FINE, payload, FINE], key=KEYS[3], headers=HEADERS[1])
    app.topic(topic)(first(Video, seen))
    one = Video(1, "One")

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(server.told(Failed)) >= 3 or len(seen) == 3)
    if expected is REFUSED:
        assert {(event.offset, event.kind) for event in server.told(Failed)} == {(1, "ParseError")}
        assert seen.all() == [(0, one)]
        assert stage.committed(app.config.client_id, topic) == {0: 1}
    else:
        assert seen.all() == [(0, one), (1, expected), (2, one)]
        assert not server.told(Failed)


@pytest.mark.parametrize("fine", [True, False], ids=["performed", "buried"])
def test_ten_megabytes(stage: Stage, *, fine: bool) -> None:
    """As large as the topics allow it goes both ways: to `perform`, or as it came to the dead letter topic."""
    large = str(11 * MIB)
    app, topic, grave = stage.app(), stage.topic(max_message_bytes=large), stage.topic(max_message_bytes=large)
    seen: Notes[int] = Notes()
    payload = b'"' + b"x" * (10 * MIB) + (b'"' if fine else b"")
    stage.send(topic, [b'"before"', payload, b'"after"'], key=KEYS[3], headers=HEADERS[1])

    @app.topic(topic, dead_letter=DeadLetter(grave, producer={"message.max.bytes": 11 * MIB}))
    class Keep(Controller[str]):
        def perform(self) -> None:
            seen.add(len(self.params))

    with running(app, allow=() if fine else (Failed,)) as server:
        until(lambda: len(seen) == (3 if fine else 2), 60)
        assert len(server.told(Buried)) == (0 if fine else 1)
    assert seen.all() == [6, 10 * MIB, 5] if fine else [6, 5]
    assert stage.committed(app.config.client_id, topic) == {0: 3}
    if not fine:
        (buried,) = stage.read(grave, 1)
        assert (buried.value(), buried.key()) == (payload, KEYS[3])
        assert stage.headers(buried)[:3] == HEADERS[1]


def test_keys_and_headers_reach_perform_as_they_came(stage: Stage) -> None:
    """Absent, empty, binary; of a header that stands several times the last counts."""
    app, topic = stage.app(), stage.topic()
    seen: Notes[tuple[bytes | None, dict[str, bytes | None]]] = Notes()
    sent = [(key, headers) for key in KEYS for headers in HEADERS]
    for key, headers in sent:
        stage.send(topic, [FINE], key=key, headers=headers)

    @app.topic(topic)
    class Keep(Controller[Video]):
        def perform(self) -> None:
            assert self.params == Video(1, "One")
            seen.add((self.message.key, self.message.headers))

    with running(app):
        until(lambda: len(seen) == len(sent))
    assert seen.all() == [(key, dict(headers)) for key, headers in sent]


@pytest.mark.parametrize("touch", ["headers", "params"])
def test_a_header_whose_name_is_no_text_is_no_end(stage: Stage, touch: str) -> None:
    """Other languages send such: it may fail its message, which is buried, and never the server.

    Behind twenty others: Python looks at what a call gave back less closely once it has seen some.
    """
    app, topic, grave = stage.app(retry=Backoff(0.02)), stage.topic(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, [FINE, b"{no json"] * 20, headers=HEADERS[1])
    wire.send(stage.bootstrap, topic, b"{no json", (b"\xff\xfe", b"v"))
    wire.send(stage.bootstrap, topic, FINE, (b"plain", b"v"))

    @app.topic(topic, dead_letter=DeadLetter(grave, after=2))
    class Keep(Controller[Video]):
        def perform(self) -> None:
            if touch == "headers":
                assert self.message.headers
            assert self.params == Video(1, "One")
            seen.add(self.message.offset)

    with running(app, allow=(Failed,)) as server:
        until(lambda: seen.all()[-1:] == [41])
        assert [event.offset for event in server.told(Buried)] == [*range(1, 40, 2), 40]
    assert seen.all() == [*range(0, 40, 2), 41]
    assert [message.value() for message in stage.read(grave, 21)] == [b"{no json"] * 21
    assert stage.committed(app.config.client_id, topic) == {0: 42}
