"""Which topics there are, and whether they still are the same: asked beside the listener."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from karafka import watch as watching
from karafka.client import Identities, Kept
from karafka.errors import BrokerError
from karafka.events import DeadLetterMissing, Event, Events, TopicFound, TopicMissing
from karafka.messages import Place
from karafka.watch import IDLESS, IDS_INTERVAL, INTERVAL, Ids, Names, Reached, Seen, TopicsRead, TopicWatch, Unowned
from tests.unit.house import Broker, HandClock

AWAY = BrokerError("away", retriable=True)


class Answers:
    """`client.Topics` in memory: topics with their ids; what is `refused`, or `never` answered, raises."""

    def __init__(self, **there: str) -> None:
        self.there = there
        self.refused: set[str] = set()
        self.forbidden: set[str] = set()
        self.never: set[str] = set()
        self.asked: list[str] = []
        self.nobodys: frozenset[Place] | None = frozenset()

    def names(self, timeout: float) -> frozenset[str]:
        self._ask("names")
        return frozenset(self.there) - self.forbidden

    def ids(self, topics: Sequence[str], timeout: float) -> Identities:
        self._ask("ids")
        seen = {topic: self.there.get(topic) for topic in topics if topic not in self.forbidden}
        return Identities("cluster", seen, frozenset(self.forbidden))

    def committed(self, group: str, places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
        raise AssertionError("the watch does not ask for it")

    def pending(self, group: str, places: Sequence[Place], timeout: float) -> list[Place]:
        raise AssertionError("the watch does not ask for it")

    def unowned(self, group: str, topics: Sequence[str], timeout: float) -> frozenset[Place] | None:
        self._ask("unowned")
        return self.nobodys

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.refused:
            raise AWAY
        if what in self.never:
            raise BrokerError("not allowed", retriable=False)


class Reader:
    """A `TopicsRead` whose watch is asked by hand."""

    def __init__(self, *named: str, graves: Sequence[str] = ()) -> None:
        self.told: list[Event] = []
        self.seen: list[Seen] = []
        events = Events()
        events.on(Event, self.told.append)
        self.topics = TopicsRead("g", named, None, graves, Answers, self.seen.append, events)
        self._client: Any = Broker(HandClock())
        self.topics._subscribed = named

    def ask(self, answers: Answers) -> float:
        """One question; what was seen is known at once. In how many seconds the next is due."""
        before = len(self.seen)
        pause = self.topics._ask(answers)
        for one in self.seen[before:]:
            match one:
                case Names(topics):
                    self.topics.know(topics, self._client, self._client)
                case Ids(found):
                    self.topics.identify(found)
        return pause


def test_topics_are_looked_for_until_all_that_is_named_is_there() -> None:
    """Each is told once when it is missing, and when it is found."""
    reader, answers = Reader("a", "b"), Answers(a="1")

    assert reader.ask(answers) == INTERVAL
    assert reader.ask(answers) == INTERVAL
    answers.there["b"] = "2"
    reader.ask(answers)
    answers.asked.clear()

    assert reader.ask(answers) == IDS_INTERVAL
    assert answers.asked == ["ids"]
    assert reader.told == [TopicMissing(group="g", topic="b"), TopicFound(group="g", topic="b")]


def test_a_topic_for_dead_letters_that_is_missing_is_told_as_such() -> None:
    """Once; it is no topic that is read."""
    reader, answers = Reader("a", graves=["a_dead"]), Answers(a="1")

    reader.ask(answers)
    reader.ask(answers)

    assert reader.told == [DeadLetterMissing(group="g", topic="a_dead")]


def test_a_topic_that_the_client_misses_later_is_looked_for_again() -> None:
    """It may have been deleted."""
    reader, answers = Reader("a"), Answers(a="1")
    reader.ask(answers)
    reader.ask(answers)

    reader.topics.miss("a")

    assert reader.ask(answers) == INTERVAL


def test_the_ids_of_what_is_read_are_asked_for_for_ever() -> None:
    """A topic may be deleted and made again at any time."""
    reader, answers = Reader("a"), Answers(a="1")
    reader.ask(answers)
    answers.there["a"] = "2"
    reader.ask(answers)

    assert [one.found.topics["a"] for one in reader.seen if isinstance(one, Ids)] == ["1", "2"]


def test_a_cluster_that_tells_no_ids_is_asked_for_them_seldom() -> None:
    """What waits for a topic to appear is not to wait for those answers."""
    reader, answers = Reader("a"), Answers()
    answers.refused.add("ids")

    for _ in range(IDLESS):
        reader.ask(answers)
    assert answers.asked.count("ids") == 1
    answers.refused.clear()
    reader.ask(answers)

    assert answers.asked.count("ids") == 2


def test_where_no_ids_are_told_names_say_what_is_missing() -> None:
    """librdkafka's own cluster has none."""
    reader, answers = Reader("a", "b"), Answers(a="1")
    answers.refused.add("ids")
    reader.ask(answers)
    answers.there["b"] = "2"
    reader.ask(answers)

    assert reader.told == [TopicMissing(group="g", topic="b"), TopicFound(group="g", topic="b")]


