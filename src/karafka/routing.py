"""Topics to controllers: routes, groups, their checks; and from each route its handler."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from inspect import iscoroutinefunction
from typing import TypeAlias, TypedDict, Unpack, get_args

from karafka.application import Application
from karafka.backends.named import Backends, check_backend
from karafka.backends.port import Backend
from karafka.checks import check_topic, number, one_of, whole
from karafka.config import Config, Settings, check_group, check_settings, check_start
from karafka.controllers import (
    Answering,
    AnyController,
    BatchController,
    Context,
    Missing,
    check_controller,
    partition_hooks,
    payload_type,
)
from karafka.errors import ConfigError
from karafka.events import Events
from karafka.handlers import handler_for
from karafka.interchangers import Interchanger, check_interchanger
from karafka.mapper import mapped
from karafka.messages import Handler, PartitionHooks, Record
from karafka.naming import NAMED, Found, belonging
from karafka.order import Order, lane_of
from karafka.parsers import Parser, check_parser, payloads
from karafka.performing import Background, Enqueue, Performing
from karafka.policy import Backoff, DeadLetter, Gap, Inside, Marking, Policy, Start
from karafka.responders import Responder, check_responder
from karafka.workers import Worker, check_worker, home, worker_of

Name: TypeAlias = str | re.Pattern[str]

BATCH = 100
GATHER = 1.0
# Of full batches so many messages may be handed over at once, as of messages that go one by one.
HAND_OVER = Policy().max_messages
# Messages of an async route that are performed side by side where its order allows it and it names no number.
TASKS = 100


class Unsaid(Enum):
    """Nothing was said, where None says something."""

    UNSAID = "unsaid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a route may say; None where it leaves it to its group, and that to the app."""

    group: str | None = None
    parser: Parser | None = None
    concurrency: int | None = None
    order: Order = "partition"
    retry: Backoff | Unsaid | None = Unsaid.UNSAID
    dead_letter: DeadLetter | None = None
    start: Start | None = None
    on_gap: Gap = "earliest"
    marking: Marking = "auto"
    max_messages: int | None = None
    max_wait: float | None = None
    exactly_once: bool = False
    responder: type[Responder] | Unsaid | None = Unsaid.UNSAID
    responder_missing: Missing = "error"
    backend: Backend | str | Unsaid | None = Unsaid.UNSAID
    worker: type[Worker] | None = None
    interchanger: Interchanger | None = None

    def check(self, where: str) -> None:
        if self.group is not None:
            check_group(self.group, f"{where}: group")
        if self.concurrency is not None:
            whole(f"{where}: concurrency", self.concurrency, 1)
        if self.start is not None:
            check_start(self.start, f"{where}: start")
        one_of(f"{where}: on_gap", self.on_gap, get_args(Gap))
        one_of(f"{where}: marking", self.marking, get_args(Marking))
        if self.max_messages is not None:
            whole(f"{where}: max_messages", self.max_messages, 1)
        if self.order not in {"partition", "key", None} and not callable(self.order):
            raise ConfigError(
                f'{where}: order={self.order!r}, but "partition", "key" or None is expected, or a function of the '
                "message that names its lane"
            )
        if self.max_wait is not None:
            number(f"{where}: max_wait", self.max_wait, 0)
        if not isinstance(self.retry, Backoff | Unsaid | None):
            raise ConfigError(f"{where}: retry={self.retry!r}, but a Backoff is expected, or None for no second try")
        if not isinstance(self.dead_letter, DeadLetter | None):
            raise ConfigError(f"{where}: dead_letter={self.dead_letter!r}, but a DeadLetter is expected")
        if self.parser is not None:
            check_parser(where, self.parser)

    def check_answers(self, where: str) -> None:
        one_of(f"{where}: responder_missing", self.responder_missing, get_args(Missing))
        if not isinstance(self.responder, Unsaid | None):
            check_responder(where, self.responder)

    def check_background(self, where: str) -> None:
        if not isinstance(self.backend, Unsaid):
            check_backend(f"{where}: backend", self.backend)
        if self.worker is not None:
            check_worker(f"{where}: worker", self.worker)
        if self.interchanger is not None:
            check_interchanger(where, self.interchanger)

    def check_exactly_once(self, where: str) -> None:
        if not self.exactly_once:
            return
        refused = {
            'order other than "partition"': self.order != "partition",
            'marking="manual"': self.marking == "manual",
            "DeadLetter(crashes=True)": self.dead_letter is not None and self.dead_letter.crashes,
        }
        for option, there in refused.items():
            if there:
                raise ConfigError(
                    f"{where}: exactly_once=True commits the finished messages of a partition in order, by itself: "
                    f"it does not go with {option}"
                )


