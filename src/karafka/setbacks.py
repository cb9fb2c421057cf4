"""What becomes of a message that failed: judged, told, and done: tried again, buried, given up, or the end.

`judge` decides from the route's policy; this is the one place that acts on it. The listener's thread's alone, but for
the answers to burials, which come by its inbox.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

from karafka import events as told
from karafka.clock import Clock
from karafka.commits import Commits
from karafka.errors import words
from karafka.events import Events
from karafka.jobs import Pool
from karafka.messages import NO_HOOKS, Handler, Header, PartitionHooks, Place, Record
from karafka.partition import Partition, Setback, State
from karafka.policy import (
    Asked,
    Backoff,
    Bury,
    End,
    Hold,
    Inside,
    Policy,
    Retry,
    Skip,
    Split,
    Verdict,
    grave_headers,
    judge,
)
from karafka.producer import Producer
from karafka.stacks import traceback_of


class Burier(Protocol):
    """Sends dead letters. `done(error)` is called on any thread, once, when the broker has answered (None: kept)."""

    def bury(
        self, topic: str, record: Record, headers: Iterable[Header], done: Callable[[str | None], None]
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with a topic's messages: who handles them, by which policy, on which workers."""

    handler: Handler
    policy: Policy
    pool: Pool
    burier: Burier
    controller: str
    hooks: PartitionHooks = NO_HOOKS
    #: Where the route is exactly-once: a producer for the transactions of that partition.
    transacting: Callable[[Place], Producer] | None = None
    #: Of a job queue: whose a message is, and by which policy; None where it cannot be told.
    inside: Callable[[Record], Inside | None] | None = None


@dataclass(frozen=True, slots=True)
class Interred:
    """The answer to a burial, after so many `tries` of it: `error` is None when the broker confirmed it."""

    partition: Partition
    setback: Setback
    grave: str
    tries: int
    error: str | None


