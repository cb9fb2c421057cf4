"""The ledger can fail: each way to break a promise is found, and what is right is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.chaos.feeder import Burial, written
from tests.chaos.journal import Entry, Kind
from tests.chaos.ledger import FINDINGS, Bounds, Life, Strike, Verdict, judge
from tests.chaos.messages import Fates

KILLED = Strike("kill9", "life", 10.0, 10.0, life=0)


def assigned(life: int, start: int, at: float, term: int = 1) -> Entry:
    return Entry("assigned", life, 0, term, start, -1, at)


def performed(life: int, sequence: int, at: float, term: int = 1) -> Entry:
    return Entry("performed", life, 0, term, sequence, sequence, at)


def other(kind: Kind, life: int, offset: int, at: float, term: int = 1) -> Entry:
    return Entry(kind, life, 0, term, offset, offset, at)


def judged(
    *entries: Entry,
    strikes: Sequence[Strike] = (),
    committed: int = 3,
    fates: Fates | None = None,
    burials: Sequence[Burial] = (),
    offsets: Sequence[int] = (0, 1, 2),
) -> Verdict:
    """The verdict on one partition to which three were sent; life 0 ends at 10 s, life 1 at 20 s."""
    dead = {strike.life for strike in strikes}
    return judge(
        sent={0: offsets},
        entries=entries,
        lives=[Life(number, "fast", number * 10 + 10.0, number not in dead) for number in range(2)],
        committed={0: committed},
        ends={0: 3},
        bounds=Bounds(commit_interval=1.0, drain_timeout=3.0),
        fates=fates,
        burials=burials,
        strikes=strikes,
    )


def found(verdict: Verdict) -> dict[str, list[str]]:
    """The findings that are any."""
    return {name: said for name, said in verdict.findings.items() if said}


ALL = (assigned(0, 0, 0.5), performed(0, 0, 1.0), performed(0, 1, 2.0), performed(0, 2, 3.0))
# Two are performed; the next life begins behind the first.
REPEATED = (
    assigned(0, 0, 0.5),
    performed(0, 0, 1.0),
    performed(0, 1, 9.0),
    assigned(1, 1, 11.0),
    performed(1, 1, 11.5),
    performed(1, 2, 12.0),
)


def test_all_once_and_in_order_is_sound() -> None:
    verdict = judged(*ALL)

    assert verdict.sound, verdict
    assert (verdict.sent, verdict.performed, verdict.duplicates) == (3, 3, 0)


@pytest.mark.parametrize("finding", FINDINGS)
def test_any_finding_breaks_it(finding: str) -> None:
    verdict = judged(*ALL)
    verdict.findings[finding].append("something")

    assert not verdict.sound
    assert str(verdict).startswith("BROKEN\n3 sent")
    assert "something" in str(verdict)


# ── lost ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_that_was_never_performed_is_lost() -> None:
    assert found(judged(*ALL[:-1])) == {"lost": ["partition 0: sequence 2, at offset 2, was never performed"]}


def test_a_message_performed_as_another_is_lost() -> None:
    assert judged(*ALL[:-1], Entry("performed", 0, 0, 1, 7, 2, 3.0)).findings["lost"]


def test_what_the_broker_never_confirmed_was_never_promised() -> None:
    verdict = judged(*ALL[:-1], offsets=(0, 1, -1))

    assert verdict.sound, verdict
    assert (verdict.sent, verdict.unconfirmed) == (2, 1)


def test_behind_what_was_never_confirmed_all_is_judged_as_ever() -> None:
    """Offsets and sequences differ from there on."""
    there = Entry("performed", 0, 0, 1, 1, 2, 3.0)
    done = other("committed", 0, 2, 4.0)

    assert judged(*ALL[:2], there, done, offsets=(0, -1, 1)).sound
    assert found(judged(*ALL[:2], done, there, offsets=(0, -1, 1))).keys() == {"premature"}
    assert found(judged(*ALL[:2], done, offsets=(0, -1, 1))).keys() == {"lost", "premature"}


def test_an_end_that_is_not_committed_is_found() -> None:
    assert found(judged(*ALL, committed=2)) == {"uncommitted": ["partition 0: committed 2, its end is 3"]}


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_that_is_skipped_and_performed_later_breaks_the_order() -> None:
    verdict = judged(ALL[0], performed(0, 0, 1.0), performed(0, 2, 2.0), performed(0, 1, 3.0))

    assert found(verdict) == {
        "unordered": [
            "partition 0, life 0, term 1: sequence 2 came after 0",
            "partition 0, life 0: sequence 2 was performed before 1",
            "partition 0, life 0, term 1: sequence 1 came after 2",
        ]
    }


def test_a_life_that_begins_behind_the_next_message_breaks_the_order() -> None:
    verdict = judged(*ALL[:2], assigned(1, 2, 11.0), performed(1, 2, 12.0), performed(0, 1, 13.0))

    assert found(verdict) == {"unordered": ["partition 0, life 1: sequence 2 was performed before 1"]}


def test_a_term_that_does_not_begin_at_its_start_breaks_the_order() -> None:
    verdict = judged(*ALL, assigned(1, 0, 11.0), performed(1, 2, 12.0), strikes=[Strike("freeze", "all", 2.0, 9.0)])

    assert found(verdict) == {"unordered": ["partition 0, life 1, term 1: sequence 2 came first, from 0"]}


# The first and the third have the same key, the second has another.
KEYED = next(
    fates
    for fates in (Fates(seed=seed, order="key") for seed in range(1_000))
    if fates.lane(0, 0) == fates.lane(0, 2) != fates.lane(0, 1)
)


def test_lanes_may_overtake_each_other() -> None:
    verdict = judged(ALL[0], performed(0, 0, 1.0), performed(0, 2, 2.0), performed(0, 1, 3.0), fates=KEYED)

    assert verdict.sound, verdict
    assert verdict.performed == 3


def test_within_a_lane_the_order_is_broken_as_ever() -> None:
    verdict = judged(ALL[0], performed(0, 2, 1.0), performed(0, 1, 2.0), performed(0, 0, 3.0), fates=KEYED)

    assert found(verdict) == {
        "unordered": [
            "partition 0, life 0, term 1: sequence 2 came first, from 0",
            "partition 0, life 0: sequence 2 was performed before 0",
            "partition 0, life 0, term 1: sequence 0 came after 2",
        ]
    }


def test_a_lane_that_is_never_performed_is_lost() -> None:
    lost = {"lost": ["partition 0: sequence 1, at offset 1, was never performed"]}

    assert found(judged(*ALL[:2], ALL[3], fates=KEYED)) == lost
    assert found(judged(*ALL[:2], ALL[3], fates=Fates(order="none"))) == lost


def test_what_was_done_ahead_by_another_life_need_not_be_done_again() -> None:
    """Its commit said so; in a partition with one order no commit can."""
    ahead = (ALL[0], performed(0, 1, 1.0), assigned(1, 0, 11.0), performed(1, 0, 12.0), performed(1, 2, 13.0))

    assert judged(*ahead, fates=Fates(order="none")).sound
    assert found(judged(*ahead)).keys() == {"unordered"}
    same = (ALL[0], performed(0, 0, 1.0), assigned(1, 0, 11.0), performed(1, 2, 12.0), performed(1, 1, 13.0))
    assert judged(*same, fates=KEYED).sound


def test_what_was_done_ahead_long_before_a_kill_is_not_done_again() -> None:
    """The prefix stands at the first message; what is finished above it was due to be kept beside that."""
    ahead = (
        ALL[0],
        performed(0, 1, 1.0),
        assigned(1, 0, 11.0),
        performed(1, 0, 12.0),
        performed(1, 1, 13.0),
        performed(1, 2, 13.0),
    )

    assert found(judged(*ahead, fates=Fates(order="none"), strikes=[KILLED])).keys() == {"late"}
    young = (ALL[0], performed(0, 1, 9.0), *ahead[2:])
    assert judged(*young, fates=Fates(order="none"), strikes=[KILLED]).repeats == {"kill9": 1}


def test_a_stranger_does_again_what_is_finished_above_its_offset() -> None:
    done = (ALL[0], performed(0, 1, 1.0), other("revoked", 0, 0, 2.0))
    again = (assigned(1, 0, 3.0), performed(1, 0, 3.5), performed(1, 1, 4.0), performed(1, 2, 4.5))
    there = [Strike("foreign", "nothing", 2.5, 9.0, life=1)]
    gone = [Strike("foreign", "nothing", 0.2, 0.9, life=7)]

    assert judged(*done, *again, fates=Fates(order="none"), strikes=there).repeats == {"foreign": 1}
    for strikes in ([], gone):
        assert found(judged(*done, *again, fates=Fates(order="none"), strikes=strikes)).keys() == {"unexplained"}


def test_a_repeat_within_a_term_breaks_the_order() -> None:
    verdict = judged(*ALL[:3], performed(0, 1, 2.5), ALL[3])

    assert found(verdict) == {"unordered": ["partition 0, life 0, term 1: sequence 1 came after 1"]}


def test_a_performance_without_an_assignment_is_found() -> None:
    assert found(judged(*ALL[1:])).keys() == {"unordered"}


# ── repeats ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_kill_left_uncommitted_may_be_repeated_and_is_counted() -> None:
    verdict = judged(*REPEATED, strikes=[KILLED])

    assert verdict.sound, verdict
    assert verdict.repeats == {"kill9": 1}


def test_a_repeat_without_a_fault_is_found() -> None:
    assert found(judged(*REPEATED)) == {
        "unexplained": ["partition 0: sequence 1 was performed in life 0 (fast), 1.00 s before it ended, and in life 1"]
    }


def test_a_fault_of_another_life_explains_nothing() -> None:
    assert found(judged(*REPEATED, strikes=[Strike("kill9", "life", 10.0, 10.0, life=1)])).keys() == {"unexplained"}


@pytest.mark.parametrize("reach", ["nothing", "burials"])
def test_a_fault_that_takes_no_commits_with_it_explains_nothing(reach: str) -> None:
    strike = Strike("members", reach, 8.0, 10.0)  # type: ignore[arg-type] # one of them each

    assert found(judged(*REPEATED, strikes=[strike])).keys() == {"unexplained"}


def test_repeated_work_that_should_have_been_committed_is_found() -> None:
    verdict = judged(*ALL[:2], performed(0, 1, 9.0), assigned(1, 0, 11.0), *REPEATED[4:], strikes=[KILLED])
    early = judged(
        *ALL[:2],
        performed(0, 1, 9.0),
        assigned(1, 0, 11.0),
        performed(1, 0, 11.2),
        *REPEATED[4:],
        strikes=[KILLED],
    )

    assert found(verdict).keys() == {"unordered"}
    assert found(early) == {
        "late": ["partition 0: sequence 0 was performed in life 0 (fast), 9.00 s before it ended, and in life 1"]
    }


def test_a_broker_in_trouble_explains_what_could_not_be_committed_meanwhile() -> None:
    verdict = judged(*REPEATED, strikes=[Strike("freeze", "all", 8.5, 9.5)])

    assert verdict.sound, verdict
    assert verdict.repeats == {"freeze": 1}


def test_a_broker_in_trouble_does_not_explain_what_was_due_before() -> None:
    old = [
        assigned(0, 0, 0.5),
        performed(0, 0, 1.0),
        performed(0, 1, 2.0),
        assigned(1, 1, 11.0),
        performed(1, 1, 11.5),
        performed(1, 2, 12.0),
    ]

    assert found(judged(*old, strikes=[Strike("freeze", "all", 8.5, 9.5)])).keys() == {"late"}


def test_a_broker_in_trouble_long_ago_explains_nothing() -> None:
    assert found(judged(*REPEATED, strikes=[Strike("freeze", "all", -30.0, -20.0)])).keys() == {"unexplained"}


def test_what_was_given_up_in_order_is_not_repeated() -> None:
    given = (*REPEATED[:3], other("revoked", 0, 2, 9.1), *REPEATED[3:])

    assert found(judged(*given)).keys() == {"unexplained"}


SLOW = Fates(slow=1.0, long=5.0)
# Taken away while the message runs on: its result is late.
OVERRUN = (
    assigned(0, 0, 0.5),
    performed(0, 0, 1.0),
    other("begun", 0, 1, 1.0),
    other("overran", 0, 1, 5.0),
    other("revoked", 0, 1, 5.0),
    assigned(1, 1, 5.5),
    performed(0, 1, 6.0),
    performed(1, 1, 10.5),
    performed(1, 2, 15.5),
)


def test_a_late_result_of_a_slow_message_is_a_repeat_of_its_own_kind() -> None:
    verdict = judged(*OVERRUN, fates=SLOW)

    assert verdict.sound, verdict
    assert verdict.repeats == {"slow": 1}


def test_a_quick_message_does_not_outlast_a_revocation() -> None:
    assert found(judged(*OVERRUN)).keys() == {"unexplained"}


# ── burials ──────────────────────────────────────────────────────────────────────────────────────────────────────

# The first that has poison in the middle.
POISONED = next(
    fates
    for fates in (Fates(seed=seed, poison=0.3) for seed in range(100))
    if [fates.of(0, one).poison for one in range(3)] == [False, True, False]
)
WITHOUT = (ALL[0], ALL[1], ALL[3])


def burial(sequence: int, at: float, value: bytes | None = None) -> Burial:
    return Burial(0, sequence, written(POISONED, 0, sequence) if value is None else value, at)


def test_poison_is_buried() -> None:
    verdict = judged(*WITHOUT, fates=POISONED, burials=[burial(1, 2.0)])

    assert verdict.sound, verdict
    assert (verdict.performed, verdict.buried) == (2, 1)


def test_poison_that_was_not_buried_is_lost() -> None:
    verdict = judged(*WITHOUT, fates=POISONED)

    assert "partition 0: sequence 1, at offset 1, was never buried" in verdict.findings["lost"]


def test_what_is_no_poison_is_not_buried() -> None:
    assert found(judged(*ALL, burials=[burial(1, 2.0)])).keys() == {"misburied"}


def test_what_is_buried_is_what_was_sent() -> None:
    verdict = judged(*WITHOUT, fates=POISONED, burials=[burial(1, 2.0, b"else")])

    assert found(verdict).keys() == {"misburied"}


def test_a_partition_goes_on_only_when_its_poison_is_buried() -> None:
    verdict = judged(*WITHOUT, fates=POISONED, burials=[burial(1, 3.5)])

    assert found(verdict) == {
        "unordered": [
            "partition 0, life 0: sequence 2 was performed 0.500 s before 1, which is poison, was buried",
        ]
    }


def test_a_second_burial_needs_a_fault() -> None:
    burials = [burial(1, 2.0), burial(1, 2.5)]

    assert found(judged(*WITHOUT, fates=POISONED, burials=burials)).keys() == {"unexplained"}
    verdict = judged(*WITHOUT, fates=POISONED, burials=burials, strikes=[Strike("grave", "burials", 1.0, 2.4)])
    assert verdict.sound, verdict
    assert verdict.reburied == {"grave": 1}


# ── commits and memberships ──────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_of_what_is_not_finished_is_found() -> None:
    verdict = judged(*ALL[:3], other("committed", 0, 3, 2.5), ALL[3])

    assert found(verdict) == {"premature": ["partition 0, life 0: committed 3, but sequence 2 was not finished"]}


def test_a_commit_past_poison_that_is_not_buried_yet_is_found() -> None:
    commit = other("committed", 0, 2, 1.5)

    assert judged(*WITHOUT[:2], commit, ALL[3], fates=POISONED, burials=[burial(1, 1.4)]).sound
    verdict = judged(*WITHOUT[:2], commit, ALL[3], fates=POISONED, burials=[burial(1, 1.6)])
    assert found(verdict).keys() == {"premature"}


def test_a_term_that_begins_behind_what_was_committed_is_found() -> None:
    verdict = judged(*REPEATED[:3], other("committed", 0, 2, 9.5), *REPEATED[3:], strikes=[KILLED])

    assert found(verdict) == {"regressed": ["partition 0, life 1, term 1: began at 1, 2 was committed"]}


def test_a_membership_is_lost_only_to_a_broker_in_trouble() -> None:
    lost = (*ALL, other("lost", 0, 3, 4.0))

    assert found(judged(*lost)).keys() == {"thrown_out"}
    assert judged(*lost, strikes=[Strike("freeze", "all", 1.0, 3.5)]).sound
