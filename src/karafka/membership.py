"""This process as a member of a group: the client by which it is one, and whether that client still is of use.

librdkafka can lose the cluster for good without a word (its issue 5301), is of no more use once its right to the group
was withdrawn, and as a cooperative member that keeps its name may leave partitions to nobody. Each is noticed here, and
another membership begins. The listener's thread's alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Thread
from time import monotonic

from karafka.client import Consumer, Effect, Rebalance, Trouble
from karafka.clock import NEVER, Clock
from karafka.errors import BrokerError
from karafka.events import ClientReplaced, Events, Unowned
from karafka.messages import Place
from karafka.troubles import Troubles
from karafka.watch import TopicsRead

# How the client says that the right to be in the group was withdrawn; how long to wait before asking for it anew.
WITHDRAWN = "Group authorization failed"
RENEW = 2.0
# How often in a row the client gets no answer, where the watch does, before it is given up; and how long one may take.
UNHEARD = 2
REACH_TIMEOUT = 1.0
# How long after subscribing something should be assigned.
JOIN_TIMEOUT = 30.0
# How long leaving the group may take: it may wait for a broker that is away.
CLOSE_TIMEOUT = 5.0

# How much longer each time partitions without an owner are borne.
AGAIN = 4


class Membership:
    """See the module. `make` makes a client; `patience`: seconds that a revocation may take."""

    def __init__(
        self,
        group: str,
        events: Events,
        clock: Clock,
        *,
        make: Callable[[], Consumer],
        topics: TopicsRead,
        rebalance: Rebalance,
        troubles: Troubles,
        patience: float,
    ) -> None:
        self._group = group
        self._events = events
        self._clock = clock
        self._make = make
        self._topics = topics
        self._rebalance = rebalance
        self._troubles = troubles
        self._patience = patience
        self._client: Consumer | None = None
        # On their way out of the group, each with its client.
        self._leavers: list[Thread] = []
        # Whether an assignment came, or is not waited for any more; and by when one should come.
        self._joined = False
        self._join_by = NEVER
        # Whether anything came from the cluster since that was asked last; how often in a row nothing did.
        self._heard = False
        self._unheard = 0
        # Since when there are partitions that nobody in the group has; how long that is borne.
        self._unowned_since, self._unowned_for = NEVER, patience
        # When another client is to be made, because this one is of no more use.
        self._renew_at = NEVER

    def join(self) -> Consumer:
        """Take part, with a client of its own; one before it is given up, and leaves in its own time."""
        before, client = self._client, self._make()
        self._client = client
        self._joined, self._join_by = False, self._clock.monotonic() + JOIN_TIMEOUT
        self._unowned_since = self._renew_at = NEVER
        if before is None:
            self._topics.open(client, self._rebalance)
        else:
            before.abandon()
            self._leaving(before)
            self._topics.reopen(client, self._rebalance)
        return client

    def leave(self) -> None:
        """Leave the group; waits for it, but not for ever."""
        if self._client is not None:
            self._leaving(self._client)
            self.let_go(CLOSE_TIMEOUT)

    def let_go(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for those that leave; whether all are gone. Any thread."""
        by = monotonic() + timeout
        for thread in self._leavers:
            thread.join(max(0.0, by - monotonic()))
        return not any(thread.is_alive() for thread in self._leavers)

    def _leaving(self, client: Consumer) -> None:
        thread = Thread(target=_close, args=(client,), name=f"karafka-leaving-{self._group}", daemon=True)
        self._leavers = [one for one in self._leavers if one.is_alive()] + [thread]
        thread.start()

    def turn(self, now: float) -> bool:
        """Whether another client is to take this one's place now. That nothing came of subscribing is said, once."""
        if not self._joined and now >= self._join_by:
            self._joined = True
            if not self._troubles.any:
                said = (
                    f"nothing was assigned within {JOIN_TIMEOUT:g} s: another member may be slow to take part in the "
                    "rebalance, or the brokers do not know group.protocol=consumer, if that is set (Kafka does since "
                    "4.0)"
                )
                self._troubles.heard(self._group, Trouble("NO_ASSIGNMENT", said, Effect.NEWS))
        return now >= self._renew_at

    # ── what happens to it ───────────────────────────────────────────────────────────────────────────────────

    def assigned(self) -> None:
        """The group gave it partitions, or said that there are none for it."""
        self._joined = True
        if self._client is not None and self._client.forgetful():
            self._topics.doubt()

    def hears(self) -> None:
        """Something came from the cluster."""
        self._heard = True

    def deaf(self, topic: str) -> bool:
        """The watch has reached the cluster: has this client heard anything lately, or gets an answer about `topic`?

        Whether it is to be given up: what it holds is lost.
        """
        heard, self._heard = self._heard, False
        if heard or self._client is None or self._client.reaches(topic, REACH_TIMEOUT):
            self._unheard = 0
            return False
        self._unheard += 1
        return self._unheard >= UNHEARD

    def replace(self) -> str:
        """It is given up, in the next turn: the reason, for people."""
        said = "the client finds the cluster no more, though it is there: another takes its place"
        self._unheard = 0
        self._renew_at = self._clock.monotonic()
        self._events.tell(ClientReplaced(group=self._group, error=said))
        return said

    def outlives(self, end: Trouble) -> bool:
        """The client says that it is of no more use. Whether another one may be: what is refused may be granted again.

        (Under KIP-848 the client does not ask again by itself.)
        """
        if WITHDRAWN not in end.text:
            return False
        if self._renew_at == NEVER:
            self._renew_at = self._clock.monotonic() + RENEW
            self._troubles.heard(self._group, replace(end, code="GROUP_AUTHORIZATION_FAILED"))
        return True

    def unowned(self, places: frozenset[Place] | None, doubt: int) -> None:
        """Nobody in the group has `places`; None while they are shared out. On their way they are soon somebody's: if
        it lasts for longer than a revocation may, this member leaves and joins again.
        """
        if not places:
            self._unowned_since = NEVER
            if places is not None:
                self._topics.trust(doubt)
                self._unowned_for = self._patience
            return
        now = self._clock.monotonic()
        self._unowned_since = min(self._unowned_since, now)
        if now - self._unowned_since > self._unowned_for and self._client is not None:
            # Where joining again does not help, it is not done again and again.
            self._unowned_since, self._unowned_for = NEVER, self._unowned_for * AGAIN
            said = "a member that kept its name left them to nobody; this one leaves and joins again, to share them out"
            self._events.tell(Unowned(group=self._group, places=tuple(sorted(places)), error=said))
            self._topics.rejoin(self._client, self._rebalance)


def _close(client: Consumer) -> None:
    # With the broker away there is nobody to take leave of: the session's time-out tells the group.
    with suppress(BrokerError):
        client.close()
