"""A stop finishes what runs, commits it and leaves; what outlasts its time is named, and status 2 says so."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from karafka import BatchController, Controller, Server
from karafka.events import Overran, ServerStopped, ServerStopping
from tests.specs.run import Notes, Stage, running, until


def test_what_runs_is_finished_and_nothing_new_begun(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    begun: Notes[int] = Notes()
    done: Notes[int] = Notes()
    stage.send(topic, map(str, range(50)))

    @app.topic(topic)
    class Slow(Controller[int]):
        def perform(self) -> None:
            begun.add(self.params)
            Event().wait(1)
            done.add(self.params)

    with running(app) as server:
        until(lambda: len(begun) == 1)
        began = time.monotonic()
        server.server.stop()
        assert time.monotonic() - began < 3
    assert begun.all() == done.all() == [0]
    assert stage.committed(app.config.client_id, topic) == {0: 1}


def test_what_outlasts_the_time_out_is_named_and_not_committed(stage: Stage) -> None:
    app, topic = stage.app(shutdown_timeout=0.5), stage.topic()
    begun: Notes[int] = Notes()
    open_ = Event()
    stage.send(topic, map(str, range(5)))

    @app.topic(topic)
    class Stuck(Controller[int]):
        def perform(self) -> None:
            begun.add(self.params)
            if self.params == 2:
                open_.wait(20)

    with running(app, allow=(Overran,), status=2) as server:
        until(lambda: 2 in begun)
        assert server.server.stop() == 2
        (event,) = server.told(ServerStopped)
        open_.set()
    assert len(event.unfinished) == 1
    assert f"{topic}/0/2" in event.unfinished[0]
    assert stage.committed(app.config.client_id, topic) == {0: 2}


def test_a_batch_that_gathers_for_a_day_holds_up_no_stop(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    stage.send(topic, ["1"])

    @app.topic(topic, max_wait=86_400.0)
    class Patient(BatchController[int]):
        def perform(self) -> None:
            raise AssertionError("not yet")

    with running(app):
        began = time.monotonic()
    assert time.monotonic() - began < 5


def test_a_server_beside_code_of_one_s_own_stops_once_however_often_it_is_asked(stage: Stage) -> None:
    """Ten threads ask: each gets the same answer after the same end, and nothing is told twice."""
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, ["0"])

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    with running(app) as server:
        assert server.server.join(timeout=0.0) is None
        until(lambda: len(seen) == 1)
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: server.server.stop(), range(10)))
        assert answers == [0] * 10
        assert server.server.stop() == server.server.join(timeout=0.0) == 0
    assert len(server.told(ServerStopping)) == len(server.told(ServerStopped)) == 1
    assert stage.committed(app.config.client_id, topic) == {0: 1}


def test_a_server_stopped_before_it_had_anything_ends_at_once(stage: Stage) -> None:
    app = stage.app()
    app.topic(stage.topic())(type("Keep", (Controller,), {"perform": lambda _self: None}))
    with running(app) as server:
        began = time.monotonic()
        assert server.server.stop() == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stop_from_inside_perform_does_not_wait_for_itself(stage: Stage, *, asynchronous: bool) -> None:
    """Its message is finished and committed, the next one is not begun."""
    app, topic = stage.app(), stage.topic()
    done: Notes[int] = Notes()
    stage.send(topic, map(str, range(5)))
    servers: list[Server] = []

    def perform(params: int) -> None:
        servers[0].stop("it had enough")
        done.add(params)

    class Threaded(Controller[int]):
        def perform(self) -> None:
            perform(self.params)

    class Looped(Controller[int]):
        async def perform(self) -> None:
            perform(self.params)

    app.topic(topic, max_messages=1)(Looped if asynchronous else Threaded)
    with running(app) as server:
        servers.append(server.server)
        began = time.monotonic()
        assert server.server.join(30) == 0
        assert time.monotonic() - began < 20
    assert done.all() == list(range(len(done)))
    assert stage.committed(app.config.client_id, topic) == {0: len(done)}
