"""The public API as users write it, for mypy --strict: nothing here runs, all of it must be understood.

Where a line is marked with an ignore, the mistake on it must be found: mypy says so when it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar, assert_type

from karafka import (
    App,
    Backoff,
    Batch,
    BatchController,
    Controller,
    DeadLetter,
    Delivery,
    Handle,
    Message,
    Producer,
    Server,
    before_enqueue,
    group,
    topic,
)
from karafka.config import Config
from karafka.events import ErrorOccurred, Failed

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
    handle = producer.produce_async("videos", video, key=b"7", headers=[("a", None)])
    assert_type(handle, Handle)
    assert_type(handle.wait(1.0), Delivery)
    assert_type(producer.produce_many_sync([{"topic": "videos", "payload": video}]), list[Delivery])
    assert_type(producer.close(), int)


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
