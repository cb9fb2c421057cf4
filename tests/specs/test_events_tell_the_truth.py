"""What events count is what happened: received, performed and committed add up, and no commit passes work in hand."""

from __future__ import annotations

from threading import Event

from karafka import Controller
from karafka.events import (
    Assigned,
    Committed,
    Performed,
    Received,
    Revoked,
    ServerStarted,
    ServerStopped,
    ServerStopping,
)
from karafka.lifecycle import Phase
from tests.specs.run import Notes, Stage, running, until


def test_the_numbers_add_up(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic(2)
    seen: Notes[int] = Notes()
    for partition in (0, 1):
        stage.send(topic, map(str, range(3_000)), partition=partition)

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    with running(app) as server:
        until(lambda: len(seen) == 6_000)

    for partition in (0, 1):
        received = [event.count for event in server.told(Received) if event.partition == partition]
        performed = [event for event in server.told(Performed) if event.partition == partition]
        assert sum(received) == sum(event.count for event in performed) == 3_000
        positions = [event.position for event in performed]
        assert positions == sorted(set(positions))
        assert positions[-1] == 3_000
        assert all(event.elapsed > 0 for event in performed)
        commits = [
            event.offsets[topic, partition] for event in server.told(Committed) if (topic, partition) in event.offsets
        ]
        assert commits == sorted(set(commits))
        assert commits[-1] == 3_000
    assert [event.starts for event in server.told(Assigned)] == [{(topic, 0): 0, (topic, 1): 0}]
    assert [event.positions for event in server.told(Revoked)] == [{(topic, 0): 3_000, (topic, 1): 3_000}]
    group = app.config.client_id
    assert [event.groups for event in server.told(ServerStarted)] == [{group: (topic,)}]
    assert len(server.told(ServerStopping)) == 1
    assert [(event.status, event.unfinished) for event in server.told(ServerStopped)] == [(0, ())]


def test_progress_within_a_run_is_committed_up_to_the_message_in_hand(stage: Stage) -> None:
    """A message that takes long keeps neither those before it back, nor is it or any after it committed."""
    app, topic = stage.app(commit_interval=0.1), stage.topic()
    open_ = Event()
    done: Notes[int] = Notes()
    stage.send(topic, map(str, range(100)))

    @app.topic(topic)
    class Slow(Controller[int]):
        def perform(self) -> None:
            if self.params == 50:
                open_.wait(30)
            done.add(self.params)

    with running(app) as server:
        until(lambda: any(event.offsets.get((topic, 0)) == 50 for event in server.told(Committed)), 10)
        assert done.all() == list(range(50))
        assert stage.committed(app.config.client_id, topic) == {0: 50}
        open_.set()
        until(lambda: len(done) == 100)
    assert stage.committed(app.config.client_id, topic) == {0: 100}


def test_a_listener_that_raises_breaks_nothing(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))

    def broken(event: Performed) -> None:
        raise ValueError(event)

    app.events.on(Performed, broken)

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    with running(app):
        until(lambda: len(seen) == 10 and app.events.failures)
        assert app.events.failures > 0
        app.events.failures = 0
    assert stage.committed(app.config.client_id, topic) == {0: 10}


def test_a_life_is_told_in_order(stage: Stage) -> None:
    """From the start to the end each kind comes when its time is, and the server's phase goes with it."""
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    phases: Notes[tuple[str, Phase]] = Notes()
    stage.send(topic, map(str, range(10)))

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    with running(app) as server:
        for kind in (ServerStarted, ServerStopping, ServerStopped):
            app.events.on(kind, lambda event: phases.add((type(event).__name__, server.server.phase)))
        until(lambda: server.told(Committed))
        assert server.server.phase is Phase.RUNNING
    kinds = [type(event) for event in server.events]
    order = (Assigned, Received, Performed, Committed, ServerStopping, Revoked, ServerStopped)
    firsts = [kinds.index(kind) for kind in order]
    assert firsts == sorted(firsts)
    assert kinds.index(ServerStarted) < kinds.index(ServerStopping)
    assert kinds[-1] is ServerStopped
    # Whoever waits for the end has been told of it then.
    assert phases.all() == [("ServerStopping", Phase.STOPPING), ("ServerStopped", Phase.STOPPING)]
    assert server.server.join(timeout=0.0) == 0
