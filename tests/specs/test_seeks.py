"""A partition goes on where it is sent by hand, backwards or forwards, by offset or by time, and that is committed."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from karafka import App, Backoff, BatchController, Controller, Producer
from karafka.events import Failed
from tests.brokers import new_group
from tests.specs.run import Notes, Stage, running, until


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
@pytest.mark.parametrize(("to", "expected"), [(2, [*range(6), *range(2, 100)]), (50, [*range(6), *range(50, 100)])])
def test_it_goes_on_there_when_the_message_in_hand_has_ended(
    stage: Stage, to: int, expected: list[int], *, asynchronous: bool
) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(100)))

    class Jump(Controller[int]):
        def jump(self) -> None:
            if self.params == 5 and 5 not in seen.all():
                assert self.seek(to)
            seen.add(self.params)

    class Plain(Jump):
        def perform(self) -> None:
            self.jump()

    class Aside(Jump):
        async def perform(self) -> None:
            self.jump()

    app.topic(topic)(Aside if asynchronous else Plain)

    with running(app):
        until(lambda: seen.all()[-1:] == [99])
    assert seen.all() == expected
    assert stage.committed(app.config.client_id, topic) == {0: 100}


def test_other_partitions_do_not_notice(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic(2)
    seen: Notes[tuple[int, int]] = Notes()
    for partition in (0, 1):
        stage.send(topic, map(str, range(500)), partition=partition)

    @app.topic(topic)
    class Back(Controller[int]):
        def perform(self) -> None:
            place = self.message.partition, self.params
            if place == (0, 400) and place not in seen.all():
                assert self.seek(100)
            seen.add(place)

    with running(app):
        until(lambda: len(seen) == 1_301)
    assert [number for partition, number in seen if partition == 0] == [*range(401), *range(100, 500)]
    assert [number for partition, number in seen if partition == 1] == list(range(500))


def test_a_batch_goes_on_there_too(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[list[int]] = Notes()
    stage.send(topic, map(str, range(10)))

    @app.topic(topic, max_messages=5, max_wait=1.0)
    class Back(BatchController[int]):
        def perform(self) -> None:
            if len(seen) == 1:
                assert self.seek(2)
            seen.add(self.params)

    with running(app):
        until(lambda: len(seen) == 4)
    assert seen.all() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [2, 3, 4, 5, 6], [7, 8, 9]]
    assert stage.committed(app.config.client_id, topic) == {0: 10}


def test_by_time_exactly_what_came_since_is_performed(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    began = time.time() - 1_000
    with Producer({"bootstrap.servers": stage.bootstrap}) as producer:
        producer.produce_many_sync(
            {"topic": topic, "payload": str(number), "partition": 0, "timestamp": began + number}
            for number in range(20)
        )

    @app.topic(topic)
    class Since(Controller[int]):
        def perform(self) -> None:
            if self.params == 0:
                assert self.seek(datetime.fromtimestamp(began + 12.5, UTC))
            seen.add(self.params)

    with running(app):
        until(lambda: seen.all()[-1:] == [19])
    assert seen.all() == [0, *range(13, 20)]


def test_by_a_time_that_nothing_came_since_it_goes_on_at_the_end(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))

    @app.topic(topic)
    class Skip(Controller[int]):
        def perform(self) -> None:
            if self.params == 3:
                assert self.seek(datetime.fromtimestamp(time.time() + 3_600, UTC))
            seen.add(self.params)

    with running(app):
        until(lambda: stage.committed(app.config.client_id, topic) == {0: 10})
        stage.send(topic, ["10"])
        until(lambda: 10 in seen.all())
    assert seen.all() == [0, 1, 2, 3, 10]


def test_a_lower_position_is_committed_too(stage: Stage) -> None:
    """Asked for by the last message before a stop: the next start begins there."""
    topic, group = stage.topic(), new_group()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))

    def app(*, back: bool) -> App:
        made = stage.app(client_id=group)

        @made.topic(topic)
        class Back(Controller[int]):
            def perform(self) -> None:
                if back and self.params == 9:
                    assert self.seek(4)
                    self.pause(3_600)
                seen.add(self.params)

        return made

    with running(app(back=True)):
        until(lambda: len(seen) == 10)
    assert stage.committed(group, topic) == {0: 4}
    with running(app(back=False)):
        until(lambda: len(seen) == 16)
    assert seen.all() == [*range(10), *range(4, 10)]
    assert stage.committed(group, topic) == {0: 10}


def test_what_was_marked_before_going_back_can_be_marked_again(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))

    @app.topic(topic, marking="manual")
    class Back(Controller[int]):
        def perform(self) -> None:
            again = 9 in seen.all()
            if not again or self.params < 5:
                assert self.mark()
            seen.add(self.params)
            if self.params == 9 and not again:
                assert self.seek(0)

    with running(app):
        until(lambda: len(seen) == 20)
    assert seen.all() == [*range(10), *range(10)]
    assert stage.committed(app.config.client_id, topic) == {0: 5}


def test_it_goes_there_after_a_failure_too(stage: Stage) -> None:
    """However the message in hand ends: it is not tried again, unless it lies ahead."""
    app, topic = stage.app(retry=Backoff(0.02)), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))

    @app.topic(topic)
    class Stumble(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)
            if self.params == 3:
                assert self.seek(6)
                raise ValueError

    with running(app, allow=(Failed,)) as server:
        until(lambda: seen.all()[-1:] == [9])
        assert [event.offset for event in server.told(Failed)] == [3]
    assert seen.all() == [0, 1, 2, 3, 6, 7, 8, 9]
    assert stage.committed(app.config.client_id, topic) == {0: 10}


@pytest.mark.parametrize("to", [-1, 1.5, "3", None, True, datetime(2026, 1, 1)])  # noqa: DTZ001 - without a zone, which is the mistake
def test_a_place_that_is_none_is_refused_and_nothing_is_skipped(stage: Stage, to: object) -> None:
    app, topic = stage.app(retry=Backoff(0.02)), stage.topic()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))

    @app.topic(topic)
    class Mistake(Controller[int]):
        def perform(self) -> None:
            if self.params == 3 and self.message.attempt == 1:
                self.seek(to)  # type: ignore[arg-type]
            seen.add(self.params)

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(seen) == 10)
        assert [event.offset for event in server.told(Failed)] == [3]
    assert seen.all() == list(range(10))
    assert stage.committed(app.config.client_id, topic) == {0: 10}
