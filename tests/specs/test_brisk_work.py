"""What is done in a moment is performed by the thread that reads; one that takes an hour among them stops nobody."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, current_thread

import pytest

from karafka import App, Controller, Server
from karafka.events import Assigned, Overran, Performed, ServerStopped
from tests.specs.run import Notes, Stage, running, until

COUNT = 3_000
# Far enough behind the first ones that the engine knows by then how little each takes.
LONG = 2_500


@dataclass
class Gate:
    """Where the message LONG of partition 0 stands until the test opens it."""

    seen: Notes[tuple[int, int]] = field(default_factory=Notes)
    #: The thread that performs it.
    thread: Notes[str] = field(default_factory=Notes)
    open: Event = field(default_factory=Event)
    #: How many perform now, and the most that did.
    now: int = 0
    most: int = 0

    def route(self, app: App, topic: str) -> None:
        gate = self

        class Brisk(Controller[int]):
            def perform(self) -> None:
                gate.now += 1
                gate.most = max(gate.most, gate.now)
                if self.params == LONG and self.message.partition == 0:
                    gate.thread.add(current_thread().name)
                    gate.open.wait(60)
                gate.seen.add((self.message.partition, self.params))
                gate.now -= 1

        app.topic(topic)(Brisk)

    def of(self, partition: int) -> list[int]:
        return [number for where, number in self.seen if where == partition]


def stands(gate: Gate) -> None:
    """Waits for the long one, and sees to it that it is what this file is about."""
    until(lambda: len(gate.thread) == 1)
    assert gate.thread.all()[0].startswith("karafka-listener-"), "a worker has it: this tests nothing"


def test_its_neighbours_go_on_beside_it(stage: Stage) -> None:
    """Without a break that could be felt, and the group notices nothing."""
    app, topic, gate = stage.app(), stage.topic(2), Gate()
    stage.send(topic, map(str, range(COUNT)), partition=0)
    stage.send(topic, map(str, range(COUNT)), partition=1)
    gate.route(app, topic)

    with running(app) as server:
        stands(gate)
        until(lambda: len(gate.of(1)) == COUNT)
        assert "in step" in server.server._listeners[0].stacks(), "the stacks are those of who was relieved"
        for number in range(COUNT, COUNT + 20):
            began = time.monotonic()
            stage.send(topic, [str(number)], partition=1)
            until(lambda number=number: gate.of(1)[-1] == number)  # type: ignore[misc] # a lambda with a default
            assert time.monotonic() - began < 2
        until(lambda: stage.committed(app.config.client_id, topic, 2) == {0: LONG, 1: COUNT + 20})
        assert gate.of(0) == list(range(LONG))
        gate.open.set()
        until(lambda: len(gate.of(0)) == COUNT)
    assert gate.of(0) == list(range(COUNT))
    assert gate.of(1) == list(range(COUNT + 20))
    assert stage.committed(app.config.client_id, topic, 2) == {0: COUNT, 1: COUNT + 20}
    assert len(server.told(Assigned)) == 1


def test_no_more_is_performed_at_once_than_the_app_allows(stage: Stage) -> None:
    """It has the seat of the one worker there is: its neighbours wait for it."""
    app, topic, gate = stage.app(concurrency=1), stage.topic(2), Gate()
    stage.send(topic, map(str, range(COUNT)), partition=0)
    gate.route(app, topic)

    with running(app):
        stands(gate)
        stage.send(topic, map(str, range(COUNT)), partition=1)
        time.sleep(1.0)
        assert gate.of(1) == []
        gate.open.set()
        until(lambda: len(gate.seen) == 2 * COUNT)
    assert gate.most == 1
    assert gate.of(0) == gate.of(1) == list(range(COUNT))


def test_a_stop_waits_for_it(stage: Stage) -> None:
    """As for any other; it is finished, committed, and nothing after it is begun."""
    app, topic, gate = stage.app(), stage.topic(), Gate()
    stage.send(topic, map(str, range(COUNT)))
    gate.route(app, topic)

    with running(app) as server, ThreadPoolExecutor(1) as pool:
        stands(gate)
        stopping = pool.submit(server.server.stop)
        time.sleep(0.5)
        assert not stopping.done()
        gate.open.set()
        assert stopping.result(10) == 0
    assert gate.of(0) == list(range(LONG + 1))
    assert stage.committed(app.config.client_id, topic) == {0: LONG + 1}


def test_one_that_outlasts_the_stop_is_named_and_not_committed(stage: Stage) -> None:
    """The next owner performs it again."""
    app, topic, gate = stage.app(shutdown_timeout=0.5), stage.topic(), Gate()
    stage.send(topic, map(str, range(COUNT)))
    gate.route(app, topic)

    with running(app, allow=(Overran,), status=2) as server:
        stands(gate)
        assert server.server.stop() == 2
        (event,) = server.told(ServerStopped)
        gate.open.set()
    assert len(event.unfinished) == 1
    assert f"{topic}/0/{LONG}" in event.unfinished[0]
    assert stage.committed(app.config.client_id, topic) == {0: LONG}


def test_it_may_ask_its_own_listener_for_a_commit(stage: Stage) -> None:
    """Which is the thread that it runs on: another one answers."""
    app, topic = stage.app(), stage.topic()
    answers: Notes[tuple[str, bool, float]] = Notes()
    stage.send(topic, map(str, range(COUNT)))

    @app.topic(topic, marking="manual")
    class Committing(Controller[int]):
        def perform(self) -> None:
            self.mark()
            if self.params in {LONG, LONG + 100}:
                began = time.monotonic()
                kept = self.commit()
                answers.add((current_thread().name, kept, time.monotonic() - began))

    with running(app):
        until(lambda: len(answers) == 2)
    assert answers.all()[0][0].startswith("karafka-listener-"), "a worker asked: this tests nothing"
    assert all(kept and took < 2 for _, kept, took in answers)


@pytest.mark.parametrize("at", [LONG, COUNT - 1])
def test_it_may_stop_the_server(stage: Stage, at: int) -> None:
    """And does not wait for itself."""
    app, topic = stage.app(), stage.topic()
    threads: Notes[str] = Notes()
    servers: list[Server] = []
    done: Notes[int] = Notes()
    stage.send(topic, map(str, range(COUNT)))

    @app.topic(topic)
    class Enough(Controller[int]):
        def perform(self) -> None:
            if self.params == at:
                threads.add(current_thread().name)
                servers[0].stop("it had enough")
            done.add(self.params)

    with running(app) as server:
        servers.append(server.server)
        assert server.server.join(30) == 0
    assert threads.all()[0].startswith("karafka-listener-"), "a worker had it: this tests nothing"
    assert done.all() == list(range(len(done)))
    assert stage.committed(app.config.client_id, topic) == {0: len(done)}


def test_what_a_thread_keeps_for_itself_is_kept_by_few(stage: Stage) -> None:
    """Connections are often kept one for each thread: brisk work goes through one thread, not through all."""
    app, topic = stage.app(), stage.topic()
    threads: Notes[str] = Notes()
    stage.send(topic, map(str, range(20_000)))

    @app.topic(topic)
    class Counting(Controller[int]):
        def perform(self) -> None:
            threads.add(current_thread().name)

    with running(app) as server:
        until(lambda: len(threads) == 20_000)
    names = threads.all()
    mine = [name for name in names if name.startswith("karafka-listener-")]
    assert len(mine) > 15_000
    assert sum(event.count for event in server.told(Performed)) == 20_000
