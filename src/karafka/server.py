"""One process that consumes: listeners, pools, the producer; started, watched and stopped in order."""

from __future__ import annotations

import asyncio
import atexit
import gc
import signal
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread, main_thread
from threading import enumerate as enumerate_threads
from time import monotonic, perf_counter
from types import FrameType
from typing import NoReturn, TypeAlias, TypeVar

from karafka import background, mapped, policy
from karafka.aio import LoopPool, LoopThread
from karafka.app import App
from karafka.clock import NEVER, Clock, SystemClock
from karafka.config import Settings
from karafka.contexts import within
from karafka.errors import ConfigError
from karafka.events import ServerQuiet, ServerStarted, ServerStopped, ServerStopping, StacksShown
from karafka.jobs import Pool
from karafka.lifecycle import Lifecycle, Phase, leave
from karafka.lifespan import CLEANUP, HOOKS, Lifespan
from karafka.listener import LISTENERS, Bounds, Listener
from karafka.messages import PartitionHooks, Place
from karafka.notify import notify
from karafka.outbox import Confirmed
from karafka.policy import Policy, judge
from karafka.pool import WORKERS, ThreadPool
from karafka.producer import Producer
from karafka.quarantine import Token
from karafka.routing import Route, Subscription
from karafka.setbacks import Burier, Work
from karafka.stacks import all_stacks, stacks_of
from karafka.troubles import Troubles
from karafka.watchdog import LOOP, TURN, Watchdog

P = TypeVar("P", ThreadPool, LoopPool)

# The client may fetch ahead so much of the memory; the rest is for messages in hand.
CLIENT_SHARE = 4
# Past the time-out: how long what was produced may still take to leave.
LAST_FLUSH = 5.0
# How long a transaction may be open, in milliseconds: it is for as long as its results take to be confirmed. Nobody who
# reads what is committed sees past one whose process died, until another takes over its partition, or for so long.
OPEN_TRANSACTION = 15_000

# Objects made before the collector looks: measured at +10 % of throughput against Python's 700.
GC_THRESHOLD = 20_000

# Seconds between looks for a wish, of the main thread.
LOOK = 0.1
# Seconds that listeners have to say what runs and to leave, when a second signal does not wait.
HURRY = 1.0
# Seconds past the time-out that listeners have for their last commit and for leaving; whatever hangs longer is left.
GRACE = 15.0
# Seconds that clients which no broker answers may hold up the end of an interpreter that is somebody else's: it may
# crash by what they still do then. (With TLS libc's exit takes OpenSSL from under their threads: 4 of 60 died.)
LAST_CALLS = 5.0
# Seconds within which a second signal is the echo of the first.
ECHO = 0.3

STOPPED, FAILED, TIMED_OUT, DIED = 0, 1, 2, 3

STOPS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT})
SIGNALS = STOPS | {signal.SIGTSTP, signal.SIGTTIN}


@dataclass(frozen=True, slots=True)
class End:
    """A listener asks for the end of the process."""

    status: int
    reason: str


Wish: TypeAlias = End | signal.Signals


