"""The turn, promise by promise: a listener without threads, on a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

import pytest

from karafka import events as told
from karafka.client import Effect, Trouble
from karafka.errors import BrokerError, ParseError
from karafka.jobs import Lane
from karafka.listener import STALE
from karafka.membership import RENEW
from karafka.messages import Place
from karafka.policy import MIB, AskedRetry, Backoff, Bury, DeadLetter, Policy, Retry, Skip
from karafka.troubles import ECHO
from karafka.watch import Reached, Unowned
from tests.unit.conftest import Build
from tests.unit.house import House, Letter

STEADY = Backoff(1.0, 30.0, jitter=0.0)
P0, P1 = Place("orders", 0), Place("orders", 1)


class TestGivingOut:
    """What comes is performed in order, and committed when it is finished."""

    def test_messages_are_performed_in_order_and_committed_as_the_next_to_read(self, house: House) -> None:
        """A committed offset is the one after the last finished message."""
        house.send("orders", partitions=(0, 1), count=250)

        house.turn(60)

        assert house.offsets(0) == house.offsets(1) == list(range(250))
        assert house.committed == {("orders", 0): 250, ("orders", 1): 250}

    def test_a_group_goes_on_where_it_has_committed(self, build: Build) -> None:
        """What is committed is not performed again."""
        house = build(partitions=())
        house.send("orders", count=10)
        house.broker.stored[P0] = 7

        house.assign("orders", 0)
        house.turn(60)

        assert house.offsets(0) == [7, 8, 9]

    def test_nothing_is_committed_while_nothing_is_finished(self, house: House) -> None:
        """Messages in hand move no offset, however long they take."""
        house.block(partition=0)
        house.send("orders", count=10)

        house.turn(200)

        assert house.broker.commits == []

    def test_a_slow_partition_holds_up_nobody(self, house: House) -> None:
        """Its neighbours are fetched, performed and committed meanwhile."""
        house.block(partition=0)
        house.send("orders", partitions=(0, 1), count=10)

        house.turn(60)

        assert house.offsets(1) == list(range(10))
        assert house.committed == {("orders", 1): 10}

    def test_progress_inside_a_long_run_is_committed(self, house: House) -> None:
        """What a run has finished counts while it goes on; the message in hand does not."""
        house.block(partition=0)
        house.send("orders", count=50)
        house.turn(2)

        house.begin().step(21)
        house.turn(60)

        assert house.committed == {("orders", 0): 20}

    def test_a_run_that_takes_long_is_handed_back_after_the_message_in_hand(self, house: House) -> None:
        """Others get their turn; what was not begun comes again, in order, once."""
        house.block(partition=0)
        house.send("orders", count=50)
        house.turn(2)
        worker = house.begin()
        worker.step(3)
        worker.late(1.0)

        house.turn(5)
        worker.end()
        house.free(partition=0)
        house.turn(5)

        assert worker.job.run.halted
        assert house.offsets(0) == list(range(3, 50))
        assert house.heard(told.Failed) == []

    def test_the_broker_is_asked_while_a_perform_takes_an_hour(self, house: House) -> None:
        """Polling goes on, whatever was measured before: else the group would throw this member out."""
        house.send("orders", partition=1, count=2_000)
        house.turn(5)
        house.block(partition=0)
        house.send("orders", count=8_000)
        house.turn(10)
        worker = house.begin()
        worker.step()
        before = house.broker.fetches

        for _ in range(20):
            house.wait(180.0)

        assert house.broker.fetches - before >= 60


class TestFailing:
    """What fails stays first in its partition and is tried again; the others go on."""

    def test_a_failure_is_tried_again_by_the_clock_alone(self, build: Build) -> None:
        """After the delay, not before, and whatever else comes meanwhile."""
        house = build(policy=Policy(retry=STEADY))
        house.fail(0, ValueError("no"))
        house.send("orders", count=3)

        house.turn(10)
        assert house.tried == [("orders", 0, 0)]

        house.mend()
        house.wait(0.5)
        assert house.offsets(0) == []

        house.wait(0.5)
        assert house.offsets(0) == [0, 1, 2]

    def test_delays_grow_for_ever_up_to_their_cap(self, build: Build) -> None:
        """1, 2, 4 seconds, and then the cap each time."""
        house = build(policy=Policy(retry=Backoff(1.0, 4.0, jitter=0.0)))
        house.fail(0, ValueError("no"))
        house.send("orders")
        house.turn(2)

        for delay in (1.0, 2.0, 4.0, 4.0, 4.0):
            tries = len(house.tried)
            house.wait(delay - 0.2)
            assert len(house.tried) == tries
            house.wait(0.2)
            assert len(house.tried) == tries + 1

        assert [one.attempt for one in house.heard(told.Failed)] == [1, 2, 3, 4, 5, 6]
        assert [one.attempt for one in house.heard(told.Retried)] == [2, 3, 4, 5, 6]

    def test_other_partitions_go_on_meanwhile(self, build: Build) -> None:
        """A partition that backs off stops itself only."""
        house = build(policy=Policy(retry=STEADY))
        house.fail(2, ValueError("no"))
        house.send("orders", partitions=(0, 1), count=5)

        house.turn(45)

        assert house.offsets(0) == [0, 1]
        assert house.offsets(1) == [0, 1, 2, 3, 4]
        assert house.committed == {("orders", 0): 2, ("orders", 1): 5}

    def test_a_failure_is_told_with_all_particulars(self, house: House) -> None:
        """Where, which try, by whom, what and what becomes of it."""
        house.fail(1, ValueError("out of stock"))
        house.send("orders", count=2)

        house.turn(3)

        (failed,) = house.heard(told.Failed)
        assert (failed.group, failed.topic, failed.partition, failed.offset) == ("g", "orders", 0, 1)
        assert (failed.attempt, failed.controller, failed.kind) == (1, "OrdersController", "ValueError")
        assert failed.error == "out of stock"
        assert failed.key == b"k"
        assert "in _one" in failed.traceback
        assert failed.verdict.startswith("tried again in ")

    def test_an_exception_that_cannot_be_put_into_words_is_a_failure_like_any_other(self, house: House) -> None:
        """One bad message does not stop a server."""

        class UnspeakableError(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        house.fail(0, UnspeakableError())
        house.send("orders", partitions=(0, 1))

        house.turn(60)

        assert [one.kind for one in house.heard(told.Failed)][:1] == ["UnspeakableError"]
        assert house.committed == {("orders", 1): 1}

    @pytest.mark.parametrize("error", [SystemExit(4), KeyboardInterrupt()])
    def test_system_exit_ends_the_process_and_commits_nothing_past_it(self, house: House, error: BaseException) -> None:
        """With its own status; what stood before it is committed, itself and what is behind it are not."""
        house.fail(3, error)
        house.send("orders", count=10)

        house.turn(60)
        house.close()

        assert [status for status, _ in house.endings] == [4 if isinstance(error, SystemExit) else 130]
        assert house.committed == {("orders", 0): 3}
        assert house.undertaker.funerals == []

    def test_system_exit_is_never_buried(self, build: Build) -> None:
        """With a dead letter topic too: burying would lose what the next process must read again."""
        house = build(policy=Policy(dead_letter=DeadLetter("dead", after=1)))
        house.fail(0, SystemExit(0))
        house.send("orders")

        house.turn(60)

        assert house.undertaker.funerals == []
        assert [status for status, _ in house.endings] == [0]
        assert house.committed == {}


class TestBurying:
    """With a dead letter topic the partition goes on, once the broker has confirmed."""

    @pytest.fixture
    def house(self, build: Build) -> House:
        return build(policy=Policy(retry=STEADY, dead_letter=DeadLetter("dead", after=2)))

    def test_a_message_is_buried_after_its_tries(self, house: House) -> None:
        """Key, payload and headers as they came; where from, why, how often beside them."""
        house.fail(1, ValueError("no"))
        house.send("orders", count=3)

        house.turn(3)
        house.wait(1.0)
        house.turn(60)

        (funeral,) = house.undertaker.funerals
        assert (funeral.topic, funeral.record.offset()) == ("dead", 1)
        assert dict(funeral.headers) | {"karafka-buried-at": b""} == {
            "karafka-topic": b"orders",
            "karafka-partition": b"0",
            "karafka-offset": b"1",
            "karafka-group": b"g",
            "karafka-attempts": b"2",
            "karafka-error": b"builtins.ValueError",
            "karafka-reason": b"no",
            "karafka-buried-at": b"",
        }
        assert house.offsets(0) == [0, 2]
        assert house.committed == {("orders", 0): 3}
        assert [one.offset for one in house.heard(told.Buried)] == [1]

    def test_what_can_never_succeed_is_buried_at_once(self, house: House) -> None:
        """A parser's error is not tried again."""
        house.fail(0, ParseError("no JSON"))
        house.send("orders", count=2)

        house.turn(5)

        assert len(house.undertaker.funerals) == 1
        assert house.offsets(0) == [1]

    def test_nothing_moves_until_the_broker_has_confirmed(self, house: House) -> None:
        """The partition waits, its neighbours do not; then it goes on behind the buried one."""
        house.undertaker.answering = False
        house.fail(0, ParseError("no JSON"))
        house.send("orders", partitions=(0, 1), count=3)

        house.turn(60)
        assert house.offsets(0) == []
        assert house.committed == {("orders", 1): 3}

        house.undertaker.funerals[0].done(None)
        house.turn(60)
        assert house.offsets(0) == [1, 2]
        assert house.committed == {("orders", 0): 3, ("orders", 1): 3}

    def test_a_burial_that_is_refused_leaves_the_message_where_it_is(self, house: House) -> None:
        """It is told, and the message is tried again after a delay; nothing behind it is performed."""
        house.undertaker.refusal = "no such topic"
        house.fail(0, ParseError("no JSON"))
        house.send("orders", count=3)

        house.turn(20)
        assert house.offsets(0) == []
        assert house.committed == {}
        assert [one.error for one in house.heard(told.BurialFailed)] == ["no such topic"]

        house.undertaker.refusal = None
        house.wait(1.0)
        house.turn(60)
        assert house.offsets(0) == [1, 2]
        assert house.committed == {("orders", 0): 3}

    def test_a_burial_finishes_the_message_it_buried_and_no_other(self, house: House) -> None:
        """Also when it is confirmed before a worker has given back the job behind: that one is performed, not lost."""
        house.block(partition=0)
        house.undertaker.answering = False
        house.send("orders", count=300)
        house.turn(2)
        first = house.begin()
        first.step()
        first.reply(ParseError("no JSON"))
        first.release()
        second = house.begin()
        house.turn()

        house.undertaker.funerals[0].done(None)
        house.turn()
        second.end()
        house.free(partition=0)
        house.turn(60)

        assert house.offsets(0) == list(range(1, 300))
        assert house.committed == {("orders", 0): 300}

    def test_a_burial_confirmed_after_the_partition_went_counts_for_nothing(self, house: House) -> None:
        """The next owner buries it again."""
        house.undertaker.answering = False
        house.fail(0, ParseError("no JSON"))
        house.send("orders", count=3)
        house.turn(3)

        house.lose("orders", 0)
        house.undertaker.funerals[0].done(None)
        house.turn(60)

        assert house.broker.commits == []
        assert house.heard(told.Buried) == []

    def test_a_burial_under_way_is_waited_for_when_the_partition_is_revoked(self, house: House) -> None:
        """Confirmed in time, it is committed, so that the next owner does not bury it again."""
        house.undertaker.answering = False
        house.fail(0, ParseError("no JSON"))
        house.send("orders", count=3)
        house.turn(3)

        house.revoke("orders", 0, meanwhile=[lambda: house.undertaker.funerals[0].done(None)])

        assert house.committed == {("orders", 0): 1}


