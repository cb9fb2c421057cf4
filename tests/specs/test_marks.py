"""What is marked by hand is finished there and then, with all before it in its partition, whatever happens after."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from karafka import Backoff, BatchController, ConfigError, Controller, DeadLetter
from karafka.events import Buried, Failed
from tests.specs.run import Notes, Stage, running, until


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_what_was_marked_before_it_failed_is_not_performed_again(stage: Stage, *, asynchronous: bool) -> None:
    """At most once, where that is wanted: mark, then work."""
    app, topic = stage.app(retry=Backoff(0.02)), stage.topic()
    begun: Notes[int] = Notes()
    done: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))

    class Once(Controller[int]):
        def once(self) -> None:
            begun.add(self.params)
            assert self.mark()
            if self.params == 5:
                raise ValueError
            done.add(self.params)

    class Plain(Once):
        def perform(self) -> None:
            self.once()

    class Aside(Once):
        async def perform(self) -> None:
            self.once()

    app.topic(topic)(Aside if asynchronous else Plain)

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(done) == 9)
        assert [event.offset for event in server.told(Failed)] == [5]
    assert begun.all() == list(range(10))
    assert done.all() == [number for number in range(10) if number != 5]
    assert stage.committed(app.config.client_id, topic) == {0: 10}


def test_of_a_batch_that_fails_what_was_not_marked_comes_again(stage: Stage) -> None:
    """And the failure is told of the first message that is not finished."""
    app, topic = stage.app(retry=Backoff(0.02)), stage.topic()
    tries: Notes[list[int]] = Notes()
    stage.send(topic, map(str, range(6)))

    @app.topic(topic, max_messages=6, max_wait=5.0)
    class Stumble(BatchController[int]):
        def perform(self) -> None:
            tries.add(self.params)
            if len(tries) == 1:
                for message in self.messages[:5]:
                    assert self.mark(message)
                raise ValueError

    with running(app, allow=(Failed,)) as server:
        until(lambda: sum(map(len, tries)) == 7)
        assert [(event.offset, event.attempt) for event in server.told(Failed)] == [(5, 1)]
    assert tries.all() == [[0, 1, 2, 3, 4, 5], [5]]
    assert stage.committed(app.config.client_id, topic) == {0: 6}


def test_a_mark_on_an_older_message_takes_nothing_back(stage: Stage) -> None:
    app, topic = stage.app(retry=Backoff(0.02)), stage.topic()
    tries: Notes[list[int]] = Notes()
    stage.send(topic, map(str, range(6)))

    @app.topic(topic, max_messages=6, max_wait=5.0)
    class Stumble(BatchController[int]):
        def perform(self) -> None:
            tries.add(self.params)
            if len(tries) == 1:
                assert self.mark(self.messages[3])
                assert self.mark(self.messages[1])
                assert self.mark(self.messages[3])
                raise ValueError

    with running(app, allow=(Failed,)):
        until(lambda: sum(map(len, tries)) == 8)
    assert tries.all() == [[0, 1, 2, 3, 4, 5], [4, 5]]
    assert stage.committed(app.config.client_id, topic) == {0: 6}


def test_progress_by_marks_keeps_a_batch_from_being_buried(stage: Stage) -> None:
    """Each try fails at another message, further on: that is no message that fails again and again."""
    app, topic, grave = stage.app(retry=Backoff(0.02, 0.02)), stage.topic(), stage.topic()
    done: Notes[int] = Notes()
    failed: set[int] = set()
    stage.send(topic, map(str, range(20)))

    @app.topic(topic, max_messages=20, max_wait=1.0, dead_letter=DeadLetter(grave, after=2))
    class Stumble(BatchController[int]):
        def perform(self) -> None:
            for message in self.messages:
                if message.payload not in failed:
                    failed.add(message.payload)
                    raise ValueError
                done.add(message.payload)
                assert self.mark(message)

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(done) == 20)
        assert not server.told(Buried)
    assert done.all() == list(range(20))
    assert stage.end(grave) == 0


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_a_commit_can_be_waited_for(stage: Stage, *, asynchronous: bool) -> None:
    """When it says yes the broker has it, however far the next commit would have been off."""
    app, topic = stage.app(commit_interval=3_600.0), stage.topic()
    kept: Notes[dict[int, int]] = Notes()
    stage.send(topic, map(str, range(5)))

    class Plain(Controller[int]):
        def perform(self) -> None:
            assert self.mark()
            assert self.commit()
            kept.add(stage.committed(app.config.client_id, topic))

    class Aside(Controller[int]):
        async def perform(self) -> None:
            assert self.mark()
            assert await self.commit_async()
            kept.add(stage.committed(app.config.client_id, topic))

    app.topic(topic)(Aside if asynchronous else Plain)

    with running(app):
        until(lambda: len(kept) == 5)
    assert kept.all() == [{0: number} for number in range(1, 6)]


def test_a_commit_without_a_mark_is_of_what_is_finished(stage: Stage) -> None:
    """Never of the message in hand."""
    app, topic = stage.app(commit_interval=3_600.0), stage.topic()
    kept: Notes[int] = Notes()
    stage.send(topic, map(str, range(5)))

    @app.topic(topic)
    class Ask(Controller[int]):
        def perform(self) -> None:
            assert self.commit()
            kept.add(stage.committed(app.config.client_id, topic).get(0, 0))

    with running(app):
        until(lambda: len(kept) == 5)
    assert kept.all() == list(range(5))


def test_any_thread_of_a_perform_may_mark_and_commit(stage: Stage) -> None:
    app, topic = stage.app(commit_interval=3_600.0), stage.topic()
    kept: Notes[dict[int, int]] = Notes()
    stage.send(topic, map(str, range(8)))

    @app.topic(topic, max_messages=8, max_wait=5.0)
    class Share(BatchController[int]):
        def perform(self) -> None:
            with ThreadPoolExecutor(8) as pool:
                assert all(pool.map(self.mark, self.messages))
                assert all(pool.map(lambda _: self.commit(), range(8)))
            kept.add(stage.committed(app.config.client_id, topic))

    with running(app):
        until(lambda: len(kept) == 1)
    assert kept.all() == [{0: 8}]


def test_what_would_block_the_loop_is_refused(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    refused: Notes[str] = Notes()
    stage.send(topic, ["0"])

    @app.topic(topic)
    class Block(Controller[int]):
        async def perform(self) -> None:
            with pytest.raises(ConfigError) as raised:
                self.commit()
            refused.add(str(raised.value))

    with running(app):
        until(lambda: len(refused) == 1)
    (words,) = refused
    assert "commit_async" in words
