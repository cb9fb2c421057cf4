"""Which topics a group reads: those named, those a pattern wants, those that are not there yet.

Asking the broker for all names may wait for one that is away, and the listener must not: `TopicWatch` asks, on a thread
of its own. `TopicsRead` is the listener's: it knows what is subscribed and tells what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Thread

from karafka.client import Consumer, Rebalance, Topics
from karafka.errors import BrokerError
from karafka.events import Events, TopicFound, TopicMissing

# How long a topic that appears may wait to be noticed, in seconds.
INTERVAL = 2.0
ANSWER_TIMEOUT = 10.0


class TopicWatch:
    """Asks for all topics' names every few seconds and tells `found`, until that answers that no more is wanted.

    `start` and `stop` are the listener's; `found` is called on the watch's own thread.
    """

    def __init__(self, topics: Callable[[], Topics], found: Callable[[frozenset[str]], bool], name: str) -> None:
        self._topics = topics
        self._found = found
        self._stopped = Event()
        self._thread = Thread(target=self._run, name=f"karafka-topics-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask no more; does not wait for a question under way."""
        self._stopped.set()

    def _run(self) -> None:
        topics: Topics | None = None
        while not self._stopped.is_set():
            try:
                topics = topics or self._topics()
                if not self._found(topics.names(ANSWER_TIMEOUT)):
                    return
            except BrokerError:
                pass  # the listener's own client tells of a broker that is away
            self._stopped.wait(INTERVAL)


class TopicsRead:
    """What one listener is subscribed to. Its thread's alone, but for what the watch calls.

    `named` are read by name, those `wanted` (None: no patterns) as they appear. `found` puts names on the listener's
    inbox; any thread.
    """

    def __init__(
        self,
        group: str,
        named: Sequence[str],
        wanted: Callable[[str], bool] | None,
        topics: Callable[[], Topics],
        found: Callable[[frozenset[str]], object],
        events: Events,
    ) -> None:
        self._group = group
        self._named = tuple(named)
        self._wanted = wanted
        self._topics = topics
        self._found = found
        self._events = events
        self._missing: set[str] = set()
        self._subscribed: tuple[str, ...] = ()
        self._watch: TopicWatch | None = None

    def open(self, client: Consumer, rebalance: Rebalance) -> None:
        """Subscribe to what is named, and start to watch for the rest."""
        if self._named:
            self._subscribe(client, rebalance, self._named)
        self._watch_on()

    def close(self) -> None:
        if self._watch is not None:
            self._watch.stop()

    def know(self, topics: frozenset[str], client: Consumer, rebalance: Rebalance) -> None:
        """These are all topics there are: tell what is missing or found, subscribe to what is new and wanted."""
        for topic in sorted(self._missing & topics):
            self._missing.discard(topic)
            self._events.tell(TopicFound(group=self._group, topic=topic))
        for topic in self._named:
            if topic not in topics:
                self.miss(topic)
        if self._wanted is None:
            return
        matched = sorted(topic for topic in topics if topic not in self._named and self._wanted(topic))
        for topic in matched:
            if topic not in self._subscribed:
                self._events.tell(TopicFound(group=self._group, topic=topic))
        new = (*self._named, *matched)
        if new and new != self._subscribed:
            self._subscribe(client, rebalance, new)

    def miss(self, topic: str) -> None:
        """`topic` is not there: said once, until it is found."""
        if topic not in self._missing:
            self._missing.add(topic)
            self._events.tell(TopicMissing(group=self._group, topic=topic))
        self._watch_on()

    def _subscribe(self, client: Consumer, rebalance: Rebalance, topics: tuple[str, ...]) -> None:
        self._subscribed = topics
        client.subscribe(topics, rebalance)

    def _watch_on(self) -> None:
        """Have the watch ask until nothing is missing; one is enough."""
        if self._watch is None or not self._watch.running:
            self._watch = TopicWatch(self._topics, self._heard, self._group)
            self._watch.start()

    def _heard(self, topics: frozenset[str]) -> bool:
        """From the watch's thread: tell the listener; go on while there may be more to find."""
        self._found(topics)
        return self._wanted is not None or not topics.issuperset(self._named)
