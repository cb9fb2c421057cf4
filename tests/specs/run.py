"""Small apps run whole in this process, and watched: what every spec stands on.

`with running(app) as server:` starts a `Server` and stops it at the end. Whatever the spec itself asserts, it fails
when the app told of an error that the spec does not allow, when a message was performed again after it was finished,
when a message was passed over or performed beside another of its partition, when a commit was asked for that passed
unfinished work, or confirmed without having been asked for, and when the server did not end with the status expected.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import iscoroutinefunction
from itertools import pairwise
from threading import Condition
from typing import Any, Generic, TypeAlias, TypeVar, cast

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from karafka import App, Server
from karafka.assignment import Assignment
from karafka.client import Consumer as Client
from karafka.client import Kept
from karafka.events import (
    Assigned,
    Buried,
    Committed,
    Discarded,
    ErrorOccurred,
    Event,
    OutOfRange,
    Received,
    Sought,
    TopicRenewed,
)
from karafka.listener import Listener
from karafka.messages import Handler, Place, Record, Run
from karafka.metadata import Memo, decode
from karafka.routing import Route, Subscription
from karafka.setbacks import Work
from tests.brokers import new_group, new_topic
from tests.brokers import until as until_true

T = TypeVar("T")
E = TypeVar("E", bound=Event)
Where: TypeAlias = tuple[str, str, int]

# Each rebalance takes all partitions away and gives them anew; members hear of it soon.
EAGER: Mapping[str, str | int] = {"partition.assignment.strategy": "range", "heartbeat.interval.ms": 200}

# Notified by everything that specs wait for: events, finished runs, notes.
CHANGED = Condition()
WATCHES: list[Watch] = []


def until(condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Wait until `condition` holds, looking again whenever something happened. Fails at once if a watch does."""

    def decided() -> bool:
        return any(watch.violations for watch in WATCHES) or bool(condition())

    with CHANGED:
        in_time = CHANGED.wait_for(decided, timeout)
        for watch in WATCHES:
            watch.check()
    assert in_time, f"not so within {timeout} s"


class Notes(Generic[T]):
    """What performs wrote down, in order. Any thread; each note is looked at by `until`."""

    def __init__(self) -> None:
        self._notes: list[T] = []

    def add(self, note: T) -> None:
        with CHANGED:
            self._notes.append(note)
            CHANGED.notify_all()

    def __iter__(self) -> Iterator[T]:
        return iter(self._notes.copy())

    def __len__(self) -> int:
        return len(self._notes)

    def all(self) -> list[T]:
        return self._notes.copy()


@dataclass
class Life:
    """What a watch knows of one assignment of one partition."""

    #: All below is finished.
    floor: int = 0
    #: Whether nothing but a mark finishes a message.
    manual: bool = False
    #: The first message of a run that came back unfinished: the next run begins with it, or before it.
    owed: int | None = None
    active: Run | None = None
    #: Received and not performed: [offset of the first, how many].
    waiting: deque[list[int]] = field(default_factory=deque)
    #: Performed, and finished by a mark alone, where marking is manual.
    unmarked: list[int] = field(default_factory=list)
    #: Buried or given up.
    settled: set[int] = field(default_factory=set)
    #: What the engine asked to be committed.
    asked: set[int] = field(default_factory=set)
    #: As user code sees it; None before the first run.
    ours: Assignment | None = None

    @property
    def marked(self) -> int:
        """All below was marked."""
        return 0 if self.ours is None else self.ours.marked

    def receive(self, offset: int, count: int) -> None:
        if self.waiting and offset < sum(self.waiting[-1]):
            # After a failure, where marking is manual: all that is not marked comes again.
            self.waiting.clear()
        self.waiting.append([offset, count])

    def begin(self, run: Run, offsets: list[int]) -> None:
        self.ours = run.assignment
        self.unmarked = [one for one in self.unmarked if one < offsets[0]]
        self.active, self.owed = run, None

    def end(self, run: Run, offsets: list[int]) -> None:
        done = max(run.finished, bisect_left(offsets, self.marked))
        self.active, self.owed = None, offsets[done] if done < len(offsets) else None
        if self.manual:
            self.unmarked += offsets[:done]
        elif done:
            self.floor = offsets[done - 1] + 1
        self._performed(done)

    def settle(self, offset: int) -> None:
        """The message that is owed was buried, or given up."""
        self.owed = None
        self.settled.add(offset)
        self._performed(1)

    def _performed(self, count: int) -> None:
        while count and self.waiting:
            first = self.waiting[0]
            part = min(count, first[1])
            first[0], first[1], count = first[0] + part, first[1] - part, count - part
            if not first[1]:
                self.waiting.popleft()

    def unfinished(self) -> int | None:
        """The first offset that is not finished for sure; None if nothing is in hand."""
        unmarked = next((one for one in self.unmarked if one >= self.marked), None)
        if unmarked is not None:
            return unmarked
        if self.active is not None:
            return max(self.marked, self._in_hand(self.active))
        if self.owed is not None:
            return max(self.marked, self.owed)
        return max(self.floor, self.marked, self.waiting[0][0]) if self.waiting else None

    def _in_hand(self, run: Run) -> int:
        done = 0 if self.manual else run.progress
        return offset_of(run, done) if done < len(run.records) else offset_of(run, -1) + 1


