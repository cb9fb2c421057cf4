"""Where an assigned partition begins: the engine resolves it, never the client, so that nothing is skipped in silence.

Committed and in the log: there. Committed, but deleted from the log since: where the route's `on_gap` says, with an
event. Committed of a former topic of that name: at the first message kept, with an event.
Never committed: at the first message kept; or at the end, where the route says `start="latest"` and its group has
never read the topic. A partition that is added later begins at its beginning, whatever the route says.
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
    `stands` that the partition is to stand still for it. `renewed`: what was committed is about a former topic.
    """

    offset: int
    committed: int | None
    memo: Memo = NOTHING
    missed: tuple[int, int, int] | None = None
    stands: bool = False
    renewed: bool = False


def resolve(
    client: Consumer, places: Sequence[Place], policy: Callable[[str], Policy], ids: Identities
) -> Mapping[Place, Begin]:
    """Where each of `places` begins; `policy(topic)` is its route's, `ids` as far as known. Raises `BrokerError`."""
    if not places:
        return {}
    committed = client.committed(places, TIMEOUT)
    bounds = client.bounds(places, TIMEOUT)
    fresh: dict[str, bool] = {}
    begins: dict[Place, Begin] = {}
    for place in places:
        kept, (low, high) = committed[place], bounds[place]
        known = ids.topics.get(place.topic) or ""
        memo = Memo(cluster=ids.cluster, topic=known) if known else Memo()
        if kept is not None:
            before = decode(kept.metadata) or Memo()
            if before.another_topic(ids.cluster, known):
                begins[place] = Begin(low, None, memo, renewed=True)
                continue
            # As long as the topic's id is not known, what was known of it stays.
            memo = replace(before, cluster=ids.cluster, topic=known) if known else before
            if low <= kept.offset <= high:
                begins[place] = Begin(kept.offset, kept.offset, memo)
            else:
                begins[place] = beyond(policy(place.topic).on_gap, kept.offset, low, high, memo)
            continue
        if place.topic not in fresh:
            fresh[place.topic] = policy(place.topic).start == "latest" and _never_read(client, place.topic)
        # The end is committed at once, or the next start would take another one; a beginning need not be.
        begins[place] = Begin(high, None, memo) if fresh[place.topic] else Begin(low, low, memo)
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


def _never_read(client: Consumer, topic: str) -> bool:
    everywhere = client.partitions(topic, TIMEOUT)
    return all(offset is None for offset in client.committed(everywhere, TIMEOUT).values())
