"""`before_enqueue` methods run in order before `perform`; `Abort` drops a message for good, and an event says so."""

from __future__ import annotations

import pytest

from karafka import Abort, BatchController, Controller, before_enqueue
from karafka.events import Aborted
from tests.specs.run import Notes, Stage, running, until


def test_hooks_run_in_order_and_abort(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    ran: Notes[tuple[str, int]] = Notes()
    stage.send(topic, map(str, range(3)))

    class Base(Controller[int]):
        @before_enqueue
        def first(self) -> None:
            ran.add(("first", self.params))
            if self.params == 0:
                raise Abort

    @app.topic(topic)
    class Keep(Base):
        @before_enqueue
        def second(self) -> None:
            ran.add(("second", self.params))
            if self.params == 1:
                self.abort("odd")

        def perform(self) -> None:
            ran.add(("perform", self.params))

    with running(app) as server:
        until(lambda: ("perform", 2) in ran)
        aborted = server.told(Aborted)

    assert ran.all() == [("first", 0), ("first", 1), ("second", 1), ("first", 2), ("second", 2), ("perform", 2)]
    assert [(event.offset, event.reason) for event in aborted] == [(0, ""), (1, "odd")]
    assert aborted[0].controller.endswith("Keep")
    assert stage.committed(app.config.client_id, topic) == {0: 3}


@pytest.mark.parametrize("path", ["first", "later"])
def test_abort_in_perform_counts_as_finished(stage: Stage, path: str) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(5)))

    class First(Controller[int]):
        def perform(self) -> None:
            if self.params % 2:
                raise Abort("odd")
            seen.add(self.params)

    class Later(Controller[int]):
        def perform(self) -> None:
            seen.add(self.message.offset) if self.message.offset % 2 == 0 else self.abort("odd")

    app.topic(topic)({"first": First, "later": Later}[path])

    with running(app) as server:
        until(lambda: len(seen) == 3)
        assert [event.offset for event in server.told(Aborted)] == [1, 3]
    assert seen.all() == [0, 2, 4]
    assert stage.committed(app.config.client_id, topic) == {0: 5}


def test_async_hooks_go_before_async_performs(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    ran: Notes[tuple[str, int]] = Notes()
    stage.send(topic, map(str, range(2)))

    @app.topic(topic)
    class Keep(Controller[int]):
        @before_enqueue
        async def hook(self) -> None:
            ran.add(("hook", self.params))
            if self.params == 0:
                raise Abort

        async def perform(self) -> None:
            ran.add(("perform", self.params))

    with running(app):
        until(lambda: len(ran) == 3)
    assert ran.all() == [("hook", 0), ("hook", 1), ("perform", 1)]


def test_a_batch_is_dropped_as_a_whole(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    performed: Notes[int] = Notes()
    stage.send(topic, map(str, range(5)))

    @app.topic(topic, max_messages=5, max_wait=1.0)
    class Keep(BatchController[int]):
        @before_enqueue
        def never(self) -> None:
            raise Abort("all of it")

        def perform(self) -> None:
            performed.add(len(self.messages))

    with running(app) as server:
        until(lambda: server.told(Aborted))
    assert not performed.all()
    assert stage.committed(app.config.client_id, topic) == {0: 5}
