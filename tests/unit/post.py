"""A client in memory: what a producer sends waits here until it is served, and ends as the test says.

`Post` is a `client.Sender`. `without_threads` nothing happens by itself: whoever waits serves, or the test does, and
time passes only where somebody waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import Any

import pytest

from karafka import delivery, outbox, poller, producer
from karafka.client import Effect, Posted, Quick, Refused, Trouble
from karafka.clock import ManualClock
from karafka.delivery import Failure, Fault
from karafka.letters import Letter
from karafka.messages import Header

REFUSED = Failure(Fault.OTHER, "POLICY_VIOLATION", "the broker refused it (POLICY_VIOLATION)", retriable=False)
LATE = Failure(Fault.TIMED_OUT, "_MSG_TIMED_OUT", "Local: Message timed out (_MSG_TIMED_OUT)", retriable=True)
TOO_LARGE = Failure(Fault.TOO_LARGE, "MSG_SIZE_TOO_LARGE", "Broker: Message size too large", retriable=False)
BROKEN = Failure(Fault.CLIENT_FAILED, "_FATAL", "out of order (_FATAL)", retriable=True)
FATAL = Trouble("_FATAL", "out of order", Effect.END)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The client's word of where a message is."""

    number: int
    at: int | None
    took: float = 0.25

    def partition(self) -> int | None:
        return self.number

    def offset(self) -> int | None:
        return self.at

    def latency(self) -> float | None:
        return self.took


class Post:
    """`client.Sender`. What was accepted is delivered when it is served, or fails as `refusing` says of its topic.

    `meanwhile` is called where a `serve` would wait, with how long; by default it waits, for whatever comes.
    """

    def __init__(self, meanwhile: Callable[[float], object] | None = None) -> None:
        self.sent: list[Letter] = []
        self.room = 1_000_000
        #: Whether the broker answers; topics of which it does not.
        self.open = True
        self.silent: set[str] = set()
        #: Topics whose messages linger: they end once they are hastened, while the broker answers.
        self.lingering: set[str] = set()
        #: Topics whose messages fail.
        self.refusing: dict[str, Failure] = {}
        #: What `send` raises.
        self.error: Exception | None = None
        self.purged: Failure | None = None
        self.troubles: list[Trouble] = []
        self.closed = False
        self.quick: Quick = self._send_quick
        self.meanwhile = meanwhile or self._wait
        #: How each end is told.
        self.tell: Callable[[Posted, Failure | None, Receipt], object] = lambda posted, *end: posted(*end)
        self._changed = Condition()
        # What has not ended, by number; all below `_lost` was given up.
        self._queue: dict[int, tuple[Letter, Posted]] = {}
        self._lost = self._hastened = 0
        self._ends: Counter[tuple[str, int]] = Counter()

    def send(self, letter: Letter, posted: Posted) -> None:
        with self._changed:
            if self.error is not None:
                raise self.error
            if len(self._queue) >= self.room:
                raise BufferError
            self._queue[len(self.sent)] = letter, posted
            self.sent.append(letter)
            self._changed.notify_all()

    def _send_quick(
        self,
        topic: str,
        value: bytes | str | None,
        key: bytes | str | None,
        partition: int,
        posted: Posted,
        _older: None,
        timestamp: int,
        headers: list[Header] | None,
    ) -> None:
        self.send(Letter(topic, value, key, headers, partition, timestamp), posted)

    def judge(self, error: Any) -> Failure | None:
        return error if isinstance(error, Failure) else None

    def serve(self, timeout: float) -> None:
        if not self._due():
            self.meanwhile(timeout)
        for number in self._due():
            letter, posted = self._queue[number]
            try:
                self.tell(posted, *self._end(number, letter))
            finally:
                with self._changed:
                    del self._queue[number]

    def hasten(self, timeout: float) -> None:
        if self.open:
            self._hastened = len(self.sent)
        self.serve(timeout)

    def waiting(self) -> int:
        return len(self._queue)

    def purge(self, failure: Failure) -> None:
        """As the client does: what is accepted later is not part of it."""
        with self._changed:
            self.purged, self._lost = failure, len(self.sent)
            self._changed.notify_all()

    def news(self) -> list[Trouble]:
        said, self.troubles = self.troubles, []
        return said

    def statistics(self) -> str:
        return '{"from": "the client"}'

    def close(self) -> None:
        self.closed = True

    leave_behind = close

    # ── the test's side ──────────────────────────────────────────────────────────────────────────────────────

    def answer(self, *topics: str) -> None:
        """From now on the broker answers; of `topics` too."""
        with self._changed:
            self.open = True
            self.silent.difference_update(topics)
            self._changed.notify_all()

    def die(self, *, silently: bool = False) -> None:
        """The client is of no more use: it takes nothing, and says so unless `silently`."""
        self.error = Refused(BROKEN)
        if not silently:
            self.troubles += [FATAL, FATAL]

    def until(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait until `condition` holds of what was sent."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"not so within {timeout} s"

    def _due(self) -> list[int]:
        with self._changed:
            return [number for number in self._queue if self._ends_now(number)]

    def _ends_now(self, number: int) -> bool:
        topic = self._queue[number][0].topic
        waits = topic in self.silent or (topic in self.lingering and number >= self._hastened)
        return number < self._lost or (self.open and not waits)

    def _wait(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: any(map(self._ends_now, self._queue)), timeout)

    def _end(self, number: int, letter: Letter) -> tuple[Failure | None, Receipt]:
        place = letter.topic, max(0, letter.partition)
        failure = self.purged if number < self._lost else self.refusing.get(letter.topic)
        if failure is not None:
            return failure, Receipt(place[1], None)
        self._ends[place] += 1
        return None, Receipt(place[1], self._ends[place] - 1)


class Passing:
    """The module `time` as the producer sees it: a clock that moves where somebody waits."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        #: What happens while somebody waits.
        self.meanwhile: Callable[[], object] = bool

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.meanwhile()

    sleep = wait


def without_threads(monkeypatch: pytest.MonkeyPatch) -> Passing:
    """From here on producers have no polling thread, and time passes as the test has it."""
    passing = Passing()
    for module in (delivery, outbox, poller, producer):
        monkeypatch.setattr(module, "time", passing)
    monkeypatch.setattr(poller.Poller, "start", lambda _poller: None)
    return passing


def poller_of(one: producer.Producer) -> poller.Poller:
    """Who serves the client that takes messages now."""
    line = one._line
    assert line is not None, "nothing was sent"
    return line[0]


def turn(one: producer.Producer) -> None:
    """What the polling thread does, once: reports, then callbacks."""
    serving = poller_of(one)
    serving.glance()
    serving._somebody_waits()
    serving._run_calls()