@dataclass(frozen=True, slots=True)
class Topic:
    """One line of the routing table: `topic` (or a pattern of names) goes to `controller`."""

    name: Name
    controller: type[AnyController]
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        where = f"topic({self.shown!r})"
        if isinstance(self.name, re.Pattern):
            if not isinstance(self.name.pattern, str):
                raise ConfigError(
                    f"topic({self.name!r}): names of topics are text, so the pattern must be: re.compile(r'…')"
                )
        else:
            check_topic(self.name, "topic(…)")
        check_controller(self.controller)
        self.options.check(where)
        self.options.check_answers(where)
        self.options.check_background(where)
        self.options.check_exactly_once(where)
        parser, perform = self.options.parser, self.controller.perform
        if parser is not None and iscoroutinefunction(parser.parse) and not iscoroutinefunction(perform):
            raise ConfigError(
                f"{where}: {type(parser).__qualname__}.parse is async, but {self.controller.__qualname__}.perform is "
                "not, and cannot wait for it: make both async, or neither"
            )
        batch = issubclass(self.controller, BatchController)
        if not batch and self.options.max_wait is not None:
            raise ConfigError(
                f"{where}: max_wait gathers batches, but {self.controller.__qualname__} takes single messages: "
                "make it a BatchController"
            )
        grave = self.options.dead_letter
        if grave is not None:
            check_topic(grave.topic, f"{where}: dead_letter")
            if self.matches(grave.topic):
                raise ConfigError(f"{where}: its dead letters would go back to itself: name another topic for them")

    @property
    def shown(self) -> str:
        return self.name.pattern if isinstance(self.name, re.Pattern) else self.name

    def matches(self, topic: str) -> bool:
        return bool(self.name.fullmatch(topic)) if isinstance(self.name, re.Pattern) else self.name == topic


@dataclass(frozen=True, slots=True)
class Group:
    """Topics that a consumer group reads together, maybe from a cluster of its own."""

    name: str
    topics: tuple[Topic, ...]
    kafka: Settings = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_group(self.name, "group(…)")
        check_settings(self.kafka, f"group({self.name!r}, kafka=…)")


class TopicOptions(TypedDict, total=False):
    """What `topic(…)` and `@app.topic(…)` take by name.

    `group`: the consumer group, the app's default one otherwise. `parser`: JSON otherwise. `concurrency`: workers of
    its own (threads; tasks for an async perform). `order`: which messages are performed in order, one at a time:
    "partition", those of a partition; "key", those of a key (those without one are in order among themselves); None,
    none; or a function of the message that names its lane. `retry`, `dead_letter`: what becomes of what fails.
    `start`: where a group begins that has never read the topic. `on_gap`: where it goes on when messages were deleted
    before it read them: "earliest" (the first that is kept), "latest" (the end), or "stop" (nowhere, until a person
    decides). `marking`: "manual" where nothing but `self.mark` finishes a message. `max_messages`, `max_wait`
    (seconds): bounds of a batch. `exactly_once`: what `perform` sends by `self.produce` and the offset of its message
    are committed together, or not at all; with a backend, the job and the offset are. `responder`: what
    `self.respond_with` answers by; the class that belongs to the controller by its name otherwise, None for no one.
    `responder_missing`: what becomes of a message that was performed without an answer though its responder has to
    send something: "error" (it fails), "warn" (an event), "ignore". `backend`: the job queue by which `karafka worker`
    performs the messages ("kafka"), the app's otherwise; None for the server itself. `worker`: says how it does; the
    class that belongs to the controller by its name otherwise, or one that is made. `interchanger`: how params cross
    the queue.
    """

    group: str
    parser: Parser
    concurrency: int
    order: Order
    retry: Backoff | None
    dead_letter: DeadLetter
    start: Start
    on_gap: Gap
    marking: Marking
    max_messages: int
    max_wait: float
    exactly_once: bool
    responder: type[Responder] | None
    responder_missing: Missing
    backend: Backend | str | None
    worker: type[Worker]
    interchanger: Interchanger


