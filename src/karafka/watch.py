"""Beside a listener: what topics there are, while patterns are routed or a routed topic is missing.

A thread of its own, because the question may wait for a broker that is away, and the listener must not.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

from karafka.client import Topics
from karafka.errors import BrokerError

# How long a topic that appears may wait to be noticed.
INTERVAL = 2.0
ANSWER_TIMEOUT = 10.0


class TopicWatch:
    """Asks for all topics' names every few seconds and tells `found`, until told that no more is wanted.

    `start` and `stop` are the listener's; `found` is called on the watch's own thread and answers whether to go on.
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
        topics = self._topics()
        while not self._stopped.is_set():
            try:
                if not self._found(topics.names(ANSWER_TIMEOUT)):
                    return
            except BrokerError:
                pass  # the listener's own client tells of a broker that is away
            self._stopped.wait(INTERVAL)
