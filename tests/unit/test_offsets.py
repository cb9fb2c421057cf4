"""What is finished of a partition: a prefix, and, where messages end out of order, ranges above it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from karafka.offsets import Scattered

OFFSETS = st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(1, 5)), max_size=60)


@given(OFFSETS)
def test_it_knows_what_is_finished(steps: list[tuple[bool, int, int]]) -> None:
    """As a set of offsets would; the prefix only rises."""
    kept, finished, before = Scattered(0), set[int](), 0
    for prefix, start, length in steps:
        if prefix:
            kept.finish(start)
            finished.update(range(start))
        else:
            kept.settle(start, start + length)
            finished.update(range(start, start + length))
        assert kept.finished >= before
        before = kept.finished
    assert [kept.holds(one) for one in range(70)] == [one in finished for one in range(70)]
    assert kept.finished == next(one for one in range(70) if one not in finished)
    above = sorted(one for one in finished if one > kept.finished)
    assert kept.gaps == sum(one - 1 not in finished for one in above)


@given(OFFSETS)
def test_an_heir_knows_the_same(steps: list[tuple[bool, int, int]]) -> None:
    """From the prefix and what stands above it."""
    kept = Scattered(0)
    for _, start, length in steps:
        kept.settle(start, start + length)

    heir = Scattered(kept.finished, None, kept.above(kept.finished))

    assert [heir.holds(one) for one in range(70)] == [kept.holds(one) for one in range(70)]


def test_each_change_above_the_prefix_is_a_new_version() -> None:
    """And what changes nothing there is none."""
    kept = Scattered(0)
    versions = [kept.version]
    for start, end in ((0, 3), (5, 6), (3, 4), (0, 9)):
        kept.settle(start, end)
        versions.append(kept.version)

    assert versions[1] == versions[0]
    assert len(set(versions[1:])) == 4