@dataclass
class Laned:
    """What a watch knows of one assignment of one partition, where only messages of one lane are in order."""

    #: Received, finished, in hand, and come back unfinished.
    received: set[int] = field(default_factory=set)
    finished: set[int] = field(default_factory=set)
    busy: set[int] = field(default_factory=set)
    owed: set[int] = field(default_factory=set)
    #: Those that run, with the offsets of their messages: what is behind the one in hand may be finished already.
    running: dict[Run, list[int]] = field(default_factory=dict)
    #: Whether nothing but a mark finishes a message.
    manual: bool = False

    def begin(self, offsets: list[int], lanes: Mapping[int, Hashable], lane: Callable[[int], Hashable]) -> str | None:
        """A run begins, of messages in `lanes`: what is wrong with that."""
        for one in offsets:
            if one in self.finished:
                return f"{one} is performed again: it was finished"
            if one in self.busy:
                return f"{one} is performed twice at once"
        for one in self.busy:
            if lane(one) in lanes.values():
                return f"{offsets[0]} is performed beside {one} of its lane"
        for one in self.owed.difference(offsets):
            if any(lanes[later] == lane(one) and later > one for later in offsets):
                return f"{one} is not finished and passed over: {offsets} are performed"
        self.busy.update(offsets)
        return None

    def end(self, offsets: list[int], done: int) -> None:
        self.busy.difference_update(offsets)
        self.owed.difference_update(offsets[:done])
        self.owed.update(offsets[done:])
        if not self.manual:
            self.finished.update(offsets[:done])

    def settle(self, offset: int) -> None:
        self.owed.discard(offset)
        self.finished.add(offset)

    def commit(self, position: int, above: tuple[int, ...]) -> str | None:
        """A commit is asked for, and that is to be kept beside it: what is wrong with that."""
        if self.manual:
            return None
        done = self.finished.union(*(offsets[: run.progress] for run, offsets in self.running.items()))
        if passed := [one for one in self.received - done if one < position]:
            return f"committed {position}, but {min(passed)} is not finished"
        for gap, run in zip(above[::2], above[1::2], strict=True):
            kept = set(range(position + gap, position + gap + run))
            if wrong := kept & self.received - done:
                return f"{min(wrong)} is kept as finished, and is not"
            position += gap + run
        return None


