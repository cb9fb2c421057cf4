"""What the broker is to remember, and the one commit under way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from karafka.client import Answer
from karafka.commits import COUNT, LASTING, TIMEOUT, Commits
from karafka.errors import BrokerError
from karafka.events import CommitFailed, Committed, Event, Events
from karafka.jobs import Lane
from karafka.messages import Place
from karafka.partition import Partition
from karafka.policy import Policy
from tests.unit.house import Broker, HandClock, Hands, letters, ours

P0, P1 = Place("orders", 0), Place("orders", 1)


class Ledger:
    """`Commits` over a broker that answers when told."""

    def __init__(self) -> None:
        self.broker = Broker(HandClock())
        self.broker.answering = False
        self.events = Events()
        self.told: list[Event] = []
        self.events.on(Event, self.told.append)
        self.now = 1_000.0
        self.commits = Commits(self.broker, self.events, "g", 1.0, self.now)

    def partition(self, place: Place = P0, finished: int = 0, *, wanted: bool = True) -> Partition:
        made = Partition(
            place, 0, Policy(), lambda: Lane(lambda _run: None, Hands(), lambda _outcome: None), ours(place)
        )
        if finished:
            made.offsets.finish(finished)
            if wanted:
                self.commits.want(made, finished)
        return made

    def turn(self, seconds: float = 0.0, *busy: Partition, idle: bool = True) -> None:
        self.now += seconds
        self.commits.turn(self.now, busy, idle=idle)

    def answer(self, index: int = -1, code: str | None = None) -> None:
        asked = self.broker.commits[index]
        self.commits.answered(Answer(asked, dict.fromkeys(asked, code) if code else {}))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


class TestWhen:
    """Each interval, after many messages, or soon when all is done."""

    def test_while_work_goes_on_each_interval(self, ledger: Ledger) -> None:
        """Not at each message's heel."""
        ledger.partition(P0, 10)
        ledger.turn(0.99, idle=False)
        assert ledger.broker.commits == []

        ledger.turn(0.01, idle=False)
        assert ledger.broker.commits == [{P0: 10}]

    def test_when_all_is_done_soon(self, ledger: Ledger) -> None:
        """A tenth of the interval, so that a stream of single messages does not bring one commit each."""
        ledger.partition(P0, 10)
        ledger.turn(0.09)
        assert ledger.broker.commits == []

        ledger.turn(0.02)
        assert ledger.broker.commits == [{P0: 10}]

    def test_after_many_messages_at_once(self, ledger: Ledger) -> None:
        """What a crash would repeat is bounded."""
        ledger.partition(P0, COUNT)
        ledger.turn(0.0, idle=False)

        assert ledger.broker.commits == [{P0: COUNT}]

    def test_an_idle_listener_knows_how_long_it_may_wait(self, ledger: Ledger) -> None:
        """For ever with nothing to commit, or with one under way."""
        assert ledger.commits.wait(ledger.now) == float("inf")
        ledger.partition(P0, 10)
        assert ledger.commits.wait(ledger.now) == pytest.approx(0.1)
        assert ledger.commits.wait(ledger.now + 5) == 0.0

        ledger.turn(1.0)
        assert ledger.commits.wait(ledger.now) == float("inf")

    @pytest.mark.parametrize("code", [None, "REBALANCE_IN_PROGRESS", "GROUP_AUTHORIZATION_FAILED"])
    def test_after_so_long_there_is_one_to_send(self, ledger: Ledger, code: str | None) -> None:
        """Never sooner: a listener that wakes in vain wakes again at once, and takes a whole core."""
        for _ in range(5):
            partition = ledger.partition(P0, 10)
            ledger.turn(ledger.commits.wait(ledger.now) + 1e-6)
            sent = len(ledger.broker.commits)
            ledger.turn(0.03)
            ledger.answer(code=code)
            ledger.commits.want(partition)
            partition.offsets.finish(10 + sent)
            wait = ledger.commits.wait(ledger.now)
            assert wait > 0
            ledger.turn(wait / 2)
            assert len(ledger.broker.commits) == sent
            ledger.turn(wait / 2 + 1e-6)
            assert len(ledger.broker.commits) == sent + 1
            ledger.answer()

    def test_nothing_new_is_not_sent(self, ledger: Ledger) -> None:
        """What the broker has confirmed is not sent again."""
        partition = ledger.partition(P0, 10)
        ledger.turn(1.0)
        ledger.answer()
        ledger.commits.want(partition)
        ledger.turn(1.0)

        assert ledger.broker.commits == [{P0: 10}]

    def test_progress_of_running_jobs_goes_with_it(self, ledger: Ledger) -> None:
        """Of those that are busy, wanted or not."""
        partition = ledger.partition()
        partition.receive(letters(50), 100, 0.0)
        job = partition.take(0.0)
        assert job is not None
        walk = iter(job.run)
        for _ in range(31):
            next(walk)

        ledger.turn(1.0, partition, idle=False)

        assert ledger.broker.commits == [{P0: 30}]