def topic(name: Name, controller: type[AnyController], **options: Unpack[TopicOptions]) -> Topic:
    """A line for `routes.draw`: messages of `name` go to `controller`; see `TopicOptions` for the rest.

    `name` is text, or a compiled pattern that a whole topic name must match. Raises `ConfigError`.
    """
    unknown = options.keys() - TopicOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(TopicOptions.__annotations__)
        raise ConfigError(f"topic({name!r}): there is no option {min(unknown)!r}; there are {known}")
    return Topic(name, controller, Options(**options))


def group(name: str, *topics: Topic, kafka: Settings | None = None) -> Group:
    """A consumer group for `routes.draw`: `name` is Kafka's group id as written.

    `kafka` adds to the app's settings and overrides them, `bootstrap.servers` too: one process, several clusters.
    """
    for one in topics:
        if one.options.group is not None:
            raise ConfigError(
                f"group({name!r}): topic {one.shown!r} names the group {one.options.group!r}: one of them"
            )
    return Group(name, topics, kafka or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One topic (or pattern) in one group, complete: what `server` makes work from."""

    topic: Topic
    group: str
    policy: Policy
    handler: Handler
    hooks: PartitionHooks
    concurrency: int | None
    asynchronous: bool
    #: What `self.respond_with` answers by, and where that was found; None if there is none.
    responder: Found[Responder] | None = None
    #: How its messages are performed by `karafka worker`; None where the server performs them.
    background: Background | None = None
    #: Of a job queue: what is in one of its messages.
    inside: Callable[[Record], Inside | None] | None = None

    @property
    def controller(self) -> type[AnyController]:
        return self.topic.controller


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A consumer group on a cluster: what one listener reads. `kafka` are the settings it adds to the app's.

    `lines` are all that is drawn for the group there, `routes` those of them that this process reads.
    """

    group: str
    kafka: Settings
    lines: tuple[Topic, ...]
    routes: tuple[Route, ...]

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are named, without patterns."""
        return tuple(one.topic.name for one in self.routes if isinstance(one.topic.name, str))

    @property
    def patterns(self) -> tuple[Route, ...]:
        return tuple(one for one in self.routes if isinstance(one.topic.name, re.Pattern))

    def route_for(self, name: str) -> Route | None:
        """The route of a topic: the one that names it, else the first whose pattern it matches.

        None where that one is for another process: a pattern of ours does not take its messages.
        """
        named = (one for one in self.lines if one.name == name)
        line = next(named, None) or next((one for one in self.lines if one.matches(name)), None)
        return next((one for one in self.routes if one.topic is line), None)


class Routes:
    """The routing table. Drawn while the app is declared, on one thread; read-only once a server is made."""

    def __init__(
        self, config: Config, backend: Backend | str | None = None, attach: Callable[[Backend], None] = lambda _: None
    ) -> None:
        """`backend`: the job queue of lines that name none. `attach` is told of each that is named."""
        #: The app's: what lines have that say nothing else.
        self.config = config
        self._backends = Backends(attach)
        self._backend = self._backends.get("App(backend=…)", backend)
        self._groups: list[Group] = []
        self._wanted: Callable[[str, Topic], bool] = lambda _group, _line: True

    def draw(self, *declarations: Topic | Group) -> None:
        """Add `topic(…)`s (to the app's default group, or the one they name) and `group(…)`s. Raises `ConfigError`."""
        for one in declarations:
            match one:
                case Topic():
                    self._add(Group(one.options.group or self.config.client_id, (one,)))
                case Group():
                    self._add(one)
                case _:
                    raise ConfigError(f"routes.draw({one!r}): a topic(…) or a group(…) is expected")

    def _add(self, new: Group) -> None:
        for old in self._groups:
            if old.name == new.name and dict(old.kafka) == dict(new.kafka):
                for one in new.topics:
                    self._refuse_twice(old.name, old.topics, one)
        for index, one in enumerate(new.topics):
            self._refuse_twice(new.name, new.topics[:index], one)
            self._check_mapped(one)
            if not isinstance(one.options.backend, Unsaid):
                self._backends.get(f"topic({one.shown!r}): backend", one.options.backend)
        self._groups.append(new)

    def _check_mapped(self, line: Topic) -> None:
        """The cluster's names of what is named lead back to it."""
        if (mapper := self.config.topic_mapper) is not None:
            if isinstance(line.name, str):
                mapped(mapper, line.name)
            if line.options.dead_letter is not None:
                mapped(mapper, line.options.dead_letter.topic)

    @staticmethod
    def _refuse_twice(group: str, others: Sequence[Topic], one: Topic) -> None:
        for other in others:
            if other.name == one.name:
                raise ConfigError(
                    f"topic {one.shown!r} is routed twice in group {group!r}, to {other.controller.__qualname__} and "
                    f"{one.controller.__qualname__}: a group reads a topic once; use group(…) for a second reader"
                )

    def select(self, wanted: Callable[[str, Topic], bool]) -> None:
        """From here on this process has those lines alone of which `wanted(group, line)` holds, once all are drawn.

        What is drawn stays what it is: where dead letters go, and which line of a group a topic belongs to.
        """
        self._wanted = wanted

    def __iter__(self) -> Iterator[tuple[str, Topic]]:
        """Each topic with its group, as drawn, of those selected."""
        return ((group.name, line) for group in self._groups for line in group.topics if self._wanted(group.name, line))

    @property
    def graves(self) -> frozenset[str]:
        """All topics that dead letters go to, whichever lines are selected."""
        lines = (line for group in self._groups for line in group.topics)
        return frozenset(line.options.dead_letter.topic for line in lines if line.options.dead_letter is not None)

    def subscriptions(self, events: Events, app: Application, *, unselected: bool = False) -> tuple[Subscription, ...]:
        """What there is to read, a listener each: the routes of a group on one cluster, with their handlers made.

        With `unselected` also that which other processes read.
        """
        self._refuse_loops()
        by_group: dict[str, list[Group]] = {}
        for one in self._groups:
            by_group.setdefault(one.name, []).append(one)
        found = (
            Subscription(
                group=name,
                kafka=kafka,
                lines=tuple(lines),
                routes=tuple(
                    self._route(name, one, kafka, events, app) for one in lines if unselected or self._wanted(name, one)
                ),
            )
            for name, parts in by_group.items()
            for kafka, lines in _by_cluster(parts)
        )
        return tuple(one for one in found if one.routes)

    def _refuse_loops(self) -> None:
        """Refuse dead letters that come back, over whatever topics and groups of one cluster."""
        for group in self._groups:
            lines = [line for one in self._groups if dict(one.kafka) == dict(group.kafka) for line in one.topics]
            for line in group.topics:
                way = [line]
                while (grave := way[-1].options.dead_letter) is not None:
                    after = next((one for one in lines if one.matches(grave.topic) and one.options.dead_letter), None)
                    if after is None:
                        break
                    if after in way:
                        names = " → ".join(one.shown for one in (*way[way.index(after) :], after))
                        raise ConfigError(
                            f"dead letters would go round for ever: {names}. Let the last topic have none"
                        )
                    way.append(after)

    def _route(self, group: str, line: Topic, kafka: Settings, events: Events, app: Application) -> Route:
        options, config = line.options, self.config
        controller = line.controller
        batch = issubclass(controller, BatchController)
        reading = payloads(options.parser, payload_type(controller))
        responder = _responder(line)
        answering = None if responder is None else _answering(line, responder.cls)
        context = Context(group, reading.parse, reading.decode, events, app, answering)
        if options.exactly_once and {**config.kafka, **kafka}.get("isolation.level") == "read_uncommitted":
            raise ConfigError(
                f"topic({line.shown!r}): exactly_once=True needs isolation.level=read_committed, the default: else a "
                "partition could begin before the transaction of its former owner has ended"
            )
        background = self._background(group, line, kafka, context)
        handler = (
            handler_for(controller, context) if background is None else Enqueue(controller, context, background).handler
        )
        policy = Policy(
            retry=config.retry if isinstance(options.retry, Unsaid) else options.retry,
            dead_letter=options.dead_letter,
            start=options.start or config.start,
            on_gap=options.on_gap,
            manual=options.marking == "manual",
            exactly_once=options.exactly_once,
            batch=batch,
        )
        policy = replace(
            policy,
            max_messages=options.max_messages or (BATCH if batch else policy.max_messages),
            max_wait=(GATHER if options.max_wait is None else options.max_wait) if batch else 0.0,
        )
        asynchronous = iscoroutinefunction(handler)
        lane = lane_of(options.order, context, policy.max_messages if batch else 1)
        # Where a batch that fails is given out again as it was, and no other waits for its context, they go together.
        many = batch and not asynchronous and not policy.manual and lane is None
        policy = replace(
            policy,
            batches=max(1, HAND_OVER // policy.max_messages) if many else 1,
            lane=lane,
            width=options.concurrency or (TASKS if asynchronous else config.concurrency),
        )
        return Route(
            topic=line,
            group=group,
            policy=policy,
            handler=handler,
            hooks=partition_hooks(controller),
            concurrency=options.concurrency,
            asynchronous=asynchronous,
            responder=responder,
            background=background,
        )

    def _background(self, group: str, line: Topic, kafka: Settings, context: Context) -> Background | None:
        named, options = line.options.backend, line.options
        where = f"topic({line.shown!r})"
        backend = self._backend if isinstance(named, Unsaid) else self._backends.get(f"{where}: backend", named)
        if backend is None:
            if (idle := options.worker or options.interchanger) is not None:
                raise ConfigError(
                    f'{where}: {idle!r} is of no use without a backend: topic(…, backend="kafka"), or App(…, backend=…)'
                )
            return None
        controller = line.controller
        if issubclass(controller, BatchController):
            raise ConfigError(
                f"{where}: a job is one message, but {controller.__qualname__} takes batches: make it a Controller, or "
                "topic(…, backend=None)"
            )
        if options.marking == "manual":
            raise ConfigError(
                f'{where}: marking="manual" leaves it to perform when a message is finished; with a backend it is when '
                "the queue has it"
            )
        worker = Found(options.worker, NAMED) if options.worker is not None else worker_of(controller)
        backend.check(where, worker.cls)
        for needed in backend.topics(context.app, worker.cls.queue):
            check_topic(needed, f"{where}: {worker.cls.__qualname__}.queue")
            if self.config.topic_mapper is not None:
                mapped(self.config.topic_mapper, needed)
        interchanger = options.interchanger or Interchanger()
        performing = Performing(controller, context, interchanger)
        # No topic has a slash in its name: a pattern is not taken for the topic that is called like it.
        route = line.shown if isinstance(line.name, str) else f"/{line.shown}/"
        return Background(group, route, kafka, backend, worker, interchanger, performing, self._homes())

    def _homes(self) -> frozenset[str]:
        """The packages that the app's controllers, and the workers they name, are written in."""
        lines = [line for group in self._groups for line in group.topics]
        classes = (one for line in lines for one in (line.controller, line.options.worker, line.controller.worker))
        return frozenset(home(one) for one in classes if isinstance(one, type))


def _responder(line: Topic) -> Found[Responder] | None:
    """What the controller of `line` answers by: only now, when all that is declared is there to be found."""
    named = line.options.responder
    if not isinstance(named, Unsaid):
        return None if named is None else Found(named, NAMED)
    if (found := belonging(line.controller, "Responder", Responder, "write topic(…, responder=None)")) is not None:
        check_responder(f"topic({line.shown!r})", found.cls)
    return found


def _answering(line: Topic, responder: type[Responder]) -> Answering:
    """Raises `ConfigError` for a responder that cannot answer there."""
    awaits, awaited = iscoroutinefunction(line.controller.perform), iscoroutinefunction(responder.respond)
    if awaited and not awaits:
        raise ConfigError(
            f"topic({line.shown!r}): {responder.__qualname__}.respond is async, but "
            f"{line.controller.__qualname__}.perform is not, and cannot wait for it: make both async, or neither"
        )
    return Answering(responder, line.options.responder_missing, awaits, awaited)


def _by_cluster(parts: Sequence[Group]) -> list[tuple[Settings, list[Topic]]]:
    """The topics of one group's parts, those with the same settings together."""
    clusters: list[tuple[Settings, list[Topic]]] = []
    for part in parts:
        for kafka, topics in clusters:
            if dict(kafka) == dict(part.kafka):
                topics.extend(part.topics)
                break
        else:
            clusters.append((part.kafka, list(part.topics)))
    return clusters
