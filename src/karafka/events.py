"""What may happen, as frozen values named in the past, and the bus that tells listeners.

Logs, metrics and tests listen; nothing in the package waits for them. An event is told on the thread where it
happened: a listener must be quick, and safe to call from several threads. One that raises is logged and counted,
and breaks nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

E = TypeVar("E", bound="Event")
Listener = Callable[[Any], object]

_log = logging.getLogger("karafka.events")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all; listening to it hears everything."""


class ErrorOccurred(Event, frozen=True, kw_only=True):
    """Something went wrong that a person may want to know; each kind below says what is done about it."""

    error: str


# ── the process ──────────────────────────────────────────────────────────────────────────────────────────────


class ServerStarted(Event, frozen=True, kw_only=True):
    """The listeners run. `groups` maps each consumer group to its topics (patterns as written)."""

    client_id: str
    groups: Mapping[str, tuple[str, ...]]


class ServerQuiet(Event, frozen=True, kw_only=True):
    """Nothing new is taken, what ran has ended and is committed; the partitions are kept until the stop."""

    reason: str


class ServerStopping(Event, frozen=True, kw_only=True):
    """Nothing new is taken from here on; what runs may finish within `timeout` seconds."""

    reason: str
    timeout: float


class ServerStopped(Event, frozen=True, kw_only=True):
    """`status` is the exit status: 0 clean, 2 when work outlasted the time-out, 3 when something died."""

    status: int
    unfinished: tuple[str, ...]


class StacksShown(Event, frozen=True, kw_only=True):
    """The stacks of all threads and tasks, as asked for (TTIN)."""

    stacks: str


class Late(Event, frozen=True, kw_only=True):
    """`what` (the listener of a group, the event loop, the process) did not get on for `by` seconds so far.

    `stacks` show what it does, or who holds it up; for the whole process those of all threads, right after it went on.
    `at_work` is whose code the event loop is at, and for which message (`VideosController at videos/0/42`), where that
    is known.
    """

    what: str
    by: float
    stacks: str
    at_work: str = ""


class CaughtUp(Event, frozen=True, kw_only=True):
    """`what` was late, and goes on after `after` seconds in all; `at_work` as it was told."""

    what: str
    after: float
    at_work: str = ""


class AppHookFailed(ErrorOccurred, frozen=True, kw_only=True):
    """A hook of the app, `on_start` or `on_stop`, raised, or was not waited for any longer; `verdict`: what follows."""

    hook: str
    verdict: str
    traceback: str


class ListenerDied(ErrorOccurred, frozen=True, kw_only=True):
    """A listener's thread ended by an exception of the engine: the server stops in order, status 3."""

    group: str
    traceback: str


# ── several processes: told by their supervisor, but for the last ────────────────────────────────────────────


class ProcessStarted(Event, frozen=True, kw_only=True):
    """A process was started; what it says itself follows. `process` is its number, from 1."""

    process: int
    pid: int


class ProcessOutdated(Event, frozen=True, kw_only=True):
    """A process is being replaced, in order, for `reason`."""

    process: int
    pid: int
    reason: str


class ProcessEnded(Event, frozen=True, kw_only=True):
    """A process that was told to stop has ended; below zero `status` is the signal that ended it."""

    process: int
    pid: int
    status: int


class ProcessDied(ErrorOccurred, frozen=True, kw_only=True):
    """A process ended that was not told to, or could not be started; another takes its place after `after` seconds.

    None where none does.
    """

    process: int
    pid: int | None
    status: int | None
    after: float | None


class ProcessHung(ErrorOccurred, frozen=True, kw_only=True):
    """A process is killed, because it does not get on or does not stop; `stacks` show where it stands, if it said."""

    process: int
    pid: int
    stacks: str


class SwarmStarted(Event, frozen=True, kw_only=True):
    """So many processes run, for the first time."""

    client_id: str
    processes: int


class SwarmRestarted(Event, frozen=True, kw_only=True):
    """All processes were replaced, one after the other, in `waited` seconds."""

    waited: float


class RestartGivenUp(ErrorOccurred, frozen=True, kw_only=True):
    """A restart was given up, because a new process did not come to work: those not yet replaced go on as they are."""


