"""Which topics a group reads: those named, those a pattern wants, those that are not there yet; and whether they still
are the same topics.

Asking the broker may wait for one that is away, and the listener must not: `TopicWatch` asks, on a thread of its own.
`TopicsRead` is the listener's: it knows what is subscribed and tells what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import TypeAlias

from karafka.client import Consumer, Identities, Rebalance, Topics
from karafka.errors import BrokerError
from karafka.events import DeadLetterMissing, Events, TopicFound, TopicMissing
from karafka.messages import Place

# How long a topic that appears may wait to be noticed, in seconds.
INTERVAL = 2.0
# How long a topic that was deleted and made again may go unnoticed.
IDS_INTERVAL = 5.0
# For how many turns a cluster that does not tell ids is not asked for them: librdkafka's own has none.
IDLESS = 10
ANSWER_TIMEOUT = 5.0
# How long a stop waits for the answer to a question that nobody needs any more.
LAST_ANSWER = 0.5


@dataclass(frozen=True, slots=True)
class Names:
    """All topics there are."""

    topics: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of topics that are read, and of those that dead letters go to."""

    found: Identities


@dataclass(frozen=True, slots=True)
class Reached:
    """The cluster answers; does it answer the listener's client too, say about `topic`?"""

    topic: str


@dataclass(frozen=True, slots=True)
class Unowned:
    """Partitions that nobody in the group has, as an answer to a `doubt`; None while they are being shared out."""

    places: frozenset[Place] | None
    doubt: int


Seen: TypeAlias = Names | Ids | Reached | Unowned