class TestAnswers:
    """One in flight; the broker's word is taken place by place."""

    def test_one_is_in_flight_at_a_time(self, ledger: Ledger) -> None:
        """The next carries what was finished meanwhile."""
        partition = ledger.partition(P0, 10)
        ledger.turn(1.0)
        partition.offsets.finish(20)
        ledger.commits.want(partition, 10)
        ledger.turn(5.0)
        assert ledger.broker.commits == [{P0: 10}]

        ledger.answer()
        ledger.turn(1.0)
        assert ledger.broker.commits == [{P0: 10}, {P0: 20}]

    def test_what_was_confirmed_is_told(self, ledger: Ledger) -> None:
        """With places and offsets."""
        ledger.partition(P0, 10)
        ledger.partition(P1, 20)
        ledger.turn(1.0)
        ledger.answer()

        assert ledger.told == [Committed(group="g", offsets={P0: 10, P1: 20})]
        assert ledger.commits.settled

    def test_what_was_refused_goes_with_the_next(self, ledger: Ledger) -> None:
        """While it is still ours; and it is told."""
        ledger.partition(P0, 10)
        ledger.partition(P1, 20)
        ledger.turn(1.0)

        ledger.commits.answered(Answer(ledger.broker.commits[-1], {P1: "UNKNOWN_TOPIC_OR_PART"}))
        ledger.turn(1.0)

        assert ledger.broker.commits == [{P0: 10, P1: 20}, {P1: 20}]
        assert [type(event) for event in ledger.told] == [Committed, CommitFailed]

    @pytest.mark.parametrize("code", ["ILLEGAL_GENERATION", "COORDINATOR_LOAD_IN_PROGRESS"])
    def test_what_is_refused_in_passing_is_told_only_if_that_lasts(self, ledger: Ledger, code: str) -> None:
        """A rebalance or a starting coordinator refuses each; sent again, with growing patience, it is kept."""
        ledger.partition(P0, 10)
        for _ in range(LASTING - 1):
            ledger.turn(5.0)
            ledger.answer(code=code)
        assert ledger.told == []
        ledger.turn(0.5)
        assert len(ledger.broker.commits) == LASTING - 1, "the next one waits a little"

        for _ in range(3):
            ledger.turn(5.0)
            ledger.answer(code=code)
        assert [type(event) for event in ledger.told] == [CommitFailed]

    def test_what_is_refused_for_good_is_told_once_and_asked_for_seldom(self, ledger: Ledger) -> None:
        """What is wrong may last. (A right that is missing is told by its name, elsewhere.)"""
        ledger.partition(P0, 10)
        ledger.turn(1.0)
        answered = 0
        for _ in range(1_000):
            if len(ledger.broker.commits) > answered:
                answered = len(ledger.broker.commits)
                ledger.answer(code="OFFSET_METADATA_TOO_LARGE")
            ledger.turn(0.1)

        assert [type(event) for event in ledger.told] == [CommitFailed]
        assert len(ledger.broker.commits) < 35

    def test_what_is_not_answered_in_time_is_sent_again(self, ledger: Ledger) -> None:
        """A lost answer does not stop committing for ever."""
        ledger.partition(P0, 10)
        ledger.turn(1.0)
        ledger.turn(TIMEOUT - 0.1)
        assert len(ledger.broker.commits) == 1

        ledger.turn(0.2)
        assert ledger.broker.commits == [{P0: 10}, {P0: 10}]
        assert [type(event) for event in ledger.told] == [CommitFailed]

    def test_an_answer_that_comes_late_confirms_no_later_commit(self, ledger: Ledger) -> None:
        """It is the word on another offset: what it does not mean must not count as kept."""
        partition = ledger.partition(P0, 10)
        ledger.turn(1.0)
        partition.offsets.finish(20)
        ledger.commits.want(partition, 10)
        ledger.turn(TIMEOUT + 0.1)
        assert ledger.broker.commits == [{P0: 10}, {P0: 20}]

        ledger.answer(0)  # the first one's, at last
        ledger.answer(1, "ILLEGAL_GENERATION")
        ledger.turn(1.0)

        assert ledger.broker.commits[2:] == [{P0: 20}]

    @pytest.mark.parametrize("code", [None, "_TIMED_OUT"])
    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_what_a_late_commit_may_have_undone_is_committed_again(
        self, ledger: Ledger, order: tuple[int, int], code: str | None
    ) -> None:
        """The broker may take one that was given up after the next one, whatever it says of it."""
        partition = ledger.partition(P0, 10)
        ledger.turn(1.0)
        partition.offsets.finish(20)
        ledger.commits.want(partition, 10)
        ledger.turn(TIMEOUT + 0.1)
        assert ledger.broker.commits == [{P0: 10}, {P0: 20}]

        for number in order:
            ledger.answer(number, None if number else code)
        ledger.turn(1.0)
        assert ledger.broker.commits[2:] == [{P0: 20}]
        settled = ledger.commits.settled
        assert not settled

        ledger.answer(2)
        ledger.turn(5.0)
        assert ledger.commits.settled
        assert len(ledger.broker.commits) == 3

    def test_a_stop_waits_for_what_may_undo_its_commit(self, ledger: Ledger) -> None:
        """For as long as a last commit is waited for."""
        partition = ledger.partition(P0, 10)
        ledger.turn(1.0)
        partition.offsets.finish(20)
        ledger.commits.want(partition, 10)
        ledger.turn(TIMEOUT + 0.1)
        ledger.answer(1)

        assert not ledger.commits.settled

    def test_what_went_with_its_partition_is_not_waited_for(self, ledger: Ledger) -> None:
        """The next owner's commits are of another generation."""
        partition = ledger.partition(P0, 10)
        ledger.turn(1.0)
        ledger.turn(TIMEOUT + 0.1)
        partition.revoke()
        ledger.commits.forget(partition)
        assert ledger.commits.settled

        ledger.answer(0)
        ledger.turn(5.0)
        assert len(ledger.broker.commits) == 2

    def test_a_commit_that_cannot_be_sent_is_carried_on(self, ledger: Ledger) -> None:
        """The client may refuse it at once."""
        ledger.partition(P0, 10)
        ledger.broker.refusals.append(BrokerError("no coordinator", retriable=True))
        ledger.turn(1.0)
        assert ledger.broker.commits == []

        ledger.turn(1.0)
        assert ledger.broker.commits == [{P0: 10}]
        assert [type(event) for event in ledger.told] == [CommitFailed]

    def test_an_answer_about_a_partition_that_went_means_nothing(self, ledger: Ledger) -> None:
        """Confirmed or refused: it is somebody else's by now."""
        partition = ledger.partition(P0, 10)
        ledger.turn(1.0)
        partition.revoke()
        ledger.commits.forget(partition)

        ledger.answer(code="ILLEGAL_GENERATION")
        ledger.turn(1.0)

        assert ledger.told == []
        assert len(ledger.broker.commits) == 1

    def test_a_partition_that_went_is_not_committed(self, ledger: Ledger) -> None:
        """The broker would not refuse it."""
        partition = ledger.partition(P0, 10)
        partition.revoke()

        ledger.turn(1.0)

        assert ledger.broker.commits == []