class TestFlow:
    """Memory is bounded, and a partition that holds enough is paused by itself."""

    def test_a_slow_partition_is_paused_alone(self, house: House) -> None:
        """Back-pressure on one partition leaves its neighbours running."""
        house.block(partition=0)
        house.send("orders", partition=0, count=20_000)
        house.send("orders", partition=1, count=100)

        house.turn(60)

        assert house.paused == {("orders", 0)}
        assert house.committed == {("orders", 1): 100}

    def test_a_paused_partition_holds_not_much_more_than_its_high_water(self, house: House) -> None:
        """At most what one more call to the client brings."""
        house.block(partition=0)
        house.send("orders", partition=0, count=20_000)

        house.turn(60)

        assert house.listener._partitions[P0].count <= 12_000

    def test_a_paused_partition_is_fetched_again_at_half(self, build: Build) -> None:
        """Not at each message's heel: the client throws away what it fetched ahead when it is paused."""
        house = build(policy=Policy(high=100, max_messages=10))
        house.block(partition=0)
        house.send("orders", count=300)
        house.turn(5)
        assert house.paused == {("orders", 0)}
        (paused,) = house.heard(told.Paused)

        held = paused.count
        while held > 60:
            house.begin().end(elapsed=1.0)
            house.turn()
            held = house.listener._partitions[P0].count
            if held > 50:
                assert house.paused == {("orders", 0)}
        while house.listener._partitions[P0].count > 50:
            house.begin().end(elapsed=1.0)
            house.turn()
        assert house.paused == set()
        assert len(house.heard(told.Resumed)) == 1

    def test_nothing_is_lost_or_doubled_by_pausing(self, build: Build) -> None:
        """What was not fetched while paused is fetched afterwards."""
        house = build(policy=Policy(high=100, max_messages=10))
        house.block(partition=0)
        house.send("orders", count=1_000)
        house.turn(5)
        house.free(partition=0)

        house.turn(300)

        assert house.offsets(0) == list(range(1_000))

    def test_large_messages_fill_a_partition_by_their_bytes(self, build: Build) -> None:
        """Sixteen MiB are enough, however few messages they are."""
        house = build(policy=Policy(high_bytes=100_000))
        house.block(partition=0)
        house.send("orders", count=200, size=1_000)

        house.turn(5)

        assert house.paused == {("orders", 0)}

    def test_over_the_budget_those_that_hold_most_are_paused_first(self, build: Build) -> None:
        """The process's memory is bounded, not only each partition's."""
        house = build(memory=MIB)
        house.block(partition=0)
        house.block(partition=1)
        house.send("orders", partition=0, count=2_000, size=1_000)
        house.send("orders", partition=1, count=20, size=1_000)

        house.turn(20)

        assert house.paused == {("orders", 0)}

    def test_what_is_paused_for_memory_stays_so_while_memory_is_short(self, build: Build) -> None:
        """An outcome of a partition is no reason to fetch more of it while all together hold too much."""
        house = build(memory=MIB)
        house.block(partition=0)
        house.block(partition=1)
        house.send("orders", partitions=(0, 1), count=2_000, size=1_000)
        house.turn(5)
        assert ("orders", 0) in house.paused

        house.begin(0).end(elapsed=1.0)
        house.turn(2)

        assert sum(one.size for one in house.listener._partitions.values()) > MIB
        assert house.heard(told.Resumed) == []

    def test_what_was_paused_for_memory_goes_on_beside_a_slow_partition_that_keeps_its_share(
        self, build: Build
    ) -> None:
        """One that holds nothing any more is fetched again, however long its neighbour takes over what that holds."""
        house = build(memory=MIB)
        house.block(partition=0)
        house.block(partition=1)
        house.send("orders", partition=0, count=400, size=2_000)
        house.send("orders", partition=1, count=600, size=2_000)
        house.turn(5)
        assert house.paused == {("orders", 1)}

        while house.listener._partitions[P1].count:
            house.begin(1).end(elapsed=1.0)
            house.turn(2)

        assert house.paused == set()