class Setbacks:
    """See the module. `work(topic)` answers what is done with a topic.

    `wake_at(partition, time)` has the listener look at it again then; `put` is its inbox; `ended(status, reason)`
    asks for the end of the process.
    """

    def __init__(
        self,
        group: str,
        events: Events,
        clock: Clock,
        commits: Commits,
        *,
        work: Callable[[str], Work | None],
        wake_at: Callable[[Partition, float], None],
        put: Callable[[Interred], None],
        ended: Callable[[int, str], None],
    ) -> None:
        self._group = group
        self._events = events
        self._clock = clock
        self._commits = commits
        self._work = work
        self._wake_at = wake_at
        self._put = put
        self._ended = ended
        #: Dead letters that are under way, by partition and offset.
        self.burying: dict[tuple[Partition, int], None] = {}
        # Those that were refused, and how often.
        self._unburied: dict[tuple[Partition, int], tuple[Setback, int]] = {}

    def judge(self, partition: Partition, setback: Setback) -> None:
        """Decide, tell and act."""
        verdict = self._verdict(partition, setback)
        if setback.over and not isinstance(verdict, End):
            self._tell_setback(partition, setback, "finished all the same: it was marked")
            return
        grave = partition.policy.dead_letter
        said = in_words(verdict, grave.topic if grave is not None else None)
        leaving = partition.state >= State.LEAVING and not isinstance(verdict, End)
        self._tell_setback(partition, setback, "left to the next owner" if leaving else said)
        if leaving:
            return
        now, offset = self._clock.monotonic(), setback.record.offset()
        match verdict:
            case Retry(after):
                self._back_off(partition, now + after, offset)
            case Split(after):
                partition.split(offset)
                self._back_off(partition, now + after, offset)
            case Bury():
                self.bury(partition, setback)
            case Skip():
                partition.skip(offset)
                self._commits.want(partition, 1)
                self._tell_discarded(partition, setback)
            case Hold():
                partition.hold(offset)
            case End(status):
                partition.hold()
                where = "/".join(map(str, partition.place))
                kind = type(setback.error).__name__
                self._ended(status, f"{kind} was raised at {where}/{offset}")
            case _:
                assert_never(verdict)

    def _verdict(self, partition: Partition, setback: Setback) -> Verdict:
        inside = self._inside(partition, setback.record)
        policy = inside.policy if inside is not None else partition.policy
        error, attempt = setback.error, setback.attempt
        chance = random.random()  # noqa: S311 - jitter
        try:
            verdict: Any = judge(policy, error, attempt, alone=setback.alone, chance=chance)
        except Exception as raised:  # noqa: BLE001 - the user's strategy may raise anything
            said = f"{type(raised).__name__}: {words(raised)}"
        else:
            if isinstance(verdict, Retry | Split | Bury | Skip | Hold | End):
                return verdict
            said = f"it answered {verdict!r}, but Skip(), Retry(seconds), Bury() or None is expected"
        offset = setback.record.offset() or 0
        self._events.tell(told.StrategyFailed(**self._where(partition), offset=offset, error=said))
        return Retry((policy.retry or Backoff()).delay(attempt, chance))

    def bury(self, partition: Partition, setback: Setback, tries: int = 1) -> None:
        """Send a message to the dead letter topic; what is behind it waits."""
        work, grave = self._work(partition.place.topic), partition.policy.dead_letter
        assert work is not None  # noqa: S101 - only routed partitions are judged,
        assert grave is not None  # noqa: S101 - and only those with a dead letter buried
        offset = setback.record.offset() or 0
        partition.bury(offset)
        self.burying[partition, offset] = None
        headers = grave_headers(setback.record, self._group, setback.attempt, setback.error, self._clock.wall())

        def done(refused: str | None) -> None:
            self._put(Interred(partition, setback, grave.topic, tries, refused))

        work.burier.bury(grave.topic, setback.record, headers, done)

    def bury_again(self, partition: Partition, offset: int) -> None:
        """The time has come to send that dead letter again; `perform` has had its tries."""
        setback, tries = self._unburied.pop((partition, offset))
        self.bury(partition, setback, tries + 1)

    def settle(self, burial: Interred) -> None:
        """The answer to a burial: its partition goes on, or the dead letter is sent again later."""
        partition, offset = burial.partition, burial.setback.record.offset() or 0
        self.burying.pop((partition, offset), None)
        if partition.state is State.REVOKED:
            return  # buried, but not ours any more: the next owner buries it again
        where = self._where(partition)
        if burial.error is None:
            partition.buried(offset)
            self._commits.want(partition, 1)
            self._events.tell(told.Buried(**where, offset=offset, grave=burial.grave))
            return
        after = (partition.policy.retry or Backoff()).delay(burial.tries, random.random())  # noqa: S311 - jitter
        until = self._clock.monotonic() + after
        partition.unburied(until, offset)
        self._unburied[partition, offset] = burial.setback, burial.tries
        self._wake_at(partition, until)
        event = told.BurialFailed(**where, offset=offset, grave=burial.grave, after=after, error=burial.error)
        self._events.tell(event)

    def forget(self, partition: Partition) -> None:
        """Not ours any more."""
        for left in (self.burying, self._unburied):
            for key in [key for key in left if key[0] is partition]:
                del left[key]

    def _back_off(self, partition: Partition, until: float, offset: int | None) -> None:
        partition.back_off(until, offset)
        self._wake_at(partition, until)

    def _tell_discarded(self, partition: Partition, setback: Setback) -> None:
        work = self._work(partition.place.topic)
        offset, reason = setback.record.offset() or 0, f"the strategy gave it up after try {setback.attempt}"
        controller = work.controller if work is not None else ""
        self._events.tell(told.Discarded(**self._where(partition), offset=offset, controller=controller, reason=reason))

    def _tell_setback(self, partition: Partition, setback: Setback, verdict: str) -> None:
        record, error, attempt = setback.record, setback.error, setback.attempt
        work, inside = self._work(partition.place.topic), self._inside(partition, record)
        controller = inside.controller if inside is not None else work.controller if work is not None else ""
        where = {**self._where(partition), "offset": record.offset() or 0, "attempt": attempt}
        tell_try(self._events, error, key=record.key(), controller=controller, verdict=verdict, **where)

    def _inside(self, partition: Partition, record: Record) -> Inside | None:
        work = self._work(partition.place.topic)
        return work.inside(record) if work is not None and work.inside is not None else None

    def _where(self, partition: Partition) -> dict[str, Any]:
        return {"group": self._group, "topic": partition.place.topic, "partition": partition.place.partition}


def tell_try(events: Events, error: BaseException, *, key: bytes | None, **what: Any) -> None:
    """Tell of a try that failed, or asked for something else than to be finished; `what`: the events' other fields."""
    if isinstance(error, Asked):
        events.tell(told.Postponed(**what, reason=error.reason))
        return
    kind, said = type(error).__name__, words(error)
    events.tell(told.Failed(**what, key=key, kind=kind, error=said, traceback=traceback_of(error)))


def in_words(verdict: Verdict, grave: str | None) -> str:
    """A verdict as events tell it; `grave` is where what is buried goes."""
    match verdict:
        case Retry(after):
            return f"tried again in {after:.1f} s"
        case Split(after):
            return f"tried again in halves in {after:.1f} s"
        case Bury():
            return f"goes to {grave}" if grave is not None else "goes nowhere"
        case Skip():
            return "given up"
        case Hold():
            return "held: the route has retry=None and no dead letter topic"
        case End(status):
            return f"ends the process with status {status}"
        case _:
            assert_never(verdict)