def test_after_a_refusal_each_is_asked_for_by_itself(ledger: Ledger) -> None:
    """The client says of all what was refused of one: its neighbours are not to be held up by it."""
    ledger.partition(P0, 10)
    ledger.partition(P1, 10)
    ledger.turn(1.0)
    ledger.answer(0, "UNKNOWN_TOPIC_OR_PART")

    ledger.turn(1.0)
    assert ledger.broker.commits[1:] == [{P0: 10}, {P1: 10}]

    ledger.answer(1)
    ledger.answer(2, "UNKNOWN_TOPIC_OR_PART")
    ledger.turn(1.0)
    assert ledger.broker.commits[3:] == [{P1: 10}]


class TestMarkers:
    """Markers of transactions are no lag."""

    @pytest.fixture
    def done(self, ledger: Ledger) -> Callable[..., Partition]:
        """A partition whose ten messages are finished, with the client's position at 12."""

        def made(*, positioned: bool = True, left: int = 0) -> Partition:
            partition = ledger.partition(P0, 10)
            if positioned:
                partition.positioned = True
            if left:
                partition.receive(letters(left, 10), left, 0.0)
            ledger.broker.positions[P0] = ledger.broker.delivered[P0] = 12
            return partition

        return made

    def test_with_nothing_in_hand_the_position_is_committed(
        self, ledger: Ledger, done: Callable[..., Partition]
    ) -> None:
        """It is past what nobody ever receives."""
        done()
        ledger.turn(1.0)

        assert ledger.broker.commits == [{P0: 12}]

    def test_with_something_in_hand_it_is_not(self, ledger: Ledger, done: Callable[..., Partition]) -> None:
        """The position is past messages that are not finished."""
        done(left=2)
        ledger.turn(1.0)

        assert ledger.broker.commits == [{P0: 10}]

    def test_where_messages_were_dropped_it_says_nothing(self, ledger: Ledger, done: Callable[..., Partition]) -> None:
        """After a seek, until something was received again."""
        done(positioned=False)
        ledger.turn(1.0)

        assert ledger.broker.commits == [{P0: 10}]

    def test_markers_that_come_behind_the_last_commit_are_committed_too(
        self, ledger: Ledger, done: Callable[..., Partition]
    ) -> None:
        """A transaction may end after its messages were finished: its marker is no lag either."""
        done()
        ledger.turn(1.0)
        ledger.answer()

        ledger.broker.delivered[P0] = ledger.broker.positions[P0] = 13
        for _ in range(8):
            ledger.turn(1.0)

        assert ledger.broker.commits == [{P0: 12}, {P0: 13}]