class TestRevoking:
    """A partition that goes in order: finish, commit, give up."""

    def test_nothing_more_is_started_and_the_finished_prefix_is_committed(self, house: House) -> None:
        """What runs ends after the message in hand, and counts; what waits is left to the next owner."""
        house.block(partition=0)
        house.send("orders", count=200)
        house.turn(2)
        worker = house.begin()
        worker.step(3)

        house.revoke("orders", 0, meanwhile=[worker.end])

        assert house.committed == {("orders", 0): 3}
        (revoked,) = house.heard(told.Revoked)
        assert revoked.positions == {("orders", 0): 3}

    def test_what_outlasts_the_wait_is_ignored_and_said_so(self, house: House) -> None:
        """After `drain_timeout` the partition goes all the same: its result moves nothing."""
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        worker = house.begin()
        worker.step(3)

        house.revoke("orders", 0)
        worker.end()
        house.turn(60)

        (overran,) = house.heard(told.Overran)
        assert overran.waited >= 10.0
        assert house.committed == {("orders", 0): 2}

    def test_the_others_go_on_while_one_is_waited_for(self, house: House) -> None:
        """Their outcomes are settled and new jobs go out."""
        house.block(partition=0)
        house.send("orders", partitions=(0, 1), count=10)
        house.turn(2)
        house.begin(0).step()
        house.send("orders", partition=1, count=10)
        house.turn(1, working=False)

        house.revoke("orders", 0, meanwhile=[house.work, house.work, house.work])

        assert house.offsets(1) == list(range(20))

    def test_lost_partitions_commit_nothing(self, house: House) -> None:
        """Somebody else may own them already."""
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        worker = house.begin()
        worker.step(5)

        house.lose("orders", 0)
        worker.end()
        house.turn(60)

        assert house.broker.commits == []
        (lost,) = house.heard(told.Lost)
        assert lost.places == (("orders", 0),)

    def test_the_client_s_word_that_the_member_was_thrown_out_is_a_loss_too(self, house: House) -> None:
        """`_MAX_POLL_EXCEEDED` comes as news, before any callback."""
        house.send("orders", partitions=(0, 1), count=10)
        house.turn(2)

        house.trouble(Effect.LOST)
        house.turn(60)

        assert house.broker.commits == []
        assert house.heard(told.Lost)[0].places == (("orders", 0), ("orders", 1))

    def test_one_revoked_and_assigned_again_within_a_single_call_begins_at_its_base(self, house: House) -> None:
        """Whose the messages of that call are cannot be told: they are read again, and none is lost."""
        house.send("orders", count=10)
        house.turn(60)
        house.send("orders", count=10)

        house.revoke("orders", 0, now=False, between=True)
        house.broker.rebalance(lambda rebalance: house.broker.assign(rebalance, [P0]), between=True)
        house.turn(60)

        assert house.broker.seeks == [{P0: 10}]
        assert house.offsets(0) == list(range(20))

    def test_a_message_taken_just_before_a_revocation_is_not_committed(self, house: House) -> None:
        """The client may serve a revocation between two messages of one call: the first is not ours to skip."""
        house.send("orders", count=10)
        house.turn(3)
        assert house.offsets(0) == list(range(10))
        house.send("orders", count=1)

        house.revoke("orders", 0, between=True)

        assert house.committed == {("orders", 0): 10}

    def test_messages_that_come_with_a_revocation_are_dropped(self, house: House) -> None:
        """They are the next owner's."""
        house.send("orders", count=5)

        house.revoke("orders", 0, between=True)
        house.turn(60)

        assert house.performed == []
        assert house.broker.commits == []

    def test_an_assignment_ends_for_good(self, house: House) -> None:
        """The same partition assigned again is a new one: what comes late from the old one spoils nothing."""
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        late = house.begin()
        late.step(8)
        house.lose("orders", 0)
        house.assign("orders", 0)

        late.end()
        house.turn(60)
        assert house.broker.commits == []

        house.free(partition=0)
        house.turn(60)
        assert house.offsets(0) == list(range(10))
        assert house.committed == {("orders", 0): 10}

    def test_a_partition_paused_before_it_went_is_fetched_when_it_comes_back(self, build: Build) -> None:
        """Back-pressure belongs to an assignment."""
        house = build(policy=Policy(high=10))
        house.block(partition=0)
        house.send("orders", count=100)
        house.turn(5)
        house.revoke("orders", 0)
        house.free(partition=0)

        house.assign("orders", 0)
        house.turn(60)

        assert house.offsets(0) == list(range(100))

    def test_a_failure_while_leaving_is_left_to_the_next_owner(self, house: House) -> None:
        """It is told; nothing is tried again or buried for a partition that goes."""
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        worker = house.begin()
        worker.step(3)

        house.revoke("orders", 0, meanwhile=[lambda: worker.end(ValueError("no"))])

        assert [one.verdict for one in house.heard(told.Failed)] == ["left to the next owner"]
        assert house.committed == {("orders", 0): 2}


