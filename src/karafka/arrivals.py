"""Partitions that arrive: asked where they begin, made, and told of where something is not as it was left.

What is known of the topics is kept here: of one that was deleted and made again all begins anew. The listener's
thread's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from karafka.assignment import Assignment, LaneAssignment, TransactedAssignment, Wish
from karafka.client import Consumer, Identities, Topics
from karafka.errors import BrokerError
from karafka.events import Events, MetadataIgnored, NotRouted, OutOfRange, TopicRenewed
from karafka.exactly_once import ExactlyOnce, take_over
from karafka.jobs import Lane, Outcome
from karafka.lanes import Lanes
from karafka.messages import Place
from karafka.metadata import Memo, encode
from karafka.partition import Partition
from karafka.policy import Policy
from karafka.setbacks import Work
from karafka.starts import TIMEOUT, Begin, resolve

# Of so many it is asked which of them a transaction keeps back.
MOST = 20


class Arrivals:
    """See the module. `work(topic)` answers what is done with a topic; `put` is the listener's inbox."""

    def __init__(
        self,
        group: str,
        events: Events,
        *,
        work: Callable[[str], Work | None],
        put: Callable[[Outcome | Wish], None],
        names: Callable[[], Topics],
    ) -> None:
        self._group = group
        self._events = events
        self._work = work
        self._put = put
        self._names = names
        # Taken over, and not begun yet.
        self._taken_over: dict[Place, ExactlyOnce] = {}
        # Kafka's ids of the topics that are read, as far as known.
        self._ids = Identities("", {})
        # The id of each topic when its partitions began here.
        self._known: dict[str, str] = {}

    def begins(self, client: Consumer, places: Sequence[Place]) -> Mapping[Place, Begin]:
        """Where each of `places` begins. Raises `BrokerError`."""
        try:
            return resolve(client, places, self._policy, self._ids, self._known)
        except BrokerError as error:
            if error.retriable:
                self._say_why(places)
            raise

    def _say_why(self, places: Sequence[Place]) -> None:
        """Whether a transaction is what keeps the answer back: the consumer waits for its end without a word.

        Raises the `BrokerError` that says so.
        """
        pending: list[Place] = []
        with suppress(BrokerError):
            pending = self._names().pending(self._group, places[:MOST], TIMEOUT)
        if pending:
            names = ", ".join(f"{topic}/{number}" for topic, number in pending)
            said = f"what is committed of {names} is part of a transaction that has not ended"
            raise BrokerError(said, retriable=True, code="UNSTABLE_OFFSET_COMMIT")

    def arrive(self, begins: Mapping[Place, Begin]) -> None:
        """They begin there: what they say of their topics is told, and known from now on."""
        for topic in sorted(
            {
                place.topic
                for place, begin in begins.items()
                if begin.renewed or self._new(place.topic, begin.memo.topic)
            }
        ):
            self._tell_renewed(topic, [place for place in begins if place.topic == topic])
        for place, begin in begins.items():
            if begin.unread:
                said = "what is kept beside its offset is damaged or another program's: it is left out of account"
                self._events.tell(
                    MetadataIgnored(group=self._group, topic=place.topic, partition=place.partition, error=said)
                )
        self._known |= {place.topic: begin.memo.topic for place, begin in begins.items() if begin.memo.topic}

    def _new(self, topic: str, now: str) -> bool:
        """Whether this process read another `topic` than the one whose id is `now` (empty where not known): with
        the former one the broker forgot its offsets.
        """
        return bool(now) and self._known.get(topic, now) != now

    def identify(self, found: Identities, partitions: Iterable[Partition]) -> Mapping[Place, Memo]:
        """The topics' ids as they are now. The places whose topic is another one than they were read from; told.

        Told, too, of those that began while the topic's id was not known, and Kafka had forgotten the former one.
        """
        self._ids = found
        known: dict[str, str] = {}
        renewed: dict[Place, Memo] = {}
        begun: list[Place] = []
        for partition in partitions:
            place, topic = partition.place, found.topics.get(partition.place.topic) or ""
            if partition.memo.another_topic(found.cluster, topic):
                renewed[place] = Memo(cluster=found.cluster, topic=topic)
            elif topic:
                if not partition.memo.topic and self._new(place.topic, topic):
                    begun.append(place)
                partition.memo = replace(partition.memo, cluster=found.cluster, topic=topic)
            if topic:
                known[place.topic] = topic
        self._known |= known
        another = [*renewed, *begun]
        for name in sorted({place.topic for place in another}):
            self._tell_renewed(name, [place for place in another if place.topic == name])
        return renewed

    def made(self, place: Place, begin: Begin) -> Partition:
        """A partition that begins there; one that nothing is routed for is held."""
        self.missed(place, begin)
        work, assignment = self._work(place.topic), self.assignment(place, begin.offset)
        if work is None:
            said = f"{place.topic!r} has no route here: held"
            self._events.tell(NotRouted(group=self._group, topic=place.topic, partition=place.partition, error=said))
            partition = Partition(place, begin.committed, Policy(), _no_lane, assignment, begin.memo)
            partition.hold()
            return partition
        exactly_once = self._exactly_once(place)
        handler = work.handler if exactly_once is None else exactly_once.perform
        pool, reply = work.pool, self._put

        def lane() -> Lane:
            return Lane(handler, pool, reply)

        kind = Partition if work.policy.lane is None else Lanes
        partition = kind(place, begin.committed, work.policy, lane, assignment, begin.memo)
        if exactly_once is not None:
            partition.exactly_once = exactly_once
            exactly_once.gone = lambda: partition.assignment.revoked
            exactly_once.beside = lambda: encode(partition.memo)
        if begin.stands:
            partition.stand()
        return partition

    def take_over(self, places: Sequence[Place]) -> None:
        """Of those that are exactly-once: abort what former owners left open, which nobody can read past."""
        mine = [one for place in places if (one := self._kept(place)) is not None]
        take_over(mine)

    def _kept(self, place: Place) -> ExactlyOnce | None:
        """The same one each time until its partition begins."""
        if (one := self._exactly_once(place)) is not None:
            self._taken_over[place] = one
        return one

    def _exactly_once(self, place: Place) -> ExactlyOnce | None:
        """What commits `place`, if its route is exactly-once."""
        if place in self._taken_over:
            return self._taken_over.pop(place)
        work = self._work(place.topic)
        if work is None or work.transacting is None:
            return None
        producer = partial(work.transacting, place)
        batch = work.policy.batch
        return ExactlyOnce(work.handler, place, self._group, producer, self._names, batch=batch)

    def assignment(self, place: Place, offset: int) -> Assignment:
        """What user code is to see of `place`, read from `offset`."""
        policy = self._policy(place.topic)
        kind = TransactedAssignment if policy.exactly_once else Assignment if policy.lane is None else LaneAssignment
        return kind(self._group, place.topic, place.partition, offset, self._put)

    def missed(self, place: Place, begin: Begin) -> None:
        """Tell, with the numbers, if the log does not hold the offset that was wanted."""
        if begin.missed is None:
            return
        wanted, low, high = begin.missed
        where = f"offset {wanted} is not in the log, which holds {low} up to before {high}"
        then = f"going on at {begin.offset}"
        if begin.stands:
            then = 'it stands still, as on_gap="stop" says: start with another on_gap, or set the offset of the group'
        event = OutOfRange(
            group=self._group,
            topic=place.topic,
            partition=place.partition,
            wanted=wanted,
            low=low,
            high=high,
            resumed=None if begin.stands else begin.offset,
            error=f"{where}: {then}",
        )
        self._events.tell(event)

    def _tell_renewed(self, topic: str, places: Iterable[Place]) -> None:
        said = f"topic {topic} was deleted and made again: the new one is read from its beginning"
        numbers = tuple(place.partition for place in places)
        self._events.tell(TopicRenewed(group=self._group, topic=topic, partitions=numbers, error=said))

    def _policy(self, topic: str) -> Policy:
        work = self._work(topic)
        return Policy() if work is None else work.policy


def _no_lane() -> Lane:
    def refuse(_run: Any) -> None:
        raise AssertionError("a partition without a route gives out nothing")

    return Lane(refuse, _NoPool(), lambda _outcome: None)


class _NoPool:
    """Where nothing is routed nothing is performed."""

    lends = False

    def submit(self, job: Any) -> None:
        raise AssertionError(job)

    def borrow(self) -> None: ...

    def stop(self) -> None: ...
