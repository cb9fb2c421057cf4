"""How much is in hand: what may be fetched, who is paused."""

from __future__ import annotations

import pytest

from karafka.events import Event, Events, Paused, Resumed
from karafka.flow import FETCH, SHORT_FETCH, Flow
from karafka.jobs import Lane
from karafka.messages import Place, Record
from karafka.partition import Partition
from karafka.policy import MIB, Policy
from tests.unit.house import Broker, HandClock, Hands, letters, ours


class Gauge:
    """A `Flow` over a broker in memory, with partitions that hold what the test puts into them."""

    def __init__(self, memory: int = 64 * MIB) -> None:
        self.broker = Broker(HandClock())
        self.events = Events()
        self.told: list[Event] = []
        self.events.on(Event, self.told.append)
        self.flow = Flow(self.broker, self.events, "g", memory, 60.0)

    def partition(self, number: int = 0, count: int = 0, size: int = 2, policy: Policy | None = None) -> Partition:
        made = Partition(
            place := Place("orders", number),
            0,
            policy or Policy(),
            lambda: Lane(lambda _run: None, Hands(), print),
            ours(place),
        )
        if count:
            records: list[Record] = letters(count, value=b"x" * size)
            made.receive(records, count * size, 0.0)
            self.flow.received(made, count, count * size)
        return made


@pytest.fixture
def gauge() -> Gauge:
    return Gauge()


def test_small_messages_are_asked_for_by_the_thousand(gauge: Gauge) -> None:
    """Before anything is known as well."""
    assert gauge.flow.limit(busy=True) == FETCH
    gauge.partition(count=10)
    assert gauge.flow.limit(busy=True) == FETCH
    assert gauge.flow.limit(busy=False) == SHORT_FETCH


@pytest.mark.parametrize("size", [100_000, MIB, 100 * MIB])
def test_of_large_messages_few_are_asked_for(gauge: Gauge, size: int) -> None:
    """An eighth of the memory at a time, but always one."""
    gauge.flow.received(gauge.partition(), 1, size)

    assert gauge.flow.limit(busy=True) == max(1, 8 * MIB // size)


def test_payloads_of_no_bytes_are_no_trouble(gauge: Gauge) -> None:
    """Tombstones alone, for instance."""
    gauge.flow.received(gauge.partition(), 100, 0)

    assert gauge.flow.limit(busy=True) == FETCH


def test_a_partition_is_paused_when_it_holds_enough_for_a_while(gauge: Gauge) -> None:
    """And told; what is done in a moment is no reason."""
    slow = gauge.partition(0, 20_000)
    slow.pace = 0.001
    quick = gauge.partition(1, 20_000)
    quick.pace = 0.000_001

    gauge.flow.check(slow)
    gauge.flow.check(quick)

    assert gauge.broker.paused == {slow.place}
    assert [type(event) for event in gauge.told] == [Paused]


def test_of_one_that_nothing_is_known_of_the_worst_is_feared(gauge: Gauge) -> None:
    """It is paused when full."""
    partition = gauge.partition(0, 20_000)
    gauge.flow.check(partition)

    assert gauge.broker.paused == {partition.place}


def test_it_is_told_once_in_both_directions(gauge: Gauge) -> None:
    """Checking again changes nothing."""
    partition = gauge.partition(0, 20_000)
    gauge.flow.check(partition)
    gauge.flow.check(partition)
    partition.buffer.take(15_000)
    gauge.flow.check(partition)
    gauge.flow.check(partition)

    assert [type(event) for event in gauge.told] == [Paused, Resumed]
    assert gauge.broker.paused == set()


def test_enough_in_hand_that_is_done_in_a_moment_need_not_be_added_to(gauge: Gauge) -> None:
    """Without pausing anybody."""
    partition = gauge.partition(0, 5_000)
    partition.pace = 0.000_001

    assert gauge.flow.enough([partition])
    assert not gauge.flow.enough([])
    assert not gauge.flow.enough([gauge.partition(1, 100)])


def test_what_one_partition_takes_long_over_is_not_done_in_a_moment(gauge: Gauge) -> None:
    """However quick others were: each by its own pace, or polling would stop for as long as it takes."""
    partition = gauge.partition(0, 5_000)
    partition.pace = 1.0
    quick = gauge.partition(1, 5_000)
    quick.pace = 0.000_001

    assert not gauge.flow.enough([partition, quick])


def test_over_the_budget_the_largest_are_paused_until_it_holds() -> None:
    """The small ones go on."""
    gauge = Gauge(memory=10_000)
    for number, size in enumerate((1_000, 6_000, 4_000, 100)):
        gauge.partition(number, size // 100, 100)

    gauge.flow.turn()

    assert gauge.broker.paused == {Place("orders", 1)}


def test_under_the_budget_nobody_is_paused() -> None:
    """Nothing is told."""
    gauge = Gauge(memory=10_000)
    gauge.partition(0, 50, 100)
    gauge.flow.turn()

    assert (gauge.broker.paused, gauge.told) == (set(), [])


def test_what_went_is_not_resumed() -> None:
    """The client would refuse it."""
    gauge = Gauge(memory=10_000)
    partition = gauge.partition(0, 200, 100)
    gauge.flow.turn()
    gauge.flow.forget(partition)
    gauge.flow.turn()

    assert [type(event) for event in gauge.told] == [Paused]