class TestTrouble:
    """What the client says, and what becomes of it."""

    def test_after_a_call_cut_short_all_are_sought_to_what_was_received(self, house: House) -> None:
        """Messages that the call may have taken with it are read again: none is lost, none doubled."""
        house.block(partition=0)
        house.send("orders", partitions=(0, 1), count=10)
        house.turn(2)
        house.send("orders", partitions=(0, 1), count=10)
        house.broker.positions.update({P0: 15, P1: 20})  # taken by the call that failed

        house.broker.cut_short = True
        house.turn()
        house.free(partition=0)
        house.turn(60)

        assert house.broker.seeks == [{P0: 10, P1: 10}]
        assert house.offsets(0) == house.offsets(1) == list(range(20))

    def test_a_partition_never_fetched_is_sought_to_its_base(self, build: Build) -> None:
        """Its next-to-receive is where it was assigned."""
        house = build(partitions=())
        house.broker.stored[P0] = 7
        house.send("orders", count=10)
        house.assign("orders", 0, now=False)
        house.broker.cut_short = True

        house.turn(60)

        assert house.offsets(0) == [7, 8, 9]

    def test_trouble_is_told_once_until_it_is_over(self, house: House) -> None:
        """The client says it again and again."""
        for _ in range(5):
            house.trouble(Effect.NEWS, code="_TRANSPORT")
            house.trouble(Effect.NEWS, code="_ALL_BROKERS_DOWN")
            house.turn()
        house.send("orders")
        house.turn(2)
        house.clock.advance(ECHO)
        house.trouble(Effect.NEWS, code="_TRANSPORT")
        house.trouble(Effect.NEWS, code="_ALL_BROKERS_DOWN")
        house.turn()

        assert len(house.heard(told.ClientTroubled)) == 2
        assert len(house.heard(told.ClientRecovered)) == 1

    def test_what_lay_in_the_client_does_not_say_that_the_cluster_is_back(self, house: House) -> None:
        """It was fetched before. What comes once no more of that is left does."""
        house.broker.answering = False
        house.send("orders", count=5_000, partitions=(0,))
        house.trouble(Effect.NEWS, code="_TRANSPORT")
        house.trouble(Effect.NEWS, code="_ALL_BROKERS_DOWN")
        house.turn(8)
        assert len(house.offsets(0)) == 5_000
        assert house.heard(told.ClientRecovered) == []

        house.send("orders")
        house.turn(2)
        assert len(house.heard(told.ClientTroubled)) == 1
        assert len(house.heard(told.ClientRecovered)) == 1

    def test_what_was_wrong_before_an_assignment_is_over_with_it(self, house: House) -> None:
        """Also if the client tells of both in one call: the assignment at once, the errors at its end."""
        house.trouble(Effect.NEWS, code="_AUTHENTICATION")
        house.turn()
        house.trouble(Effect.NEWS, code="_AUTHENTICATION")
        house.assign("orders", 5)
        house.turn(2)

        assert len(house.heard(told.ClientTroubled)) == 1
        assert len(house.heard(told.ClientRecovered)) == 1

    def test_a_stream_that_never_ends_says_it_after_a_while(self, house: House) -> None:
        """The client does not hold so much that it lasts so long."""
        house.broker.answering = False
        house.trouble(Effect.NEWS, code="_TRANSPORT")
        house.trouble(Effect.NEWS, code="_ALL_BROKERS_DOWN")
        for _ in range(100):
            house.send("orders", count=10)
            house.turn()
            house.clock.advance(0.1)

        (recovered,) = house.heard(told.ClientRecovered)
        assert recovered.waited == pytest.approx(STALE, abs=0.5)

    def test_a_client_of_no_more_use_ends_the_process(self, house: House) -> None:
        """In order, with a status that is not 0, and committing nothing any more."""
        house.send("orders", count=10)
        house.turn(2)

        house.trouble(Effect.END, code="_FATAL")
        house.turn(60)

        assert [status for status, _ in house.endings] == [3]
        assert house.broker.commits == []

    def test_a_broker_that_does_not_answer_at_assignment_is_asked_again(self, build: Build) -> None:
        """Without an answer no partition can begin; none begins anywhere else."""
        house = build(partitions=())
        house.broker.stored[P0] = 2
        house.send("orders", count=3)
        house.broker.refusals.extend(BrokerError("timed out", retriable=True) for _ in range(3))

        house.assign("orders", 0)
        house.turn(3)

        assert house.offsets(0) == [2]

    def test_a_position_that_was_deleted_goes_on_at_the_first_message_kept(self, house: House) -> None:
        """With an event that says what was missed: never a silent jump."""
        house.send("orders", count=100)
        house.broker.positions[P0] = 10
        house.broker.delivered[P0] = 10
        house.listener._partitions[P0].received = 10
        house.broker.trim(P0, 50)

        house.trouble(Effect.OUT_OF_RANGE, P0)
        house.turn(60)

        (missed,) = house.heard(told.OutOfRange)
        assert (missed.wanted, missed.low, missed.high, missed.resumed) == (10, 50, 100, 50)
        assert house.offsets(0) == list(range(50, 100))
        assert house.committed[("orders", 0)] == 100

    def test_messages_in_hand_are_performed_though_the_log_behind_them_was_deleted(self, house: House) -> None:
        """They were received: retention at the broker is no reason to drop them."""
        house.block(partition=0)
        house.send("orders", count=300)
        house.turn(2)
        house.send("orders", count=100)
        house.broker.trim(P0, 350)

        house.trouble(Effect.OUT_OF_RANGE, P0)
        house.turn(2, working=False)
        house.free(partition=0)
        house.turn(60)

        assert house.offsets(0) == [*range(300), *range(350, 400)]

    def test_a_partition_placed_anew_is_worked_on_by_one_worker_at_a_time(self, house: House) -> None:
        """Jobs of the assignment that ended, which no worker has begun, are not performed beside those of the new."""
        house.block(partition=0)
        house.send("orders", count=200)
        house.turn(2)
        house.broker.trim(P0, 150)

        house.trouble(Effect.OUT_OF_RANGE, P0)
        house.turn(2, working=False)
        house.free(partition=0)
        house.turn(60)

        assert len(house.performed) == len(set(house.performed))

    def test_messages_that_came_with_such_news_do_not_hide_those_before_them(self, house: House) -> None:
        """A log that was cut off at its end is read from its first message, whatever the same call still brought."""
        house.send("orders", count=100)
        house.turn(60)
        house.send("orders", count=10)
        house.broker.rebalance(lambda _: house.broker.logs.update({P0: house.broker.logs[P0][:30]}), between=True)

        house.trouble(Effect.OUT_OF_RANGE, P0)
        house.performed.clear()
        house.turn(60)

        assert [offset for offset in house.offsets(0) if offset < 30] == list(range(30))

    def test_a_position_said_to_be_out_of_range_that_is_in_the_log_stays_where_it_is(self, house: House) -> None:
        """The answer may be old: nothing is read twice for it."""
        house.send("orders", count=10)
        house.turn(60)

        house.trouble(Effect.OUT_OF_RANGE, P0)
        house.turn()
        house.send("orders", count=5)
        house.turn(60)

        assert house.offsets(0) == list(range(15))
        assert all(commit.get(P0, 10) >= 10 for commit in house.broker.commits)

    def test_a_paused_partition_that_is_placed_anew_is_fetched_again(self, build: Build) -> None:
        """A new beginning is not paused, and the client must know."""
        house = build(policy=Policy(high=10))
        house.block(partition=0)
        house.send("orders", count=30)
        house.turn(5)
        assert house.paused == {("orders", 0)}
        house.broker.trim(P0, 30)
        house.send("orders", count=5)

        house.trouble(Effect.OUT_OF_RANGE, P0)
        house.turn()
        house.free(partition=0)
        house.turn(60)

        assert house.offsets(0)[-5:] == [30, 31, 32, 33, 34]

    def test_a_partition_without_a_route_is_held_with_an_error(self, build: Build) -> None:
        """Nothing of it is performed or committed; the routed ones go on."""
        house = build(unrouted=frozenset({"stray"}))
        house.assign("stray", 0)
        house.send("stray", count=20_000)
        house.send("orders", count=5)

        house.turn(60)

        assert [(one.topic, one.partition) for one in house.heard(told.NotRouted)] == [("stray", 0)]
        assert house.offsets(0) == list(range(5))
        assert house.committed == {("orders", 0): 5}
        assert house.listener._partitions[Place("stray", 0)].count < 20_000


