"""`@app.on_start` opens once per process what performs use; `@app.on_stop` closes it, after the last of them."""

from __future__ import annotations

import asyncio
from threading import current_thread
from types import SimpleNamespace
from typing import Any

import pytest

from karafka import App, Controller, Server
from karafka.errors import StartError
from karafka.events import AppHookFailed, Event, ServerStarted
from tests.specs.run import Notes, Stage, running, until


class Client:
    """As those of the libraries: bound to the loop that it was opened on, of no use once closed."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self.sent = 0
        self._heartbeat = asyncio.create_task(asyncio.sleep(3_600))

    async def send(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        assert not self.closed
        assert not self._heartbeat.done()
        await asyncio.sleep(0)
        self.sent += 1

    async def close(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        assert not self._heartbeat.done()
        self._heartbeat.cancel()
        self.closed = True


def test_a_client_is_opened_once_and_used_by_all(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic(3)
    for partition in range(3):
        stage.send(topic, map(str, range(50)), partition=partition)

    @app.on_start
    async def connect() -> None:
        app.state.client = Client()

    @app.on_stop
    async def disconnect() -> None:
        await app.state.client.close()

    @app.topic(topic)
    class Sending(Controller[int]):
        async def perform(self) -> None:
            await self.app.state.client.send()

    with running(app):
        until(lambda: getattr(app.state, "client", None) and app.state.client.sent == 150)
        assert not app.state.client.closed
    assert app.state.client.closed


def test_hooks_run_in_order_and_back(stage: Stage) -> None:
    """Plain ones and coroutines in turn; before the first message, and after the last, with the producer open."""
    app, topic, other = stage.app(), stage.topic(), stage.topic()
    order: Notes[str] = Notes()
    stage.send(topic, ["1"])

    def hook(name: str, kind: str) -> Any:
        def plain() -> None:
            order.add(name)

        async def awaited() -> None:
            await asyncio.sleep(0.01)
            order.add(name)

        return awaited if kind == "async" else plain

    for number, kind in enumerate(["plain", "async", "plain", "async"]):
        app.on_start(hook(f"start {number}", kind))
        app.on_stop(hook(f"stop {number}", kind))

    @app.on_stop
    async def farewell() -> None:
        order.add("farewell")
        await app.producer.produce_async(other, "bye")

    @app.topic(topic)
    class Performing(Controller[int]):
        @classmethod
        def setup(cls, _app: Any) -> None:
            order.add("setup")

        @classmethod
        async def on_assigned(cls, _partition: Any) -> None:
            order.add("assigned")

        @classmethod
        async def on_shutdown(cls, _partition: Any) -> None:
            order.add("shutdown")

        async def perform(self) -> None:
            await asyncio.sleep(0.01)
            order.add("performed")

    with running(app):
        until(lambda: "performed" in order)

    assert order.all() == [
        *("start 0", "start 1", "start 2", "start 3", "setup", "assigned", "performed", "shutdown"),
        *("farewell", "stop 3", "stop 2", "stop 1", "stop 0"),
    ]
    assert [message.value() for message in stage.read(other, 1)] == [b"bye"]


def test_coroutines_run_in_a_server_without_any(stage: Stage) -> None:
    """Nothing else asks for a loop."""
    app, topic = stage.app(), stage.topic()
    stage.send(topic, ["1"])
    threads: Notes[str] = Notes()

    @app.on_start
    async def begin() -> None:
        threads.add(current_thread().name)

    @app.on_stop
    async def end() -> None:
        threads.add(current_thread().name)

    @app.topic(topic)
    class Plain(Controller[int]):
        def perform(self) -> None:
            threads.add("performed")

    with running(app):
        until(lambda: "performed" in threads)
    assert threads.all() == ["karafka-loop", "performed", "karafka-loop"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_start_hook_that_fails_ends_the_start(stage: Stage, *, asynchronous: bool) -> None:
    """With a sentence; what was opened is closed again, and no message is performed."""
    app, topic = stage.app(), stage.topic()
    stage.send(topic, ["1"])
    order: Notes[str] = Notes()
    told: Notes[Event] = Notes()
    app.events.on(Event, told.add)

    def plain() -> None:
        raise ConnectionError("nobody there")

    async def awaited() -> None:
        await asyncio.sleep(0)
        raise ConnectionError("nobody there")

    app.on_start(lambda: order.add("first"))
    app.on_start(awaited if asynchronous else plain)
    app.on_start(lambda: order.add("third"))
    app.on_stop(lambda: order.add("closed"))
    app.topic(topic)(type("Never", (Controller,), {"perform": lambda _self: order.add("performed")}))
    server = Server(app)

    with pytest.raises(StartError) as raised:
        server.start()

    said = str(raised.value)
    assert "on_start hook" in said
    assert "raised ConnectionError: nobody there (test_async_start_and_stop.py, line " in said
    assert isinstance(raised.value.__cause__, ConnectionError)
    assert order.all() == ["first", "closed"]
    assert server.join(0) == 1
    assert server.stop() == 1
    failed = [one for one in told if isinstance(one, AppHookFailed)]
    assert ["nobody there" in one.traceback for one in failed] == [True]
    assert not [one for one in told if isinstance(one, ServerStarted)]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stop_hook_that_fails_stops_no_other(stage: Stage, *, asynchronous: bool) -> None:
    app, topic = stage.app(), stage.topic()
    stage.send(topic, ["1"])
    order: Notes[str] = Notes()

    def plain() -> None:
        raise ConnectionError("lost")

    async def awaited() -> None:
        raise ConnectionError("lost")

    app.on_stop(lambda: order.add("last"))
    app.on_stop(awaited if asynchronous else plain)
    app.on_stop(lambda: order.add("first"))

    @app.topic(topic)
    class Performing(Controller[int]):
        def perform(self) -> None:
            order.add("performed")

    with running(app, allow=(AppHookFailed,)) as server:
        until(lambda: "performed" in order)

    assert order.all() == ["performed", "first", "last"]
    (failed,) = server.told(AppHookFailed)
    assert failed.error == "ConnectionError: lost"
    assert "on_stop hook" in failed.hook


def test_a_stop_hook_that_does_not_end_is_left(stage: Stage) -> None:
    """When the time is over: it is cancelled, told of, and the status is 2."""
    app, topic = stage.app(shutdown_timeout=0.5), stage.topic()
    stage.send(topic, ["1"])
    order: Notes[str] = Notes()

    app.on_stop(lambda: order.add("never"))

    @app.on_stop
    async def hang() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            order.add("cleaned up")

    @app.topic(topic)
    class Performing(Controller[int]):
        def perform(self) -> None:
            order.add("performed")

    with running(app, allow=(AppHookFailed,), status=2) as server:
        until(lambda: "performed" in order)

    assert order.all() == ["performed", "cleaned up"]
    assert server.server.overran


def test_serving_beside_a_loop_has_them_too(stage: Stage) -> None:
    """They run on the server's own loop, where its performs run."""
    app, topic = stage.app(), stage.topic()
    stage.send(topic, ["1"])
    order: Notes[str] = Notes()

    @app.on_start
    async def connect() -> None:
        app.state = SimpleNamespace(client=Client())

    @app.on_stop
    async def disconnect() -> None:
        await app.state.client.close()
        order.add("closed")

    @app.topic(topic)
    class Sending(Controller[int]):
        async def perform(self) -> None:
            await self.app.state.client.send()
            order.add("performed")

    async def main() -> int:
        server = Server(app)
        serving = asyncio.create_task(server.serve())
        while "performed" not in order:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.stop)
        return await serving

    assert asyncio.run(asyncio.wait_for(main(), 30)) == 0
    assert order.all() == ["performed", "closed"]


def test_a_start_that_fails_is_raised_to_who_serves(stage: Stage) -> None:
    app: App = stage.app()

    @app.on_start
    async def connect() -> None:
        raise ConnectionError("nobody there")

    app.topic(stage.topic())(type("Never", (Controller,), {"perform": lambda _self: None}))

    with pytest.raises(StartError, match="nobody there"):
        asyncio.run(Server(app).serve())


def test_a_stop_ends_a_start_that_waits(stage: Stage) -> None:
    """A hook that waits for what never comes is cancelled; what was opened is closed."""
    app = stage.app()
    order: Notes[str] = Notes()

    @app.on_start
    async def wait() -> None:
        order.add("waits")
        try:
            await asyncio.sleep(600)
        finally:
            order.add("cancelled")

    app.on_stop(lambda: order.add("closed"))
    app.topic(stage.topic())(type("Never", (Controller,), {"perform": lambda _self: None}))

    async def main() -> int:
        server = Server(app)
        serving = asyncio.create_task(server.serve())
        while "waits" not in order:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.stop)
        return await serving

    assert asyncio.run(asyncio.wait_for(main(), 30)) == 0
    assert order.all() == ["waits", "cancelled", "closed"]
