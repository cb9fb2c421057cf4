"""Which topics there are: asked beside the listener, until nothing is missing."""

from __future__ import annotations

import pytest

from karafka import watch as watching
from karafka.errors import BrokerError
from karafka.watch import TopicWatch


class Answers:
    """`client.Topics` from a list; a `BrokerError` among them is raised."""

    def __init__(self, *answers: frozenset[str] | BrokerError) -> None:
        self.left = list(answers)

    def names(self, timeout: float) -> frozenset[str]:
        answer = self.left.pop(0)
        if isinstance(answer, BrokerError):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between questions."""
    monkeypatch.setattr(watching, "INTERVAL", 0.0)


def test_it_asks_until_no_more_is_wanted() -> None:
    """What it found is told each time; then its thread ends."""
    answers = Answers(frozenset(), frozenset({"a"}), frozenset({"a", "b"}), frozenset())
    heard: list[frozenset[str]] = []

    def found(names: frozenset[str]) -> bool:
        heard.append(names)
        return "b" not in names

    TopicWatch(lambda: answers, found, "g")._run()

    assert heard == [frozenset(), {"a"}, {"a", "b"}]
    assert len(answers.left) == 1


def test_a_broker_that_is_away_is_asked_again() -> None:
    """The listener's own client tells of it."""
    answers = Answers(BrokerError("away", retriable=True), BrokerError("no", retriable=False), frozenset({"a"}))

    TopicWatch(lambda: answers, lambda _names: False, "g")._run()

    assert answers.left == []


def test_a_broker_that_is_away_when_it_starts_is_asked_again() -> None:
    """Making the client may fail as well as asking it."""
    refusals: list[BrokerError] = [BrokerError("away", retriable=True)]

    def topics() -> Answers:
        if refusals:
            raise refusals.pop()
        return Answers(frozenset({"a"}))

    heard: list[frozenset[str]] = []
    TopicWatch(topics, lambda names: bool(heard.append(names)), "g")._run()  # type: ignore[func-returns-value]

    assert heard == [{"a"}]


def test_once_stopped_it_asks_no_more() -> None:
    """Also between two questions."""
    watch: TopicWatch
    answers = Answers(frozenset(), frozenset())

    def found(_names: frozenset[str]) -> bool:
        watch.stop()
        return True

    watch = TopicWatch(lambda: answers, found, "g")
    watch._run()

    assert len(answers.left) == 1
    assert not watch.running