class SwarmQuiet(Event, frozen=True, kw_only=True):
    """All processes are quiet."""

    reason: str


class SwarmStopping(Event, frozen=True, kw_only=True):
    """All processes are told to stop; what runs in them may finish within `timeout` seconds."""

    reason: str
    timeout: float


class SwarmStopped(Event, frozen=True, kw_only=True):
    """All processes have ended; `status` is the worst of theirs."""

    status: int


class StatusHidden(Event, frozen=True, kw_only=True):
    """`karafka status` cannot ask this supervisor; all else works."""

    reason: str


class SupervisorGone(ErrorOccurred, frozen=True, kw_only=True):
    """This process is one of several whose supervisor has ended without a word: it stops in order."""


# ── assignments ──────────────────────────────────────────────────────────────────────────────────────────────


class Assigned(Event, frozen=True, kw_only=True):
    """Partitions came: `starts` maps (topic, partition) to the offset to be read first."""

    group: str
    starts: Mapping[tuple[str, int], int]


class Revoked(Event, frozen=True, kw_only=True):
    """Partitions went, in order: `positions` maps (topic, partition) to the finished prefix; `waited` in seconds."""

    group: str
    positions: Mapping[tuple[str, int], int]
    waited: float


class Lost(ErrorOccurred, frozen=True, kw_only=True):
    """Partitions went without notice (session or poll limit passed): nothing of them is committed any more."""

    group: str
    places: tuple[tuple[str, int], ...]


class Overran(ErrorOccurred, frozen=True, kw_only=True):
    """Work outlasted the bounded wait of a revocation: its result will be ignored, the next owner runs it again."""

    group: str
    topic: str
    partition: int
    offset: int
    waited: float


class HookFailed(ErrorOccurred, frozen=True, kw_only=True):
    """`on_assigned`, `on_revoked` or `on_shutdown` raised; `verdict` says what follows."""

    group: str
    topic: str
    partition: int
    hook: str
    traceback: str
    verdict: str


class Suspected(ErrorOccurred, frozen=True, kw_only=True):
    """So many owners of a partition ended in a row without a word: its messages go one by one (`crashes=True`)."""

    group: str
    topic: str
    partition: int
    crashes: int


class MetadataIgnored(ErrorOccurred, frozen=True, kw_only=True):
    """What is kept beside a committed offset cannot be read: what was finished above it may be performed again."""

    group: str
    topic: str
    partition: int


class LaneUnnamed(ErrorOccurred, frozen=True, kw_only=True):
    """The route's `order` named no lane for a message: it goes with those that have no key."""

    group: str
    topic: str
    partition: int
    offset: int


class NotRouted(ErrorOccurred, frozen=True, kw_only=True):
    """A partition was assigned whose topic has no route here: it is held. Do all members run the same routes?"""

    group: str
    topic: str
    partition: int


class OutOfRange(ErrorOccurred, frozen=True, kw_only=True):
    """The committed offset `wanted` is not in the log, which holds `low` up to before `high`.

    The partition goes on at `resumed`, None where it stands still (`on_gap="stop"`). What lay between was deleted
    before this group read it.
    """

    group: str
    topic: str
    partition: int
    wanted: int
    low: int
    high: int
    resumed: int | None


class TopicMissing(Event, frozen=True, kw_only=True):
    """A routed topic does not exist yet; it is picked up when it appears. Told once."""

    group: str
    topic: str


class DeadLetterMissing(Event, frozen=True, kw_only=True):
    """The topic that dead letters go to does not exist yet. Told once."""

    group: str
    topic: str


class TopicRenewed(ErrorOccurred, frozen=True, kw_only=True):
    """A topic was deleted and made again: a new one of that name, which is read from its beginning."""

    group: str
    topic: str
    partitions: tuple[int, ...]


class TopicFound(Event, frozen=True, kw_only=True):
    """A topic that was missing, or that a pattern matches, has appeared and is subscribed to."""

    group: str
    topic: str


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────


class Sought(Event, frozen=True, kw_only=True):
    """User code sought: the partition, finished up to `left`, goes on at `offset`."""

    group: str
    topic: str
    partition: int
    left: int
    offset: int