class Watch:
    """Hears all an app tells and sees all its handlers do."""

    def __init__(self, app: App, allowed: tuple[type[ErrorOccurred], ...]) -> None:
        self.app = app
        self.events: list[Event] = []
        self.violations: list[str] = []
        self.server = Watched(app, self)
        self._allowed = allowed
        self._lives: dict[Where, Life] = {}
        # The same of topics that are in order by lane.
        self._laned: dict[Where, Laned] = {}
        self._lanes: dict[tuple[str, str], Callable[[Record], Hashable]] = {}
        # What the group keeps as finished above its offset, as read at the start of an assignment.
        self._kept: dict[Where, set[int]] = {}
        app.events.on(Event, self._hear)

    def told(self, kind: type[E]) -> list[E]:
        """The events of `kind` so far."""
        return [event for event in self.events.copy() if isinstance(event, kind)]

    def check(self) -> None:
        if self.violations:
            raise AssertionError("\n".join(self.violations))

    def over(
        self,
        group: str,
        handler: Handler,
        *,
        manual: bool = False,
        lane: Callable[[Record], Hashable] | None = None,
    ) -> Handler:
        """`handler`, watched. `manual`: nothing but a mark finishes a message; `lane` names what is in order."""
        call: Any = handler
        if lane is not None:
            return self._over_lanes(group, handler, lane, manual=manual)
        if iscoroutinefunction(handler):

            async def aside(run: Run) -> None:
                life = self._begin(group, run, manual=manual)
                try:
                    await call(run)
                finally:
                    self._end(life, run)

            return aside

        def plain(run: Run) -> None:
            life = self._begin(group, run, manual=manual)
            try:
                call(run)
            finally:
                self._end(life, run)

        return plain

    def _over_lanes(self, group: str, handler: Handler, lane: Callable[[Record], Hashable], *, manual: bool) -> Handler:
        call: Any = handler
        # What each message's lane is, for as long as it may be asked.
        known: dict[tuple[Where, int], Hashable] = {}

        def begin(run: Run) -> tuple[Laned, list[int]]:
            topic, partition = run.records[0].topic() or "", run.records[0].partition() or 0
            where, offsets = (group, topic, partition), [offset_of(run, index) for index in range(len(run.records))]
            with CHANGED:
                lanes = {at: lane(one) for at, one in zip(offsets, run.records, strict=True)}
                known.update({(where, at): name for at, name in lanes.items()})
                self._lanes[group, topic] = lane
                life = self._laned.setdefault(where, Laned())
                life.manual = manual
                if wrong := life.begin(offsets, lanes, lambda at: known[where, at]):
                    self._violated(f"{where}: {wrong}")
                life.running[run] = offsets
            return life, offsets

        def end(life: Laned, run: Run, offsets: list[int]) -> None:
            with CHANGED:
                del life.running[run]
                life.end(offsets, run.finished)
                CHANGED.notify_all()

        if iscoroutinefunction(handler):

            async def aside(run: Run) -> None:
                life, offsets = begin(run)
                try:
                    await call(run)
                finally:
                    end(life, run, offsets)

            return aside

        def plain(run: Run) -> None:
            life, offsets = begin(run)
            try:
                call(run)
            finally:
                end(life, run, offsets)

        return plain

    def _begin(self, group: str, run: Run, *, manual: bool) -> Life:
        where = (group, run.records[0].topic() or "", run.records[0].partition() or 0)
        offsets = [offset_of(run, index) for index in range(len(run.records))]
        first = offsets[0]
        with CHANGED:
            if where not in self._lives:
                self._violated(f"{where}: {first} is performed without an assignment")
            life = self._lives.setdefault(where, Life(first))
            life.manual = manual
            for before, after in pairwise(offsets):
                if after <= before:
                    self._violated(f"{where}: {after} is given out after {before} in one run")
            if life.active is not None:
                self._violated(f"{where}: {first} is performed beside {offset_of(life.active, 0)}")
            finished = max(life.floor, life.marked)
            if first < finished:
                self._violated(f"{where}: {first} is performed again: all below {finished} was finished")
            for one in life.settled.intersection(offsets):
                self._violated(f"{where}: {one} is performed again: it was buried or given up")
            if life.owed is not None and first > max(life.owed, life.marked):
                self._violated(f"{where}: {life.owed} is not finished and passed over: {first} is performed")
            life.begin(run, offsets)
        return life

    def _end(self, life: Life, run: Run) -> None:
        with CHANGED:
            life.end(run, [offset_of(run, index) for index in range(len(run.records))])
            CHANGED.notify_all()

    def _hear(self, event: Event) -> None:
        with CHANGED:
            self.events.append(event)
            self._follow_lives(event)
            self._follow_messages(event)
            if isinstance(event, ErrorOccurred) and not isinstance(event, self._allowed):
                self._violated(f"unexpected: {event}")
            CHANGED.notify_all()

    def _follow_lives(self, event: Event) -> None:
        match event:
            case Assigned(group=group, starts=starts):
                for (topic, partition), offset in starts.items():
                    where = (group, topic, partition)
                    self._lives[where] = Life(offset)
                    self._laned[where] = Laned(finished=self._kept.pop(where, set()))
            case OutOfRange(group=group, topic=topic, partition=partition, resumed=int(offset)):
                self._lives[group, topic, partition] = Life(offset)
            case Sought(group=group, topic=topic, partition=partition, offset=offset):
                # What was asked for before is answered after.
                asked = self._lives[group, topic, partition].asked
                self._lives[group, topic, partition] = Life(offset, asked=asked)
                self._laned[group, topic, partition] = Laned()
            case TopicRenewed(group=group, topic=topic, partitions=partitions):
                for partition in partitions:
                    self._lives[group, topic, partition] = Life()
            case _:
                pass

    def _follow_messages(self, event: Event) -> None:
        match event:
            case Received(group=group, topic=topic, partition=partition, offset=offset, count=count):
                self._lives[group, topic, partition].receive(offset, count)
                self._laned[group, topic, partition].received.update(range(offset, offset + count))
            case Buried(group=group, topic=topic, partition=partition, offset=offset):
                self._lives[group, topic, partition].settle(offset)
                self._laned[group, topic, partition].settle(offset)
            case Discarded(group=group, topic=topic, partition=partition, offset=offset):
                # By its strategy, when nothing runs; what `perform` gives up is finished by its run.
                life = self._lives[group, topic, partition]
                if offset in self._laned[group, topic, partition].owed:
                    self._laned[group, topic, partition].settle(offset)
                if life.active is None and life.owed == offset:
                    life.settle(offset)
            case Committed(group=group, offsets=offsets):
                for (topic, partition), position in offsets.items():
                    if position not in self._lives[group, topic, partition].asked:
                        self._violated(f"{topic}/{partition}: {position} is confirmed, which nobody asked for")
            case _:
                pass

    def commits(self, group: str, offsets: Mapping[Place, Kept]) -> None:
        """A commit is being asked for: what is finished by the time of its answer does not excuse it."""
        with CHANGED:
            for (topic, partition), kept in offsets.items():
                where, position = (group, topic, partition), kept.offset
                if where not in self._lives:
                    self._violated(f"{where}: committed {position} without an assignment")
                    continue
                life = self._lives[where]
                life.asked.add(position)
                if (group, topic) in self._lanes:
                    memo = decode(kept.metadata) or Memo()
                    if wrong := self._laned[where].commit(position, memo.above):
                        self._violated(f"{where}: {wrong}")
                    continue
                unfinished = life.unfinished()
                if unfinished is not None and position > unfinished:
                    self._violated(f"{where}: committed {position}, but {unfinished} is not finished")

    def reads(self, group: str, committed: Mapping[Place, Kept | None]) -> None:
        """The broker says what is committed."""
        with CHANGED:
            for (topic, partition), kept in committed.items():
                memo = (decode(kept.metadata) if kept is not None else None) or Memo()
                where, above = (group, topic, partition), memo.above
                finished: set[int] = set()
                self._kept[where] = finished
                position = memo.base
                for gap, run in zip(above[::2], above[1::2], strict=True):
                    finished.update(range(position + gap, position + gap + run))
                    position += gap + run

    def _violated(self, words: str) -> None:
        self.violations.append(words)
        CHANGED.notify_all()


