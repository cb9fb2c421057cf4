"""What goes beside a committed offset: read back as it was written, and nothing else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from karafka.metadata import LIMIT, Memo, decode, encode, fits

IDS = st.text("abcXYZ012-_", max_size=22)
ABOVE = st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), max_size=200).map(
    lambda pairs: tuple(one for pair in pairs for one in pair)
)
DENSE = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=1_500).map(
    lambda pairs: tuple(one for pair in pairs for one in pair)
)
MEMOS = st.builds(
    Memo,
    cluster=IDS,
    topic=IDS,
    partitions=st.integers(0, 10**6),
    open=st.booleans(),
    crashes=st.integers(0, 10**9),
    named=st.just(-1),
    times=st.just(0),
) | st.builds(Memo, cluster=IDS, topic=IDS, named=st.integers(0, 2**63), times=st.integers(0, 10**6))


@given(MEMOS)
def test_a_memo_is_read_back_as_it_was_written(memo: Memo) -> None:
    """As plain ASCII, within what Kafka takes."""
    text = encode(memo)

    assert decode(text) == memo
    assert text.isascii()
    assert len(text) <= LIMIT


def test_nothing_to_say_is_nothing() -> None:
    """As every other client commits it."""
    assert encode(Memo()) == ""
    assert decode("") == decode(None) == Memo()


@given(MEMOS.filter(lambda memo: memo != Memo()), st.text(max_size=30))
def test_what_follows_it_is_not_read(memo: Memo, after: str) -> None:
    """The client may hand back more than was stored."""
    assert decode(encode(memo) + "\0" + after) == memo


@given(MEMOS.filter(lambda memo: memo != Memo()), st.data())
def test_what_is_damaged_is_not_read(memo: Memo, data: st.DataObject) -> None:
    """One character changed, or an end missing: better repeated than skipped."""
    text = encode(memo)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda one: one != text[at]))

    assert decode(text[:at] + other + text[at + 1 :]) is None
    assert decode(text[:at]) in {None, Memo()}


@given(st.text())
def test_what_others_wrote_is_not_read(text: str) -> None:
    """Whatever it is, it raises nothing."""
    assert decode(text) in {None, Memo()}


def test_another_topic_is_one_of_the_same_cluster_with_another_id() -> None:
    """What is not known is no difference."""
    memo = Memo(cluster="c", topic="t")

    assert memo.another_topic("c", "u")
    assert not memo.another_topic("c", "t")
    assert not memo.another_topic("d", "u")
    assert not memo.another_topic("c", "")
    assert not Memo(cluster="c").another_topic("c", "u")


@given(st.integers(0, 10**12), ABOVE | DENSE)
def test_what_is_finished_above_is_read_back(base: int, above: tuple[int, ...]) -> None:
    """Far apart or close together; beside another offset, or on another cluster, it says nothing."""
    memo = Memo(cluster="here", topic="t", base=base if above else -1, above=above)

    assert decode(encode(memo)) == memo
    assert memo.at(base, "here").above == memo.at(base, "").above == above
    assert memo.at(base + 1, "here").above == memo.at(base, "there").above == ()


@given(st.lists(st.tuples(st.integers(1, 3_000), st.integers(1, 3_000)), min_size=1, max_size=2_000))
def test_what_fits_has_room(pairs: list[tuple[int, int]]) -> None:
    """However it lies."""
    above = tuple(one for pair in pairs for one in pair)
    if fits(len(pairs), sum(above)):
        assert len(encode(Memo(cluster="c" * 22, topic="t" * 22, base=10**12, above=above))) <= LIMIT


def test_much_fits() -> None:
    """A thousand in hand over a million offsets, or any number within twenty thousand."""
    assert fits(1, 10**9)
    assert fits(500, 10**5)
    assert fits(20_000, 20_000)
    assert not fits(2_000, 10**6)
