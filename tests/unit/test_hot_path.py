"""What a message costs: the path of each, from the client to `perform` and back, against a stored value.

Processor time of all but librdkafka's part, as a multiple of what a bare loop needs for the same messages in the same
round. It hardly depends on the machine, and not on what else runs there.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from confluent_kafka import Message, TopicPartition

from karafka import App, BatchController, Controller, Server, confluent
from karafka import watch as watching
from karafka.events import Performed
from tests.unit.house import StillWatch

COUNT = 60_000
ROUNDS = 5
CHUNK = 500
# A slip is seen the day it happens; a machine's moods and another Python's are not.
MARGIN = 1.3
# Times the bare loop, as measured on Python 3.11.
PERFORM, BATCH, UNTYPED = 1.9, 1.3, 1.75


class Video(msgspec.Struct):
    id: int
    title: str


class Client:
    """confluent-kafka's consumer with all messages in memory."""

    messages: Sequence[Message]

    def __init__(self, settings: Mapping[str, Any], logger: object = None) -> None:
        self._answer = settings.get("on_commit")
        self._at = 0
        self._joined = False
        #: Whether the first messages have told, on a worker's thread, how long each takes; when the others began.
        self.known = False
        self.began = 0.0
        made.append(self)

    def subscribe(self, topics: list[str], on_assign: Callable[..., None], **_others: object) -> None:
        self._assign = on_assign
        self._place = TopicPartition(topics[0], 0)

    def consume(self, limit: int, _timeout: float) -> list[Message]:
        if not self._joined:
            self._joined = True
            self._assign(self, [self._place])
        if self._at < CHUNK:
            limit = CHUNK - self._at
        elif not self.known:
            return []
        elif self._at == CHUNK:
            self.began = time.process_time()
        some = list(self.messages[self._at : self._at + limit])
        self._at += len(some)
        return some

    def poll(self, timeout: float) -> None:
        time.sleep(min(timeout, 0.01))

    def committed(self, places: list[TopicPartition], _timeout: float) -> list[TopicPartition]:
        return [TopicPartition(one.topic, one.partition, -1001) for one in places]

    def position(self, places: list[TopicPartition]) -> list[TopicPartition]:
        return self.committed(places, 0.0)

    def offsets_for_times(self, places: list[TopicPartition], _timeout: float) -> list[TopicPartition]:
        return [TopicPartition(one.topic, one.partition, 0 if one.offset == -2 else COUNT) for one in places]

    def commit(self, offsets: list[TopicPartition], *, asynchronous: bool) -> None:
        assert asynchronous
        assert self._answer is not None
        self._answer(None, offsets)

    def __getattr__(self, name: str) -> Any:
        """Nothing else that it is asked has an answer here."""
        return lambda *_args, **_settings: []


made: list[Client] = []


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    title = "a video whose title has some length to it"
    values = (json.dumps({"id": number, "title": title}).encode() for number in range(COUNT))
    return [Message(topic="videos", partition=0, offset=at, value=value) for at, value in enumerate(values)]


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch, messages: list[Message]) -> Iterator[None]:
    monkeypatch.setattr(Client, "messages", messages, raising=False)
    monkeypatch.setattr(confluent, "_Consumer", Client)
    monkeypatch.setattr(watching, "TopicWatch", lambda *_: StillWatch())
    yield
    made.clear()


def bare(messages: Sequence[Message], decode: Callable[[bytes], Any], read: Callable[[Any], int]) -> float:
    """Seconds of processor time for each message in the loop that one would write by hand."""
    began, total = time.process_time(), 0
    for start in range(CHUNK, COUNT, CHUNK):
        for message in messages[start : start + CHUNK]:
            if message.error():
                raise AssertionError(message)
            value = message.value()
            assert value is not None
            total += read(decode(value))
    assert total == sum(range(CHUNK, COUNT))
    return time.process_time() - began


def ours(route: Callable[[App], Callable[[], int]]) -> float:
    """The same through a server, whichever thread performs."""
    app = App("group", kafka={"bootstrap.servers": "nowhere:9092"})
    total = route(app)
    server, done, count, ended = Server(app), threading.Event(), 0, 0.0

    def performed(event: Performed) -> None:
        nonlocal count, ended
        count, ended = count + event.count, time.process_time()
        made[-1].known = count >= CHUNK
        if count == COUNT:
            done.set()

    app.events.on(Performed, performed)
    server.start()
    assert done.wait(30)
    server.stop()
    assert total() == sum(range(COUNT))
    return ended - made[-1].began


def each(app: App) -> Callable[[], int]:
    total = 0

    @app.topic("videos")
    class Videos(Controller[Video]):
        def perform(self) -> None:
            nonlocal total
            total += self.params.id

    return lambda: total


def untyped(app: App) -> Callable[[], int]:
    total = 0

    @app.topic("videos")
    class Videos(Controller[Any]):
        def perform(self) -> None:
            nonlocal total
            total += self.params["id"]

    return lambda: total


def batch(app: App) -> Callable[[], int]:
    total = 0

    @app.topic("videos", max_messages=CHUNK, max_wait=0)
    class Videos(BatchController[Video]):
        def perform(self) -> None:
            nonlocal total
            for video in self.params:
                total += video.id

    return lambda: total


@pytest.mark.parametrize(
    ("route", "typed", "stored"),
    [(each, True, PERFORM), (untyped, False, UNTYPED), (batch, True, BATCH)],
    ids=["perform", "perform, untyped", "batch"],
)
def test_a_message_costs_no_more_than_it_did(
    messages: list[Message], route: Callable[[App], Callable[[], int]], stored: float, *, typed: bool
) -> None:
    """Where this fails and the machine is well, somebody has made each message of every user dearer."""
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(Video).decode if typed else msgspec.json.Decoder().decode
    read: Callable[[Any], int] = (lambda video: video.id) if typed else (lambda video: video["id"])
    rounds = [(bare(messages, decode, read), ours(route)) for _ in range(ROUNDS)]

    least, most = min(one for one, _ in rounds), min(two for _, two in rounds)
    assert most / least < stored * MARGIN, f"{most / least:.2f} times the bare loop, which was {stored}"
