"""What is done in a moment is performed by the thread that reads; one that takes an hour among them stops nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, current_thread

from karafka import App, Controller, Server
from karafka.events import Assigned, Overran, Performed, ServerStopped
from tests.specs.run import Notes, Stage, running, until

COUNT = 20_000
# Far enough behind the first ones that the engine knows by then how little each takes.
LONG = 2_500


def kept() -> bool:
    """Whether the thread that reads performs this message itself. On a busy machine a worker may have some of them."""
    return current_thread().name.startswith("karafka-listener-")


@dataclass
class Gate:
    """Where a message of partition 0 stands until the test opens it: the first behind LONG that was kept."""

    #: No `Notes`: who waits for those wakes for each, and then nothing here would be brisk.
    seen: list[tuple[int, int]] = field(default_factory=list)
    #: Which one it is.
    at: Notes[int] = field(default_factory=Notes)
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
                if self.params >= LONG and self.message.partition == 0 and not gate.at and kept():
                    gate.at.add(self.params)
                    gate.open.wait(60)
                gate.seen.append((self.message.partition, self.params))
                gate.now -= 1

        app.topic(topic)(Brisk)

    def of(self, partition: int) -> list[int]:
        return [number for where, number in self.seen.copy() if where == partition]


def feed(stage: Stage, topic: str, met: Callable[[], object]) -> int:
    """Sends to partition 0 until `met`; how many. A machine that is very busy keeps none for a while."""
    sent, by = 0, time.monotonic() + 60
    while not met():
        assert time.monotonic() < by, "the thread that reads has performed nothing itself: this tests nothing"
        stage.send(topic, map(str, range(sent, sent + COUNT)))
        sent += COUNT
        with suppress(AssertionError):
            until(met, timeout=2.0)
    return sent


def test_its_neighbours_go_on_beside_it(stage: Stage) -> None:
    """Without a break that could be felt, and the group notices nothing."""
    app, topic, gate = stage.app(), stage.topic(2), Gate()
    stage.send(topic, map(str, range(COUNT)), partition=1)
    gate.route(app, topic)

    with running(app) as server:
        sent = feed(stage, topic, gate.at.all)
        (at,) = gate.at
        until(lambda: len(gate.of(1)) == COUNT)
        assert "in step" in server.server._listeners[0].stacks(), "the stacks are those of who was relieved"
        for number in range(COUNT, COUNT + 20):
            began = time.monotonic()
            stage.send(topic, [str(number)], partition=1)
            until(lambda number=number: gate.of(1)[-1] == number)  # type: ignore[misc] # a lambda with a default
            assert time.monotonic() - began < 2
        until(lambda: stage.committed(app.config.client_id, topic, 2) == {0: at, 1: COUNT + 20})
        assert gate.of(0) == list(range(at))
        gate.open.set()
        until(lambda: len(gate.of(0)) == sent)
    assert gate.of(0) == list(range(sent))
    assert gate.of(1) == list(range(COUNT + 20))
    assert stage.committed(app.config.client_id, topic, 2) == {0: sent, 1: COUNT + 20}
    assert len(server.told(Assigned)) == 1


def test_no_more_is_performed_at_once_than_the_app_allows(stage: Stage) -> None:
    """It has the seat of the one worker there is: its neighbours wait for it."""
    app, topic, gate = stage.app(concurrency=1), stage.topic(2), Gate()
    gate.route(app, topic)

    with running(app):
        sent = feed(stage, topic, gate.at.all)
        stage.send(topic, map(str, range(COUNT)), partition=1)
        time.sleep(1.0)
        assert gate.of(1) == []
        gate.open.set()
        until(lambda: len(gate.seen) == sent + COUNT)
    assert gate.most == 1
    assert gate.of(0) == list(range(sent))
    assert gate.of(1) == list(range(COUNT))


def test_a_stop_waits_for_it(stage: Stage) -> None:
    """As for any other; it is finished, committed, and nothing after it is begun."""
    app, topic, gate = stage.app(), stage.topic(), Gate()
    gate.route(app, topic)

    with running(app) as server, ThreadPoolExecutor(1) as pool:
        feed(stage, topic, gate.at.all)
        (at,) = gate.at
        stopping = pool.submit(server.server.stop)
        time.sleep(0.5)
        assert not stopping.done()
        gate.open.set()
        assert stopping.result(10) == 0
    assert gate.of(0) == list(range(at + 1))
    assert stage.committed(app.config.client_id, topic) == {0: at + 1}


def test_one_that_outlasts_the_stop_is_named_and_not_committed(stage: Stage) -> None:
    """The next owner performs it again."""
    app, topic, gate = stage.app(shutdown_timeout=0.5), stage.topic(), Gate()
    gate.route(app, topic)

    with running(app, allow=(Overran,), status=2) as server:
        feed(stage, topic, gate.at.all)
        (at,) = gate.at
        assert server.server.stop() == 2
        (event,) = server.told(ServerStopped)
        gate.open.set()
    assert len(event.unfinished) == 1
    assert f"{topic}/0/{at}" in event.unfinished[0]
    assert stage.committed(app.config.client_id, topic) == {0: at}


def test_it_may_ask_its_own_listener_for_a_commit(stage: Stage) -> None:
    """Which is the thread that it runs on: another one answers."""
    app, topic = stage.app(), stage.topic()
    answers: Notes[tuple[bool, float]] = Notes()

    @app.topic(topic, marking="manual")
    class Committing(Controller[int]):
        def perform(self) -> None:
            self.mark()
            if self.params >= LONG and not answers and kept():
                began = time.monotonic()
                committed = self.commit()
                answers.add((committed, time.monotonic() - began))

    with running(app):
        feed(stage, topic, answers.all)
    ((committed, took),) = answers.all()
    assert committed
    assert took < 2


def test_it_may_stop_the_server(stage: Stage) -> None:
    """And does not wait for itself."""
    app, topic = stage.app(), stage.topic()
    servers: list[Server] = []
    done: list[int] = []

    @app.topic(topic)
    class Enough(Controller[int]):
        def perform(self) -> None:
            if self.params >= LONG and servers and kept():
                servers.pop().stop("it had enough")
            done.append(self.params)

    with running(app) as server:
        servers.append(server.server)
        feed(stage, topic, lambda: not servers)
        assert server.server.join(30) == 0
    assert done == list(range(len(done)))
    assert stage.committed(app.config.client_id, topic) == {0: len(done)}


def test_what_a_thread_keeps_for_itself_is_kept_by_few(stage: Stage) -> None:
    """Connections are often kept one for each thread: brisk work goes through one thread, not through all."""
    app, topic = stage.app(), stage.topic()
    mine: list[bool] = []

    @app.topic(topic)
    class Counting(Controller[int]):
        def perform(self) -> None:
            mine.append(kept())

    with running(app) as server:
        sent = feed(stage, topic, lambda: sum(mine) > COUNT / 2)
        until(lambda: len(mine) == sent)
    assert sum(event.count for event in server.told(Performed)) == sent