class Received(Event, frozen=True, kw_only=True):
    """`count` messages of a partition came from the broker, the first at `offset`."""

    group: str
    topic: str
    partition: int
    offset: int
    count: int


class Performed(Event, frozen=True, kw_only=True):
    """`count` messages of a partition are finished: all below `position`. `elapsed` seconds on a worker."""

    group: str
    topic: str
    partition: int
    position: int
    count: int
    elapsed: float


class Stalled(Event, frozen=True, kw_only=True):
    """The oldest unfinished message of a partition is the one at `offset`, and was for `waited` seconds."""

    group: str
    topic: str
    partition: int
    offset: int
    waited: float


class Aborted(Event, frozen=True, kw_only=True):
    """A hook dropped a message on purpose: finished, `perform` not run."""

    group: str
    topic: str
    partition: int
    offset: int
    controller: str
    reason: str


class Unanswered(Event, frozen=True, kw_only=True):
    """`perform` ended without `respond_with`, though its responder has to send something: told, and finished."""

    group: str
    topic: str
    partition: int
    offset: int
    controller: str
    responder: str


class Discarded(Event, frozen=True, kw_only=True):
    """`perform`, or the route's strategy, gave a message up: finished, nothing more is done with it."""

    group: str
    topic: str
    partition: int
    offset: int
    controller: str
    reason: str


class Postponed(Event, frozen=True, kw_only=True):
    """`perform` asked for something else than finishing; `verdict` says what becomes of the message."""

    group: str
    topic: str
    partition: int
    offset: int
    attempt: int
    controller: str
    verdict: str
    reason: str


class StrategyFailed(ErrorOccurred, frozen=True, kw_only=True):
    """A dead letter's strategy raised, or answered what is no verdict: the message is tried again."""

    group: str
    topic: str
    partition: int
    offset: int


class Failed(ErrorOccurred, frozen=True, kw_only=True):
    """`perform`, a hook or a parser raised. `verdict` says what becomes of the message."""

    group: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    attempt: int
    controller: str
    kind: str
    traceback: str
    verdict: str


class Retried(Event, frozen=True, kw_only=True):
    """A message that failed is given out again, for the `attempt`-th time."""

    group: str
    topic: str
    partition: int
    offset: int
    attempt: int


class Buried(Event, frozen=True, kw_only=True):
    """A message went to the dead letter topic, confirmed by the broker; its partition goes on."""

    group: str
    topic: str
    partition: int
    offset: int
    grave: str


class BurialFailed(ErrorOccurred, frozen=True, kw_only=True):
    """The dead letter topic did not take a message: it stays where it is, tried again after `after` seconds."""

    group: str
    topic: str
    partition: int
    offset: int
    grave: str
    after: float


# ── offsets and flow ─────────────────────────────────────────────────────────────────────────────────────────


class Committed(Event, frozen=True, kw_only=True):
    """The broker confirmed: `offsets` maps (topic, partition) to the next offset to read."""

    group: str
    offsets: Mapping[tuple[str, int], int]


class CommitFailed(ErrorOccurred, frozen=True, kw_only=True):
    """A commit was refused or not answered. What is still ours goes with the next one."""

    group: str
    places: tuple[tuple[str, int], ...]


class Paused(Event, frozen=True, kw_only=True):
    """A partition holds enough: fetching stops for it alone."""

    group: str
    topic: str
    partition: int
    count: int
    size: int


class HeldUp(ErrorOccurred, frozen=True, kw_only=True):
    """The oldest message that is not finished holds up its partition: what is above it cannot go further ahead.

    `offset` is that message's, `ahead` how many offsets beyond it were received, `waited` the seconds since it is the
    oldest.
    """

    group: str
    topic: str
    partition: int
    offset: int
    ahead: int
    waited: float


class Resumed(Event, frozen=True, kw_only=True):
    """A paused partition is fetched again."""

    group: str
    topic: str
    partition: int


# ── the client ───────────────────────────────────────────────────────────────────────────────────────────────


class ClientTroubled(ErrorOccurred, frozen=True, kw_only=True):
    """The client reported trouble that may pass, such as a broker out of reach: told once, until it is over.

    `code` is Kafka's name for what was heard first.
    """

    group: str
    code: str


