"""The public API as users write it, for mypy --strict: nothing here runs, all of it must be understood.

Where a line is marked with an ignore, the mistake on it must be found: mypy says so when it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypedDict, TypeVar, assert_type

from karafka import (
    App,
    Backoff,
    Batch,
    BatchController,
    Controller,
    DeadLetter,
    Delivery,
    DeliveryError,
    Handle,
    Handles,
    Message,
    Outgoing,
    PartlyDeliveredError,
    Producer,
    Server,
    before_enqueue,
    group,
    topic,
)
from karafka.config import Config
from karafka.events import Acknowledged, DeliveryFailed, ErrorOccurred, Events, Failed
from karafka.parsers import JSON, Text
from karafka.recorder import Recorded

T = TypeVar("T")

app = App("videos", kafka={"bootstrap.servers": "localhost:9092", "session.timeout.ms": 6_000, "check.crcs": True})


@dataclass
class Video:
    id: int
    title: str


class Click(TypedDict):
    path: str


@app.topic("videos_created", concurrency=4, retry=Backoff(1, 30).never(ValueError), dead_letter=DeadLetter("dead"))
class VideosCreatedController(Controller[Video]):
    """The payload's type is known."""

    def __init__(self) -> None:
        self.seen = 0

    @before_enqueue
    def drop_untitled(self) -> None:
        if not self.params.title:
            self.abort("untitled")

    def perform(self) -> None:
        assert_type(self.params, Video)
        assert_type(self.message, Message[Video])
        assert_type(self.message.payload, Video)
        assert_type(self.message.key, bytes | None)
        assert_type(self.message.headers, dict[str, bytes | None])
        assert_type(self.message.timestamp, float)
        assert_type(self.params.id, int)
        self.params.length  # type: ignore[attr-defined]  # noqa: B018


# The decorator leaves the class as it is.
assert_type(VideosCreatedController, type[VideosCreatedController])
assert_type(VideosCreatedController().seen, int)


class Tombstones(Controller[Video | None]):
    """Null is meant, and must be looked at."""

    def perform(self) -> None:
        self.params.title  # type: ignore[union-attr]  # noqa: B018
        if self.params is None:
            return
        assert_type(self.params, Video)


class Untyped(Controller):  # type: ignore[type-arg]
    """Without brackets the payload is whatever comes."""

    def perform(self) -> None:
        assert_type(self.params, Any)


class Clicks(Controller[Click]):
    """Async all the way."""

    @before_enqueue
    async def look(self) -> None: ...

    async def perform(self) -> None:
        assert_type(self.params["path"], str)
        assert_type(await app.producer.produce_async("pages", self.params), Delivery)


@dataclass
class Clients:
    """What is opened when the app starts: the app's state, with types."""

    sent: int = 0


@app.on_start
async def connect() -> None:
    app.state = Clients()


@app.on_stop
def disconnect() -> None: ...


app.on_start(1)  # type: ignore[type-var]


class Totals(BatchController[Video]):
    """Several at once."""

    def perform(self) -> None:
        assert_type(self.app.config, Config)
        assert_type(self.app.producer.produce_sync("pages", self.params[0]), Delivery)
        assert_type(self.app.producer.produce_async("pages", self.params[0]), Handle)
        self.app.subscriptions()  # type: ignore[attr-defined]  # the server's
        clients: Clients = self.app.state
        assert_type(clients.sent, int)
        assert_type(self.messages, Batch[Video])
        assert_type(self.params, list[Video])
        assert_type(self.messages.payloads, list[Video])
        assert_type(self.messages[0], Message[Video])
        assert_type([message.payload.title for message in self.messages], list[str])
        assert_type(len(self.messages), int)


class ApplicationController(Controller[T], Generic[T]):
    """A base of one's own keeps the type open."""

    @classmethod
    def setup(cls, app: Any) -> None: ...

    def shown(self) -> T:
        return self.params


class Inherited(ApplicationController[Video]):
    """And its subclass closes it."""

    def perform(self) -> None:
        assert_type(self.shown(), Video)
        assert_type(self.params, Video)


class Quoted(Controller["Later"]):
    """A type that is declared further down."""

    def perform(self) -> None:
        assert_type(self.params.size, int)


@dataclass
class Later:
    size: int


def never_returns(controller: Inherited, video: Video | None) -> Video:
    """What ends `perform` is `NoReturn`: behind it the rest is known."""
    if video is None:
        controller.abort("enough")
    return assert_type(video, Video)


