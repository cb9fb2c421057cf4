"""Where a route marks by hand only marks move the offset, and a failure gives again, in order, all that has none."""

from __future__ import annotations

import pytest

from karafka import App, Backoff, BatchController, Controller, DeadLetter
from karafka.events import Buried, Failed, Performed
from tests.brokers import new_group
from tests.specs.run import Notes, Stage, running, until


def test_after_a_failure_all_that_was_not_marked_comes_again(stage: Stage) -> None:
    """Nothing was marked: everything does, and nothing is committed."""
    topic, group = stage.topic(), new_group()
    seen: Notes[int] = Notes()
    failed: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))

    def app() -> App:
        made = stage.app(client_id=group, retry=Backoff(0.02))

        @made.topic(topic, marking="manual")
        class Stumble(Controller[int]):
            def perform(self) -> None:
                if self.params == 5 and not failed.all():
                    failed.add(5)
                    raise ValueError
                seen.add(self.params)

        return made

    with running(app(), allow=(Failed,)) as server:
        until(lambda: len(seen) == 15)
        assert [(event.offset, event.attempt) for event in server.told(Failed)] == [(5, 1)]
    assert seen.all() == [*range(5), *range(10)]
    assert stage.committed(group, topic) == {}

    with running(app()):
        until(lambda: len(seen) == 25)
    assert seen.all()[15:] == list(range(10))


def test_only_marks_move_the_offset(stage: Stage) -> None:
    """Every tenth of 95 is marked: a stop commits the last mark, and the next start begins behind it."""
    topic, group = stage.topic(), new_group()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(95)))

    def app() -> App:
        made = stage.app(client_id=group, commit_interval=0.1)

        @made.topic(topic, marking="manual")
        class Tenth(Controller[int]):
            def perform(self) -> None:
                if self.params % 10 == 9:
                    assert self.mark()
                seen.add(self.params)

        return made

    with running(app()):
        until(lambda: len(seen) == 95)
    assert stage.committed(group, topic) == {0: 90}
    with running(app()):
        until(lambda: len(seen) == 100)
    assert seen.all() == [*range(95), *range(90, 95)]


def test_a_batch_that_is_not_marked_is_not_committed(stage: Stage) -> None:
    app, topic = stage.app(commit_interval=0.1), stage.topic()
    seen: Notes[list[int]] = Notes()
    stage.send(topic, map(str, range(10)))

    @app.topic(topic, marking="manual", max_messages=5, max_wait=1.0)
    class Half(BatchController[int]):
        def perform(self) -> None:
            if self.params[0] == 0:
                assert self.mark(self.messages[2])
            seen.add(self.params)

    with running(app) as server:
        until(lambda: sum(event.count for event in server.told(Performed)) == 10)
    assert seen.all() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert stage.committed(app.config.client_id, topic) == {0: 3}


def test_of_a_hundred_that_are_marked_only_the_culprit_is_buried(stage: Stage) -> None:
    app, topic, grave = stage.app(retry=Backoff(0.02)), stage.topic(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(100)))

    @app.topic(topic, marking="manual", dead_letter=DeadLetter(grave, after=2))
    class Stumble(Controller[int]):
        def perform(self) -> None:
            if self.params == 10:
                raise ValueError
            seen.add(self.params)
            assert self.mark()

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(seen) == 99)
        assert [event.offset for event in server.told(Buried)] == [10]
    assert seen.all() == [number for number in range(100) if number != 10]
    assert [message.value() for message in stage.read(grave, 1)] == [b"10"]
    assert stage.committed(app.config.client_id, topic) == {0: 100}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_what_is_marked_does_not_come_again(stage: Stage, *, asynchronous: bool) -> None:
    """The second try begins behind the last mark, not at the message that failed."""
    app, topic = stage.app(retry=Backoff(0.02)), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))

    class Some(Controller[int]):
        def some(self) -> None:
            seen.add(self.params)
            if self.params == 3:
                assert self.mark()
            if self.params == 7 and seen.all().count(7) < 3:
                raise ValueError

    class Plain(Some):
        def perform(self) -> None:
            self.some()

    class Aside(Some):
        async def perform(self) -> None:
            self.some()

    app.topic(topic, marking="manual")(Aside if asynchronous else Plain)

    with running(app, allow=(Failed,)) as server:
        until(lambda: seen.all()[-1:] == [9])
        assert [(event.offset, event.attempt) for event in server.told(Failed)] == [(7, 1), (7, 2)]
    assert seen.all() == [*range(8), *range(4, 8), *range(4, 10)]
    assert stage.committed(app.config.client_id, topic) == {0: 4}
