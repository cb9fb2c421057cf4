"""Where an assigned partition begins: resolved here, never by the client, so that nothing is skipped in silence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from karafka.client import Identities
from karafka.errors import BrokerError
from karafka.messages import Place
from karafka.metadata import Memo, encode
from karafka.policy import Policy
from karafka.starts import Begin, resolve
from tests.unit.house import Broker, HandClock, Letter

P0, P1 = Place("orders", 0), Place("orders", 1)
LATE = Policy(start="latest")
UNKNOWN = Identities("", {})


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
    return resolve(broker, places, lambda _topic: Policy(start="latest" if late else "earliest"), UNKNOWN, {})[
        places[0]
    ]


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
    assert begin(broker, late=True) == Begin(20, None, Memo(partitions=2))


def test_a_partition_added_later_begins_at_its_beginning(broker: Broker) -> None:
    """Whatever the route says: its group has read the topic before, and nothing of it may be skipped."""
    broker.stored[P1] = 15

    assert begin(broker, late=True) == Begin(10, 10)


def test_partitions_that_come_to_members_one_after_the_other_begin_alike(broker: Broker) -> None:
    """What the first one committed at once does not make the second one's look as if they had been added since."""
    first = begin(broker, late=True)
    broker.stored[P0], broker.metadata[P0] = first.offset, encode(first.memo)

    assert begin(broker, late=True, places=[P1]) == Begin(20, None, Memo(partitions=2))

    added = Place("orders", 2)
    for offset in range(5):
        broker.append(added, Letter("orders", 2, offset))
    assert begin(broker, late=True, places=[added]) == Begin(0, 0)


def test_partitions_that_come_together_are_judged_together(broker: Broker) -> None:
    """All of a new topic begin at their ends."""
    found = resolve(broker, [P0, P1], lambda _topic: LATE, UNKNOWN, {})

    assert [found[place].offset for place in (P0, P1)] == [20, 20]


def test_an_empty_log_begins_where_it_stands(broker: Broker) -> None:
    """First and end are the same."""
    broker.trim(P0, 20)

    assert begin(broker) == Begin(20, 20)


def test_topics_are_judged_one_by_one(broker: Broker) -> None:
    """Each by its own route."""
    other = Place("clicks", 0)
    broker.append(other, Letter("clicks", 0, 0))

    found = resolve(broker, [P0, other], lambda topic: LATE if topic == "clicks" else Policy(), UNKNOWN, {})

    assert (found[P0].offset, found[other].offset) == (10, 1)


def test_nothing_asked_nothing_answered(broker: Broker) -> None:
    """No question goes to the broker."""
    broker.refusals.append(BrokerError("away", retriable=True))

    assert resolve(broker, [], lambda _topic: LATE, UNKNOWN, {}) == {}


def test_a_broker_that_does_not_answer_is_said(broker: Broker) -> None:
    """The caller decides whether to ask again: no beginning is made up."""
    broker.refusals.append(BrokerError("away", retriable=True))

    with pytest.raises(BrokerError):
        begin(broker)


class TestGaps:
    """What the route says where its offset is not in the log any more; always with the numbers."""

    def test_latest_goes_on_at_the_end(self, broker: Broker) -> None:
        """Which is committed."""
        broker.stored[P0] = 3
        found = resolve(broker, [P0], lambda _topic: Policy(on_gap="latest"), UNKNOWN, {})[P0]

        assert found == Begin(20, 3, missed=(3, 10, 20))

    @pytest.mark.parametrize("committed", [3, 30])
    def test_stop_stands_still_and_keeps_what_is_committed(self, broker: Broker, committed: int) -> None:
        """Nothing is to be committed: a person decides."""
        broker.stored[P0] = committed
        found = resolve(broker, [P0], lambda _topic: Policy(on_gap="stop"), UNKNOWN, {})[P0]

        assert found.stands
        assert found.offset == found.committed
        assert found.missed == (committed, 10, 20)


class TestIds:
    """An offset of a former topic of that name says nothing about this one."""

    KNOWN = Identities("cluster", {"orders": "new"})

    def begin(self, broker: Broker, ids: Identities, kept: Memo | None) -> Begin:
        broker.stored[P0] = 15
        broker.metadata[P0] = encode(kept or Memo())
        return resolve(broker, [P0], lambda _topic: LATE, ids, {})[P0]

    def test_an_offset_of_this_topic_holds(self, broker: Broker) -> None:
        """Its memo goes on."""
        memo = Memo(cluster="cluster", topic="new")

        assert self.begin(broker, self.KNOWN, memo) == Begin(15, 15, memo)

    def test_an_offset_of_a_former_topic_does_not(self, broker: Broker) -> None:
        """The new one begins at its beginning, whatever the route says; and that is committed at once."""
        found = self.begin(broker, self.KNOWN, Memo(cluster="cluster", topic="old"))

        assert found == Begin(10, None, Memo(cluster="cluster", topic="new"), renewed=True)

    def test_an_offset_that_was_carried_to_another_cluster_holds(self, broker: Broker) -> None:
        """Mirroring tools carry offsets with what is beside them: topics have other ids there."""
        found = self.begin(broker, self.KNOWN, Memo(cluster="elsewhere", topic="old"))

        assert found == Begin(15, 15, Memo(cluster="cluster", topic="new"))

    def test_as_long_as_the_id_is_not_known_what_was_known_stays(self, broker: Broker) -> None:
        """So that it can still be compared when it is."""
        memo = Memo(cluster="cluster", topic="old")

        assert self.begin(broker, UNKNOWN, memo) == Begin(15, 15, memo)

    def test_an_offset_without_a_memo_holds(self, broker: Broker) -> None:
        """Another client has committed it, or an older release."""
        assert self.begin(broker, self.KNOWN, None) == Begin(15, 15, Memo(cluster="cluster", topic="new"))