class TestTopics:
    """Topics are read by name, and by pattern as they appear."""

    def test_named_topics_are_subscribed_to_at_once(self, house: House) -> None:
        """Whether they exist or not: they are picked up when they appear."""
        assert house.broker.subscribed == [("orders",)]

    def test_a_missing_topic_is_told_once_and_again_when_it_is_there(self, house: House) -> None:
        """However often the client or the watch miss it."""
        house.names()
        house.trouble(Effect.MISSING, topic="orders")
        house.turn()
        house.names("others")
        house.turn()
        assert [one.topic for one in house.heard(told.TopicMissing)] == ["orders"]
        assert house.heard(told.TopicFound) == []

        house.names("orders")
        house.turn()
        assert [one.topic for one in house.heard(told.TopicFound)] == ["orders"]

    def test_a_pattern_subscribes_to_topics_as_they_appear(self, build: Build) -> None:
        """With those that are named; and goes on looking."""
        house = build(pattern=r"logs\..*")

        house.names("orders", "logs.a", "other")
        house.turn()
        house.names("orders", "logs.b", "logs.a")
        house.turn()
        house.names("orders", "logs.b", "logs.a")
        house.turn()

        assert house.broker.subscribed == [
            ("orders",),
            ("orders", "logs.a"),
            ("orders", "logs.a", "logs.b"),
        ]
        assert [one.topic for one in house.heard(told.TopicFound)] == ["logs.a", "logs.b"]

    def test_a_pattern_alone_waits_for_its_first_topic(self, build: Build) -> None:
        """Nothing is subscribed to before one is known."""
        house = build(topics=(), pattern=r"logs\..*")
        assert house.broker.subscribed == []

        house.names("logs.a")
        house.turn()

        assert house.broker.subscribed == [("logs.a",)]


