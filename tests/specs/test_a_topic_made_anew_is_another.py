"""A topic that was deleted and made again is another: it is read from its beginning, with an event."""

from __future__ import annotations

from typing import Literal

import pytest

from karafka import App, Controller
from karafka.events import Assigned, ErrorOccurred, Lost, TopicMissing, TopicRenewed
from tests.brokers import new_group
from tests.specs.run import Notes, Stage, running, until


def app_of(
    stage: Stage, topic: str, group: str, seen: Notes[int], start: Literal["earliest", "latest"] = "earliest"
) -> App:
    app = stage.app(client_id=group)

    @app.topic(topic, start=start)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    return app


def test_between_two_starts(stage: Stage) -> None:
    """Fewer messages than were committed, or more: an offset says nothing about another topic.

    Kafka itself mostly forgets the offsets with the topic; where it does not, the event tells.
    """
    for count in (5, 50):
        topic, group = stage.topic(), new_group()
        seen: Notes[int] = Notes()
        stage.send(topic, map(str, range(10)))
        with running(app_of(stage, topic, group, seen)):
            until(lambda seen=seen: len(seen) == 10)  # type: ignore[misc]
        assert stage.committed(group, topic) == {0: 10}

        stage.remake(topic)
        stage.send(topic, map(str, range(100, 100 + count)))
        with running(app_of(stage, topic, group, seen), allow=(TopicRenewed,)):
            until(lambda seen=seen, wanted=10 + count: len(seen) == wanted)  # type: ignore[misc]
        assert seen.all() == [*range(10), *range(100, 100 + count)]
        assert stage.committed(group, topic) == {0: count}


def test_while_it_is_read(stage: Stage) -> None:
    """What of the new one was read from the old offset on, before that is noticed, comes again; nothing is missed."""
    topic, group = stage.topic(), new_group()
    seen: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))
    # While it is gone the client is troubled.
    with running(app_of(stage, topic, group, seen), allow=(ErrorOccurred,)) as server:
        first = 10

        def committed() -> bool:
            return stage.committed(group, topic) == {0: first}

        until(committed)
        # That it is another its id tells, which is asked for beside the reading: a commit says once it is known.
        while not stage.memo(group, topic).topic:
            stage.send(topic, [str(first)])
            first += 1
            until(committed)
        stage.remake(topic)
        stage.send(topic, map(str, range(100, 150)))
        until(lambda: server.told(TopicRenewed))
        until(lambda: seen.all()[-50:] == list(range(100, 150)))
    repeated = seen.all()[first:-50]
    assert repeated == list(range(100 + first, 100 + first + len(repeated)))
    assert stage.committed(group, topic) == {0: 50}


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_while_it_is_seen_to_be_gone(stage: Stage, start: Literal["earliest", "latest"]) -> None:
    """The same where there is no such topic for a while; Kafka forgets the group's offsets with it."""
    topic, group = stage.topic(), new_group()
    seen: Notes[int] = Notes()
    with running(app_of(stage, topic, group, seen, start), allow=(ErrorOccurred,)) as server:
        until(lambda: server.told(Assigned))
        stage.send(topic, map(str, range(10)))
        until(lambda: len(seen) == 10)
        until(lambda: stage.committed(group, topic) == {0: 10})
        stage.remake(topic, gone=lambda: server.told(TopicMissing) and server.told(Lost))
        stage.send(topic, map(str, range(100, 150)))
        until(lambda: server.told(TopicRenewed))
        until(lambda: seen.all()[-50:] == list(range(100, 150)))
    assert stage.committed(group, topic) == {0: 50}
