"""One process that consumes: listeners, pools, the producer; started, watched and stopped in order."""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread, main_thread
from types import FrameType
from typing import NoReturn, TypeAlias, TypeVar

from karafka.aio import LoopPool, LoopThread
from karafka.app import App
from karafka.clock import Clock, SystemClock
from karafka.config import Settings
from karafka.confluent import ConfluentConsumer, ConfluentTopics
from karafka.errors import ConfigError
from karafka.events import ServerQuiet, ServerStarted, ServerStopped, ServerStopping, StacksShown
from karafka.jobs import Pool
from karafka.lifecycle import Lifecycle, Phase
from karafka.listener import Bounds, Listener
from karafka.notify import notify
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

# Objects made before the collector looks: measured at +10 % of throughput against Python's 700.
GC_THRESHOLD = 20_000

# Seconds between looks for a wish, of the main thread.
LOOK = 0.1
# Seconds that listeners have to say what runs and to leave, when a second signal does not wait.
HURRY = 1.0
# Seconds past the time-out that listeners have for their last commit and for leaving; whatever hangs longer is left.
GRACE = 15.0
# Seconds within which a second signal is the echo of the first.
ECHO = 0.3

STOPPED, TIMED_OUT, DIED = 0, 2, 3

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

    def __init__(self, app: App, *, clock: Clock | None = None) -> None:
        """Raises `ConfigError` when there is nothing to run, or a route cannot work."""
        self.app = app
        self._clock = clock or SystemClock()
        self._lifecycle = Lifecycle()
        self._subscriptions = app.subscriptions()
        if not self._subscriptions:
            raise ConfigError('the app has no routes: add one with @app.topic("name") or app.routes.draw(…)')
        self._pools: list[ThreadPool | LoopPool] = []
        self._loop: LoopThread | None = None
        self._shared: ThreadPool | None = None
        self._listeners: list[Listener] = []
        self._producers: list[Producer] = []
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
        self._status = self._asked = STOPPED

    @property
    def phase(self) -> Phase:
        return self._lifecycle.phase

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
            self.start()
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
        """Start listeners and workers on threads of their own, and return. Once in its life."""
        with self._moving:
            if self._begun or self._lifecycle.stopping:
                raise ConfigError("this server has had its life: make another with Server(app)")
            self._begun = True
            self._start()

    def _start(self) -> None:
        self.app.setup()
        self._watchdog = Watchdog(self.app.events)
        memory = self.app.config.memory // len(self._subscriptions)
        for subscription in self._subscriptions:
            self._listeners.append(self._listener(subscription, memory))
        if self._loop is not None:
            self._loop.start()
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
        with self._moving:
            first = self._lifecycle.advance(Phase.STOPPING)
        if not first:
            self._lifecycle.wait(Phase.STOPPED)
            return self._status
        timeout = self.app.config.shutdown_timeout
        by = self._clock.monotonic() + timeout
        for listener in self._listeners:
            listener.stop(by)
        self.app.events.tell(ServerStopping(reason=reason, timeout=timeout))
        hurried = self._await_listeners(by + GRACE)
        unfinished = tuple(one for listener in self._listeners for one in listener.unfinished)
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
        self._end_threads()

    def _end_threads(self) -> None:
        """What is beside the listeners, once these have ended or are given up."""
        for pool in self._pools:
            pool.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._loop is not None:
            self._loop.stop()

    def _inside(self) -> bool:
        """Whether this thread performs."""
        mine = current_thread()
        loop = self._loop.ident if self._loop is not None else None
        return mine.name.startswith(WORKERS) or mine.ident == loop

    def _await_listeners(self, until: float) -> bool:
        """Until all have left; True if a second signal cut it short, or one hangs past `until`.

        One that comes at the heels of the first is the same one: some supervisors tell the process and its group.
        """
        since = self._clock.monotonic()
        while not all(listener.join(0.02) for listener in self._listeners):
            if self._clock.monotonic() > until:
                return True
            wish = self._wish(0.0)
            if wish is signal.SIGTTIN:
                self.show_stacks()
            elif wish in STOPS and self._clock.monotonic() - since > ECHO:
                for listener in self._listeners:
                    listener.stop(by=0.0)
                until = self._clock.monotonic() + HURRY
                for listener in self._listeners:
                    listener.join(max(0.0, until - self._clock.monotonic()))
                return True
        return False

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        # On the main thread, between any two of its bytecodes: nothing but this, which cannot block.
        self._wishes.put(signal.Signals(number))

    def _ended(self, status: int, reason: str) -> None:
        """A listener asks for the end of the process. On its thread."""
        self._asked = self._asked or status
        if self._attended:
            self._wishes.put(End(status, reason))
        else:
            # Nobody waits in `run`: a server that stands still must not look like one that runs.
            Thread(target=self.stop, args=(reason, status), name="karafka-stopping").start()

    def _guard(self, watchdog: Watchdog) -> None:
        for one in self._listeners:
            stacks = partial(stacks_of, {one.ident})
            watchdog.watch(f"the listener of {one.group!r}", TURN, partial(getattr, one, "pulse"), stacks)
        if self._loop is not None:
            stacks = partial(stacks_of, {self._loop.ident}, self._loop.loop)
            watchdog.watch("the event loop", LOOP, self._loop.pulse, stacks)
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

        queue = memory // CLIENT_SHARE
        return Listener(
            group=subscription.group,
            topics=subscription.topics,
            wanted=self._wanted(subscription),
            graves=sorted(
                {grave.topic for one in subscription.routes if (grave := one.policy.dead_letter) is not None}
            ),
            work=work,
            client=lambda: ConfluentConsumer(kafka, group=subscription.group, queue=queue),
            names=lambda: ConfluentTopics(kafka),
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
        own = grave.producer if grave is not None else {}
        if not subscription.kafka and not own:
            return self.app.producer
        producer = self.app.producer_for({**subscription.kafka, **own})
        self._producers.append(producer)
        return producer

    def _wanted(self, subscription: Subscription) -> Callable[[str], bool] | None:
        """Which topics the patterns take: none that dead letters of ours go to."""
        patterns = [route.topic for route in subscription.patterns]
        if not patterns:
            return None
        graves = {line.options.dead_letter.topic for _, line in self.app.routes if line.options.dead_letter is not None}
        return lambda name: name not in graves and any(one.matches(name) for one in patterns)

    def _work(self, route: Route, subscription: Subscription) -> Work:
        burier = self._burier(route, subscription)
        return Work(route.handler, route.policy, self._pool(route), burier, route.controller.__qualname__, route.hooks)

    def _pool(self, route: Route) -> Pool:
        """Workers of the route's own where it asks for them; else those that all share."""
        if route.asynchronous:
            if self._loop is None:
                self._loop = LoopThread()
            return self._kept(LoopPool(self._loop, route.concurrency))
        if route.concurrency is not None:
            return self._kept(ThreadPool(route.concurrency, route.topic.shown))
        if self._shared is None:
            self._shared = self._kept(ThreadPool(self.app.config.concurrency, "shared"))
        return self._shared

    def _kept(self, pool: P) -> P:
        self._pools.append(pool)
        return pool


def end(server: Server, status: int) -> NoReturn:
    """End the process with `status`: in order, or, past a time-out, at once, whatever hangs."""
    if server.overran:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise SystemExit(status)
