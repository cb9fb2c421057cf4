"""The Kafka inside librdkafka: a mock cluster in this process, for the first minute and for quick tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from karafka.errors import BrokerError

NOTICE = (
    "This is the embedded broker: librdkafka's mock of Kafka, inside this process. It forgets everything at exit and "
    "keeps the newest 5 MiB or 100,000 messages of each partition. `karafka broker` runs the real one."
)


class Embedded:
    """A cluster of one mock broker, on a free port of the loopback address, as long as this process holds it.

    `karafka server --embedded` and the tests use it as a context manager; it starts in milliseconds. Real protocol:
    other processes can use `bootstrap` too. A topic appears with 4 partitions when it is first named; there is no
    creating of topics and no describing of groups. Commands print `NOTICE`, which says what it is not.
    `Embedded(bootstrap)` is one that another process holds: used, and neither started nor stopped.

    Any thread may start and stop it; its own threads are librdkafka's. Not across `fork`.
    """

    # For this broker alone, and measured on it: a new classic group waits for 3 s, while Kafka's newer protocol gives
    # partitions at once; the first fetch may wait out its whole time (0.5 s by default) though there are messages.
    consumer_settings: ClassVar[Mapping[str, str | int]] = {
        "group.protocol": "consumer",
        "fetch.wait.max.ms": 50,
    }

    def __init__(self, bootstrap: str = "") -> None:
        self._holder: AdminClient | None = None
        self._theirs = bootstrap
        self._bootstrap = ""

    @property
    def bootstrap(self) -> str:
        """What clients want as `bootstrap.servers`. Raises `BrokerError` before `start`."""
        if self._holder is None:
            raise BrokerError("the embedded broker is not running: start it first", retriable=False)
        return self._bootstrap

    def start(self) -> None:
        """Start the cluster; `BrokerError` if it does not answer within 5 s."""
        # The mock takes no notice of the address, and announces itself in the log unless that is silenced.
        settings: dict[str, Any] = {"bootstrap.servers": self._theirs or "mock", "log_level": 0}
        holder = AdminClient(settings if self._theirs else {**settings, "test.mock.num.brokers": 1})
        try:
            (broker,) = holder.list_topics(timeout=5).brokers.values()
        except KafkaException as error:
            raise BrokerError(f"the embedded broker did not start: {error.args[0].str()}", retriable=True) from error
        self._holder, self._bootstrap = holder, f"{broker.host}:{broker.port}"

    def create(self, topics: Iterable[str]) -> None:
        """Make `topics`, 4 partitions each: the mock does so when one is named, and its groups see no later ones."""
        holder = self._holder
        if holder is None:
            raise BrokerError("the embedded broker is not running: start it first", retriable=False)
        for topic in topics:
            holder.list_topics(topic, timeout=5)

    def stop(self) -> None:
        """Forget everything: the cluster is gone once the client handle is."""
        self._holder = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
