"""`App`: what users make. Settings, routes, events and a producer in one place; nothing runs until a server does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from inspect import Parameter, isasyncgenfunction, isgeneratorfunction, signature
from threading import Lock
from types import SimpleNamespace
from typing import Any, Self, TypeAlias, TypedDict, TypeVar, Unpack, cast

from karafka.backends.port import Backend, Host
from karafka.config import Config, Settings, check_settings
from karafka.confluent import check
from karafka.controllers import AnyController
from karafka.environment import Environment, read
from karafka.errors import ConfigError
from karafka.events import Events
from karafka.mapper import Names, TopicMapper
from karafka.policy import MIB, Backoff, Start
from karafka.producer import Producer
from karafka.routing import Name, Routes, Subscription, TopicOptions, topic

DEFAULT_RETRY = Backoff()

# Settings that librdkafka's producers warn of.
CONSUMER_ONLY = frozenset(
    {
        "group.protocol",
        "group.remote.assignor",
        "group.instance.id",
        "partition.assignment.strategy",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "isolation.level",
    }
)

C = TypeVar("C", bound=type[AnyController])
# What `on_start` and `on_stop` take: a function without arguments, `def` or `async def`.
Hook: TypeAlias = Callable[[], Any]
H = TypeVar("H", bound=Hook)


class AppOptions(TypedDict, total=False):
    """What `App(…)` takes by name; see `karafka.config.Config`."""

    concurrency: int
    commit_interval: float
    shutdown_timeout: float
    drain_timeout: float
    stall_after: float
    memory: int
    retry: Backoff | None
    start: Start
    processes: int
    env: Environment | str | None
    topic_mapper: TopicMapper | None
    backend: Backend | str | None


class App:
    """An application: `App("videos", kafka={"bootstrap.servers": "localhost:9092"})`.

    `client_id` names it to the brokers, and its default consumer group. `kafka` are librdkafka's settings by their
    own names. `env` says where it runs, `KARAFKA_ENV` otherwise. `backend`: the job queue of routes that name none, by
    which `karafka worker` performs their messages ("kafka"). The rest is told in `karafka.config.Config`. Raises
    `ConfigError` for what cannot work.
    """

    def __init__(
        self,
        client_id: str,
        kafka: Settings,
        *,
        concurrency: int = 5,
        commit_interval: float = 1.0,
        shutdown_timeout: float = 60.0,
        drain_timeout: float = 10.0,
        stall_after: float = 60.0,
        memory: int = 256 * MIB,
        retry: Backoff | None = DEFAULT_RETRY,
        start: Start = "earliest",
        processes: int = 1,
        env: Environment | str | None = None,
        topic_mapper: TopicMapper | None = None,
        backend: Backend | str | None = None,
    ) -> None:
        self.config = Config(
            client_id=client_id,
            kafka=kafka,
            concurrency=concurrency,
            commit_interval=commit_interval,
            shutdown_timeout=shutdown_timeout,
            drain_timeout=drain_timeout,
            stall_after=stall_after,
            memory=memory,
            retry=retry,
            start=start,
            processes=processes,
            env=_environment(env),
            topic_mapper=topic_mapper,
        )
        #: How topics are named in the cluster; None where they have the same names there.
        self.names: Names | None = Names(topic_mapper) if topic_mapper is not None else None
        check(kafka, "App(kafka=…)")
        self.overrides: Settings = {}
        #: The `KARAFKA_…` variables that its settings came from; none unless it was made by `from_env`.
        self.variables: tuple[str, ...] = ()
        #: For what is opened once per process, and yours to fill: `self.app.state` in a controller.
        self.state: Any = SimpleNamespace()
        self.start_hooks: list[Hook] = []
        self.stop_hooks: list[Hook] = []
        self._producer: Producer | None = None
        self._lock = Lock()
        self.events = Events()
        # A job queue may have worker processes of its own: what they need of this app is made when they ask.
        self.routes = Routes(self.config, backend, lambda one: one.attach(partial(_host, self, one)))

    def __repr__(self) -> str:
        topics = ", ".join(sorted({topic.shown for _, topic in self.routes}))
        return f"<App {self.config.client_id!r} of {topics or 'no topics yet'}>"

    @classmethod
    def from_env(
        cls,
        client_id: str | None = None,
        kafka: Settings | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        **settings: Unpack[AppOptions],
    ) -> Self:
        """An app that its environment may tell more, by `KARAFKA_…` variables, than the code does, and otherwise.

        `KARAFKA_BROKERS` are its brokers, `KARAFKA_CONCURRENCY=20` is `App(concurrency=20)`, and
        `KARAFKA_KAFKA_SASL_PASSWORD` is librdkafka's `sasl.password`. `variables`: `os.environ` otherwise. Raises
        `ConfigError`.
        """
        told = read(os.environ if variables is None else variables)
        name = told.client_id or client_id
        if name is None:
            raise ConfigError("App.from_env() has no name: write App.from_env('videos'), or set KARAFKA_CLIENT_ID")
        merged = {**(kafka or {}), **told.kafka}
        if not merged.get("bootstrap.servers"):
            raise ConfigError("no broker is named: set KARAFKA_BROKERS, to localhost:9092 say")
        check_settings(told.kafka, "the environment, by KARAFKA_KAFKA_…,")
        check(merged, "App.from_env(kafka=…), or the environment by KARAFKA_KAFKA_…,")
        if settings.get("env") is None:
            settings["env"] = Environment.from_env(variables=variables)
        app = cls(name, merged, **cast("AppOptions", {**settings, **told.settings}))
        app.variables = told.variables
        return app

    @property
    def env(self) -> Environment:
        """Where it runs: `app.env.production`."""
        return self.config.env

    def topic(self, name: Name, **options: Unpack[TopicOptions]) -> Callable[[C], C]:
        """Route `name` to the controller below; the class stays as it is. Options as in `karafka.topic`."""

        def routed(controller: C) -> C:
            self.routes.draw(topic(name, controller, **options))
            return controller

        return routed

    def on_start(self, hook: H) -> H:
        """Call `hook` when a server starts, before the first message; several in the order of declaration.

        `async def` runs on the event loop that performs run on, so that a client which it opens can be used there. The
        context variables that it sets are seen by every perform. One that raises ends the start, with status 1.
        """
        self.start_hooks.append(_checked("on_start", hook))
        return hook

    def on_stop(self, hook: H) -> H:
        """Call `hook` when a server stops, after the last message; several in reverse order.

        They have what is left of `shutdown_timeout`, a second at least; the producer is closed after them. All are
        called when a start was begun, also if an `on_start` hook failed. One that raises is told of and stops no other.
        """
        self.stop_hooks.append(_checked("on_stop", hook))
        return hook

    @property
    def producer(self) -> Producer:
        """A producer for the app's cluster, shared by all who ask; connects at the first send, closed by the server.

        Any thread.
        """
        with self._lock:
            if self._producer is None:
                self._producer = self.producer_for({})
            return self._producer

    def close_producer(self, timeout: float) -> int:
        """Close the shared producer, if there is one: how many messages were not sent. Who asks then gets a new one."""
        with self._lock:
            producer, self._producer = self._producer, None
        return producer.close(timeout) if producer is not None else 0

    def kafka_for(self, group: Settings) -> Settings:
        """The client's settings for a group that adds `group` to the app's."""
        return {**self.config.kafka, **group, **self.overrides, "client.id": self.config.client_id}

    def producer_for(self, group: Settings) -> Producer:
        """The producer for the cluster of a group that adds `group` to the app's settings."""
        kafka = self.kafka_for(group)
        own = {name: value for name, value in kafka.items() if name not in CONSUMER_ONLY}
        return Producer(own, events=self.events, names=self.names)

    def in_kafka(self, topic: str) -> str:
        """The cluster's name of `topic`. Raises `ConfigError`."""
        return topic if self.names is None else self.names.there(topic)

    def override(self, kafka: Settings) -> None:
        """Let `kafka` win over all settings of the app and its groups: another cluster, before anything has started."""
        check({**self.config.kafka, **kafka}, "override(…)")
        self.overrides = {**self.overrides, **kafka}

    def reconfigure(self, **settings: Any) -> None:
        """Let `settings`, as `App` takes them, win over those it was made with, before anything has started.

        Raises `ConfigError`.
        """
        self.config = replace(self.config, **settings)
        self.routes.config = self.config

    def subscriptions(self, *, unselected: bool = False) -> tuple[Subscription, ...]:
        """What a server is to read, with handlers made; with `unselected` also that which other processes read.

        Raises `ConfigError` for what cannot work.
        """
        found = self.routes.subscriptions(self.events, self, unselected=unselected)
        for one in found:
            if one.kafka:
                check({**self.config.kafka, **one.kafka}, f"group({one.group!r}, kafka=…)")
        return found

    def setup(self) -> None:
        """Call each routed controller's `setup(app)`, once per process, before the first message."""
        prepared: set[type[Any]] = set()
        for _, line in self.routes:
            if line.controller not in prepared:
                prepared.add(line.controller)
                line.controller.setup(self)


def _environment(env: Environment | str | None) -> Environment:
    if env is None:
        return Environment.from_env()
    return env if isinstance(env, Environment) else Environment(env, where="App(env=…)")


def _host(app: App, backend: Backend) -> Host:
    # By name: it stands on this module, and is needed in worker processes alone.
    host: Host = import_module("karafka.background").AppHost(app, backend)
    return host


def _checked(name: str, hook: H) -> H:
    """`hook`, if it can be called as one."""
    if not callable(hook):
        raise ConfigError(f"@app.{name} stands above {hook!r}: a function is expected, def or async def")
    shown = getattr(hook, "__qualname__", repr(hook))
    if isgeneratorfunction(hook) or isasyncgenfunction(hook):
        raise ConfigError(f"@app.{name}: {shown} has a yield, so that calling it would do nothing: take the yield out")
    try:
        parameters = signature(hook).parameters.values()
    except ValueError:  # some builtins do not say
        return hook
    optional = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
    if any(one.default is Parameter.empty and one.kind not in optional for one in parameters):
        raise ConfigError(f"@app.{name}: {shown} wants arguments, but gets none: what it opens goes to app.state")
    return hook
