"""The turn: receive, settle, dispatch, reconcile, commit; and what a rebalance asks for.

One listener per subscription (a consumer group on a cluster), on one thread, which owns the consumer, its
`Partition`s and their offsets. Jobs go out to pools, outcomes come back by one queue. Deciding is elsewhere
(`judge`, `Partition`); this is the one place that acts.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter, sleep
from typing import Any, TypeAlias, TypeVar, assert_never

from karafka import events as told
from karafka.arrivals import Arrivals
from karafka.assignment import CommitWanted, Marked, PauseWanted, SeekWanted, Wish
from karafka.client import Answer, Consumer, Effect, Identities, Topics, Trouble
from karafka.clock import NEVER, Clock
from karafka.commits import NAMED, Commits
from karafka.errors import BrokerError
from karafka.events import Events
from karafka.exactly_once import ExactlyOnce
from karafka.flow import Flow
from karafka.hooks import Hooks
from karafka.jobs import Job, Outcome
from karafka.lifecycle import Lifecycle, Phase
from karafka.membership import Membership
from karafka.messages import Place, Record
from karafka.moments import Moments
from karafka.partition import RUN_TIME, Partition, State, measure
from karafka.quarantine import Quarantine, Token
from karafka.relay import Relay
from karafka.setbacks import Interred, Setbacks, Work
from karafka.stacks import stacks_of, traceback_of
from karafka.starts import TIMEOUT, Begin, beyond
from karafka.troubles import Troubles
from karafka.watch import Ids, Names, Reached, Seen, TopicsRead, Unowned

T = TypeVar("T")

# With work out, the broker is asked this often at least: how late a message of another partition may be.
PATIENCE = 0.005
# With none out, how long one wait for the broker lasts at most: how late a stop may be. An idle server wakes as seldom:
# 0.7 % of a core, against 0.9 at 0.1.
IDLE = 0.25
# How long outcomes are gathered for one turn, at most. A longer turn keeps the interpreter to itself for so long that
# workers pile up behind it: with 64 of them at 5 ms each, 0.90 of what is possible at 5 ms, 0.96 at 2.
NAP = 0.002
# How long to wait before a question that was not answered is asked again.
ASK_AGAIN = 0.2
# How the names of listeners' threads begin.
LISTENERS = "karafka-listener-"
# How long messages may come that the client had fetched before it lost the cluster.
STALE = 5.0
# How long the last commit of a stop is waited for.
LAST_COMMIT = 5.0


Inbound: TypeAlias = Outcome | Interred | Seen | Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Seconds and bytes that a listener keeps to; see `config.Config`."""

    commit_interval: float
    drain_timeout: float
    stall_after: float
    memory: int


