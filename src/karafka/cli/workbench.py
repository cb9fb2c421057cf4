"""What `karafka console` puts at hand: the app, and helpers to send, to look at topics, to take up changed code."""

from __future__ import annotations

import asyncio
import importlib
import linecache
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from datetime import datetime
from inspect import iscoroutinefunction
from pathlib import Path
from types import ModuleType
from typing import Any, overload

import click

from karafka.aio import LoopThread
from karafka.app import App
from karafka.cli.load import BrokenAppError, find
from karafka.cli.routes import described, table, usually
from karafka.cli.tables import Table, show
from karafka.cluster import Cluster
from karafka.config import Settings
from karafka.controllers import payload_type
from karafka.delivery import Delivery
from karafka.errors import ConfigError, Error, ParseError
from karafka.letters import Headers, Key
from karafka.lifespan import CLEANUP, Lifespan
from karafka.messages import Message, Place
from karafka.parsers import JSON, payloads
from karafka.producer import Producer
from karafka.routing import Route, Subscription

# Seconds that a question to the brokers, or a message on its way, is waited for.
PATIENCE = 10.0
# Characters of a payload that a line of `peek` shows.
SHOWN = 100


class Peeked(Sequence[Message[Any]]):
    """Messages that were looked at, the oldest first; shown as a table."""

    def __init__(self, topic: str, messages: Sequence[Message[Any]]) -> None:
        self._topic, self._messages = topic, messages

    @overload
    def __getitem__(self, index: int) -> Message[Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Message[Any]]: ...

    def __getitem__(self, index: int | slice) -> Message[Any] | Sequence[Message[Any]]:
        return self._messages[index]

    def __iter__(self) -> Iterator[Message[Any]]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    def __repr__(self) -> str:
        if not self._messages:
            return f"{self._topic} holds no messages"
        numbers = frozenset({"partition", "offset"})
        rows = [tuple(map(str, (one.partition, one.offset, _time(one), _key(one), _payload(one)))) for one in self]
        return Table(headings=("partition", "offset", "time", "key", "payload"), rows=rows, numbers=numbers).plain()


