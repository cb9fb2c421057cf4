"""The ledger can fail: each way to break a promise is found, and what is right is not."""

from __future__ import annotations

from tests.chaos.ledger import Life, Line, Verdict, judge


def lived(*performed: tuple[int, int, float], committed: int = 3, clean: bool = False) -> Verdict:
    """The verdict on (life, sequence, at) of one partition to which three were sent; each life ends at its 10 s."""
    lines = [Line(life, 0, sequence, sequence, at) for life, sequence, at in performed]
    lives = [Life(number, "fast", number * 10 + 10.0, clean) for number in range(3)]
    return judge(
        sent={0: [0, 1, 2]}, lines=lines, lives=lives, committed={0: committed}, ends={0: 3}, commit_interval=1.0
    )


def test_all_once_and_in_order_is_sound() -> None:
    verdict = lived((0, 0, 1.0), (0, 1, 2.0), (1, 2, 12.0))

    assert verdict.sound, verdict
    assert (verdict.sent, verdict.performed, verdict.duplicates) == (3, 3, 0)


def test_what_a_kill_left_uncommitted_may_be_repeated_and_is_counted() -> None:
    verdict = lived((0, 0, 1.0), (0, 1, 9.0), (0, 2, 9.5), (1, 1, 11.0), (1, 2, 12.0))

    assert verdict.sound, verdict
    assert verdict.repeats == {0: 2}


def test_a_message_that_was_never_performed_is_lost() -> None:
    assert lived((0, 0, 1.0), (0, 1, 2.0)).lost == ["partition 0: sequence 2, at offset 2, was never performed"]


def test_a_message_that_is_skipped_and_performed_later_breaks_the_order() -> None:
    verdict = lived((0, 0, 1.0), (0, 2, 2.0), (0, 1, 3.0))

    assert not verdict.lost
    assert verdict.unordered == [
        "partition 0, life 0: sequence 2 came after 0",
        "partition 0, life 0: sequence 1 came after 2",
    ]


def test_a_life_that_begins_behind_the_next_message_breaks_the_order() -> None:
    assert lived((0, 0, 1.0), (1, 2, 12.0), (2, 1, 22.0)).unordered == [
        "partition 0, life 1: sequence 2 came after 0, the highest of the lives before"
    ]


def test_a_repeat_within_a_life_breaks_the_order() -> None:
    assert lived((0, 0, 1.0), (0, 1, 2.0), (0, 1, 2.5), (0, 2, 3.0)).unordered == [
        "partition 0, life 0: sequence 1 came after 1"
    ]


def test_repeated_work_that_should_have_been_committed_is_found() -> None:
    verdict = lived((0, 0, 7.0), (0, 1, 9.0), (1, 0, 11.0), (1, 1, 12.0), (1, 2, 13.0))

    assert verdict.too_old == [
        "partition 0: sequence 0 was performed 3.00 s before life 0 (fast) was killed, and again in life 1"
    ]


def test_nothing_is_repeated_after_a_life_that_ended_in_order() -> None:
    verdict = lived((0, 0, 9.9), (1, 0, 11.0), (1, 1, 12.0), (1, 2, 13.0), clean=True)

    assert len(verdict.too_old) == 1


def test_an_end_that_is_not_committed_is_found() -> None:
    verdict = lived((0, 0, 1.0), (0, 1, 2.0), (0, 2, 3.0), committed=2)

    assert verdict.uncommitted == ["partition 0: committed 2, its end is 3"]
    assert str(verdict).startswith("BROKEN\n3 sent, 3 performed")
