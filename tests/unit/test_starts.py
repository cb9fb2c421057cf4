"""Where an assigned partition begins: resolved here, never by the client, so that nothing is skipped in silence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from karafka.errors import BrokerError
from karafka.messages import Place
from karafka.starts import Begin, resolve
from tests.unit.house import Broker, HandClock, Letter

P0, P1 = Place("orders", 0), Place("orders", 1)


@pytest.fixture
def broker() -> Broker:
    """Two partitions that hold offsets 10 up to before 20."""
    made = Broker(HandClock())
    for place in (P0, P1):
        for offset in range(10, 20):
            made.append(place, Letter(place.topic, place.partition, offset))
        made.low[place] = 10
    return made


def begin(broker: Broker, *, late: bool = False, places: Sequence[Place] = (P0,)) -> Begin:
    return resolve(broker, places, lambda _topic: late)[places[0]]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("committed", [10, 15, 20])
def test_what_is_committed_and_in_the_log_is_where_it_goes_on(broker: Broker, committed: int, late: bool) -> None:  # noqa: FBT001
    """The end counts as in the log; the route's start does not matter any more."""
    broker.stored[P0] = committed

    assert begin(broker, late=late) == Begin(committed, committed)


@pytest.mark.parametrize("committed", [0, 9, 21, 1_000])
def test_what_is_committed_and_not_in_the_log_goes_on_at_the_first_message_kept(broker: Broker, committed: int) -> None:
    """And what was missed is told."""
    broker.stored[P0] = committed

    assert begin(broker) == Begin(10, committed, missed=(committed, 10, 20))


def test_a_group_that_has_committed_nothing_begins_at_the_first_message_kept(broker: Broker) -> None:
    """Which need not be committed: the next start would choose the same."""
    assert begin(broker) == Begin(10, 10)


def test_a_group_that_has_never_read_a_topic_may_begin_at_its_end(broker: Broker) -> None:
    """Which is to be committed at once: the next start would choose another end."""
    assert begin(broker, late=True) == Begin(20, None)


def test_a_partition_added_later_begins_at_its_beginning(broker: Broker) -> None:
    """Whatever the route says: its group has read the topic before, and nothing of it may be skipped."""
    broker.stored[P1] = 15

    assert begin(broker, late=True) == Begin(10, 10)


def test_partitions_that_come_together_are_judged_together(broker: Broker) -> None:
    """All of a new topic begin at their ends."""
    found = resolve(broker, [P0, P1], lambda _topic: True)

    assert [found[place].offset for place in (P0, P1)] == [20, 20]


def test_an_empty_log_begins_where_it_stands(broker: Broker) -> None:
    """First and end are the same."""
    broker.trim(P0, 20)

    assert begin(broker) == Begin(20, 20)


def test_topics_are_judged_one_by_one(broker: Broker) -> None:
    """Each by its own route."""
    other = Place("clicks", 0)
    broker.append(other, Letter("clicks", 0, 0))

    found = resolve(broker, [P0, other], lambda topic: topic == "clicks")

    assert (found[P0].offset, found[other].offset) == (10, 1)


def test_nothing_asked_nothing_answered(broker: Broker) -> None:
    """No question goes to the broker."""
    broker.refusals.append(BrokerError("away", retriable=True))

    assert resolve(broker, [], lambda _topic: True) == {}


def test_a_broker_that_does_not_answer_is_said(broker: Broker) -> None:
    """The caller decides whether to ask again: no beginning is made up."""
    broker.refusals.append(BrokerError("away", retriable=True))

    with pytest.raises(BrokerError):
        begin(broker)
