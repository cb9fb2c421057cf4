"""A batch is handed over when it is full, or when it has gathered long enough; it ends as a whole."""

from __future__ import annotations

import time

from karafka import Backoff, BatchController, Controller, DeadLetter
from karafka.events import Buried, Failed, Performed
from tests.specs.run import Notes, Stage, running, until


def test_a_full_batch_waits_no_longer(stage: Stage) -> None:
    """20 batches of one message, which might wait 5 s each, do not take 100 s."""
    app, topic = stage.app(), stage.topic()
    seen: Notes[list[int]] = Notes()
    stage.send(topic, map(str, range(20)))

    @app.topic(topic, max_messages=1, max_wait=5.0)
    class Keep(BatchController[int]):
        def perform(self) -> None:
            seen.add(self.params)

    began = time.monotonic()
    with running(app):
        until(lambda: len(seen) == 20)
    assert time.monotonic() - began < 5
    assert seen.all() == [[number] for number in range(20)]


def test_a_batch_gathers_for_its_time(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[tuple[float, list[int]]] = Notes()
    stage.send(topic, ["0", "1", "2"])

    @app.topic(topic, max_messages=200, max_wait=1.5)
    class Keep(BatchController[int]):
        def perform(self) -> None:
            seen.add((time.monotonic(), self.messages.payloads))

    began = time.monotonic()
    with running(app):
        until(lambda: len(seen) == 1)
    ((when, payloads),) = seen
    assert 1.5 <= when - began < 4
    assert payloads == [0, 1, 2]


def test_a_batch_is_never_larger_than_said(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[list[int]] = Notes()
    stage.send(topic, map(str, range(1_000)))

    @app.topic(topic, max_messages=30, max_wait=0.1)
    class Keep(BatchController[int]):
        def perform(self) -> None:
            seen.add([message.payload for message in self.messages])

    with running(app):
        until(lambda: sum(map(len, seen)) == 1_000)
    assert max(map(len, seen)) == 30
    assert [number for batch in seen for number in batch] == list(range(1_000))


def test_an_async_batch_is_one_too(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[list[int]] = Notes()
    stage.send(topic, map(str, range(40)))

    @app.topic(topic, max_messages=20, max_wait=0.5)
    class Keep(BatchController[int]):
        async def perform(self) -> None:
            seen.add(self.params)

    with running(app):
        until(lambda: sum(map(len, seen)) == 40)
    assert [number for batch in seen for number in batch] == list(range(40))


def test_a_batch_that_fails_is_given_again_as_a_whole(stage: Stage) -> None:
    """Told of once, at its first message; the second try has all that the first had."""
    app, topic = stage.app(retry=Backoff(0.05)), stage.topic()
    tries: Notes[tuple[int, list[int]]] = Notes()
    stage.send(topic, map(str, range(5)))

    @app.topic(topic, max_messages=5, max_wait=5.0)
    class Stumble(BatchController[int]):
        def perform(self) -> None:
            tries.add((self.messages[0].attempt, self.params))
            if len(tries) == 1:
                raise ValueError

    with running(app, allow=(Failed,)) as server:
        until(lambda: server.told(Performed))
        assert [(event.offset, event.attempt) for event in server.told(Failed)] == [(0, 1)]
    assert tries.all() == [(1, [0, 1, 2, 3, 4]), (2, [0, 1, 2, 3, 4])]
    assert stage.committed(app.config.client_id, topic) == {0: 5}


def test_only_the_culprit_of_a_batch_is_buried(stage: Stage) -> None:
    """A failing batch is halved until one stands alone; its neighbours are performed."""
    app, topic, grave = stage.app(retry=Backoff(0.02, 0.05)), stage.topic(), stage.topic()
    done: Notes[int] = Notes()
    stage.send(topic, map(str, range(64)))

    @app.topic(topic, max_messages=64, max_wait=0.2, dead_letter=DeadLetter(grave, after=2))
    class Keep(BatchController[int]):
        def perform(self) -> None:
            if 37 in self.params:
                raise ValueError
            for number in self.params:
                done.add(number)

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(done) == 63)
        assert [event.offset for event in server.told(Buried)] == [37]

    assert done.all() == [number for number in range(64) if number != 37]
    assert [message.value() for message in stage.read(grave, 1)] == [b"37"]


def test_single_messages_come_one_by_one(stage: Stage) -> None:
    """A new controller for each of 100 messages."""
    app, topic = stage.app(), stage.topic()
    made: Notes[Controller[int]] = Notes()  # kept, so that no address is used twice
    stage.send(topic, map(str, range(100)))

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            assert not hasattr(self, "mine")
            self.mine = self.params
            made.add(self)

    with running(app):
        until(lambda: len(made) == 100)
    assert len({id(controller) for controller in made}) == 100