def test_a_topic_that_is_refused_is_not_missing() -> None:
    """It is not listed either, but there it is."""
    reader, answers = Reader("a", "b"), Answers(a="1", b="2")
    answers.forbidden.add("b")
    reader.ask(answers)

    assert reader.told == []
    assert [one.found.refused for one in reader.seen if isinstance(one, Ids)] == [{"b"}]


def test_a_broker_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the client may fail as well as asking it; the listener's own client tells of it."""
    monkeypatch.setattr(watching, "INTERVAL", 0.0)
    away = [AWAY, AWAY]
    asked: list[object] = []

    def topics() -> Answers:
        if len(away) > 1:
            raise away.pop()
        return Answers()

    def ask(answers: object) -> float:
        asked.append(answers)
        if away:
            raise away.pop()
        watch.stop()
        return 0.0

    watch = TopicWatch(topics, ask, "g")
    watch._run()

    assert len(asked) == 2


def test_once_stopped_it_asks_no_more() -> None:
    """Not even for the first time."""
    watch = TopicWatch(Answers, lambda _topics: pytest.fail("it asked"), "g")
    watch.stop()

    watch._run()


def test_each_answer_is_a_question_to_the_listener_s_client() -> None:
    """Which may have lost the cluster; a broker that is away answers neither."""
    reader, answers = Reader("a"), Answers(a="1")
    reader.ask(answers)
    assert reader.seen[-1] == Reached("a")

    answers.refused.add("ids")
    with pytest.raises(BrokerError):
        reader.ask(answers)
    assert reader.seen.count(Reached("a")) == 1


def test_it_is_asked_who_owns_what_until_a_doubt_is_settled() -> None:
    """And sooner than what is asked all the time; a doubt that came meanwhile is another one."""
    reader, answers = Reader("a"), Answers(a="1")
    answers.nobodys = frozenset({Place("a", 0)})
    reader.ask(answers)
    assert reader.ask(answers) == IDS_INTERVAL
    assert "unowned" not in answers.asked

    reader.topics.doubt()
    assert reader.ask(answers) == INTERVAL
    assert reader.seen[-1] == Unowned(answers.nobodys, 1)
    reader.topics.doubt()
    reader.topics.trust(1)
    assert reader.ask(answers) == INTERVAL
    reader.topics.trust(2)
    assert reader.ask(answers) == IDS_INTERVAL
    assert answers.asked.count("unowned") == 2


def test_who_may_not_know_what_is_owned_does_not_ask_again() -> None:
    """An answer that is only late is waited for."""
    reader, answers = Reader("a"), Answers(a="1")
    reader.topics.doubt()

    answers.refused.add("unowned")
    reader.ask(answers)
    assert reader.seen[-1] == Unowned(None, 1)
    answers.refused.clear()
    answers.never.add("unowned")
    reader.ask(answers)
    assert reader.seen[-1] == Unowned(frozenset(), 1)