class Watched(Server):
    """A server whose handlers and commits are watched."""

    def __init__(self, app: App, watch: Watch) -> None:
        self._watch = watch
        super().__init__(app)

    def _work(self, route: Route, subscription: Subscription) -> Work:
        work = super()._work(route, subscription)
        handler = self._watch.over(route.group, work.handler, manual=work.policy.manual, lane=work.policy.lane)
        return replace(work, handler=handler)

    def _listener(self, subscription: Subscription, memory: int) -> Listener:
        listener = super()._listener(subscription, memory)
        make: Any = listener._membership._make

        def made() -> Client:
            client: Any = make()
            commit, committed = client.commit, client.committed

            def watched(offsets: Mapping[Place, Kept]) -> None:
                self._watch.commits(subscription.group, offsets)
                commit(offsets)

            def read(places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
                answers: dict[Place, Kept | None] = committed(places, timeout)
                self._watch.reads(subscription.group, answers)
                return answers

            client.commit, client.committed = watched, read
            return cast("Client", client)

        listener._membership._make = made
        return listener


@contextmanager
def running(app: App, *, allow: tuple[type[ErrorOccurred], ...] = (), status: int = 0) -> Iterator[Watch]:
    """Run `app` while the block does. `allow`: errors it may tell of; `status`: how it ends."""
    watch = Watch(app, allow)
    WATCHES.append(watch)
    watch.server.start()
    try:
        yield watch
    finally:
        WATCHES.remove(watch)
        ended = watch.server.stop()
    watch.check()
    assert ended == status, f"the server ended with {ended}"
    assert app.events.failures == 0, "a listener raised"


def offset_of(run: Run, index: int) -> int:
    return run.records[index].offset() or 0


class Stage:
    """A real Kafka, with topics and apps of a spec's own."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def app(self, *, kafka: Mapping[str, str | int | float | bool] | None = None, **settings: Any) -> App:
        """An app with a group of its own; `settings` as `App` takes them."""
        name = settings.pop("client_id", None) or new_group()
        return App(name, kafka={"bootstrap.servers": self.bootstrap, **(kafka or {})}, **settings)

    def topic(self, partitions: int = 1, **config: str) -> str:
        """A new topic; `config` in Kafka's names, `_` for `.`."""
        return new_topic(self.bootstrap, partitions, {name.replace("_", "."): at for name, at in config.items()})

    def name_of_topic(self) -> str:
        """A topic's name, without the topic."""
        return new_group().replace("group", "later")

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create `topic` now."""
        from confluent_kafka.cimpl import NewTopic  # noqa: PLC0415 - here alone

        self._admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)

    def remake(self, topic: str, gone: Callable[[], object] = lambda: True) -> None:
        """Delete `topic`, and, once it is `gone`, create it again."""
        self._admin.delete_topics([topic])[topic].result(30)
        until_true(lambda: topic not in self._admin.list_topics(timeout=10).topics)
        until(gone)
        self.create(topic)

    def grow(self, topic: str, partitions: int) -> None:
        """Give `topic` so many partitions in all."""
        self._admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)
        until_true(lambda: len(self._admin.list_topics(topic, timeout=10).topics[topic].partitions) == partitions)

    def send(
        self,
        topic: str,
        payloads: Iterable[bytes | str | None],
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        """Send by a bare client, as another program would."""
        self.send_many(topic, ((payload, key) for payload in payloads), partition=partition, headers=headers)

    def send_many(
        self,
        topic: str,
        messages: Iterable[tuple[bytes | str | None, bytes | None]],
        *,
        partition: int = 0,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        """The same with a key for each payload."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "message.max.bytes": 12_000_000})
        for payload, key in messages:
            while True:
                try:
                    producer.produce(topic, payload, key=key, partition=partition, headers=headers or [])
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(30) == 0

    def committed(self, group: str, topic: str, partitions: int = 1) -> dict[int, int]:
        """What the broker keeps for `group`, by partition; nothing where it keeps nothing."""
        with self.reader(group) as reader:
            asked = [TopicPartition(topic, number) for number in range(partitions)]
            return {one.partition: one.offset for one in reader.committed(asked, 10) if one.offset >= 0}

    def memo(self, group: str, topic: str) -> Memo:
        """What is kept beside the offset of partition 0; an empty one if nothing is."""
        with self.reader(group) as reader:
            (answer,) = reader.committed([TopicPartition(topic, 0)], 10)
        return decode(answer.metadata) or Memo()

    def members(self, group: str) -> list[int]:
        """How many partitions each member of `group` has, fewest first."""
        described = self._admin.describe_consumer_groups([group])[group].result(30)
        return sorted(len(member.assignment.topic_partitions) for member in described.members)

    def commit(self, group: str, offset: TopicPartition) -> None:
        """Set what `group`, which nobody runs, has committed."""
        with self.reader(group) as reader:
            reader.commit(offsets=[offset], asynchronous=False)

    def end(self, topic: str, partition: int = 0) -> int:
        """The offset after the last message of a partition."""
        with self.reader(new_group()) as reader:
            return reader.get_watermark_offsets(TopicPartition(topic, partition), 10)[1]

    def delete(self, topic: str, before: int) -> None:
        """Delete what lies before an offset of partition 0, as retention does."""
        (deleted,) = self._admin.delete_records([TopicPartition(topic, 0, before)]).values()
        deleted.result(10)

    @staticmethod
    def headers(message: Message) -> list[tuple[str, bytes | None]]:
        """A message's headers as the client gives them, which its types do not say."""
        return cast("list[tuple[str, bytes | None]]", message.headers() or [])

    def read(self, topic: str, count: int) -> list[Message]:
        """The first `count` messages of partition 0, by a bare client."""
        with self.reader(new_group()) as reader:
            reader.assign([TopicPartition(topic, 0, 0)])
            found: list[Message] = []
            while len(found) < count:
                more = reader.consume(count - len(found), 10)
                assert more, f"{topic} holds {len(found)} messages"
                found += more
            return found

    @contextmanager
    def member(self, group: str, topic: str, **kafka: str | int) -> Iterator[Consumer]:
        """Another member of `group`, by a bare client: it has its share of `topic`, performs and commits nothing.

        Under the eager protocol, as `kafka=EAGER` has it for the app: a group speaks one.
        """
        shares: list[list[TopicPartition]] = []

        def assigned(_consumer: Consumer, share: list[TopicPartition]) -> None:
            shares.append(share)

        settings = {name.replace("_", "."): value for name, value in kafka.items()}
        settings |= {"bootstrap.servers": self.bootstrap, "group.id": group, "enable.auto.commit": False, **EAGER}
        member = Consumer(settings)
        try:
            member.subscribe([topic], on_assign=assigned)
            until_true(lambda: any((member.poll(0.1), *shares)[1:]), 60)
            yield member
        finally:
            member.close()

    def reader(self, group: str) -> Consumer:
        return Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "enable.auto.commit": False})
