"""Where an assigned partition begins: the engine resolves it, never the client, so that nothing is skipped in silence.

Committed and in the log: there. Committed, but deleted from the log since: where the route's `on_gap` says, with an
event. Committed of a former topic of that name: at the first message kept, with an event.
Never committed: at the first message kept; or at the end, where the route says `start="latest"` and the partition was
there when its group began to read the topic. One that is added later begins at its beginning, whatever the route says,
and so does one whose topic this process has read, and that was made again since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from karafka.client import Consumer, Identities
from karafka.messages import Place
from karafka.metadata import Memo, decode
from karafka.policy import Gap, Policy

NOTHING = Memo()
# How long one question may take; the caller decides whether to ask again.
TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Begin:
    """Read from `offset`. `committed` is what the group has there, None for nothing that is worth keeping as it is.

    `memo` is what was kept with it. `missed` is (wanted, low, high) where the committed offset is not in the log;
    `stands` that the partition is to stand still for it. `renewed`: what was committed is about a former topic;
    `unread`: what was kept with it cannot be read.
    """

    offset: int
    committed: int | None
    memo: Memo = NOTHING
    missed: tuple[int, int, int] | None = None
    stands: bool = False
    renewed: bool = False
    unread: bool = False


def resolve(
    client: Consumer,
    places: Sequence[Place],
    policy: Callable[[str], Policy],
    ids: Identities,
    read: Mapping[str, str],
) -> Mapping[Place, Begin]:
    """Where each of `places` begins; `policy(topic)` is its route's, `ids` as far as known, `read` those of the topics
    that this process has read. Raises `BrokerError`.
    """
    if not places:
        return {}
    committed = client.committed(places, TIMEOUT)
    bounds = client.bounds(places, TIMEOUT)
    early: dict[str, int] = {}
    begins: dict[Place, Begin] = {}
    for place in places:
        kept, (low, high) = committed[place], bounds[place]
        known = ids.topics.get(place.topic) or ""
        memo = Memo(cluster=ids.cluster, topic=known) if known else Memo()
        if kept is not None:
            found = decode(kept.metadata)
            before = (found or Memo()).at(kept.offset, ids.cluster)
            if before.another_topic(ids.cluster, known):
                begins[place] = Begin(low, None, memo, renewed=True)
                continue
            # As long as the topic's id is not known, what was known of it stays.
            memo = replace(before, cluster=ids.cluster, topic=known) if known else before
            if low <= kept.offset <= high:
                begins[place] = Begin(kept.offset, kept.offset, memo, unread=found is None)
            else:
                memo = replace(memo, base=-1, above=())
                begins[place] = beyond(policy(place.topic).on_gap, kept.offset, low, high, memo)
            continue
        if place.topic not in early:
            # Of a topic that was read here before, and made again since, nothing is to be passed over.
            late = policy(place.topic).start == "latest" and read.get(place.topic, known) == known
            early[place.topic] = _early(client, place.topic) if late else 0
        if place.partition < early[place.topic]:
            # The end is committed at once, or the next start would take another one; a beginning need not be.
            begins[place] = Begin(high, None, replace(memo, partitions=early[place.topic]))
        else:
            begins[place] = Begin(low, low, memo)
    return begins


def beyond(gap: Gap, wanted: int, low: int, high: int, memo: Memo) -> Begin:
    """Where to go on when `wanted` is not in the log, which holds `low` up to before `high`."""
    missed = (wanted, low, high)
    match gap:
        case "earliest":
            return Begin(low, wanted, memo, missed)
        case "latest":
            return Begin(high, wanted, memo, missed)
        case "stop":
            # Nothing is given out, and what is committed stays as it is.
            return Begin(low, low, memo, missed, stands=True)


def _early(client: Consumer, topic: str) -> int:
    """How many partitions `topic` had when its group began to read it: all there are, if that is now.

    Members begin side by side: the first to commit says for all of them how many there were.
    """
    everywhere = client.partitions(topic, TIMEOUT)
    kept = [one for one in client.committed(everywhere, TIMEOUT).values() if one is not None]
    if not kept:
        return len(everywhere)
    return max((decode(one.metadata) or Memo()).partitions for one in kept)