class ClusterRefused(ErrorOccurred, frozen=True, kw_only=True):
    """Settings that cannot work with this cluster, before anything has worked: the process ends with status 1."""

    group: str
    code: str


class ClientReplaced(ErrorOccurred, frozen=True, kw_only=True):
    """The client had lost the cluster for good, while another found it: what it held is lost, and read anew."""

    group: str


class Unowned(ErrorOccurred, frozen=True, kw_only=True):
    """Partitions that nobody in the group has: the member leaves and joins again, so that all are shared out anew.

    A cooperative member with a name of its own (`group.instance.id`) died while it was handing them over.
    """

    group: str
    places: tuple[tuple[str, int], ...]


class ClientRecovered(Event, frozen=True, kw_only=True):
    """After trouble the cluster answers again."""

    group: str
    waited: float


# ── sending: told by a producer; `label` is what the sender gave the message, sizes are bytes ────────────────────


class Produced(Event, frozen=True, kw_only=True):
    """A message was accepted: it is on its way."""

    topic: str
    key: str | bytes | None
    size: int
    label: Any


class Acknowledged(Event, frozen=True, kw_only=True):
    """The broker has confirmed a message, `latency` seconds after it was accepted."""

    topic: str
    partition: int
    offset: int
    key: str | bytes | None
    size: int
    latency: float
    label: Any


class DeliveryFailed(ErrorOccurred, frozen=True, kw_only=True):
    """A message was accepted and not delivered: nobody will read it. `kind` names the `DeliveryError`."""

    topic: str
    key: str | bytes | None
    label: Any
    kind: str
    code: str
    retriable: bool


class QueueFull(Event, frozen=True, kw_only=True):
    """The client's queue is full: a sender waits for room, or is refused at once on an event loop."""

    topic: str
    waiting: int


class BufferFlushed(Event, frozen=True, kw_only=True):
    """What was buffered is on its way: `count` messages of `size` bytes; `left` could not be accepted and stay."""

    count: int
    size: int
    left: int


class TransactionBegun(Event, frozen=True, kw_only=True):
    """A transaction of `transactional_id` has begun."""

    transactional_id: str


class TransactionCommitted(Event, frozen=True, kw_only=True):
    """A transaction with `count` messages is committed, `elapsed` seconds after it began."""

    transactional_id: str
    count: int
    elapsed: float


class TransactionAborted(ErrorOccurred, frozen=True, kw_only=True):
    """A transaction was aborted: nobody who reads what is committed sees any of its `count` messages."""

    transactional_id: str
    count: int
    elapsed: float


class ProducerTroubled(ErrorOccurred, frozen=True, kw_only=True):
    """The client of a producer reported an error, `code` by Kafka's name; what was accepted is still on its way."""

    code: str


class ProducerReplaced(ErrorOccurred, frozen=True, kw_only=True):
    """The client of a producer is of no more use: what was on its way has failed, the next message gets another."""


class Events:
    """The bus. Any thread may tell and listen; listeners run on the teller's thread."""

    def __init__(self) -> None:
        self._listeners: list[tuple[type[Event], Listener]] = []
        self._by_kind: dict[type[Event], tuple[Listener, ...]] = {}
        #: How many listeners there are: what is known of who wants what holds for as long as this stands.
        self.count = 0
        self.failures = 0

    def on(self, kind: type[E], listener: Callable[[E], object]) -> None:
        """Call `listener` with each event of `kind`, or of a kind below it."""
        self._listeners.append((kind, listener))
        self._by_kind = {}
        self.count += 1

    def wants(self, kind: type[Event]) -> bool:
        """Whether anyone listens to `kind`: on hot paths an event is only made when someone does."""
        return bool(self._heard_by(kind))

    def tell(self, event: Event) -> None:
        for listener in self._heard_by(type(event)):
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - a listener breaks nothing but itself
                self.failures += 1
                _log.exception("the listener %r raised on %r; it goes on being told", listener, event)

    def _heard_by(self, kind: type[Event]) -> tuple[Listener, ...]:
        try:
            return self._by_kind[kind]
        except KeyError:
            heard = tuple(listener for wanted, listener in self._listeners if issubclass(kind, wanted))
            self._by_kind[kind] = heard
            return heard