def draw() -> None:
    """One table for everything."""
    app.routes.draw(
        topic("videos_created", VideosCreatedController, start="latest"),
        topic("totals", Totals, max_messages=500, max_wait=0.5),
        group("analytics", topic("clicks", Clicks, concurrency=32), kafka={"bootstrap.servers": "other:9092"}),
    )
    topic("videos", VideosCreatedController, start="now")  # type: ignore[arg-type]
    topic("videos", VideosCreatedController, grup="a")  # type: ignore[call-arg]
    topic("videos", Video)  # type: ignore[arg-type]


def send(producer: Producer, video: Video) -> None:
    """Deliveries, one or many; a handle is waited for or awaited."""
    assert_type(producer.produce_sync("videos", video, key="7", headers={"a": "b"}), Delivery)
    handle = producer.produce_async("videos", video, key=b"7", headers=[("a", None)], label=video)
    assert_type(handle, Handle)
    assert_type(handle.wait(1.0), Delivery)
    assert_type(handle.error, DeliveryError | None)
    assert_type(producer.produce_many_sync([{"topic": "videos", "payload": video}]), list[Delivery])
    assert_type(producer.tombstone("videos", "7"), Handle)
    assert_type(producer.close(), int)
    producer.produce_async("videos", video, key=7)  # type: ignore[arg-type]
    producer.produce_async("videos", video, headers={"a": 1})  # type: ignore[arg-type]
    producer.produce_async("videos", video, timestamp="now")  # type: ignore[arg-type]
    producer.produce_async("videos", video, prtition=1)  # type: ignore[call-arg]
    producer.produce_many_sync([{"topic": "videos", "payload": video, "prtition": 1}])  # type: ignore[typeddict-unknown-key]
    producer.produce_many_sync([{"topic": "videos"}])  # type: ignore[typeddict-item]
    producer.tombstone("videos", None)  # type: ignore[arg-type]


def send_later(producer: Producer, video: Video) -> None:
    """What is buffered, changed before it is sent, sent otherwise, or not at all."""

    def sign(message: Outgoing) -> Outgoing:
        return replace(message, headers={"by": "me"})

    producer.buffer("videos", video, timestamp=datetime(2024, 1, 1, tzinfo=UTC))
    assert_type(producer.buffered, int)
    assert_type(producer.flush_sync(), list[Delivery])
    assert_type(producer.flush_async(), Handles)
    assert_type(producer.variant({"acks": 0}, linger_ms=5), Producer)
    assert_type(Producer.recorder(before_send=[sign], parsers={"texts": Text()}).recorded, list[Recorded])
    Producer({}, before_send=[sign], parser=JSON(), max_wait_on_full=1, deliver=False)
    Producer({}, before_send=[str])  # type: ignore[list-item]
    Producer({}, parser=str)  # type: ignore[arg-type]


async def send_all(producer: Producer, video: Video) -> None:
    """Several are awaited as one; what became of each is told."""
    handles = producer.produce_many_async({"topic": "videos", "payload": video, "key": str(at)} for at in range(3))
    assert_type(handles, Handles)
    assert_type(handles[0], Handle)
    try:
        assert_type(await handles, list[Delivery])
    except PartlyDeliveredError as error:
        assert_type(error.retriable, bool)
    async with producer as inside:
        assert_type(inside, Producer)


def tell(events: Events) -> None:
    """What a producer tells is typed as all else."""

    def acknowledged(event: Acknowledged) -> None:
        assert_type(event.latency, float)
        assert_type(event.offset, int)

    def failed(event: DeliveryFailed) -> None:
        assert_type(event.retriable, bool)

    events.on(Acknowledged, acknowledged)
    events.on(DeliveryFailed, failed)
    events.on(Acknowledged, failed)  # type: ignore[arg-type]


def listen() -> None:
    """A listener is typed by the kind that it hears."""

    def failed(event: Failed) -> None:
        assert_type(event.offset, int)
        assert_type(event.error, str)

    def troubled(event: ErrorOccurred) -> None: ...

    app.events.on(Failed, failed)
    app.events.on(Failed, troubled)
    app.events.on(ErrorOccurred, failed)  # type: ignore[arg-type]


def run() -> int:
    """The exit status."""
    return Server(app).run()


decorate: Callable[[type[Clicks]], type[Clicks]] = app.topic("clicks")
assert_type(decorate(Clicks), type[Clicks])