class Server:
    """Runs an app's routes: `Server(app).run()` in a process of its own, or beside your own code.

    Beside: `start()` and `stop()`, or `await serve()` in an event loop; these do not touch signals. A server has one
    life.
    """

    def __init__(
        self,
        app: App,
        subscriptions: Sequence[Subscription] | None = None,
        *,
        jobs: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """`subscriptions`: the app's otherwise. `jobs`: perform its background jobs here too, those that Kafka queues.

        Raises `ConfigError` when there is nothing to run, or a route cannot work.
        """
        self.app = app
        self._clock = clock or SystemClock()
        self._lifecycle = Lifecycle()
        self._subscriptions = tuple(app.subscriptions() if subscriptions is None else subscriptions)
        if jobs:
            self._subscriptions += background.subscriptions(app)
        if not self._subscriptions:
            raise ConfigError('the app has no routes: add one with @app.topic("name") or app.routes.draw(…)')
        self._pools: list[ThreadPool | LoopPool] = []
        self._loop: LoopThread | None = None
        self._shared: ThreadPool | None = None
        self._listeners: list[Listener] = []
        self._producers: list[Producer] = []
        # Those of subscriptions that are read with settings of their own.
        self._own: dict[int, Producer] = {}
        self._watchdog: Watchdog | None = None
        self._token = Token()
        self._troubles: dict[tuple[tuple[str, str], ...], Troubles] = {}
        # What should happen, told by signals and listeners to whoever waits in `run`.
        self._wishes: SimpleQueue[Wish] = SimpleQueue()
        #: After the end: whether work was left running. What runs then ends only with the process.
        self.overran = False
        # Whether somebody waits for wishes in `run`.
        self._attended = False
        # A stop waits for a start that is under way.
        self._moving = Lock()
        self._begun = False
        # Whether a stop was asked for: a start under way goes no further. Set by a signal's handler, too.
        self._called_off = False
        self._lifespan: Lifespan | None = None
        # What user code finds set: as it is where the server is started, and what on_start adds.
        self._context = Context()
        self._status = self._asked = STOPPED

    @property
    def phase(self) -> Phase:
        return self._lifecycle.phase

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        return self._subscriptions

    @property
    def ages(self) -> tuple[float, float, float]:
        """Seconds since the oldest turn of a listener began, since the job that runs longest did, and since when the
        oldest unfinished message is that; 0 where there is none. Any thread.
        """
        turn = min((one.pulse for one in self._listeners), default=NEVER)
        begun = min((one.begun for one in self._listeners), default=NEVER)
        oldest = min((one.oldest for one in self._listeners), default=NEVER)
        now = monotonic()
        return max(0.0, now - turn), max(0.0, perf_counter() - begun), max(0.0, now - oldest)

    def join(self, timeout: float | None = None) -> int | None:
        """Wait for the end; the exit status, or None when `timeout` seconds passed before."""
        return self._status if self._lifecycle.wait(Phase.STOPPED, timeout) else None

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> int:
        """Run until a signal, or until it has to end. Returns the exit status.

        INT, TERM and QUIT stop in order; a second one does not wait. TSTP: see `quiet`. TTIN shows all stacks. On
        another thread than the main one signals are left alone. 0: clean; 2: work outlasted the time-out; 3: something
        died; else what user code asked for with `SystemExit`.
        """
        # What the boot made stays: the collector need not walk it again, nor run for each few hundred controllers.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 100)
        names = SIGNALS if current_thread() is main_thread() else frozenset()
        before = {name: signal.signal(name, self._signalled) for name in names}
        self._attended = True
        try:
            try:
                self.start()
            except KeyboardInterrupt:  # asked for by a hook of the app
                return self._status
            if not self._called_off:
                notify("READY=1")
            end = self._attend()
            notify("STOPPING=1")
            return self.stop(end.reason, end.status)
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def _attend(self) -> End:
        """Do what signals ask for, until one asks for the end. In short waits: one without an end can sleep through
        two signals that come together.
        """
        while not self._lifecycle.stopping:
            match self._wish(LOOK):
                case None:
                    continue
                case End() as end:
                    return end
                case signal.SIGTSTP:
                    self.quiet("SIGTSTP")
                case signal.SIGTTIN:
                    self.show_stacks()
                case other:
                    return End(STOPPED, other.name)
        return End(STOPPED, "asked to")

    def _wish(self, wait: float) -> Wish | None:
        try:
            return self._wishes.get(timeout=wait)
        except Empty:
            return None

    async def serve(self) -> int:
        """Run beside the event loop of the caller, until `stop` or until it has to end; the exit status.

        Cancelled, it stops in order first. Signals are left alone. `perform` does not run in the caller's loop.
        """
        try:
            await asyncio.to_thread(self.start)
            while (status := self.join(0)) is None:
                await asyncio.sleep(LOOK)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.to_thread(self.stop, "cancelled"))
            raise
        return status

    def start(self) -> None:
        """Call the app's `on_start` hooks, start listeners and workers on threads of their own, and return. Once.

        Where that fails, what was started is stopped in order, and the error raised; `StartError` for a hook's.
        """
        with self._moving:
            if self._begun or self._lifecycle.stopping:
                raise ConfigError("this server has had its life: make another with Server(app)")
            self._begun = True
            try:
                self._start()
            except BaseException as error:
                asked = judge(Policy(), error, 1)
                self._lifecycle.advance(Phase.STOPPING)
                self._end("the start failed", asked.status if isinstance(asked, policy.End) else FAILED)
                raise

    def _start(self) -> None:
        self._context = copy_context()
        self._watchdog = Watchdog(self.app.events)
        memory = self.app.config.memory // len(self._subscriptions)
        for subscription in self._subscriptions:
            self._listeners.append(self._listener(subscription, memory))
        if self._loop is not None:
            self._loop.start()
        self._lifespan = Lifespan(self.app, self._context, self._running_loop)
        self._lifespan.begin(self._unwanted)
        if self._unwanted():
            return
        self._context.run(self.app.setup)
        for pool in self._pools:
            if isinstance(pool, ThreadPool):
                pool.start()
        for listener in self._listeners:
            listener.start()
        self._guard(self._watchdog)
        if not self._lifecycle.advance(Phase.RUNNING):
            self._hush("asked to before it began")
        atexit.register(self._forgotten)
        groups = {one.group: tuple(route.topic.shown for route in one.routes) for one in self._subscriptions}
        self.app.events.tell(ServerStarted(client_id=self.app.config.client_id, groups=groups))

    def quiet(self, reason: str = "asked to") -> None:
        """Take nothing new, finish what runs, keep the partitions until `stop`. Any thread; does not wait."""
        if self._lifecycle.advance(Phase.QUIET):
            self._hush(reason)

    def _hush(self, reason: str) -> None:
        left, counting = len(self._listeners), Lock()

        def hushed() -> None:
            nonlocal left
            with counting:
                left -= 1
                last = left == 0
            if last:
                self.app.events.tell(ServerQuiet(reason=reason))

        for listener in self._listeners:
            listener.quiet(hushed)

    def show_stacks(self) -> None:
        """Tell the stacks of all threads and tasks, as an event. Any thread."""
        loop = self._loop.loop if self._loop is not None else None
        self.app.events.tell(StacksShown(stacks=all_stacks(loop)))

    def stop(self, reason: str = "asked to", status: int = STOPPED) -> int:
        """Take nothing new, finish what runs, commit, leave. Returns the exit status. Any thread, again and again.

        Called from inside `perform` it does not wait, or it would wait for itself.
        """
        if self._inside():
            self._ended(status, reason)
            return status
        self._called_off = True
        with self._moving:
            first = self._lifecycle.advance(Phase.STOPPING)
        if not first:
            self._lifecycle.wait(Phase.STOPPED)
            return self._status
        return self._end(reason, status)

    def _end(self, reason: str, status: int) -> int:
        """The stop itself, whatever of the start there was."""
        timeout = self.app.config.shutdown_timeout
        by = self._clock.monotonic() + timeout
        for listener in self._listeners:
            listener.stop(by)
        self.app.events.tell(ServerStopping(reason=reason, timeout=timeout))
        hurried = self._await_listeners(by + GRACE)
        unfinished = tuple(one for listener in self._listeners for one in listener.unfinished)
        for pool in self._pools:
            pool.stop()
        if self._loop is not None:
            self._loop.cancel(CLEANUP)
        if self._lifespan is not None:
            hurried = self._call_last_hooks(self._lifespan, by, hurried=hurried)
            unfinished += self._lifespan.left
            status = status or self._lifespan.status
        self._end_threads()
        patience = 0.0 if hurried else LAST_FLUSH
        left = sum(producer.close(patience) for producer in self._producers) + self.app.close_producer(patience)
        if left:
            unfinished += (f"{left} messages that were not sent",)
        self.overran = bool(unfinished) or hurried
        # What was asked for while a stop was under way counts too.
        status = TIMED_OUT if self.overran else status or self._asked
        self._status = status
        atexit.unregister(self._forgotten)
        if not self.let_go(0.0):
            atexit.register(self.let_go, LAST_CALLS)
        self.app.events.tell(ServerStopped(status=status, unfinished=unfinished))
        self._lifecycle.advance(Phase.STOPPED)
        return status

    def _forgotten(self) -> None:
        """Nobody has stopped it, and the interpreter ends: its threads go first, or may crash it on its way out.

        Nothing is waited for, as if the process had been killed: what was in hand comes again.
        """
        for listener in self._listeners:
            listener.abandon()
        for listener in self._listeners:
            listener.join(HURRY)  # before the others, whose ends it is not to hear of
        for pool in self._pools:
            pool.stop()
        self._end_threads()
        self.let_go(LAST_CALLS)

    def let_go(self, timeout: float) -> bool:
        """After the end: wait up to `timeout` seconds for clients that wait for a broker; whether all are gone."""
        by = monotonic() + timeout
        return all(listener.let_go(max(0.0, by - monotonic())) for listener in self._listeners)

    def _end_threads(self) -> None:
        """What is beside listeners and pools, once these have ended or are given up, and the hooks were called."""
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._loop is not None:
            self._loop.stop(CLEANUP)

    def _inside(self) -> bool:
        """Whether this thread performs, or calls a hook. A listener's may."""
        mine = current_thread()
        loop = self._loop.ident if self._loop is not None else None
        return mine.name.startswith((WORKERS, LISTENERS)) or mine.name == HOOKS or mine.ident == loop

    def _unwanted(self) -> bool:
        """Whether a stop was asked for while it starts. On the starting thread."""
        wish = self._wish(0.0)
        if wish is signal.SIGTTIN:
            self.show_stacks()
        elif wish is not None:
            self._wishes.put(wish)  # for `_attend`
        return self._called_off

    def _call_last_hooks(self, lifespan: Lifespan, by: float, *, hurried: bool) -> bool:
        """`on_stop` hooks have what is left until `by`, a moment at least; True if a signal did not wait."""
        since, pressed = self._clock.monotonic(), False
        until = since + HURRY if hurried else max(by, since + HURRY)

        def unwanted() -> bool:
            nonlocal pressed
            pressed = pressed or self._pressed(since)
            return pressed or self._clock.monotonic() > until

        lifespan.end(unwanted)
        return hurried or pressed

    def _pressed(self, since: float) -> bool:
        """Whether a signal says not to wait. One that comes at the heels of the first is the same one: some supervisors
        tell the process and its group.
        """
        wish = self._wish(0.0)
        if wish is signal.SIGTTIN:
            self.show_stacks()
        return wish in STOPS and self._clock.monotonic() - since > ECHO

    def _await_listeners(self, until: float) -> bool:
        """Until all have left; True if a second signal cut it short, or one hangs past `until`."""
        since = self._clock.monotonic()
        while not all(listener.join(0.02) for listener in self._listeners):
            if self._clock.monotonic() > until:
                return True
            if self._pressed(since):
                for listener in self._listeners:
                    listener.stop(by=0.0)
                until = self._clock.monotonic() + HURRY
                for listener in self._listeners:
                    listener.join(max(0.0, until - self._clock.monotonic()))
                return True
        return False

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        # On the main thread, between any two of its bytecodes: nothing but this, which cannot block.
        self._called_off = self._called_off or number in STOPS
        self._wishes.put(signal.Signals(number))

    def _ended(self, status: int, reason: str) -> None:
        """A listener asks for the end of the process. On its thread."""
        self._asked = self._asked or status
        self._called_off = True
        if self._attended:
            self._wishes.put(End(status, reason))
        else:
            # Nobody waits in `run`: a server that stands still must not look like one that runs.
            Thread(target=self.stop, args=(reason, status), name="karafka-stopping").start()

    def _guard(self, watchdog: Watchdog) -> None:
        for one in self._listeners:
            watchdog.watch(f"the listener of {one.group!r}", TURN, partial(getattr, one, "pulse"), one.stacks)
        if self._loop is not None:
            stacks = partial(stacks_of, {self._loop.ident}, self._loop.loop)
            loop = self._loop
            watchdog.watch("the event loop", LOOP, loop.pulse, stacks, loop.at_work, lambda: loop.answered)
        watchdog.start()

    # ── putting together ─────────────────────────────────────────────────────────────────────────────────────

    def _listener(self, subscription: Subscription, memory: int) -> Listener:
        config = self.app.config
        kafka = self.app.kafka_for(subscription.kafka)
        works = {id(route): self._work(route, subscription) for route in subscription.routes}
        by_topic: dict[str, Work | None] = {}

        def work(name: str) -> Work | None:
            if name not in by_topic:
                route = subscription.route_for(name)
                by_topic[name] = works[id(route)] if route is not None else None
            return by_topic[name]

        queue, names = memory // CLIENT_SHARE, self.app.names
        return Listener(
            group=subscription.group,
            topics=subscription.topics,
            wanted=self._wanted(subscription),
            graves=sorted(
                {grave.topic for one in subscription.routes if (grave := one.policy.dead_letter) is not None}
            ),
            work=work,
            client=lambda: mapped.consumer(kafka, names, group=subscription.group, queue=queue),
            names=lambda: mapped.topics(kafka, names),
            events=self.app.events,
            troubles=self._troubles_of(kafka),
            token=self._token,
            clock=self._clock,
            bounds=Bounds(
                commit_interval=config.commit_interval,
                drain_timeout=config.drain_timeout,
                stall_after=config.stall_after,
                memory=memory - queue,
            ),
            ended=self._ended,
        )

    def _troubles_of(self, kafka: Settings) -> Troubles:
        """One for all groups that use a cluster in the same way."""
        key = tuple(sorted((name, str(value)) for name, value in kafka.items()))
        if key not in self._troubles:
            self._troubles[key] = Troubles(kafka, self.app.events, self._clock, self._ended)
        return self._troubles[key]

    def _burier(self, route: Route, subscription: Subscription) -> Burier:
        """Dead letters go to the cluster that their messages came from, with their own settings if they have some."""
        grave = route.policy.dead_letter
        if grave is None or not grave.producer:
            return self._producer(subscription)
        producer = self.app.producer_for({**subscription.kafka, **grave.producer})
        self._producers.append(producer)
        return producer

    def _producer(self, subscription: Subscription) -> Producer:
        """What messages send by their controllers goes to the cluster that they came from, as what is exactly-once."""
        if not subscription.kafka:
            return self.app.producer
        if id(subscription) not in self._own:
            self._own[id(subscription)] = producer = self.app.producer_for(subscription.kafka)
            self._producers.append(producer)
        return self._own[id(subscription)]

    def _wanted(self, subscription: Subscription) -> Callable[[str], bool] | None:
        """Which topics the patterns take: none that dead letters or jobs of ours go to."""
        if not subscription.patterns:
            return None
        own = self.app.routes.graves | {name for _, name, _ in background.topics(self.app, unselected=True)}
        return lambda name: name not in own and subscription.route_for(name) is not None

    def _work(self, route: Route, subscription: Subscription) -> Work:
        burier = self._burier(route, subscription)
        handler, hooks = route.handler, route.hooks
        if not route.asynchronous:
            handler = within(self._context, handler)
            hooks = PartitionHooks(
                *(one and within(self._context, one) for one in (hooks.assigned, hooks.revoked, hooks.shutdown))
            )
        transacting = partial(self._transacting, subscription) if route.policy.exactly_once else None
        if transacting is None:
            handler = Confirmed(handler, self._producer(subscription)).perform
        return Work(
            handler,
            route.policy,
            self._pool(route),
            burier,
            route.controller.__qualname__,
            hooks,
            transacting,
            route.inside,
        )

    def _transacting(self, subscription: Subscription, place: Place) -> Producer:
        """A producer for the transactions of one partition; its listener closes it."""
        # By the cluster's name: the topic of another environment is another. None has a colon, so no two have one id.
        transactional_id = f"{subscription.group}:{self.app.in_kafka(place.topic)}:{place.partition}"
        kafka = {**self.app.config.kafka, **subscription.kafka}
        timeouts = (kafka.get(name, 0) for name in ("message.timeout.ms", "delivery.timeout.ms"))
        # The client takes none that is shorter than a message may take.
        longest = max(OPEN_TRANSACTION, *(int(one) for one in timeouts))
        return self.app.producer_for({"transaction.timeout.ms": longest, **kafka, "transactional.id": transactional_id})

    def _pool(self, route: Route) -> Pool:
        """Workers of the route's own where it asks for them; else those that all share."""
        if route.asynchronous:
            return self._kept(LoopPool(self._loop_thread(), route.concurrency))
        if route.concurrency is not None:
            return self._kept(ThreadPool(route.concurrency, route.topic.shown))
        if self._shared is None:
            self._shared = self._kept(ThreadPool(self.app.config.concurrency, "shared"))
        return self._shared

    def _running_loop(self) -> LoopThread:
        thread = self._loop_thread()
        thread.start()
        return thread

    def _loop_thread(self) -> LoopThread:
        if self._loop is None:
            self._loop = LoopThread(self._context)
        return self._loop

    def _kept(self, pool: P) -> P:
        self._pools.append(pool)
        return pool


def end(server: Server, status: int) -> NoReturn:
    """End the process with `status`: in order, or, past a time-out, at once, whatever hangs.

    Of clients that wait for a broker nobody waits, but the interpreter might not survive them: it is left as it is,
    once all is done that is to be done at its end.
    """
    if not server.overran:
        if server.let_go(0.0):
            raise SystemExit(status)
        atexit.unregister(server.let_go)
        for thread in enumerate_threads():
            if not thread.daemon and thread is not main_thread():
                thread.join()
        atexit._run_exitfuncs()  # noqa: SLF001 - as the interpreter would
    leave(status)