class TestUnowned:
    """Partitions that nobody in the group has are asked for, by a member that keeps its name."""

    @staticmethod
    def look(house: House, *partitions: int, shared: bool = True, after: float = 2.0) -> None:
        """The watch looks: these partitions have no owner; or they are being shared out."""
        house.clock.advance(after)
        places = frozenset(Place("orders", one) for one in partitions) if shared else None
        house.listener._inbox.put(Unowned(places, house.listener._topics._doubts))
        house.turn()

    def test_what_nobody_has_for_longer_than_a_revocation_takes_is_shared_out_anew(self, build: Build) -> None:
        """Once for each time that it lasts so long; the numbers are told."""
        house = build(drain_timeout=10.0)
        self.look(house, 2, 3)
        self.look(house, 2, 3, after=9.0)
        assert house.broker.rejoined == 0

        self.look(house, 2, 3)

        assert house.broker.rejoined == 1
        assert [one.places for one in house.heard(told.Unowned)] == [(("orders", 2), ("orders", 3))]
        self.look(house, 2, 3)
        assert house.broker.rejoined == 1
        self.look(house, 2, 3, after=39.0)
        assert house.broker.rejoined == 1, "it did not help: less and less often"
        self.look(house, 2, 3)
        assert house.broker.rejoined == 2

    @pytest.mark.parametrize("shared", [True, False])
    def test_what_is_on_its_way_is_waited_for(self, build: Build, *, shared: bool) -> None:
        """It found its owner, or all are being shared out: the time begins anew."""
        house = build(drain_timeout=10.0)
        self.look(house, 2)
        self.look(house, shared=shared)
        self.look(house, 2, after=9.0)
        self.look(house, 2, after=9.0)

        assert house.broker.rejoined == 0

    def test_only_a_member_that_keeps_its_name_doubts_after_each_assignment(self, build: Build) -> None:
        """Until all are owned."""
        house = build()
        assert house.listener._topics._doubts == 0

        house.broker.named = True
        house.assign("orders", 1)
        house.turn()
        topics = house.listener._topics
        assert topics._doubts == 1
        self.look(house, 2)
        self.look(house, shared=False)
        assert topics._settled == 0
        self.look(house)
        assert topics._settled == 1


