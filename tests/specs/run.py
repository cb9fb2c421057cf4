"""Small apps run whole in this process, and watched: what every spec stands on.

`with running(app) as server:` starts a `Server` and stops it at the end. Whatever the spec itself asserts, it fails
when the app told of an error that the spec does not allow, when a message was performed again after it was finished,
when a message was passed over or performed beside another of its partition, when a commit passed unfinished work, and
when the server did not end with the status expected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import iscoroutinefunction
from threading import Condition
from typing import Any, Generic, TypeAlias, TypeVar, cast

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from karafka import App, Server
from karafka.events import Assigned, Buried, Committed, ErrorOccurred, Event, OutOfRange, Received
from karafka.messages import Handler, Run
from karafka.routing import Route, Subscription
from karafka.setbacks import Work
from tests.brokers import new_group, new_topic
from tests.brokers import until as until_true

T = TypeVar("T")
E = TypeVar("E", bound=Event)
Where: TypeAlias = tuple[str, str, int]

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
class Assignment:
    """What a watch knows of one assignment of one partition."""

    #: All below is finished.
    floor: int = 0
    #: The first message of a run that came back unfinished: the next run begins with it.
    owed: int | None = None
    active: Run | None = None
    #: Received and not finished: [offset of the first, how many].
    waiting: deque[list[int]] = field(default_factory=deque)

    def finish(self, count: int, position: int) -> None:
        self.floor = position
        while count and self.waiting:
            first = self.waiting[0]
            part = min(count, first[1])
            first[0], first[1], count = first[0] + part, first[1] - part, count - part
            if not first[1]:
                self.waiting.popleft()

    def unfinished(self) -> int | None:
        """The first offset that is not finished for sure; None if nothing is in hand."""
        if (run := self.active) is not None:
            done = run.progress
            return offset_of(run, done) if done < len(run.records) else offset_of(run, -1) + 1
        if self.owed is not None:
            return self.owed
        return max(self.floor, self.waiting[0][0]) if self.waiting else None


class Watch:
    """Hears all an app tells and sees all its handlers do."""

    def __init__(self, app: App, allowed: tuple[type[ErrorOccurred], ...]) -> None:
        self.app = app
        self.events: list[Event] = []
        self.violations: list[str] = []
        self.server = Watched(app, self)
        self._allowed = allowed
        self._assignments: dict[Where, Assignment] = {}
        app.events.on(Event, self._hear)

    def told(self, kind: type[E]) -> list[E]:
        """The events of `kind` so far."""
        return [event for event in self.events.copy() if isinstance(event, kind)]

    def check(self) -> None:
        if self.violations:
            raise AssertionError("\n".join(self.violations))

    def over(self, group: str, handler: Handler) -> Handler:
        """`handler`, watched."""
        call: Any = handler
        if iscoroutinefunction(handler):

            async def aside(run: Run) -> None:
                assignment = self._begin(group, run)
                try:
                    await call(run)
                finally:
                    self._end(assignment, run)

            return aside

        def plain(run: Run) -> None:
            assignment = self._begin(group, run)
            try:
                call(run)
            finally:
                self._end(assignment, run)

        return plain

    def _begin(self, group: str, run: Run) -> Assignment:
        where = (group, run.records[0].topic() or "", run.records[0].partition() or 0)
        first = offset_of(run, 0)
        with CHANGED:
            one = self._assignments[where]
            if one.active is not None:
                self._violated(f"{where}: {first} is performed beside {offset_of(one.active, 0)}")
            if first < one.floor:
                self._violated(f"{where}: {first} is performed again: all below {one.floor} was finished")
            if one.owed is not None and first > one.owed:
                self._violated(f"{where}: {one.owed} is not finished and passed over: {first} is performed")
            one.active, one.owed = run, None
        return one

    def _end(self, one: Assignment, run: Run) -> None:
        with CHANGED:
            one.active = None
            if run.finished:
                one.finish(run.finished, offset_of(run, run.finished - 1) + 1)
            if run.finished < len(run.records):
                one.owed = offset_of(run, run.finished)
            CHANGED.notify_all()

    def _hear(self, event: Event) -> None:
        with CHANGED:
            self.events.append(event)
            match event:
                case Assigned(group=group, starts=starts):
                    for (topic, partition), offset in starts.items():
                        self._assignments[group, topic, partition] = Assignment(offset)
                case Received(group=group, topic=topic, partition=partition, offset=offset, count=count):
                    self._assignments[group, topic, partition].waiting.append([offset, count])
                case Buried(group=group, topic=topic, partition=partition, offset=offset):
                    one = self._assignments[group, topic, partition]
                    one.owed = None
                    one.finish(1, offset + 1)
                case Committed(group=group, offsets=offsets):
                    for (topic, partition), position in offsets.items():
                        self._committed((group, topic, partition), position)
                case OutOfRange(group=group, topic=topic, partition=partition, resumed=int(resumed)):
                    self._assignments[group, topic, partition] = Assignment(resumed)
                case _:
                    pass
            if isinstance(event, ErrorOccurred) and not isinstance(event, self._allowed):
                self._violated(f"unexpected: {event}")
            CHANGED.notify_all()

    def _committed(self, where: Where, position: int) -> None:
        unfinished = self._assignments[where].unfinished()
        if unfinished is not None and position > unfinished:
            self._violated(f"{where}: committed {position}, but {unfinished} is not finished")

    def _violated(self, words: str) -> None:
        self.violations.append(words)
        CHANGED.notify_all()


class Watched(Server):
    """A server whose handlers are watched."""

    def __init__(self, app: App, watch: Watch) -> None:
        self._watch = watch
        super().__init__(app)

    def _work(self, route: Route, subscription: Subscription) -> Work:
        work = super()._work(route, subscription)
        return replace(work, handler=self._watch.over(route.group, work.handler))


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
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "message.max.bytes": 2_000_000})
        for payload in payloads:
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

    def commit(self, group: str, offset: TopicPartition) -> None:
        """Set what `group`, which nobody runs, has committed."""
        with self.reader(group) as reader:
            reader.commit(offsets=[offset], asynchronous=False)

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

    def reader(self, group: str) -> Consumer:
        return Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "enable.auto.commit": False})
