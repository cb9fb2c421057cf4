"""A `Listener` without threads, without Kafka, on a clock that tests move: `House`.

`Broker` is one consumer's view of Kafka (`client.Consumer`), kept in memory; `Hands` is a pool whose workers do what
the test says and obey `Lane`'s protocol as `pool.ThreadPool` does. One turn is one `step`, then whatever may be
performed is, then the clock moves on by `TURN`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from time import monotonic, perf_counter, sleep
from typing import Any, TypeVar, cast

import pytest

from karafka import membership as belonging
from karafka import watch as watching
from karafka.assignment import Assignment, Wish
from karafka.client import Answer, Consumer, Effect, Identities, Kept, News, Rebalance, Topics, Trouble
from karafka.clock import ManualClock
from karafka.errors import BrokerError
from karafka.events import Event, Events
from karafka.jobs import Job, Lane, Outcome, Seat, ended, perform
from karafka.listener import Bounds, Listener
from karafka.messages import NO_HOOKS, Handler, Header, PartitionHooks, Place, Record, Run
from karafka.moments import Moments
from karafka.partition import State
from karafka.policy import MIB, Policy
from karafka.quarantine import Token
from karafka.relay import Relay
from karafka.setbacks import Work
from karafka.troubles import Troubles
from karafka.watch import Ids, Names

E = TypeVar("E", bound=Event)

# Seconds that each turn moves the clock on.
TURN = 0.02


class Letter:
    """A `Record` in memory."""

    __slots__ = ("_headers", "_key", "_offset", "_partition", "_timestamp", "_topic", "_value")

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        value: bytes | None = b"{}",
        key: bytes | None = None,
        headers: list[Header] | None = None,
        timestamp: tuple[int, int] = (1, 0),
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._value = value
        self._key = key
        self._headers = headers
        self._timestamp = timestamp

    def topic(self) -> str | None:
        return self._topic

    def partition(self) -> int | None:
        return self._partition

    def offset(self) -> int | None:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[Header] | None:
        return self._headers

    def set_headers(self, value: list[Header], /) -> None:
        self._headers = value

    def timestamp(self) -> tuple[int, int]:
        return self._timestamp

    def __len__(self) -> int:
        return len(self._value or b"")

    def __repr__(self) -> str:
        return f"{self._topic}/{self._partition}/{self._offset}"


def letters(
    count: int, first: int = 0, topic: str = "orders", partition: int = 0, value: bytes = b"{}"
) -> list[Record]:
    """`count` messages of a partition, offsets from `first`."""
    return [Letter(topic, partition, offset, value) for offset in range(first, first + count)]


def ours(place: Place = Place("orders", 0), offset: int = 0, put: Callable[[Wish], None] | None = None) -> Assignment:  # noqa: B008
    """An assignment of `place`, whose wishes go to `put`."""
    return Assignment("group", place.topic, place.partition, offset, put or (lambda _wish: None))


def _offset(record: Record) -> int:
    return record.offset() or 0


def offsets(records: Iterable[Record]) -> list[int]:
    return [_offset(record) for record in records]


def until(done: Callable[[], bool]) -> bool:
    """Whether it is so within five real seconds: where a test has threads."""
    by = monotonic() + 5
    while not done() and monotonic() < by:
        sleep(0.001)
    return done()


class HandClock(ManualClock):
    """A `ManualClock`; where the engine waits in a loop of its own, each look at it is a step of what happens there."""

    def __init__(self) -> None:
        super().__init__()
        #: Done one by one, at each look while `waiting`, from when on `begun` says so.
        self.meanwhile: deque[Callable[[], object]] = deque()
        self.begun: Callable[[], bool] = bool
        #: How far a look moves it once nothing is left to do; None outside of such a loop.
        self.waiting: float | None = None

    def monotonic(self) -> float:
        if self.waiting is not None:
            if not self.meanwhile:
                self.advance(self.waiting)
            elif self.begun():
                self.meanwhile.popleft()()
        return super().monotonic()


class Broker:
    """One consumer and what it sees of Kafka. Rebalances that a test asks for are served inside the next `fetch`."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.logs: dict[Place, list[Letter]] = {}
        #: The first offset that is kept, where the log does not begin at 0.
        self.low: dict[Place, int] = {}
        #: Offsets behind the last message that markers of transactions take.
        self.markers: dict[Place, int] = {}
        self.stored: dict[Place, int] = {}
        #: The text beside each commit, as sent last.
        self.metadata: dict[Place, str] = {}
        self.paused: set[Place] = set()
        self.positions: dict[Place, int] = {}
        self.delivered: dict[Place, int] = {}
        self.subscribed: list[tuple[str, ...]] = []
        self.commits: list[dict[Place, int]] = []
        self.seeks: list[dict[Place, int]] = []
        self.fetches = 0
        self.closed = False
        #: Whether a commit is answered by itself; else by `answer`.
        self.answering = True
        self.cut_short = False
        #: Whether it gets no answers any more; whether it was given up.
        self.deaf = self.abandoned = False
        self.refused = False
        #: Whether it keeps its name from life to life; how often it joined again.
        self.named = False
        self.rejoined = 0
        #: Raised by the next questions and commits, one each.
        self.refusals: deque[BrokerError] = deque()
        self._said: list[News] = []
        self._rebalance: Rebalance | None = None
        self._before: deque[Callable[[Rebalance], object]] = deque()
        self._between: deque[Callable[[Rebalance], object]] = deque()

    # ── what tests do to it ──────────────────────────────────────────────────────────────────────────────────

    def append(self, place: Place, letter: Letter) -> None:
        self.logs.setdefault(place, []).append(letter)

    def end(self, place: Place) -> int:
        log = self.logs.get(place)
        last = (log[-1].offset() or 0) + 1 if log else self.low.get(place, 0)
        return max(last, self.markers.get(place, 0))

    def trim(self, place: Place, low: int) -> None:
        """Retention: what lies below `low` is deleted."""
        self.low[place] = low
        self.logs[place] = [one for one in self.logs.get(place, []) if (one.offset() or 0) >= low]

    def rebalance(self, what: Callable[[Rebalance], object], *, between: bool = False) -> None:
        """Serve `what` in the next fetch: before anything is taken, or `between` the first message and the others."""
        (self._between if between else self._before).append(what)

    def say(self, news: News) -> None:
        self._said.append(news)

    def answer(self, commit: Mapping[Place, int], code: str | None = None) -> None:
        """The broker's word on a commit that was sent."""
        if code is None:
            self.stored.update(commit)
        self.say(Answer(commit, dict.fromkeys(commit, code) if code else {}))

    # ── client.Consumer ──────────────────────────────────────────────────────────────────────────────────────

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        self.subscribed.append(tuple(topics))
        self._rebalance = rebalance

    def fetch(self, limit: int, timeout: float) -> list[tuple[Place, list[Record]]]:
        self.fetches += 1
        self._serve(self._before)
        if self.cut_short:
            return []
        taken = self._collect(1)
        self._serve(self._between)
        taken += self._collect(limit - len(taken))
        by_place: dict[Place, list[Record]] = {}
        for place, record in taken:
            by_place.setdefault(place, []).append(record)
        return list(by_place.items())

    def news(self) -> list[News]:
        said, self._said = self._said, []
        return said

    def slipped(self) -> bool:
        slipped, self.cut_short = self.cut_short, False
        return slipped

    def committed(self, places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
        self._refuse()
        found = {place: self.stored.get(place) for place in places}
        return {place: None if at is None else Kept(at, self.metadata.get(place, "")) for place, at in found.items()}

    def bounds(self, places: Sequence[Place], timeout: float) -> dict[Place, tuple[int, int]]:
        self._refuse()
        return {place: (self.low.get(place, 0), self.end(place)) for place in places}

    def at(self, places: Sequence[Place], moment: float, timeout: float) -> dict[Place, int]:
        self._refuse()
        found = {}
        for place in places:
            later = (one for one in self.logs.get(place, []) if one.timestamp()[1] >= moment * 1_000)
            found[place] = next((_offset(one) for one in later), self.end(place))
        return found

    def partitions(self, topic: str, timeout: float) -> list[Place]:
        return sorted(place for place in self.logs if place.topic == topic)

    def seek(self, positions: Mapping[Place, int]) -> None:
        self.seeks.append(dict(positions))
        self.positions.update({place: offset for place, offset in positions.items() if place in self.positions})

    def position(self, places: Sequence[Place]) -> dict[Place, int]:
        found: dict[Place, int] = {}
        for place in places:
            if place in self.delivered:
                behind = self.positions.get(place, 0) >= self._last(place)
                found[place] = max(self.delivered[place], self.markers.get(place, 0) if behind else 0)
        return found

    def pause(self, places: Sequence[Place]) -> None:
        self.paused |= set(places)

    def resume(self, places: Sequence[Place]) -> None:
        self.paused -= set(places)

    def commit(self, offsets: Mapping[Place, Kept]) -> None:
        self._refuse()
        plain = {place: kept.offset for place, kept in offsets.items()}
        self.commits.append(plain)
        self.metadata.update({place: kept.metadata for place, kept in offsets.items()})
        if self.answering:
            self.answer(plain)

    def forgetful(self) -> bool:
        return self.named

    def rejoin(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        self.rejoined += 1
        self.subscribe(topics, rebalance)

    def member(self) -> object:
        return "member"

    def reaches(self, topic: str, timeout: float) -> bool:
        return not self.deaf

    def abandon(self) -> None:
        self.abandoned = True
        self.positions.clear()

    def close(self) -> None:
        if self.positions and self._rebalance is not None:
            self.revoke(self._rebalance, list(self.positions))
        self.closed = True

    # ── how it works ─────────────────────────────────────────────────────────────────────────────────────────

    def assign(self, rebalance: Rebalance, places: Sequence[Place]) -> None:
        starts = rebalance.assigned(places)
        for place in places:
            self.logs.setdefault(place, [])
            self.positions[place] = starts[place]
            self.delivered.pop(place, None)
            self.paused.discard(place)  # the port resumes what it assigns

    def revoke(self, rebalance: Rebalance, places: Sequence[Place], *, lost: bool = False) -> None:
        waiting, self._clock.waiting = self._clock.waiting, 0.5
        try:
            (rebalance.lost if lost else rebalance.revoked)(places)
        finally:
            self._clock.waiting = waiting
        for place in places:
            self.positions.pop(place, None)

    def _last(self, place: Place) -> int:
        log = self.logs.get(place)
        return (log[-1].offset() or 0) + 1 if log else 0

    def _serve(self, waiting: deque[Callable[[Rebalance], object]]) -> None:
        while waiting:
            assert self._rebalance is not None, "nothing is subscribed to"
            waiting.popleft()(self._rebalance)

    def _collect(self, limit: int) -> list[tuple[Place, Record]]:
        taken: list[tuple[Place, Record]] = []
        for place, position in self.positions.items():
            if place in self.paused:
                continue
            log = self.logs[place]
            begin = bisect_left(log, position, key=_offset)
            some = log[begin : begin + limit - len(taken)]
            if some:
                taken += [(place, letter) for letter in some]
                self.positions[place] = self.delivered[place] = _offset(some[-1]) + 1
        return taken

    def _refuse(self) -> None:
        if self.refusals:
            raise self.refusals.popleft()


class Hands:
    """A pool whose workers work when told. A lane that was served goes behind all that wait, as in `ThreadPool`."""

    def __init__(self, *, lends: bool = False) -> None:
        self.ready: deque[Lane] = deque()
        self.blocked: set[Place] = set()
        self.stopped = False
        #: Whether the listener may take a worker's seat, and how many it has.
        self.lends = lends
        self.lent = 0

    def borrow(self) -> Seat | None:
        if not self.lends:
            return None
        self.lent += 1
        return self

    def give_back(self) -> None:
        self.lent -= 1

    def line_up(self, lane: Lane) -> None:
        self.ready.append(lane)

    def submit(self, job: Job) -> None:
        lane = job.lane
        lane.jobs.append(job)
        if lane.claim():
            self.ready.append(lane)

    def stop(self) -> None:
        self.stopped = True

    def work(self, rounds: int = 10_000) -> None:
        """Perform what waits, but nothing of blocked partitions: up to `rounds` jobs."""
        for _ in range(rounds):
            lane = next((one for one in self.ready if not self._stuck(one)), None)
            if lane is None:
                return
            self.ready.remove(lane)
            if (job := lane.take()) is not None:
                lane.reply(perform(job))
            self.release(lane)

    def begin(self, place: Place) -> Hand:
        """A worker takes the next job of `place` and stands before its first message."""
        lane = next(one for one in self.ready if one.jobs and one.jobs[0].ticket.place == place)
        self.ready.remove(lane)
        job = lane.take()
        assert job is not None
        return Hand(self, job)

    def release(self, lane: Lane) -> None:
        lane.release()
        if lane.claim():
            self.ready.append(lane)

    def _stuck(self, lane: Lane) -> bool:
        return bool(self.blocked and lane.jobs) and lane.jobs[0].ticket.place in self.blocked


class Worker:
    """Takes a job and performs it a message at a time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.walk: Iterator[Record] = iter(job.run)
        self.hold: Record | None = None


class Hand:
    """One worker at one job, moved a message at a time."""

    def __init__(self, hands: Hands, job: Job) -> None:
        self._hands = hands
        self.job = job
        job.started = perf_counter()
        self._walk: Iterator[Record] = iter(job.run)
        self.hold: Record | None = None

    def step(self, messages: int = 1) -> list[int]:
        """Finish what is in hand and take up the next, `messages` times; the offsets taken up."""
        taken = []
        if self.job.lane.broken:
            return []
        for _ in range(messages):
            self.hold = next(self._walk, None)
            if self.hold is not None:
                taken.append(self.hold.offset() or 0)
        return taken

    def late(self, seconds: float) -> None:
        """As if it had begun `seconds` earlier."""
        assert self.job.started is not None
        self.job.started -= seconds

    def end(self, error: BaseException | None = None, elapsed: float = 0.001) -> None:
        """Come back: with all that is left performed, or with `error` raised by the message in hand."""
        if error is None and not self.job.lane.broken:
            for _ in self._walk:
                pass
        self.reply(error, elapsed)
        self.release()

    def reply(self, error: BaseException | None = None, elapsed: float = 0.001) -> None:
        outcome = ended(self.job, error, perf_counter() - elapsed)
        self.job.lane.reply(Outcome(outcome.job, outcome.error, elapsed))

    def release(self) -> None:
        self._hands.release(self.job.lane)


@dataclass
class Funeral:
    """A dead letter on its way."""

    topic: str
    record: Record
    headers: list[Header]
    done: Callable[[str | None], None]


class Undertaker:
    """A `Burier` that answers at once, or when the test does."""

    def __init__(self) -> None:
        self.funerals: list[Funeral] = []
        self.answering = True
        #: Why burials are refused, None where they are not.
        self.refusal: str | None = None

    def bury(self, topic: str, record: Record, headers: Iterable[Header], done: Callable[[str | None], None]) -> None:
        self.funerals.append(Funeral(topic, record, list(headers), done))
        if self.answering:
            done(self.refusal)


class StillWatch:
    """`watch.TopicWatch` without its thread: the test says what topics there are."""

    def __init__(self) -> None:
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def let_go(self, timeout: float) -> bool:
        return timeout >= 0


class StillRelay:
    """`relay.Relay` without its threads: the test says whether another thread has taken the turns over."""

    def __init__(self) -> None:
        self.away = self.relieved = False
        self.ready = True

    def stands_by(self) -> bool:
        return self.ready

    def put_down(self) -> None:
        self.away = True

    def take_up(self, _baton: None) -> bool:
        self.away = False
        return not self.relieved


class Inbox(SimpleQueue[Any]):
    """A listener's inbox without waiting: nothing here has a thread that would fill it meanwhile."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - as it is above
        return self.get_nowait()


class AtOnce:
    """A `Thread` that does its work where it is started."""

    def __init__(self, target: Callable[..., object], name: str, *, daemon: bool, args: tuple[Any, ...] = ()) -> None:
        self._target = target
        self._args = args

    def start(self) -> None:
        self._target(*self._args)

    def join(self, timeout: float | None = None) -> None: ...

    def is_alive(self) -> bool:
        return False


def _silent() -> Topics:
    """The watch is a still one; who asks beside it hears nothing."""
    raise BrokerError("timed out", retriable=True)


@dataclass
class House:
    """One `Listener` with all it needs. Made by the fixture `house`, or by `build` with options of a test's own."""

    monkeypatch: pytest.MonkeyPatch
    topics: tuple[str, ...] = ("orders",)
    pattern: str | None = None
    policy: Policy = field(default_factory=Policy)
    policies: dict[str, Policy] = field(default_factory=dict)
    #: Topics that are assigned, and have no route.
    unrouted: frozenset[str] = frozenset()
    handler: Handler | None = None
    hooks: PartitionHooks = NO_HOOKS
    commit_interval: float = 1.0
    drain_timeout: float = 10.0
    stall_after: float = 60.0
    memory: int = 64 * MIB

    def __post_init__(self) -> None:
        self.watches: list[StillWatch] = []
        self.monkeypatch.setattr(watching, "TopicWatch", self._watch)
        self.monkeypatch.setattr(belonging, "Thread", AtOnce)
        self.clock = HandClock()
        self.broker = Broker(self.clock)
        self.hands = Hands()
        self.undertaker = Undertaker()
        self.events = Events()
        self.told: list[Event] = []
        self.events.on(Event, self.told.append)
        self.endings: list[tuple[int, str]] = []
        #: What `perform` raises for a message, as long as it stands here.
        self.failing: dict[tuple[str, int, int], BaseException] = {}
        #: Each try, as (topic, partition, offset); and each that succeeded.
        self.tried: list[tuple[str, int, int]] = []
        self.performed: list[tuple[str, int, int]] = []
        #: The length of each run or batch, as it was handed over.
        self.runs: list[int] = []
        self.works: dict[str, Work] = {}
        wanted = re.compile(self.pattern) if self.pattern else None
        client: Consumer = self.broker
        self.listener = Listener(
            group="g",
            topics=self.topics,
            wanted=(lambda name: wanted.fullmatch(name) is not None) if wanted else None,
            graves=(),
            work=self._work,
            client=lambda: client,
            names=_silent,
            events=self.events,
            troubles=Troubles({"bootstrap.servers": "there:9092"}, self.events, self.clock, self._end),
            token=Token(),
            clock=self.clock,
            bounds=Bounds(
                commit_interval=self.commit_interval,
                drain_timeout=self.drain_timeout,
                stall_after=self.stall_after,
                memory=self.memory,
            ),
            ended=self._end,
        )
        self.listener._inbox = Inbox()
        self.relay = StillRelay()
        self.listener._moments = Moments(cast("Relay", self.relay))
        self.listener.open()

    def _end(self, status: int, reason: str) -> None:
        self.endings.append((status, reason))

    # ── Kafka's side ─────────────────────────────────────────────────────────────────────────────────────────

    def send(
        self,
        topic: str,
        partition: int = 0,
        values: Iterable[bytes | None] | None = None,
        *,
        partitions: Sequence[int] | None = None,
        count: int = 1,
        size: int = 2,
    ) -> None:
        """Append messages to a partition, or `count` to each of `partitions`, `size` bytes each."""
        for number in partitions if partitions is not None else (partition,):
            place = Place(topic, number)
            for value in values if values is not None else [b"x" * size] * count:
                self.broker.append(place, Letter(topic, number, self.broker.end(place), value, key=b"k"))

    def assign(self, topic: str, *partitions: int, now: bool = True) -> None:
        """Partitions come, within the next call to the client (which is made, unless `now` is False)."""
        places = [Place(topic, number) for number in partitions]
        self.broker.rebalance(lambda rebalance: self.broker.assign(rebalance, places))
        if now:
            self.turn()

    def revoke(
        self,
        topic: str,
        *partitions: int,
        meanwhile: Iterable[Callable[[], object]] = (),
        now: bool = True,
        between: bool = False,
    ) -> None:
        """Partitions go, in order; `meanwhile` is done step by step while the engine waits for what runs."""
        places = [Place(topic, number) for number in partitions]

        def serve(rebalance: Rebalance) -> None:
            self._meanwhile(meanwhile, places)
            self.broker.revoke(rebalance, places)
            assert not self.clock.meanwhile, "the engine did not wait long enough for all of it"

        self.broker.rebalance(serve, between=between)
        if now:
            self.turn()

    def lose(self, topic: str, *partitions: int) -> None:
        """Partitions went without notice."""
        places = [Place(topic, number) for number in partitions]
        self.broker.rebalance(lambda rebalance: self.broker.revoke(rebalance, places, lost=True))
        self.turn()

    def trouble(self, effect: Effect, place: Place | None = None, topic: str | None = None, code: str = "_X") -> None:
        self.broker.say(Trouble(code, code.lower(), effect, topic, place))

    def names(self, *topics: str) -> None:
        """What the watch found."""
        self.listener._inbox.put(Names(frozenset(topics)))
        self.turn()

    def identified(self, **ids: str | None) -> None:
        """What the watch found of the topics' ids; None for one that is not there."""
        self.listener._inbox.put(Ids(Identities("cluster", ids)))
        self.turn()

    # ── time and work ────────────────────────────────────────────────────────────────────────────────────────

    def turn(self, turns: int = 1, *, working: bool = True) -> None:
        """So many steps of the listener, each followed by the work that may be done and by a moment's passing."""
        for _ in range(turns):
            self.listener.step()
            if working:
                self.work()
            self.clock.advance(TURN)

    def wait(self, seconds: float, *, working: bool = True) -> None:
        """Time passes, and the listener notices: turns enough to settle what that sets off."""
        self.clock.advance(seconds)
        self.turn(3, working=working)

    def work(self) -> None:
        self.hands.work()

    def block(self, partition: int, topic: str = "orders") -> None:
        """Workers do not come to this partition any more."""
        self.hands.blocked.add(Place(topic, partition))

    def free(self, partition: int, topic: str = "orders") -> None:
        self.hands.blocked.discard(Place(topic, partition))

    def begin(self, partition: int = 0, topic: str = "orders") -> Hand:
        """One worker takes a job of this partition and is moved by hand; the partition must be blocked for others."""
        return self.hands.begin(Place(topic, partition))

    def fail(self, offset: int, error: BaseException, topic: str = "orders", partition: int = 0) -> None:
        """`perform` raises `error` for this message from now on."""
        self.failing[topic, partition, offset] = error

    def mend(self) -> None:
        self.failing.clear()

    def close(self, within: float = 60.0, meanwhile: Iterable[Callable[[], object]] = ()) -> None:
        """Stop: the listener closes; `meanwhile` is done step by step while it waits."""
        self.listener.stop(self.clock.monotonic() + within)
        self._meanwhile(meanwhile, list(self.listener._partitions))
        self.clock.waiting = 0.5
        try:
            self.listener.close()
        finally:
            self.clock.waiting = None

    def rest(self) -> None:
        """A step in which nothing happens but that time passes."""
        self.clock.advance(0.1)

    def refuse(self) -> None:
        """A step in which the first commit, once it was sent, is refused."""
        if len(self.broker.commits) == 1 and not self.broker.refused:
            self.broker.refused = True
            self.broker.answer(self.broker.commits[0], "REBALANCE_IN_PROGRESS")

    def _meanwhile(self, steps: Iterable[Callable[[], object]], places: Sequence[Place]) -> None:
        """Have `steps` done once all of `places` give out nothing more."""
        partitions = [self.listener._partitions[place] for place in places if place in self.listener._partitions]
        self.clock.begun = lambda: all(one.state >= State.LEAVING for one in partitions)
        self.clock.meanwhile.extend(steps)

    # ── what is seen ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def committed(self) -> dict[tuple[str, int], int]:
        return {(place.topic, place.partition): offset for place, offset in self.broker.stored.items()}

    @property
    def paused(self) -> set[tuple[str, int]]:
        return set(self.broker.paused)

    def heard(self, kind: type[E]) -> list[E]:
        return [event for event in self.told if isinstance(event, kind)]

    def offsets(self, partition: int = 0, topic: str = "orders") -> list[int]:
        """What was performed of a partition, in order."""
        return [offset for name, number, offset in self.performed if (name, number) == (topic, partition)]

    def _watch(self, topics: Callable[[], Topics], ask: Callable[[Topics], float], name: str) -> StillWatch:
        self.watches.append(StillWatch())
        return self.watches[-1]

    # ── the application ──────────────────────────────────────────────────────────────────────────────────────

    def _work(self, topic: str) -> Work | None:
        if topic in self.unrouted:
            return None
        if topic not in self.works:
            policy = self.policies.get(topic, self.policy)
            usual = self._perform_batch if policy.batch else self._perform
            self.works[topic] = Work(
                self.handler or usual, policy, self.hands, self.undertaker, "OrdersController", self.hooks
            )
        return self.works[topic]

    def _perform(self, run: Run) -> None:
        self.runs.append(len(run.records))
        for record in run:
            self._one(record)

    def _perform_batch(self, run: Run) -> None:
        self.runs.append(len(run.records))
        before = len(self.performed)
        try:
            for record in run.records:
                self._one(record)
        except BaseException:
            del self.performed[before:]
            raise
        run.finished = len(run.records)

    def _one(self, record: Record) -> None:
        where = (record.topic() or "", record.partition() or 0, record.offset() or 0)
        self.tried.append(where)
        if (error := self.failing.get(where)) is not None:
            raise error
        self.performed.append(where)
