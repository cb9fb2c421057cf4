"""How far each group is: measured, and shown as a table or as a line."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from karafka import App, BrokerError
from karafka.events import Assigned, Failed, ListenerDied
from karafka.routing import Subscription
from rich.markup import escape
from rich.table import Table

from broker import Broker

RATE_OVER = 3.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A group's: messages finished since the start, those still to come, and how many a second lately."""

    group: str
    done: int
    lag: int
    rate: float
    assigned: bool
    failure: str

    @property
    def state(self) -> str:
        if self.failure:
            return f"trying again: {self.failure}"
        if self.lag:
            return "working" if self.assigned else "waiting for its partitions"
        return "caught up"


class Watch:
    """Measures the groups of an app. The main thread's; failures are told on the listeners' threads."""

    def __init__(self, app: App, read: Iterable[Subscription], broker: Broker) -> None:
        self._broker = broker
        # Those that send come before the one that collects.
        ordered = sorted(read, key=lambda one: "offenses" in one.topics)
        self._topics = {one.group: one.topics for one in ordered}
        self._began = {group: broker.lag(group, topics)[0] for group, topics in self._topics.items()}
        self._seen: dict[str, deque[tuple[float, int]]] = {group: deque() for group in self._topics}
        self._failures: dict[str, str] = {}
        self._assigned: set[str] = set()
        self._died = ""
        app.events.on(Assigned, lambda event: self._assigned.add(event.group))
        app.events.on(Failed, self._failed)
        app.events.on(ListenerDied, self._ended)

    def look(self) -> list[Progress]:
        """The groups: those that hand over before those that perform it, and these before the one that collects.

        So if all are caught up, they are so for good: nobody is left who could still send to the collector.
        Raises `BrokerError` if one of them died.
        """
        if self._died:
            raise BrokerError(self._died, retriable=False)
        return [self._of(group, topics) for group, topics in self._topics.items()]

    def _of(self, group: str, topics: Iterable[str]) -> Progress:
        total, lag = self._broker.lag(group, topics)
        done, now = total - self._began[group], time.monotonic()
        seen = self._seen[group]
        seen.append((now, done))
        while now - seen[0][0] > RATE_OVER:
            seen.popleft()
        since, before = seen[0]
        if done > before:  # whatever failed, it goes on
            self._failures.pop(group, None)
        rate = (done - before) / (now - since) if now > since else 0.0
        return Progress(group, done, lag, rate, group in self._assigned, self._failures.get(group, ""))

    def _failed(self, event: Failed) -> None:
        self._failures[event.group] = f"{event.kind}: {event.error}"

    def _ended(self, event: ListenerDied) -> None:
        self._died = f"the group {event.group} died: {event.error}"


def table(groups: Iterable[Progress]) -> Table:
    """For a terminal, drawn again and again."""
    shown = Table("group", "state")
    for heading in ("done", "lag", "per second"):
        shown.add_column(heading, justify="right")
    for one in groups:
        colour = "red" if one.failure else "yellow" if one.lag else "green"
        shown.add_row(one.group, f"[{colour}]{escape(one.state)}", str(one.done), str(one.lag), f"{one.rate:.0f}")
    return shown


def line(groups: Iterable[Progress]) -> str:
    """For a log: what is not caught up yet."""
    behind = [f"{one.group} {one.state}: {one.done} done, {one.lag} to go" for one in groups if one.lag or one.failure]
    return "; ".join(behind) or "all caught up"