class TestReplacing:
    """A client that has lost the cluster for good is given up for another."""

    def test_another_client_takes_its_place_and_all_is_read_anew(self, house: House) -> None:
        """What it held is lost: nothing of it is committed, and what runs counts for nothing."""
        house.block(partition=0)
        house.send("orders", count=5)
        house.turn(2)
        worker = house.begin()
        worker.step(3)

        house.broker.deaf = True
        for _ in range(3):  # messages came before the first
            assert not house.broker.abandoned
            house.listener._inbox.put(Reached("orders"))
            house.turn()
        house.turn(3)  # soon, not at once
        assert house.broker.abandoned
        assert house.broker.closed
        assert house.broker.subscribed == [("orders",), ("orders",)]
        assert house.heard(told.ClientReplaced)
        worker.end()
        house.free(partition=0)
        house.assign("orders", 0)
        house.turn(60)

        assert house.offsets(0) == [0, 1, 2, 3, 4]
        assert house.committed == {("orders", 0): 5}

    def test_one_that_hears_or_gets_an_answer_is_kept(self, house: House) -> None:
        """However idle its topics are."""
        for deaf in (True, False, True, False):
            house.broker.deaf = deaf
            house.listener._inbox.put(Reached("orders"))
            house.turn()

        assert not house.broker.abandoned

    def test_a_right_that_was_withdrawn_may_be_given_back(self, house: House) -> None:
        """The client is of no more use then; after a while another asks, again and again."""
        fatal = Trouble("_FATAL", "Fatal error: Broker: Group authorization failed: no", Effect.END)
        for _ in range(3):
            house.broker.say(fatal)
            house.turn()
        assert len(house.heard(told.Lost)) == 1
        assert not house.broker.abandoned
        house.wait(RENEW)

        assert house.broker.subscribed == [("orders",), ("orders",)]
        assert house.endings == []
        (said,) = house.heard(told.ClientTroubled)
        assert "allow READ on group 'g'" in said.error


class TestClosing:
    """A stop takes nothing new, finishes what runs, commits and leaves."""

    def test_what_runs_is_finished_and_committed(self, house: House) -> None:
        """The message in hand ends; what waits is left; the last commit is waited for; the group is left."""
        house.block(partition=0)
        house.send("orders", count=200)
        house.turn(2)
        worker = house.begin()
        worker.step(3)

        house.close(meanwhile=[worker.end])

        assert house.committed == {("orders", 0): 3}
        assert house.listener.unfinished == ()
        assert house.broker.closed

    def test_work_that_was_taken_away_meanwhile_is_waited_for_too(self, house: House) -> None:
        """It counts for nothing any more, but user code is not cut off in the middle of it."""
        house.block(partition=0)
        house.send("orders")
        house.turn(2)
        worker = house.begin()
        worker.step()
        house.lose("orders", 0)

        house.close(meanwhile=[house.rest, worker.end])

        assert house.listener.unfinished == ()

    def test_what_was_taken_away_and_runs_on_is_named(self, house: House) -> None:
        """When the time-out has passed."""
        house.block(partition=0)
        house.send("orders")
        house.turn(2)
        house.begin().step()
        house.lose("orders", 0)

        house.close(within=1.0)

        (named,) = house.listener.unfinished
        assert named.startswith("orders/0/0 of group 'g'")

    def test_nothing_new_is_taken(self, house: House) -> None:
        """Messages that come while it closes are read again by the next process."""
        house.block(partition=1)
        house.send("orders", partition=1, count=5)
        house.turn(2)
        worker = house.begin(1)
        worker.step()

        house.close(meanwhile=[lambda: house.send("orders", count=5), house.work, worker.end])

        assert house.offsets(0) == []
        assert ("orders", 0) not in house.committed

    def test_what_outlasts_the_time_out_is_named(self, house: House) -> None:
        """Its finished part is committed all the same."""
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        house.begin().step(4)

        house.close(within=5.0)

        assert house.listener.unfinished == ("orders/0/3 of group 'g'",)
        assert house.committed == {("orders", 0): 3}

    def test_the_membership_is_kept_while_work_ends(self, house: House) -> None:
        """The broker is asked as long as something runs."""
        house.block(partition=0)
        house.send("orders")
        house.turn(2)
        worker = house.begin()
        worker.step()
        before = house.broker.fetches

        house.close(meanwhile=[house.rest] * 20 + [worker.end])

        assert house.broker.fetches - before >= 8

    def test_a_revocation_while_closing_still_waits_for_what_runs(self, house: House) -> None:
        """Several processes that stop together take partitions from each other: what is being finished counts."""
        house.block(partition=0)
        house.send("orders", count=10)
        house.turn(2)
        worker = house.begin()
        worker.step(4)
        house.revoke("orders", 0, meanwhile=[*[house.rest] * 10, worker.end], now=False)

        house.close()

        assert house.committed == {("orders", 0): 4}

    def test_a_commit_that_is_refused_at_the_end_is_sent_again(self, house: House) -> None:
        """A rebalance under way refuses it, and polling ends that; the revocation inside `close` carries it too."""
        house.send("orders", count=10)
        house.turn(2)
        house.broker.answering = False

        house.close(meanwhile=[house.refuse] * 5)

        assert house.broker.commits[1:] == [{P0: 10}] * (len(house.broker.commits) - 1)
        assert len(house.broker.commits) > 1

    def test_a_broker_that_is_away_does_not_keep_it(self, house: House) -> None:
        """The last commit is waited for a few seconds, no longer."""
        house.send("orders", count=10)
        house.turn(2)
        house.broker.answering = False
        before = house.clock._now

        house.close()

        assert house.clock._now - before < 30