class Listener:
    """See the module. `topics` are read by name, those `wanted` (by a pattern) as they appear; dead letters go to
    `graves`.

    `work(topic)` answers what is done with a topic, None if nothing is routed there. `ended(status, reason)` is
    called, on this thread, when the whole process should end.
    """

    def __init__(
        self,
        *,
        group: str,
        topics: Sequence[str],
        wanted: Callable[[str], bool] | None,
        graves: Sequence[str],
        work: Callable[[str], Work | None],
        client: Callable[[], Consumer],
        names: Callable[[], Topics],
        events: Events,
        troubles: Troubles,
        token: Token,
        clock: Clock,
        bounds: Bounds,
        ended: Callable[[int, str], None],
    ) -> None:
        self.group = group
        self._work = work
        self._events = events
        self._troubles = troubles
        self._token = token
        self._clock = clock
        self._bounds = bounds
        self._ended = ended
        self._lifecycle = Lifecycle()
        self._relay = Relay(f"{LISTENERS}{group}", self.run)
        self._moments = Moments(self._relay)
        self._inbox: SimpleQueue[Inbound] = SimpleQueue()
        self._names = names
        self._topics = TopicsRead(group, topics, wanted, graves, names, self._inbox.put, events)
        self._membership = Membership(
            group,
            events,
            clock,
            make=client,
            topics=self._topics,
            rebalance=self,
            troubles=troubles,
            patience=bounds.drain_timeout,
        )
        self._client: Consumer
        self._commits: Commits
        self._flow: Flow
        self._setbacks: Setbacks
        self._quarantine: Quarantine
        self._hooks: Hooks
        self._arrivals: Arrivals
        self._partitions: dict[Place, Partition] = {}
        # Those that transactions commit.
        self._exactly_once: dict[Partition, ExactlyOnce] = {}
        # Sets, as dicts that keep their order. Changed this turn: may give out jobs, or need pausing. Busy: has jobs
        # out.
        self._changed: dict[Partition, None] = {}
        self._busy: dict[Partition, None] = {}
        # Wanted at another offset, with nothing of theirs out any more.
        self._elsewhere: dict[Partition, None] = {}
        # When BACKING_OFF partitions and gathering batches are to be looked at again: (time, tie, partition).
        self._timers: list[tuple[float, int, Partition]] = []
        self._tie = count()
        self._tick = 0.0
        # What came and went within the call to the client under way.
        self._revoked_now: set[Place] = set()
        self._assigned_now: set[Place] = set()
        # What the watch saw, not looked at yet.
        self._seen: list[Seen] = []
        # Whether the group has given its answer in the call to the client under way.
        self._answered = False
        # Whether anything came back in the last turn.
        self._moved = False
        # Places whose position is said not to be in the log any more.
        self._misplaced: dict[Place, int] = {}
        # While something is wrong: from when on messages show that the cluster answers.
        self._proof_from = NEVER
        self._opened = self._closing = False
        # Until when the client is not asked again while work is out, because it had nothing.
        self._dry_until = 0.0
        self._hushed: Callable[[], None] | None = None
        #: When the last turn began (`monotonic`), infinity while it waits for the broker, which is told elsewhere.
        self.pulse = NEVER
        self._stop_by = NEVER
        self._abandoned = False
        #: After the end: what still ran when the time-out passed, in words.
        self.unfinished: tuple[str, ...] = ()

    # ── its thread ───────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Run on a thread of its own. Called once, by the server."""
        self._relay.start()

    def stop(self, by: float) -> None:
        """Take nothing new, finish what runs until `by` (the clock's), commit, leave. Any thread; does not wait."""
        self._stop_by = by
        self._lifecycle.advance(Phase.STOPPING)

    def abandon(self) -> None:
        """End within a turn: finish nothing, commit nothing, take leave of nobody. Any thread; does not wait."""
        self._abandoned = True
        self.stop(by=0.0)

    def quiet(self, hushed: Callable[[], None]) -> None:
        """Take nothing new, finish what runs, keep the partitions; then call `hushed` on this thread. Any thread."""
        self._hushed = hushed
        self._lifecycle.advance(Phase.QUIET)

    def stacks(self) -> str:
        """What it does now: the stack of the thread whose turn it is. Any thread."""
        return stacks_of({self._relay.ident})

    @property
    def begun(self) -> float:
        """When the job that runs longest was begun (`perf_counter`), infinity if none runs. Any thread: a glance."""
        jobs = [job for partition in list(self._busy) for job in list(partition.out)]
        if self._opened:
            jobs += self._hooks.out
        return min((started for job in jobs if (started := job.started) is not None), default=NEVER)

    @property
    def oldest(self) -> float:
        """Since when the message that is unfinished longest holds up its partition's offset (the clock's); infinity if
        none does. Any thread: as of a second ago.
        """
        return self._flow.oldest if self._opened else NEVER

    def join(self, timeout: float) -> bool:
        """Wait for the end; False when `timeout` seconds passed before. True if it never began."""
        return self._relay.join(timeout)

    def let_go(self, timeout: float) -> bool:
        """After the end: wait up to `timeout` seconds for what still is inside a client; whether nothing is."""
        by = monotonic() + timeout
        return self._topics.let_go(timeout) and self._membership.let_go(max(0.0, by - monotonic()))

    def run(self) -> bool:
        """From the start, or from where another thread has left it, to the end. False when this one is relieved."""
        try:
            if self._opened:
                self._moments.leave()
            else:
                self.open()
            while not self._lifecycle.stopping:
                if not self.step():
                    return False
            if not self._abandoned:
                self.close()
        except BaseException as error:  # noqa: BLE001 - a thread that dies unseen looks like a healthy server
            text = traceback_of(error)
            self._events.tell(
                told.ListenerDied(group=self.group, error=f"{type(error).__name__}: {error}", traceback=text)
            )
            self._ended(3, f"the listener of {self.group!r} died")
        self.pulse = NEVER
        self._topics.close()
        self._lifecycle.advance(Phase.STOPPED)
        return True

    def open(self) -> None:
        """Make the client and subscribe; topics that are wanted by a pattern follow when they are known."""
        put = self._inbox.put
        self._hooks = Hooks(self.group, self._events, work=self._work, put=put, ended=self._ended)
        self._arrivals = Arrivals(self.group, self._events, work=self._work, put=put, names=self._names)
        self._connect()
        self._opened = True

    def _connect(self) -> None:
        """A new client, and what keeps its accounts."""
        now = self._clock.monotonic()
        self._client = self._membership.join()
        self._commits = Commits(self._client, self._events, self.group, self._bounds.commit_interval, now)
        self._flow = Flow(self._client, self._events, self.group, self._bounds.memory, self._bounds.stall_after)
        self._setbacks = Setbacks(
            self.group,
            self._events,
            self._clock,
            self._commits,
            work=self._work,
            wake_at=self._wake_at,
            put=self._inbox.put,
            ended=self._ended,
        )
        self._quarantine = Quarantine(
            self.group, self._events, self._token, self._commits, self._setbacks, self._wake_at
        )

    def step(self) -> bool:
        """One turn. It waits for what can happen: for outcomes while work is out, for the broker when none is.

        False if another thread has taken the turns over meanwhile: this one touches nothing any more.
        """
        self.pulse = monotonic()
        self._revoked_now.clear()
        self._assigned_now.clear()
        # Not twice without an outcome between: what was expected in a moment may take an hour.
        enough = self._moved and self._flow.enough(self._busy or self._changed)
        # Each call gives the interpreter away: with work out one that brought nothing is not repeated at once.
        if not enough and not (self._busy and self._clock.monotonic() < self._dry_until):
            self._receive(self._patience(self._clock.monotonic()))
        out = bool(self._busy or self._setbacks.burying)
        if not self._changed and (spare := self._flow.spare(self._busy)) > 0:
            sleep(min(NAP, spare / 2))  # what comes back meanwhile costs one turn
        self._moved = self._settle(wait=0.0 if self._changed or not out else RUN_TIME if enough else PATIENCE)
        if self._seen:
            self._know()
        now = self._clock.monotonic()
        self._wake(now)
        self._dispatch(now, helps=True)
        if self._elsewhere:
            self._move()
        if now >= self._tick:
            self._look_round(now)
        self._commits.turn(now, self._busy, idle=not self._busy)
        if self._moments.kept:
            if not self._moments.perform():
                return False
            self._moved = self._settle(wait=0.0)
        return True

    def _look_round(self, now: float) -> None:
        """What need not be looked at in each turn."""
        self._tick = now + RUN_TIME
        self._slice()
        self._flow.turn()
        self._flow.stalls(now)
        self._troubles.turn(self.group)
        if self._exactly_once:
            self._introduce()
        if self._membership.turn(now):
            self._connect()
        if self._lifecycle.phase is Phase.QUIET:
            self._hush()

    def _introduce(self) -> None:
        """Transactions commit offsets as the member that the group knows now: only of what is not being taken away."""
        member = self._client.member()
        for partition, one in self._exactly_once.items():
            if partition.state < State.LEAVING:
                one.member = member

    def _hush(self) -> None:
        """Quiet: nothing is fetched, nothing given out; at the end of what runs the hooks are called, once."""
        mine = list(self._partitions.values())
        for partition in mine:
            self._flow.hush(partition)
            partition.recall()
        done = not self._awaited(mine, self._hooks.shutdown) and all(one.committable is None for one in mine)
        if done and self._hushed is not None:
            hushed, self._hushed = self._hushed, None
            hushed()

    # ── receiving ────────────────────────────────────────────────────────────────────────────────────────────

    def _patience(self, now: float) -> float:
        """How long the broker may be waited for: not at all while work is out, else until the next timer."""
        if self._busy or self._setbacks.burying or self._changed or not self._inbox.empty():
            return 0.0
        due = self._timers[0][0] - now if self._timers else IDLE
        return max(0.0, min(IDLE, due, self._commits.wait(now)))

    def _receive(self, timeout: float) -> None:
        batches = self._client.fetch(self._flow.limit(busy=bool(self._busy)), timeout)
        self._hear()
        if self._answered:
            # Not in the callback: what the client has to say of the time before it says when the call ends.
            self._answered = False
            self._troubles.works(self.group, member=True)
        if self._client.slipped():
            for owned in self._partitions.values():
                owned.positioned = False
            self._client.seek({place: one.received for place, one in self._partitions.items()})
            return
        now = self._clock.monotonic()
        self._dry_until = 0.0 if batches else now + PATIENCE
        if batches:
            self._membership.hears()
        for place, records in batches:
            partition = self._partitions.get(place)
            if partition is not None:
                self._take_in(partition, records, now)
        if self._proves(batches, now):
            self._troubles.works(self.group, {place.topic for place, _ in batches})
        while self._misplaced:
            # After what the same call brought: that was read before the log ended there.
            place, wanted = self._misplaced.popitem()
            if place in self._partitions:
                self._place_anew(place, wanted)

    def _take_in(self, partition: Partition, records: list[Record], now: float) -> None:
        place = partition.place
        reborn = place in self._revoked_now and place in self._assigned_now
        if self._closing or reborn:
            # Of one that was revoked and assigned again within this one call, whose these are cannot be told.
            partition.positioned = False
            if reborn:
                self._client.seek({place: partition.received})
            return
        size = measure(records)
        self._flow.received(partition, len(records), size)
        if received := partition.receive(records, size, now):
            self._changed[partition] = None
            if self._events.wants(told.Received):
                offset = records[0].offset() or 0
                self._events.tell(told.Received(**self._where(place), offset=offset, count=received))

    def _proves(self, batches: Sequence[object], now: float) -> bool:
        """Whether what came shows that the cluster answers: what the client had when it was lost was fetched before."""
        if not self._troubles.any:
            self._proof_from = NEVER
        elif not batches:
            self._proof_from = now
        elif self._proof_from == NEVER:
            self._proof_from = now + STALE
        else:
            return now >= self._proof_from
        return False

    def _hear(self) -> None:
        for one in self._client.news():
            match one:
                case Answer():
                    self._commits.answered(one)
                    self._noted(one)
                    if len(one.errors) < len(one.offsets):
                        self._membership.hears()
                        if self._troubles.any:
                            self._troubles.works(self.group, member=True)
                    for place, code in one.errors.items():
                        if code in NAMED:
                            self._trouble(Trouble(code, "a commit was refused", Effect.HOLD, place.topic, place))
                case Trouble():
                    self._trouble(one)
                case _:
                    assert_never(one)

    def _noted(self, answer: Answer) -> None:
        """Work may wait for what was kept beside an offset."""
        for place in answer.offsets:
            partition = self._partitions.get(place)
            if partition is not None and (partition.suspicion is not None or partition.exactly_once is not None):
                self._changed[partition] = None

    def _trouble(self, one: Trouble) -> None:
        match one.effect:
            case Effect.NEWS | Effect.HOLD:
                self._troubles.heard(self.group, one)
            case Effect.MISSING:
                if one.topic is not None:
                    self._topics.miss(one.topic)
            case Effect.OUT_OF_RANGE:
                if one.place is not None and one.place in self._partitions:
                    self._misplaced[one.place] = self._partitions[one.place].received
            case Effect.LOST:
                # What was assigned within the same call is the new assignment, not the one that was lost.
                self._lose([place for place in self._partitions if place not in self._assigned_now], one.text)
            case Effect.END:
                self._lose(list(self._partitions), one.text)
                if not self._membership.outlives(one):
                    self._ended(3, f"the client of {self.group!r} is of no more use: {one.text} ({one.code})")
            case _:
                assert_never(one.effect)

    def _place_anew(self, place: Place, wanted: int) -> None:
        """The client cannot read on at `wanted`: said with the numbers where messages were missed, never a silent jump.

        What is in hand was received, and is performed. Of a log that was deleted up to behind us, go on at the first
        message kept. Of one that ends before us (cut off, or made anew) nothing in hand is there any more: begin again.
        """
        partition = self._partitions[place]
        low, high = self._bounds_of([place])[place]
        partition.positioned = False
        if wanted < low:
            begin = beyond(partition.policy.on_gap, wanted, low, high, partition.memo)
            self._arrivals.missed(place, begin)
            if begin.stands:
                partition.stand()
                return
            partition.jump(begin.offset)
        elif wanted > high:
            self._anew(partition, beyond(partition.policy.on_gap, wanted, low, high, partition.memo))
        self._client.seek({place: self._partitions[place].received})

    def _anew(self, partition: Partition, begin: Begin) -> None:
        """What `partition` read is not there any more, while it is still ours: a new assignment of the same place."""
        place = partition.place
        self._drain([partition], self._clock.monotonic() + self._bounds.drain_timeout)
        self._forget(partition)
        self._begin(place, begin)
        self._client.resume([place])

    def _know(self) -> None:
        """What the watch saw: topics that came, and topics that are not those of before."""
        seen, self._seen = self._seen, []
        for one in seen:
            match one:
                case Names(topics):
                    self._topics.know(topics, self._client, self)
                case Ids(found):
                    self._identify(found)
                case Reached(topic):
                    if self._membership.deaf(topic):
                        self._lose(list(self._partitions), self._membership.replace())
                case Unowned(places, doubt):
                    self._membership.unowned(places, doubt)
                case _:
                    assert_never(one)

    def _identify(self, found: Identities) -> None:
        """The topics' ids as they are now. Of one that was deleted and made again all begins anew."""
        self._topics.identify(found)
        for topic in sorted(found.refused):
            refused = Trouble("TOPIC_AUTHORIZATION_FAILED", "the broker does not show it", Effect.HOLD, topic)
            self._troubles.heard(self.group, refused, grave=self._topics.is_grave(topic))
        if self._troubles.any:
            self._troubles.works(self.group, filter(self._topics.is_grave, found.topics))
        if renewed := self._arrivals.identify(found, self._partitions.values()):
            bounds = self._bounds_of(list(renewed))
            for place, memo in renewed.items():
                self._anew(self._partitions[place], Begin(bounds[place][0], None, memo))
            self._client.seek({place: self._partitions[place].received for place in renewed})

    # ── settling ─────────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, wait: float) -> bool:
        """Take in what came back; waits up to `wait` seconds for the first. Whether there was anything."""
        inbox = self._inbox
        if wait <= 0 and inbox.empty():
            return False  # nobody else takes from it
        try:
            one = inbox.get(timeout=max(0.0, wait))
        except Empty:
            return False
        back: dict[Partition, int] = {}
        while True:
            if isinstance(one, Outcome):
                self._settle_outcome(one, back)
            else:
                self._attend(one)
            if inbox.empty():
                break
            one = inbox.get_nowait()
        for partition, finished in back.items():
            self._mark(partition)
            if finished:
                self._commits.want(partition, finished)
        return True

    def _attend(self, one: Interred | Seen | Wish) -> None:
        match one:
            case Interred():
                self._setbacks.settle(one)
                self._changed[one.partition] = None
            case Names() | Ids() | Reached() | Unowned():
                # Not now: this may be inside a revocation, where nothing may be subscribed to.
                self._seen.append(one)
            case Marked() | CommitWanted() | PauseWanted() | SeekWanted():
                self._serve(one)
            case _:
                assert_never(one)

    def _settle_outcome(self, outcome: Outcome, back: dict[Partition, int]) -> None:
        """Into `back` goes how many messages of which partitions are finished by it."""
        job = outcome.job
        partition: Partition = job.ticket
        if job not in partition.out:
            self._returned(partition, outcome)  # revoked meanwhile, so the next owner runs it again; or a hook
            return
        setback = partition.settle(outcome)
        if partition.suspicion is not None:
            self._quarantine.settled(partition)
        if partition.exactly_once is not None:
            self._commits.done(partition)
        finished = job.run.finished
        back[partition] = back.get(partition, 0) + finished
        if finished and self._events.wants(told.Performed):
            position = partition.offsets.finished
            self._events.tell(
                told.Performed(
                    **self._where(partition.place), position=position, count=finished, elapsed=outcome.elapsed
                )
            )
        if setback is not None:
            self._setbacks.judge(partition, setback)

    def _serve(self, wish: Wish) -> None:
        """What user code asks of its partition. One that is not ours any more is not there to be asked."""
        ours = wish.assignment
        partition = self._partitions.get(Place(ours.topic, ours.partition))
        if partition is None or partition.assignment is not ours:
            partition = None
        match wish:
            case Marked():
                ours.heard()
                if partition is not None:
                    partition.marked()
                    self._commits.want(partition, 1)
            case CommitWanted(_, answer):
                if partition is None or ours.revoked:
                    answer.set_result(False)
                else:
                    self._commits.ask(partition, answer)
            case PauseWanted(_, seconds):
                if partition is not None:
                    partition.rest(self._clock.monotonic() + seconds)
                    self._changed[partition] = None
            case SeekWanted(_, to):
                if partition is not None:
                    partition.seek(to if isinstance(to, int) else self._at(partition.place, to.timestamp()))
                    self._changed[partition] = None
            case _:
                assert_never(wish)

    def _bounds_of(self, places: Sequence[Place]) -> Mapping[Place, tuple[int, int]]:
        return self._insistently(lambda: self._client.bounds(places, TIMEOUT))

    def _at(self, place: Place, moment: float) -> int:
        return self._insistently(lambda: self._client.at([place], moment, TIMEOUT))[place]

    def _returned(self, partition: Partition, outcome: Outcome) -> None:
        """A hook, or a job of an assignment that has ended, is back: whoever waits for it may begin."""
        free = self._hooks.returned(outcome)
        if partition.state is not State.REVOKED:
            if partition.welcome is not None:
                until = self._clock.monotonic() + partition.again_after
                partition.back_off(until)
                self._wake_at(partition, until)
            self._mark(partition)
        if free is not None and (waiting := self._partitions.get(free)) is not None:
            waiting.waits = False
            self._changed[waiting] = None

    def _mark(self, partition: Partition) -> None:
        """`partition` changed: it is looked at in this turn, and is busy as long as jobs of it are out."""
        self._changed[partition] = None
        if partition.out or partition.calling:
            self._busy[partition] = None
        else:
            self._busy.pop(partition, None)

    def _wake_at(self, partition: Partition, due: float) -> None:
        if due < partition.wake_at:
            partition.wake_at = due
            heapq.heappush(self._timers, (due, next(self._tie), partition))

    # ── giving out ───────────────────────────────────────────────────────────────────────────────────────────

    def _wake(self, now: float) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now:
            partition = heapq.heappop(timers)[2]
            partition.wake_at = NEVER
            if self._partitions.get(partition.place) is partition:
                self._changed[partition] = None

    def _dispatch(self, now: float, *, helps: bool = False) -> None:
        """Jobs of all partitions that changed go out; what must wait gets a timer; flow is put right.

        What is done in a moment this thread performs itself at the end of its turn, where it `helps`.
        """
        changed, self._changed = self._changed, {}
        for partition in changed if self._lifecycle.phase < Phase.QUIET else ():
            if partition.state is State.REVOKED:
                continue
            for offset in partition.mourning(now):
                self._setbacks.bury_again(partition, offset)
            if partition.greets(now):
                self._hooks.welcome(partition)
                self._busy[partition] = None
                continue
            if partition.elsewhere is not None:
                # Not now: this may be inside a revocation.
                self._elsewhere[partition] = None
                continue
            while self._quarantine.lets(partition, now) and (jobs := partition.hand_out(now)):
                if self._give_out(partition, jobs, helps=helps):
                    break
            if partition.waiting and now < (due := partition.due(now)) < NEVER:
                self._wake_at(partition, due)
            self._flow.check(partition)

    def _give_out(self, partition: Partition, jobs: Sequence[Job], *, helps: bool) -> bool:
        """Whether this thread keeps some of them: more of the same is looked at when they are done."""
        self._busy[partition] = None
        kept = False
        for job in jobs:
            if job.run.attempt > 1:
                self._tell_retried(partition, job.run.records[0], job.run.attempt)
            # What waits for confirmations waits beside the others, not before them.
            if helps and not partition.sends and self._moments.keeps(job, partition.pace):
                kept = True
            else:
                job.lane.pool.submit(job)
        return kept

    def _move(self) -> None:
        """Partitions with nothing out go on where a seek wants them, or at the first not marked."""
        for partition in self._elsewhere:
            if self._go_elsewhere(partition):
                self._client.seek({partition.place: partition.received})
                self._flow.check(partition)
        self._elsewhere.clear()

    def _go_elsewhere(self, partition: Partition) -> bool:
        """Whether `partition` is to be read on at another offset now."""
        to = partition.elsewhere
        if to is None or partition.state is State.REVOKED:
            return False
        assignment = None
        if partition.sought is not None:
            assignment = self._arrivals.assignment(partition.place, to)
            self._events.tell(told.Sought(**self._where(partition.place), left=partition.in_progress, offset=to))
        partition.go_on_at(to, assignment)
        self._commits.want(partition)
        self._changed[partition] = None
        return True

    def _slice(self) -> None:
        """Runs that take longer than their time end after the message in hand: others get their turn."""
        now = perf_counter()
        for partition in self._busy:
            stuck = []
            for job in partition.out:
                started, run = job.started, job.run
                if started is None or now - started <= RUN_TIME:
                    continue
                if len(run.records) == 1 and not partition.blocks(job):
                    continue
                if not run.halted:
                    run.halt()
                else:
                    stuck.append(job)
            for job in stuck:
                job.run.hasten()
                if partition.free(job):
                    self._changed[partition] = None

    # ── rebalances: called inside `fetch` and `close` ────────────────────────────────────────────────────────

    def assigned(self, places: Sequence[Place]) -> Mapping[Place, int]:
        begins = self._insistently(lambda: self._begins(places))
        self._membership.assigned()
        self._answered = True
        self._assigned_now.update(places)
        self._arrivals.arrive(begins)
        for place, begin in begins.items():
            if (old := self._partitions.get(place)) is not None:
                self._forget(old)
            self._begin(place, begin)
        if self._exactly_once:
            self._introduce()
        starts: dict[tuple[str, int], int] = {place: begin.offset for place, begin in begins.items()}
        self._events.tell(told.Assigned(group=self.group, starts=starts))
        return {place: begin.offset for place, begin in begins.items()}

    def _begins(self, places: Sequence[Place]) -> Mapping[Place, Begin]:
        """Where they begin, once what former owners left open is aborted: before, nobody can say."""
        self._arrivals.take_over(places)
        return self._arrivals.begins(self._client, places)

    def revoked(self, places: Sequence[Place]) -> None:
        self._revoked_now.update(places)
        mine = [self._partitions[place] for place in places if place in self._partitions]
        waited = self._drain(mine, self._clock.monotonic() + self._bounds.drain_timeout)
        for partition in mine:
            partition.assignment.close()
            self._go_elsewhere(partition)
            self._quarantine.close(partition)
        self._commits.send(mine, self._clock.monotonic())
        positions: dict[tuple[str, int], int] = {one.place: one.in_progress for one in mine}
        for partition in mine:
            self._forget(partition)
        self._events.tell(told.Revoked(group=self.group, positions=positions, waited=waited))

    def lost(self, places: Sequence[Place]) -> None:
        self._revoked_now.update(places)
        self._lose(places, "the session or the poll limit passed, or the group went on without this member")

    def _lose(self, places: Iterable[Place], reason: str) -> None:
        gone = [self._partitions[place] for place in places if place in self._partitions]
        for partition in gone:
            self._quarantine.lose(partition)
            self._forget(partition)
        if gone:
            self._events.tell(told.Lost(group=self.group, places=tuple(one.place for one in gone), error=reason))

    def _drain(self, partitions: Sequence[Partition], until: float) -> float:
        """Start nothing more of `partitions`, wait until `until` for what runs; the others go on meanwhile.

        Returns the seconds it took. What runs on is named by an event.
        """
        began = self._clock.monotonic()
        for partition in partitions:
            partition.assignment.revoke()
            self._commits.refuse(partition)
            partition.leave()
            self._mark(partition)
        # A stop may come meanwhile, and be more impatient.
        while self._awaited(partitions, self._hooks.farewell) and self._clock.monotonic() < min(until, self._stop_by):
            self.pulse = monotonic()
            self._settle(wait=PATIENCE)
            self._slice()
            now = self._clock.monotonic()
            self._wake(now)
            self._dispatch(now)
        waited = self._clock.monotonic() - began
        for partition in partitions:
            if partition.out:
                said = f"still running {waited:.1f} s after the revocation; its result will be ignored"
                event = told.Overran(
                    **self._where(partition.place), offset=partition.in_progress, waited=waited, error=said
                )
                self._events.tell(event)
        return waited

    def _awaited(self, partitions: Sequence[Partition], leave: Callable[[Partition], None]) -> bool:
        """Whether something of `partitions` is still under way; those that are done are to `leave`, by their hook."""
        awaited = False
        for partition in partitions:
            if not partition.unsettled:
                leave(partition)
            awaited = awaited or partition.unsettled
        return awaited

    def _begin(self, place: Place, begin: Begin) -> None:
        """A new assignment of `place`."""
        partition = self._partitions[place] = self._arrivals.made(place, begin)
        if partition.exactly_once is not None:
            self._exactly_once[partition] = partition.exactly_once
        if partition.committable is not None:
            self._commits.want(partition)
        self._hooks.expect(partition)
        self._quarantine.begin(partition)
        self._changed[partition] = None

    def _forget(self, partition: Partition) -> None:
        partition.leave()
        self._hooks.depart(partition)
        partition.revoke()
        self._commits.forget(partition)
        self._flow.forget(partition)
        self._partitions.pop(partition.place, None)
        self._busy.pop(partition, None)
        self._changed.pop(partition, None)
        self._elsewhere.pop(partition, None)
        if (one := self._exactly_once.pop(partition, None)) is not None:
            one.close()
        self._setbacks.forget(partition)
        self._quarantine.settled(partition)

    def _insistently(self, question: Callable[[], T]) -> T:
        """Ask the broker again until it answers, or a stop comes: without an answer no partition can begin."""
        told: set[str] = set()
        while True:
            self.pulse = NEVER
            try:
                return question()
            except BrokerError as error:
                if not error.retriable:
                    raise
                code = error.code or "NO_ANSWER"
                if code not in told:
                    said = f"the broker does not say where partitions begin: {error}; it is asked again"
                    self._troubles.heard(self.group, Trouble(code, said, Effect.NEWS))
                told.add(code)
                if self._lifecycle.wait(Phase.STOPPING, ASK_AGAIN):
                    raise
            finally:
                self.pulse = monotonic()

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────

    def _where(self, place: Place) -> dict[str, Any]:
        return {"group": self.group, "topic": place.topic, "partition": place.partition}

    def _tell_retried(self, partition: Partition, record: Record, attempt: int) -> None:
        self._events.tell(told.Retried(**self._where(partition.place), offset=record.offset() or 0, attempt=attempt))

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Finish what runs, commit, leave the group."""
        self._closing = True
        mine = list(self._partitions.values())
        for partition in mine:
            partition.leave()
            self._mark(partition)
        while self._working(mine) and self._clock.monotonic() < self._stop_by:
            # Polling goes on, so that the membership holds for as long as the work may take.
            self._turn_closing(0.0)
        for partition in mine:
            self._go_elsewhere(partition)
            self._quarantine.close(partition)
        self.unfinished = self._left(mine)
        self._commits.send(list(self._partitions.values()), self._clock.monotonic())
        by = self._clock.monotonic() + LAST_COMMIT
        while not self._commits.settled and self._clock.monotonic() < by:
            # One that a rebalance under way refused goes again: polling lets the rebalance end.
            self._turn_closing(PATIENCE)
        self._commits.give_up()
        self.pulse = NEVER
        self._membership.leave()

    def _working(self, mine: Sequence[Partition]) -> bool:
        """Whether something runs that a stop waits for: of what is ours, and of what was taken away meanwhile."""
        return self._awaited(mine, self._hooks.shutdown) or bool(self._hooks.running)

    def _turn_closing(self, patience: float) -> None:
        self.pulse = monotonic()
        self._receive(patience)
        self._settle(wait=0.0 if patience else PATIENCE)
        self._slice()
        self._commits.turn(self._clock.monotonic(), self._busy, idle=False)

    def _left(self, mine: Sequence[Partition]) -> tuple[str, ...]:
        """What runs on, in words."""
        ours = {one.place: one.in_progress for one in mine if one.unsettled and one.state is not State.REVOKED}
        gone = self._hooks.running
        return (
            *(f"{'/'.join(map(str, place))}/{offset} of group {self.group!r}" for place, offset in ours.items()),
            *(
                f"{'/'.join(map(str, place))}/{offset} of group {self.group!r}, which was taken away meanwhile"
                for place, offset in gone.items()
            ),
        )
