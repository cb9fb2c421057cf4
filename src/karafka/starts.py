"""Where an assigned partition begins: the engine resolves it, never the client, so that nothing is skipped in silence.

Committed and in the log: there. Committed, but deleted from the log since: at the first message kept, with an event.
Never committed: at the first message kept; or at the end, where the route says `start="latest"` and its group has
never read the topic. A partition that is added later begins at its beginning, whatever the route says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from karafka.client import Consumer
from karafka.messages import Place

# How long one question may take; the caller decides whether to ask again.
TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Begin:
    """Read from `offset`. `committed` is what the group has there, None for nothing that is worth keeping as it is.

    `missed` is (wanted, low, high) where the committed offset is not in the log.
    """

    offset: int
    committed: int | None
    missed: tuple[int, int, int] | None = None


def resolve(client: Consumer, places: Sequence[Place], late: Callable[[str], bool]) -> Mapping[Place, Begin]:
    """Where each of `places` begins; `late(topic)` is whether its route says "latest". Raises `BrokerError`."""
    if not places:
        return {}
    committed = client.committed(places, TIMEOUT)
    bounds = client.bounds(places, TIMEOUT)
    fresh: dict[str, bool] = {}
    begins: dict[Place, Begin] = {}
    for place in places:
        wanted, (low, high) = committed[place], bounds[place]
        if wanted is not None:
            inside = low <= wanted <= high
            begins[place] = Begin(wanted, wanted) if inside else Begin(low, wanted, (wanted, low, high))
            continue
        if place.topic not in fresh:
            fresh[place.topic] = late(place.topic) and _never_read(client, place.topic)
        # The end is committed at once, or the next start would take another one; a beginning need not be.
        begins[place] = Begin(high, None) if fresh[place.topic] else Begin(low, low)
    return begins


def _never_read(client: Consumer, topic: str) -> bool:
    everywhere = client.partitions(topic, TIMEOUT)
    return all(offset is None for offset in client.committed(everywhere, TIMEOUT).values())