class Workbench:
    """The app at hand. `begin`, then its methods, then `end`: one thread, the shell's.

    `namespace` is what the shell knows: the public names of the app's module, and these methods.
    """

    def __init__(self, target: str | None, *, start: bool) -> None:
        """`start`: call the app's `on_start` hooks, and its `on_stop` hooks at the end, as a server does."""
        self._target, self._start = target, start
        # What is imported already is not the app's.
        self._before = frozenset(sys.modules)
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self._given: frozenset[str] = frozenset()
        self._producers: dict[str, Producer] = {}
        self._lifespan: Lifespan | None = None
        self._loop: LoopThread | None = None
        self._found = find(target)

    @property
    def app(self) -> App:
        return self._found.app

    @property
    def file(self) -> str:
        return self._found.file

    def begin(self) -> None:
        """Raises `StartError` for an `on_start` hook that fails, `ConfigError` for routes that cannot work."""
        self.app.subscriptions()
        if self._start:
            context = copy_context()
            self._lifespan = Lifespan(self.app, context, self._running_loop)
            self._lifespan.begin(lambda: False)
            context.run(self.app.setup)
        for name in self._given:
            self.namespace.pop(name, None)
        public = {name: value for name, value in vars(self._found.module).items() if not name.startswith("_")}
        helpers: dict[str, Callable[..., Any]] = {
            one.__name__: one for one in (self.routes, self.send, self.peek, self.reload)
        }
        given = {**public, "app": self.app, "producer": self.app.producer, **helpers}
        self.namespace |= given
        self._given = frozenset(given)

    def end(self) -> None:
        """What was sent leaves, hooks are called."""
        if self._lifespan is not None:
            self._lifespan.end(lambda: False)
            self._lifespan = None
        if self._loop is not None:
            self._loop.stop(CLEANUP)
            self._loop = None
        for producer in self._producers.values():
            producer.close(PATIENCE)
        self._producers.clear()
        self.app.close_producer(PATIENCE)

    def _running_loop(self) -> LoopThread:
        if self._loop is None:
            self._loop = LoopThread(copy_context())
            self._loop.start()
        return self._loop

    # ── what the shell calls ─────────────────────────────────────────────────────────────────────────────────

    def routes(self) -> None:
        """Show which topics go to which controllers, as `karafka routes` does."""
        show(table(described(self.app), usually(self.app)))

    def send(
        self, topic: str, payload: Any, *, key: Key = None, headers: Headers | None = None, partition: int | None = None
    ) -> Delivery:
        """Send a message to the cluster that the app reads `topic` from, its own else; confirmed when this returns.

        The payload is written by the parser of the topic's route.
        """
        subscription, route = self._routed(topic)
        parser = route.topic.options.parser if route is not None else None
        if parser is not None and not isinstance(payload, str | bytes | None):
            payload = parser.generate(payload)
        producer = self._producer(subscription.kafka if subscription is not None else {})
        return producer.produce_sync(topic, payload, key=key, headers=headers, partition=partition, timeout=PATIENCE)

    def peek(self, topic: str, count: int = 10, *, partition: int | None = None, offset: int | None = None) -> Peeked:
        """The newest `count` messages of `topic`, or of one partition; with `offset` those from there on.

        Nothing is committed, and no group joined. Payloads are parsed as the topic's route does.
        """
        subscription, route = self._routed(topic)
        group = subscription.group if subscription is not None else self.app.config.client_id
        cluster = Cluster(self.app.kafka_for(subscription.kafka if subscription is not None else {}))
        there = self.app.in_kafka(topic)
        if offset is None:
            records = cluster.newest(there, count, group=group, partition=partition, timeout=PATIENCE)
        elif partition is None:
            raise ConfigError("peek(offset=…) says where in a partition: name it too, partition=0 say")
        else:
            records = cluster.at(Place(there, partition), offset, count, group=group, timeout=PATIENCE)
        parse = _parser_of(route)
        record: Any
        for record in records if there != topic else ():
            record.set_topic(topic)
        return Peeked(topic, [Message(record, parse, group) for record in records])

    def reload(self) -> None:
        """Take up the app's code as it is now; what it leaves behind in variables of yours stays as it was.

        Where it is broken, that is told, and the app stays as it was.
        """
        click.echo("Reloading...")
        importlib.invalidate_caches()
        linecache.checkcache()
        old = {name: module for name, module in sys.modules.items() if self._is_users(name, module)}
        for name in old:
            del sys.modules[name]
        try:
            found = find(self._target)
            found.app.subscriptions()
        except (BrokenAppError, Error) as error:
            sys.modules.update(old)
            told = error.message if isinstance(error, BrokenAppError) else f"karafka: {error}\n"
            click.echo(f"{told}The app stays as it was.", err=True)
            return
        self.end()
        self._found = found
        self.begin()

    # ── for these ────────────────────────────────────────────────────────────────────────────────────────────

    def _routed(self, topic: str) -> tuple[Subscription, Route] | tuple[None, None]:
        """The first group that reads `topic`, and by which route."""
        for one in self.app.subscriptions():
            if (route := one.route_for(topic)) is not None:
                return one, route
        return None, None

    def _producer(self, kafka: Settings) -> Producer:
        if not kafka:
            return self.app.producer
        which = repr(sorted(kafka.items()))
        if which not in self._producers:
            self._producers[which] = self.app.producer_for(kafka)
        return self._producers[which]

    def _is_users(self, name: str, module: ModuleType) -> bool:
        """Whether a module came with the app, and is no library: in its folder or the current one, or its package."""
        if name in self._before or (file := getattr(module, "__file__", None)) is None:
            return False
        path = Path(file)
        if name.split(".", maxsplit=1)[0] == self._found.module.__name__.split(".")[0]:
            return True
        homes = (Path.cwd(), Path(self._found.file).parent)
        return "site-packages" not in path.parts and any(path.is_relative_to(home) for home in homes)


def _parser_of(route: Route | None) -> Callable[[bytes | None], Any]:
    """As the route parses; without one JSON where it is that, else text, else bytes."""
    if route is None:
        return _guessed
    parse = payloads(route.topic.options.parser, payload_type(route.controller)).parse
    return (lambda raw: asyncio.run(parse(raw))) if iscoroutinefunction(parse) else parse


def _guessed(raw: bytes | None) -> Any:
    if raw is None:
        return None
    for read in (JSON().parse, bytes.decode):
        try:
            return read(raw)
        except ValueError:
            continue
    return raw


def _time(message: Message[Any]) -> str:
    if message.timestamp < 0:
        return "-"
    return datetime.fromtimestamp(message.timestamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _key(message: Message[Any]) -> str:
    return "-" if message.key is None else message.key.decode(errors="backslashreplace")


def _payload(message: Message[Any]) -> str:
    try:
        text = repr(message.payload)
    except ParseError as error:
        text = f"unreadable: {str(error).partition('cannot be parsed: ')[2] or error}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