class TopicWatch:
    """Calls `ask` every so often, on its own thread: it answers in how many seconds again. `start`, `stop`: the
    listener's.
    """

    def __init__(self, topics: Callable[[], Topics], ask: Callable[[Topics], float], name: str) -> None:
        self._topics = topics
        self._ask = ask
        self._stopped = Event()
        self._thread = Thread(target=self._run, name=f"karafka-topics-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """Ask no more; a question under way is waited for, but not for long."""
        self._stopped.set()
        self.let_go(LAST_ANSWER)

    def let_go(self, timeout: float) -> bool:
        """Wait for the end of the question under way; False when `timeout` seconds passed before. Any thread."""
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        topics: Topics | None = None
        pause = 0.0
        while not self._stopped.wait(pause):
            try:
                topics = topics or self._topics()
                pause = self._ask(topics)
            except BrokerError:
                # A client that gets no answer is not asked twice: it may be its own fault.
                topics = None
                pause = INTERVAL  # the listener's own client tells of a broker that is away


class TopicsRead:
    """What one listener is subscribed to. Its thread's alone, but for what the watch calls.

    `named` are read by name, those `wanted` (None: no patterns) as they appear; dead letters go to `graves`. `seen`
    puts what the watch sees on the listener's inbox; any thread.
    """

    def __init__(
        self,
        group: str,
        named: Sequence[str],
        wanted: Callable[[str], bool] | None,
        graves: Sequence[str],
        topics: Callable[[], Topics],
        seen: Callable[[Seen], object],
        events: Events,
    ) -> None:
        self._group = group
        self._named = tuple(named)
        self._wanted = wanted
        self._graves = tuple(graves)
        self._seen = seen
        self._events = events
        self._missing: set[str] = set()
        self._subscribed: tuple[str, ...] = ()
        # Whether names are to be asked for: something is missing, or not known yet, or a pattern may find more.
        self._looking = True
        # Whether ids are told; for how many turns they are not asked for.
        self._identified = False
        self._without_ids = 0
        # How often it was doubted whether all partitions are owned; which doubt is settled.
        self._doubts = self._settled = 0
        self._watch = TopicWatch(topics, self._ask, group)

    def open(self, client: Consumer, rebalance: Rebalance) -> None:
        """Subscribe to what is named, and start to watch for the rest."""
        if self._named:
            self._subscribe(client, rebalance, self._named)
        self._watch.start()

    def reopen(self, client: Consumer, rebalance: Rebalance) -> None:
        """Another client takes part."""
        if self._subscribed:
            self._subscribe(client, rebalance, self._subscribed)

    def rejoin(self, client: Consumer, rebalance: Rebalance) -> None:
        """Have `client` leave, and take part anew."""
        client.rejoin(self._subscribed, rebalance)

    def close(self) -> None:
        self._watch.stop()

    def let_go(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the client that watches; whether it is gone. Any thread."""
        return self._watch.let_go(timeout)

    def doubt(self) -> None:
        """Partitions came to a client that may not know of all: are there any that nobody has?"""
        self._doubts += 1

    def trust(self, doubt: int) -> None:
        """All partitions are owned, or that cannot be known; said of that doubt."""
        self._settled = doubt

    def know(self, topics: frozenset[str], client: Consumer, rebalance: Rebalance) -> None:
        """These are all topics that may be seen: subscribe to what is new and wanted."""
        if not self._identified:
            # Where ids are told they say it better: a topic that is refused is not listed either.
            self._there({topic: topic in topics for topic in (*self._named, *self._graves)})
        if self._wanted is None:
            return
        matched = sorted(topic for topic in topics if topic not in self._named and self._wanted(topic))
        for topic in matched:
            if topic not in self._subscribed:
                self._events.tell(TopicFound(group=self._group, topic=topic))
        new = (*self._named, *matched)
        if new and new != self._subscribed:
            self._subscribe(client, rebalance, new)

    def identify(self, found: Identities) -> None:
        """These are the ids of what is named: tell what is missing or found."""
        self._identified = True
        self._there({topic: found.topics[topic] is not None for topic in found.topics})

    def _there(self, there: Mapping[str, bool]) -> None:
        for topic, is_there in there.items():
            if not is_there and topic in (*self._named, *self._graves):
                self.miss(topic)
            elif is_there and topic in self._missing:
                self._missing.discard(topic)
                self._events.tell(TopicFound(group=self._group, topic=topic))
        self._looking = self._wanted is not None or bool(self._missing)

    def is_grave(self, topic: str) -> bool:
        """Whether dead letters go to `topic`, and nothing of it is read."""
        return topic in self._graves and topic not in self._named

    def miss(self, topic: str) -> None:
        """`topic` is not there: said once, until it is found."""
        if topic not in self._missing:
            self._missing.add(topic)
            missing = TopicMissing if topic in self._named else DeadLetterMissing
            self._events.tell(missing(group=self._group, topic=topic))
        self._looking = True

    def _subscribe(self, client: Consumer, rebalance: Rebalance, topics: tuple[str, ...]) -> None:
        self._subscribed = topics
        client.subscribe(topics, rebalance)

    def _ask(self, topics: Topics) -> float:
        """On the watch's thread: have the listener told; in how many seconds again."""
        looking, subscribed, doubt = self._looking, self._subscribed, self._doubts
        told = False
        if not self._without_ids:
            # Left out for some turns if there is no answer: what waits for a topic to appear is not to wait for that.
            try:
                asked = sorted({*self._named, *self._graves, *subscribed})
                self._seen(Ids(topics.ids(asked, ANSWER_TIMEOUT)))
                told = True
            except BrokerError:
                if self._identified:
                    raise
                self._without_ids = IDLESS
        self._without_ids = max(0, self._without_ids - 1)
        if (self._wanted is not None or (looking and not told)) and not self._watch.stopped:
            self._seen(Names(topics.names(ANSWER_TIMEOUT)))
        if told and subscribed:
            self._seen(Reached(subscribed[0]))
        if doubted := doubt != self._settled:
            self._seen(Unowned(self._unowned(topics, subscribed), doubt))
        return INTERVAL if looking or doubted else IDS_INTERVAL

    def _unowned(self, topics: Topics, subscribed: Sequence[str]) -> frozenset[Place] | None:
        try:
            return topics.unowned(self._group, subscribed, ANSWER_TIMEOUT)
        except BrokerError as error:
            # Whoever is not allowed to know does not ask again.
            return None if error.retriable else frozenset()