def test_a_record_without_payload_counts_no_bytes(house: House) -> None:
    """A tombstone is a message like any other."""
    house.broker.append(P0, Letter("orders", 0, 0, None))

    house.turn(60)

    assert house.offsets(0) == [0]
    assert house.committed == {("orders", 0): 1}


def test_offsets_may_have_gaps(house: House) -> None:
    """Compaction and transactions leave some: what counts is the message after."""
    for offset in (3, 4, 9, 200):
        house.broker.append(P0, Letter("orders", 0, offset))

    house.turn(60)

    assert house.offsets(0) == [3, 4, 9, 200]
    assert house.committed == {("orders", 0): 201}


def test_a_lane_is_served_by_one_worker_at_a_time(house: House) -> None:
    """One message of a partition at a time, however many workers there are."""
    house.block(partition=0)
    house.send("orders", count=200)
    house.turn(2)

    worker = house.begin()
    house.free(partition=0)
    house.turn(3)

    lane: Lane = worker.job.lane
    assert house.performed == []
    assert not lane.claim()


class TestDeciding:
    """What a strategy or `perform` itself decides is done, and what is no decision spoils nothing."""

    def decided(self, build: Build, answer: Any) -> House:
        """A house whose strategy answers so about offset 1 of three, the first time."""

        def strategy(_error: BaseException, attempt: int) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer if attempt == 1 else Skip()

        house = build(policy=Policy(retry=STEADY, dead_letter=DeadLetter("dead", after=9, strategy=strategy)))
        house.fail(1, ValueError("no"))
        house.send("orders", count=3)
        house.turn(3)
        return house

    def test_skip(self, build: Build) -> None:
        """Finished without having been performed; an event says so, and it is committed."""
        house = self.decided(build, Skip())
        house.turn(60)

        assert house.offsets(0) == [0, 2]
        assert house.committed == {("orders", 0): 3}
        assert [one.offset for one in house.heard(told.Discarded)] == [1]

    def test_skip_gives_up_the_message_that_failed_and_no_other(self, build: Build) -> None:
        """Also while a worker has the job behind."""
        house = build(policy=Policy(dead_letter=DeadLetter("dead", strategy=lambda _error, _attempt: Skip())))
        house.block(partition=0)
        house.send("orders", count=300)
        house.turn(2)
        first = house.begin()
        first.step()
        first.reply(ValueError("no"))
        first.release()
        second = house.begin()
        house.turn()
        second.end()
        house.free(partition=0)
        house.turn(60)

        assert house.offsets(0) == list(range(1, 300))
        assert house.committed == {("orders", 0): 300}

    def test_retry(self, build: Build) -> None:
        """After the seconds it says."""
        house = self.decided(build, Retry(5.0))
        house.mend()
        house.wait(4.0)
        assert house.offsets(0) == [0]

        house.wait(1.0)
        assert house.offsets(0) == [0, 1, 2]

    def test_bury(self, build: Build) -> None:
        """At once, whatever tries are left."""
        house = self.decided(build, Bury())
        house.turn(60)

        assert len(house.undertaker.funerals) == 1
        assert house.committed == {("orders", 0): 3}

    @pytest.mark.parametrize("answer", ["skip", 5, True, ZeroDivisionError()])
    def test_what_is_no_decision_is_told_and_the_message_tried_again(self, build: Build, answer: Any) -> None:
        """A strategy's mistake must not cost a message, nor the listener its life."""
        house = self.decided(build, answer)
        assert len(house.heard(told.StrategyFailed)) == 1
        assert house.offsets(0) == [0]

        house.mend()
        house.wait(1.0)
        assert house.offsets(0) == [0, 1, 2]

    @pytest.mark.parametrize("after", ["soon", None, -5.0, float("nan")])
    def test_perform_asking_for_no_time_is_a_failure_like_any_other(self, build: Build, after: Any) -> None:
        """`self.retry(after=…)` with what is no number of seconds: told, tried again, others go on."""
        house = build(policy=Policy(retry=STEADY))
        try:
            asked = AskedRetry(after)
        except Exception:  # noqa: BLE001 - refused where it is asked: `perform` fails, which is as good
            return
        house.fail(0, asked)
        house.send("orders", partitions=(0, 1))

        house.turn(60)
        house.mend()
        house.turn(60)

        assert house.committed == {("orders", 0): 1, ("orders", 1): 1}

    def test_what_perform_asks_for_is_no_error(self, build: Build) -> None:
        """An event of its own, without a traceback in the log."""
        house = build(policy=Policy(retry=STEADY))
        house.fail(0, AskedRetry(2.0, "not yet"))
        house.send("orders")
        house.turn(3)

        (postponed,) = house.heard(told.Postponed)
        assert (postponed.reason, postponed.attempt) == ("not yet", 1)
        assert house.heard(told.ErrorOccurred) == []

    def test_without_a_second_try_a_partition_stands_at_its_message(self, build: Build) -> None:
        """Nothing is skipped; the others go on; the next owner tries it again."""
        house = build(policy=Policy(retry=None))
        house.fail(1, ValueError("no"))
        house.send("orders", partitions=(0, 1), count=3)

        house.turn(60)
        house.wait(3_600.0)

        assert house.tried.count(("orders", 0, 1)) == 1
        assert house.committed == {("orders", 0): 1, ("orders", 1): 3}
        assert house.offsets(0) == [0]
