"""One process that consumes: listeners, pools, the producer; started, watched and stopped in order."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType
from typing import NoReturn, TypeVar

from karafka.aio import LoopPool, LoopThread
from karafka.app import App
from karafka.clock import Clock, SystemClock
from karafka.confluent import ConfluentConsumer, ConfluentTopics
from karafka.errors import ConfigError
from karafka.events import ServerStarted, ServerStopped, ServerStopping
from karafka.jobs import Pool
from karafka.lifecycle import Lifecycle, Phase
from karafka.listener import Bounds, Listener
from karafka.pool import ThreadPool
from karafka.producer import Producer
from karafka.routing import Route, Subscription
from karafka.setbacks import Work

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


class Server:
    """Runs an app's routes: `Server(app).run()` on the main thread, or `start()` and `stop()` beside your own code.

    `start` does not touch signals. `stop` waits for what runs, up to the app's `shutdown_timeout`.
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
        # What should happen, told by signals and listeners to whoever waits in `run`: (status, reason).
        self._wishes: SimpleQueue[tuple[int, str]] = SimpleQueue()
        #: After the end: whether work was left running. What runs then ends only with the process.
        self.overran = False
        self._attended = False
        self._status = self._asked = STOPPED

    @property
    def phase(self) -> Phase:
        return self._lifecycle.phase

    def join(self, timeout: float | None = None) -> int | None:
        """Wait for the end; the exit status, or None when `timeout` seconds passed before."""
        return self._status if self._lifecycle.wait(Phase.STOPPED, timeout) else None

    def run(self) -> int:
        """Run until a signal, or until it has to end. Main thread only. Returns the exit status.

        INT, TERM and QUIT stop in order; a second one does not wait. 0: clean; 2: work outlasted the time-out;
        3: something died; else what user code asked for with `SystemExit`.
        """
        # What the boot made stays: the collector need not walk it again, nor run for each few hundred controllers.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 100)
        names = {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT}
        before = {name: signal.signal(name, self._signalled) for name in names}
        self._attended = True
        try:
            self.start()
            status, reason = self._wish()
            return self.stop(reason, status)
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def _wish(self) -> tuple[int, str]:
        """Wait for a wish. In short waits: one without an end can sleep through two signals that come together."""
        while True:
            try:
                return self._wishes.get(timeout=LOOK)
            except Empty:
                continue

    def start(self) -> None:
        """Start listeners and workers on threads of their own, and return."""
        self.app.setup()
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
        self._lifecycle.advance(Phase.RUNNING)
        groups = {one.group: tuple(route.topic.shown for route in one.routes) for one in self._subscriptions}
        self.app.events.tell(ServerStarted(client_id=self.app.config.client_id, groups=groups))

    def stop(self, reason: str = "asked to", status: int = STOPPED) -> int:
        """Take nothing new, finish what runs, commit, leave. Returns the exit status; any thread, once."""
        if not self._lifecycle.advance(Phase.STOPPING):
            self._lifecycle.wait(Phase.STOPPED)
            return self._status
        timeout = self.app.config.shutdown_timeout
        self.app.events.tell(ServerStopping(reason=reason, timeout=timeout))
        by = self._clock.monotonic() + timeout
        for listener in self._listeners:
            listener.stop(by)
        hurried = self._await_listeners(by + GRACE)
        unfinished = tuple(one for listener in self._listeners for one in listener.unfinished)
        for pool in self._pools:
            pool.stop()
        if self._loop is not None:
            self._loop.stop()
        self._producers.append(self.app.producer)
        left = sum(producer.close(0.0 if hurried else LAST_FLUSH) for producer in self._producers)
        if left:
            unfinished += (f"{left} messages that were not sent",)
        self.overran = bool(unfinished) or hurried
        # What was asked for while a stop was under way counts too.
        status = TIMED_OUT if self.overran else status or self._asked
        self._status = status
        self._lifecycle.advance(Phase.STOPPED)
        self.app.events.tell(ServerStopped(status=status, unfinished=unfinished))
        return status

    def _await_listeners(self, until: float) -> bool:
        """Until all have left; True if a second signal cut it short, or one hangs past `until`.

        One that comes at the heels of the first is the same one: some supervisors tell the process and its group.
        """
        since = self._clock.monotonic()
        while not all(listener.join(0.02) for listener in self._listeners):
            if self._clock.monotonic() > until:
                return True
            try:
                _, reason = self._wishes.get_nowait()
            except Empty:
                continue
            if reason.startswith("SIG") and self._clock.monotonic() - since > ECHO:
                for listener in self._listeners:
                    listener.stop(by=0.0)
                until = self._clock.monotonic() + HURRY
                for listener in self._listeners:
                    listener.join(max(0.0, until - self._clock.monotonic()))
                return True
        return False

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        # On the main thread, between any two of its bytecodes: nothing but this, which cannot block.
        self._wishes.put((STOPPED, signal.Signals(number).name))

    def _ended(self, status: int, reason: str) -> None:
        """A listener asks for the end of the process. On its thread."""
        self._asked = self._asked or status
        if self._attended:
            self._wishes.put((status, reason))
        else:
            # Nobody waits in `run`: a server that stands still must not look like one that runs.
            Thread(target=self.stop, args=(reason, status), name="karafka-stopping").start()

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
            clock=self._clock,
            bounds=Bounds(
                commit_interval=config.commit_interval, drain_timeout=config.drain_timeout, memory=memory - queue
            ),
            ended=self._ended,
        )

    def _burier(self, route: Route, subscription: Subscription) -> Producer:
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
