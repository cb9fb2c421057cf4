"""Apps that send results from one topic to another exactly once, and what is seen of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import Any, Protocol, Self

from confluent_kafka import KafkaError, Message
from confluent_kafka import Producer as Client

from karafka import App, Backoff, BatchController, Controller, Server
from karafka.controllers import AnyController
from karafka.events import ErrorOccurred
from karafka.events import Event as Happening
from tests.brokers import new_group
from tests.brokers import until as until_true
from tests.specs import visible
from tests.specs.run import Notes, Stage

KINDS = ("def", "async def", "batch", "async batch")


class Line:
    """`source`, whose messages are numbers, and `target`, where their results go: `partition number`."""

    def __init__(self, stage: Stage, partitions: int = 1, *, results: int = 1, **target: str) -> None:
        self.stage, self.partitions, self.results = stage, partitions, results
        self.source, self.target = stage.topic(partitions), stage.topic(results, **target)
        self.group = new_group()

    def app(
        self,
        controller: type[AnyController],
        *,
        kafka: Mapping[str, str | int] | None = None,
        settings: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> App:
        """A member of the group; `settings` as `App` takes them, `options` as its topic does."""
        quick = {"heartbeat.interval.ms": 200, "session.timeout.ms": 6_000}
        made = self.stage.app(client_id=self.group, kafka=quick if kafka is None else kafka, **(settings or {}))
        made.topic(self.source, **{"exactly_once": True, "retry": Backoff(0.05, 0.1), **options})(controller)
        return made

    def send(self, numbers: Sequence[int], partition: int = 0) -> None:
        self.stage.send(self.source, map(str, numbers), partition=partition)

    def seen(self) -> list[str]:
        """The results that are committed, in the order of their partitions."""
        return visible.seen(self.stage.bootstrap, self.target, self.results)

    def messages(self) -> list[Message]:
        visible.decided(self.stage.bootstrap, self.target, self.results)
        return visible.read(self.stage.bootstrap, self.target, self.results)

    def committed(self) -> list[int | None]:
        """By partition of the source."""
        return visible.committed(self.stage.bootstrap, self.group, self.source, self.partitions)

    def done(self, *ends: int, timeout: float = 30) -> None:
        """Wait until that is committed."""
        try:
            until_true(lambda: self.committed() == list(ends), timeout)
        except TimeoutError:
            raise AssertionError(f"{self.committed()} are committed, not {list(ends)}") from None

    def once(self, *counts: int) -> None:
        """All results of so many numbers from 0, by partition, are seen once, those of each partition in order."""
        found: dict[int, list[int]] = {partition: [] for partition in range(self.partitions)}
        for one in self.seen():
            partition, number = map(int, one.split())
            found[partition].append(number)
        for partition, count in enumerate(counts):
            assert found[partition] == list(range(count)), told(found[partition], count)


def told(numbers: Sequence[int], count: int) -> str:
    """What is wrong with them."""
    doubled = len(numbers) - len(set(numbers))
    missing = count - len(set(numbers) & set(range(count)))
    return f"{doubled} doubled, {missing} missing, {'not ' * (numbers != sorted(numbers))}in order: {numbers[:50]}"


class Single(Controller[int]):
    """Sends on what it is given."""

    target: str

    def pass_on(self) -> None:
        self.produce(self.target, f"{self.message.partition} {self.params}", key=str(self.params))


class Several(BatchController[int]):
    target: str

    def pass_on(self) -> None:
        for one in self.messages:
            self.produce(self.target, f"{one.partition} {one.payload}", key=str(one.payload))


def sender(line: Line, kind: str = "def") -> type[AnyController]:
    """A controller of that kind that sends on what it is given."""

    class Plain(Single):
        target = line.target

        def perform(self) -> None:
            self.pass_on()

    class Aside(Single):
        target = line.target

        async def perform(self) -> None:
            self.pass_on()

    class Batch(Several):
        target = line.target

        def perform(self) -> None:
            self.pass_on()

    class BatchAside(Several):
        target = line.target

        async def perform(self) -> None:
            self.pass_on()

    kinds: tuple[type[AnyController], ...] = (Plain, Aside, Batch, BatchAside)
    return kinds[KINDS.index(kind)]


class Told(Notes[Happening]):
    """All that an app tells, in order."""

    def of(self, kind: type[Happening]) -> list[Any]:
        return [one for one in self if isinstance(one, kind)]


@contextmanager
def serving(app: App, *, allow: tuple[type[ErrorOccurred], ...] = (), status: int = 0) -> Iterator[Told]:
    """Run `app` while the block does; it may tell of no error but those of `allow`.

    Not `run.running`: what a transaction did not commit is performed again, though its perform had finished.
    """
    heard = Told()
    app.events.on(Happening, heard.add)
    server = Server(app)
    server.start()
    try:
        yield heard
    finally:
        ended = server.stop()
    unexpected = [one for one in heard if isinstance(one, ErrorOccurred) and not isinstance(one, allow)]
    assert not unexpected, unexpected[:3]
    assert ended == status, f"the server ended with {ended}"
    assert app.events.failures == 0, "a listener raised"


class Sourced(Protocol):
    """Has a topic that is to be sent to."""

    stage: Stage
    source: str
    partitions: int


class Flow:
    """Sends numbers from 0 to each partition of a line's source, so many a second in all, while the block runs."""

    def __init__(self, line: Sourced, rate: int = 1_000) -> None:
        self._line, self._rate = line, rate
        self._client = Client(
            {"bootstrap.servers": line.stage.bootstrap, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
        )
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self.sent = 0
        self._lost: list[str] = []

    def _told(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._lost.append(error.name())

    def _run(self) -> None:
        began = monotonic()
        while not self._over.wait(0.01):
            for number in range(self.sent, int((monotonic() - began) * self._rate)):
                partition, payload = number % self._line.partitions, str(number // self._line.partitions)
                self._client.produce(self._line.source, payload, partition=partition, on_delivery=self._told)
                self.sent = number + 1
            self._client.poll(0)

    def counts(self) -> list[int]:
        """How many were sent to each partition."""
        most, more = divmod(self.sent, self._line.partitions)
        return [most + (partition < more) for partition in range(self._line.partitions)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        assert self._client.flush(30) == 0
        assert self._lost == [], "what was not sent cannot be performed"
