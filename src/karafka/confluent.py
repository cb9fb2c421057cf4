"""The Kafka port over confluent-kafka: the one door by which librdkafka enters.

What the client really does, and why each line below is as it is, was measured; `tests/contract` proves it again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from time import monotonic
from typing import Any, cast

from confluent_kafka import Consumer as _Consumer
from confluent_kafka import (
    ConsumerGroupState,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin import OffsetSpec as _OffsetSpec  # type: ignore[attr-defined] # public, but not marked so

from karafka.client import Answer, Effect, Identities, Kept, News, Rebalance, Trouble
from karafka.config import Settings, masked
from karafka.errors import BrokerError, ConfigError
from karafka.messages import Place, Record

# How long something is not said before it is heard again.
QUIET = 60.0
# What differs each time it is said again: the client's thread, and how long it took.
_DIFFERS = re.compile(r"\[thrd:[^]]*\]: | \(after .*")


class Once(logging.Filter):
    """That a broker is away each client says at each try: heard once, until it was not said for a while. All of it is
    heard where the level is DEBUG.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        match record.args:
            case ("FAIL", _, str(text)) if not librdkafka_log.isEnabledFor(logging.DEBUG):
                what = _DIFFERS.sub("", text)
                before, self._said[what] = self._said.get(what, -QUIET), monotonic()
                return self._said[what] - before >= QUIET
            case _:
                return True


# What librdkafka itself logs: heard by whoever listens to this logger; what matters is told as events too.
librdkafka_log = logging.getLogger("karafka.librdkafka")
librdkafka_log.addHandler(logging.NullHandler())
librdkafka_log.addFilter(Once())

# The client's own methods, unbound: called by `map` without Python between.
_partition: Any = Message.partition
_topic: Any = Message.topic
_error: Any = Message.error
_latest: Any = _OffsetSpec.latest

# One row for each code that means more than "the client deals with it". Fatal errors and what is not known to be
# harmless end the process: a consumer that silently stopped looks healthy and is not.
EFFECTS: Mapping[int, Effect] = {
    KafkaError._TRANSPORT: Effect.NEWS,  # noqa: SLF001 - the client's own names begin so
    KafkaError._ALL_BROKERS_DOWN: Effect.NEWS,  # noqa: SLF001
    KafkaError._RESOLVE: Effect.NEWS,  # noqa: SLF001
    KafkaError._TIMED_OUT: Effect.NEWS,  # noqa: SLF001
    KafkaError._TIMED_OUT_QUEUE: Effect.NEWS,  # noqa: SLF001
    KafkaError._MSG_TIMED_OUT: Effect.NEWS,  # noqa: SLF001
    KafkaError._WAIT_COORD: Effect.NEWS,  # noqa: SLF001
    KafkaError._DESTROY: Effect.NEWS,  # noqa: SLF001
    KafkaError._RETRY: Effect.NEWS,  # noqa: SLF001
    KafkaError._PARTITION_EOF: Effect.NEWS,  # noqa: SLF001
    KafkaError._LOG_TRUNCATION: Effect.NEWS,  # noqa: SLF001
    KafkaError._BAD_MSG: Effect.HOLD,  # noqa: SLF001
    KafkaError._AUTHENTICATION: Effect.HOLD,  # noqa: SLF001
    KafkaError._SSL: Effect.HOLD,  # noqa: SLF001
    KafkaError._UNKNOWN_TOPIC: Effect.MISSING,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION: Effect.MISSING,  # noqa: SLF001
    KafkaError.UNKNOWN_TOPIC_OR_PART: Effect.MISSING,
    KafkaError._AUTO_OFFSET_RESET: Effect.OUT_OF_RANGE,  # noqa: SLF001
    KafkaError.OFFSET_OUT_OF_RANGE: Effect.OUT_OF_RANGE,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Effect.HOLD,
    KafkaError.GROUP_AUTHORIZATION_FAILED: Effect.HOLD,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: Effect.HOLD,
    KafkaError.SASL_AUTHENTICATION_FAILED: Effect.HOLD,
    KafkaError._MAX_POLL_EXCEEDED: Effect.LOST,  # noqa: SLF001
    KafkaError._DESTROY_BROKER: Effect.NEWS,  # noqa: SLF001
    KafkaError._STATE: Effect.NEWS,  # noqa: SLF001
    KafkaError._IN_PROGRESS: Effect.NEWS,  # noqa: SLF001
    KafkaError._PREV_IN_PROGRESS: Effect.NEWS,  # noqa: SLF001
    KafkaError.FENCED_LEADER_EPOCH: Effect.NEWS,
    KafkaError.UNKNOWN_LEADER_EPOCH: Effect.NEWS,
    KafkaError.OFFSET_NOT_AVAILABLE: Effect.NEWS,
    KafkaError.STALE_MEMBER_EPOCH: Effect.NEWS,
    KafkaError.FENCED_MEMBER_EPOCH: Effect.NEWS,
    KafkaError.UNSTABLE_OFFSET_COMMIT: Effect.NEWS,
    KafkaError.THROTTLING_QUOTA_EXCEEDED: Effect.NEWS,
    KafkaError.REBALANCE_IN_PROGRESS: Effect.NEWS,
    KafkaError.ILLEGAL_GENERATION: Effect.NEWS,
    KafkaError.UNKNOWN_MEMBER_ID: Effect.NEWS,
    KafkaError.NOT_COORDINATOR: Effect.NEWS,
    KafkaError.COORDINATOR_NOT_AVAILABLE: Effect.NEWS,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS: Effect.NEWS,
    KafkaError.LEADER_NOT_AVAILABLE: Effect.NEWS,
    KafkaError.NOT_LEADER_FOR_PARTITION: Effect.NEWS,
    KafkaError.BROKER_NOT_AVAILABLE: Effect.NEWS,
    KafkaError.REQUEST_TIMED_OUT: Effect.NEWS,
    KafkaError.NETWORK_EXCEPTION: Effect.NEWS,
    KafkaError.KAFKA_STORAGE_ERROR: Effect.NEWS,
    KafkaError.GROUP_MAX_SIZE_REACHED: Effect.HOLD,
    KafkaError.MSG_SIZE_TOO_LARGE: Effect.HOLD,
    KafkaError.RECORD_LIST_TOO_LARGE: Effect.HOLD,
    KafkaError.INVALID_RECORD: Effect.HOLD,
    KafkaError.INVALID_MSG: Effect.HOLD,
    KafkaError.TOPIC_EXCEPTION: Effect.HOLD,
    KafkaError._INVALID_ARG: Effect.HOLD,  # noqa: SLF001
    KafkaError._FATAL: Effect.END,  # noqa: SLF001
    KafkaError.FENCED_INSTANCE_ID: Effect.END,
    KafkaError.UNSUPPORTED_VERSION: Effect.END,
    KafkaError.UNSUPPORTED_ASSIGNOR: Effect.END,
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: Effect.END,
    KafkaError.INVALID_GROUP_ID: Effect.END,
}
# How long one partition's answer is waited for where the broker answers.
MOMENT = 1.0


# How long a rebalance may take to go on after a callback, in seconds.
LAST_CALL = 0.1

# Of the classic protocol's ways the one that leaves alone what does not move: eager throws away what all members have
# in hand at each join. It is as quick only with brisk heartbeats (bench/REBALANCES.md).
COOPERATIVE: Mapping[str, str | int] = {
    "partition.assignment.strategy": "cooperative-sticky",
    "heartbeat.interval.ms": 1_000,
}


def trouble(error: KafkaError, topic: str | None = None, place: Place | None = None) -> Trouble:
    """The client's error in the port's words."""
    effect = (
        Effect.END if error.fatal() else EFFECTS.get(error.code(), Effect.NEWS if error.retriable() else Effect.END)
    )
    return Trouble(error.name(), error.str(), effect, topic, place)


def broker_error(error: KafkaException) -> BrokerError:
    said = error.args[0]
    return BrokerError(f"{said.str()} ({said.name()})", retriable=retriable(said))


@contextmanager
def _translated() -> Iterator[None]:
    """What the client raises inside becomes a `BrokerError`."""
    try:
        yield
    except KafkaException as error:
        raise broker_error(error) from error


def retriable(error: KafkaError) -> bool:
    """Whether asking again may help: yes, unless it is fatal, or a person must act. (The client's own word for it is
    no even for a time-out.)
    """
    return not error.fatal() and EFFECTS.get(error.code(), Effect.NEWS) not in {Effect.HOLD, Effect.END}


def check(kafka: Settings, where: str) -> None:
    """Refuse a setting that librdkafka does not know, or does not take the value of. Makes no connection."""
    try:
        _Consumer({**kafka, "bootstrap.servers": "", "group.id": "check", "log_level": 0}).close()
    except KafkaException as error:
        raise refusal(error, kafka, where) from None


# Settings that librdkafka names otherwise than they may be written: it says its own name only.
WRITTEN: Mapping[str, str] = {
    "queue.buffering.max.ms": "linger.ms",
    "request.required.acks": "acks",
    "message.send.max.retries": "retries",
    "message.timeout.ms": "delivery.timeout.ms",
    "compression.codec": "compression.type",
    "max.in.flight.requests.per.connection": "max.in.flight",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
}


def refusal(error: KafkaException, kafka: Mapping[str, Any], where: str) -> ConfigError:
    """What the client said of its settings, in one sentence, with the names that were written."""
    said = error.args[0].str().strip()
    if unknown := re.search(r'No such configuration property: "([^"]*)"', said):
        return ConfigError(
            f"{where} sets {unknown[1]!r}, which librdkafka does not know: its CONFIGURATION.md lists the names"
        )
    refused = re.search(r'onfiguration property "([^"]*)"|: ([a-z.]+) failed', said)
    own = (refused[1] or refused[2]) if refused else ""
    name = own if own in kafka else WRITTEN.get(own, "")
    if name not in kafka:
        return ConfigError(f"{where} is refused by librdkafka: {said}")
    said = said.replace(own, name)
    return ConfigError(f"{where} sets {name!r} to {masked(kafka).get(name)!r}, which librdkafka refuses: {said}")


class ConfluentConsumer:
    """`client.Consumer` over confluent-kafka's. Its listener's thread alone calls it."""

    def __init__(self, kafka: Settings, *, group: str, queue: int) -> None:
        """`queue`: bytes that the client may fetch ahead."""
        classic = kafka.get("group.protocol", "classic") != "consumer"
        settings: dict[str, Any] = {
            # Of the user's settings these may be changed; the defaults are what measurement favours.
            "fetch.wait.max.ms": 50,
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": max(1024, queue // 1024),
            "topic.metadata.refresh.interval.ms": 5_000,
            "reconnect.backoff.max.ms": 1_000,
            **(COOPERATIVE if classic else {}),
            **kafka,
            # These are what promises stand on: see config.OWNED.
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "on_commit": self._on_commit,
            "error_cb": self._on_error,
        }
        self._news: list[News] = []
        self._slipped = False
        self._rebalance: Rebalance | None = None
        self._several = False
        self._starts: dict[Place, int] = {}
        self._incremental = not classic or "cooperative" in str(settings["partition.assignment.strategy"])
        self._forgetful = classic and self._incremental and "group.instance.id" in kafka
        # Whether it is being closed; whether one of the group's callbacks has run since that was last asked.
        self._closing = self._called = False
        # What the client was given under incremental rebalances, and has not given up.
        self._held: set[Place] = set()
        self._client = _Consumer(settings, logger=librdkafka_log)

    # ── taking part ──────────────────────────────────────────────────────────────────────────────────────────

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        self._rebalance = rebalance
        self._several = len(topics) > 1
        self._client.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def fetch(self, limit: int, timeout: float) -> list[tuple[Place, list[Record]]]:
        # Whatever cuts this short, wherever, takes messages with it that the client counts as delivered.
        try:
            messages = self._consume(limit, timeout)
            if any(map(_error, messages)):
                messages = self._without_errors(messages)
            return self._by_place(cast("list[Record]", messages))
        except (KeyboardInterrupt, SystemExit):
            self._slipped = True
            raise
        except:  # noqa: E722 - on 3.11 a KafkaError can get here, which is no BaseException
            self._slipped = True
            self._news.append(Trouble("_FAIL", "a call to the client was cut short; all is read again", Effect.NEWS))
            return []

    def _consume(self, limit: int, timeout: float) -> list[Message]:
        # `consume(n, t)` waits for all n or all of t: so the first alone is waited for.
        messages = self._client.consume(limit, 0)
        if messages or timeout <= 0:
            return messages
        first = self._client.poll(timeout)
        if first is None:
            return []
        return [first, *self._client.consume(limit - 1, 0)] if limit > 1 else [first]

    def news(self) -> list[News]:
        said, self._news = self._news, []
        return said

    def slipped(self) -> bool:
        slipped, self._slipped = self._slipped, False
        return slipped

    def forgetful(self) -> bool:
        return self._forgetful

    def rejoin(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        # Only so does a member with a name of its own leave before its session ends: `close` keeps its place.
        self._client.unsubscribe()
        self.subscribe(topics, rebalance)

    def member(self) -> object:
        with _translated():
            return self._client.consumer_group_metadata()

    def reaches(self, topic: str, timeout: float) -> bool:
        try:
            self._client.list_topics(topic, timeout)
        except KafkaException:
            return False
        return True

    def abandon(self) -> None:
        self._rebalance = _NOBODY

    def close(self) -> None:
        self._closing = True
        with suppress(KafkaException, RuntimeError):  # the second: it is closed already
            self._hear_out()
        with suppress(KafkaException, RuntimeError):
            # A cooperative member that owns nothing leaves the group only so. Otherwise the others wait for its
            # session's time-out (measured: 42 to 48 s).
            self._client.unsubscribe()
        # At once: a cooperative member that has answered the revocation before this does not leave either.
        self._client.close()

    def _hear_out(self) -> None:
        """Let a rebalance end that is under way. If `close` is what meets an assignment, the client may end its part in
        the group while a callback runs: the binding then waits for an answer for ever, and holds the GIL (measured: 1
        of 36; where the callback asks the broker 2 of 3).
        """
        self._quietly(self._client.pause, [_place(one) for one in self._client.assignment()])
        patience = 0.0
        while True:
            self._called = False
            messages = self._client.consume(1_000, patience)
            if not messages and not self._called:
                return
            patience = LAST_CALL if self._called else 0.0

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────

    def committed(self, places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
        answers = self._asked(self._client.committed, [TopicPartition(*place) for place in places], timeout)
        return {_place(one): Kept(one.offset, one.metadata or "") if one.offset >= 0 else None for one in answers}

    def bounds(self, places: Sequence[Place], timeout: float) -> dict[Place, tuple[int, int]]:
        # ListOffsets takes -2 and -1 for a time: the first offset and the end, for all places in one request each.
        first, end = (
            self._asked(self._client.offsets_for_times, [TopicPartition(*place, time) for place in places], timeout)
            for time in (-2, -1)
        )
        return {_place(low): (low.offset, high.offset) for low, high in zip(first, end, strict=True)}

    def at(self, places: Sequence[Place], moment: float, timeout: float) -> dict[Place, int]:
        asked = [TopicPartition(*place, int(moment * 1_000)) for place in places]
        found = {_place(one): one.offset for one in self._asked(self._client.offsets_for_times, asked, timeout)}
        if beyond := [place for place, offset in found.items() if offset < 0]:
            found |= {place: end for place, (_, end) in self.bounds(beyond, timeout).items()}
        return found

    def partitions(self, topic: str, timeout: float) -> list[Place]:
        with _translated():
            found = self._client.list_topics(topic, timeout).topics[topic]
        return [Place(topic, number) for number in sorted(found.partitions)]

    def position(self, places: Sequence[Place]) -> dict[Place, int]:
        try:
            answers = self._client.position([TopicPartition(*place) for place in places])
        except KafkaException:
            return {}  # given up meanwhile: the revocation is on its way to us
        return {_place(one): one.offset for one in answers if one.offset >= 0}

    def _asked(self, question: Any, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        with _translated():
            answers: list[TopicPartition] = question(partitions, timeout)
        for one in answers:
            if one.error is not None:
                raise BrokerError(f"{one.topic}/{one.partition}: {one.error.str()}", retriable=retriable(one.error))
        return answers

    # ── moving ───────────────────────────────────────────────────────────────────────────────────────────────

    def seek(self, positions: Mapping[Place, int]) -> None:
        for place, offset in positions.items():
            there = TopicPartition(*place, offset)
            try:
                self._client.seek(there)
            except KafkaException:
                # After an offset out of range seeking is refused: only assigning it again helps.
                self._assign_again(there)

    def _assign_again(self, there: TopicPartition) -> None:
        with _translated():
            if self._incremental:
                self._client.incremental_unassign([there])
                self._client.incremental_assign([there])
            else:
                mine = {_place(one): one.offset for one in self._client.position(self._client.assignment())}
                # A partition of which nothing was delivered yet has no position: it began where it was assigned.
                mine = {place: at if at >= 0 else self._starts[place] for place, at in mine.items()}
                mine[_place(there)] = there.offset
                self._client.assign([TopicPartition(*place, at) for place, at in mine.items()])

    def pause(self, places: Sequence[Place]) -> None:
        self._quietly(self._client.pause, places)

    def resume(self, places: Sequence[Place]) -> None:
        self._quietly(self._client.resume, places)
        # The thread that fetches from a broker of which all was paused looks once a second whether that still is so;
        # a seek wakes it. To where resuming goes on anyway: a partition that was sought meanwhile has no position.
        for place in places:
            with suppress(KafkaException):
                (there,) = self._client.position([TopicPartition(*place)])
                if there.offset >= 0:
                    self._client.seek(there)

    def _quietly(self, call: Any, places: Sequence[Place]) -> None:
        # A partition that the client has given up meanwhile is refused: the revocation is on its way to us.
        with suppress(KafkaException):
            call([TopicPartition(*place) for place in places])

    def commit(self, offsets: Mapping[Place, Kept]) -> None:
        with _translated():
            self._client.commit(
                offsets=[TopicPartition(*place, kept.offset, kept.metadata) for place, kept in offsets.items()],
                asynchronous=True,
            )

    # ── what the client calls: nothing here may raise ────────────────────────────────────────────────────────

    def _on_assign(self, client: _Consumer, partitions: list[TopicPartition]) -> None:
        self._called = True
        try:
            assert self._rebalance is not None  # noqa: S101 - subscribe has set it
            starts = {} if self._closing else self._rebalance.assigned([_place(one) for one in partitions])
            placed = [TopicPartition(*place, offset) for place, offset in starts.items()]
            self._starts.update(starts)
            if self._incremental:
                client.incremental_assign(placed)
                self._held.update(starts)
            else:
                client.assign(placed)
            # The client remembers a pause across revocation: without this the partition stays silent for ever.
            if placed:
                client.resume(placed)
        except BaseException as error:  # noqa: BLE001 - a callback that raises makes the client drop messages
            self._ended(error)

    def _on_revoke(self, client: _Consumer, partitions: list[TopicPartition]) -> None:
        self._called = True
        try:
            assert self._rebalance is not None  # noqa: S101
            self._rebalance.revoked([_place(one) for one in partitions])
            self._give_up(client, partitions)
        except BaseException as error:  # noqa: BLE001
            self._ended(error)

    def _on_lost(self, client: _Consumer, partitions: list[TopicPartition]) -> None:
        self._called = True
        try:
            assert self._rebalance is not None  # noqa: S101
            self._rebalance.lost([_place(one) for one in partitions])
            self._give_up(client, partitions)
        except BaseException as error:  # noqa: BLE001
            self._ended(error)

    def _give_up(self, client: _Consumer, partitions: list[TopicPartition]) -> None:
        """The binding gives up `partitions` after the callback. Where some of them were never taken, as in a close, or
        were given up before, that is refused, and the client waits for it for ever: `close` too, with the GIL.
        """
        if self._incremental:
            mine = [one for one in partitions if _place(one) in self._held]
            self._held.difference_update(map(_place, mine))
            if len(mine) != len(partitions):
                client.incremental_unassign(mine)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        offsets = {_place(one): one.offset for one in partitions}
        errors = {_place(one): one.error.name() for one in partitions if one.error is not None}
        if error is not None and not errors:
            # The commit as a whole was refused; otherwise `error` only repeats that of one of them.
            errors = dict.fromkeys(offsets, error.name())
        self._news.append(Answer(offsets, errors))

    def _on_error(self, error: KafkaError) -> None:
        self._news.append(trouble(error))

    def _ended(self, error: BaseException) -> None:
        self._news.append(Trouble("_FAIL", f"{type(error).__name__}: {error}", Effect.END))

    # ── sorting ──────────────────────────────────────────────────────────────────────────────────────────────

    def _without_errors(self, messages: list[Message]) -> list[Message]:
        """Messages can *be* errors: those become news."""
        kept = []
        for message in messages:
            error = message.error()
            if error is None:
                kept.append(message)
                continue
            topic, number = message.topic(), message.partition()
            place = Place(topic, number) if topic is not None and number is not None and number >= 0 else None
            self._news.append(trouble(error, topic, place))
        return kept

    def _by_place(self, messages: list[Record]) -> list[tuple[Place, list[Record]]]:
        """Most lists come from one partition: those are handed on as they are; the others are cut where it changes."""
        if not messages:
            return []
        numbers = list(map(_partition, messages))
        if numbers.count(numbers[0]) == len(numbers) and not self._several:
            return [(_place_of(messages[0]), messages)]
        found: dict[Place, list[Record]] = {}
        at = 0
        for _, same in groupby(numbers):
            at, begin = at + len(list(same)), at
            for records in self._by_topic(messages[begin:at]):
                place = _place_of(records[0])
                if place in found:
                    found[place] += records
                else:
                    found[place] = records
        return list(found.items())

    def _by_topic(self, messages: list[Record]) -> list[list[Record]]:
        """Partitions of several topics may bear the same number."""
        if not self._several or len(set(map(_topic, messages))) == 1:
            return [messages]
        return [list(same) for _, same in groupby(messages, _topic)]


class _Nobody:
    """Takes part in nothing: for a client that was given up."""

    def assigned(self, places: Sequence[Place]) -> Mapping[Place, int]:  # noqa: ARG002 - the port's signature
        raise BrokerError("the client was given up", retriable=False)

    def revoked(self, places: Sequence[Place]) -> None: ...

    def lost(self, places: Sequence[Place]) -> None: ...


_NOBODY = _Nobody()


def _answers(client: _Consumer, place: Place) -> bool:
    try:
        client.committed([TopicPartition(*place)], MOMENT)
    except KafkaException:
        return False
    return True


class ConfluentTopics:
    """`client.Topics`, over an admin client of its own."""

    def __init__(self, kafka: Settings) -> None:
        self._kafka = kafka
        self._admin = AdminClient(dict(kafka), logger=librdkafka_log)
        self._cluster = ""

    def names(self, timeout: float) -> frozenset[str]:
        with _translated():
            found = self._admin.list_topics(timeout=timeout).topics
        return frozenset(name for name, one in found.items() if one.error is None and not name.startswith("__"))

    def ids(self, topics: Sequence[str], timeout: float) -> Identities:
        with _translated():
            if not self._cluster:
                # Not `describe_cluster`: where no broker is registered just now, say all are fenced after a pause, the
                # client aborts the process over the answer (librdkafka 2.16, an assertion).
                self._cluster = self._admin.list_topics(timeout=timeout).cluster_id or ""
            answers = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=timeout)
            found: dict[str, str | None] = {}
            refused = set()
            for name, answer in answers.items():
                try:
                    found[name] = str(answer.result().topic_id)
                except KafkaException as error:
                    match EFFECTS.get(error.args[0].code()):
                        case Effect.MISSING:
                            found[name] = None
                        case Effect.HOLD:
                            refused.add(name)
                        case _:
                            raise
            return Identities(self._cluster, found, frozenset(refused))

    def ends(self, places: Sequence[Place], timeout: float) -> dict[Place, int]:
        """The offset after the last message of each place, as committed transactions have it. Raises `BrokerError`."""
        asked = {TopicPartition(*place): _latest() for place in places}
        level = IsolationLevel.READ_COMMITTED
        with _translated():
            answers = self._admin.list_offsets(asked, isolation_level=level, request_timeout=timeout)
            return {_place(one): answer.result().offset for one, answer in answers.items()}

    def committed(self, group: str, places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
        with self._asking(group, "read_committed") as client, _translated():
            found = client.committed([TopicPartition(*place) for place in places], timeout)
        for one in found:
            if one.error is not None:
                raise BrokerError(f"{one.topic}/{one.partition}: {one.error.str()}", retriable=retriable(one.error))
        return {_place(one): Kept(one.offset, one.metadata or "") if one.offset >= 0 else None for one in found}

    def pending(self, group: str, places: Sequence[Place], timeout: float) -> list[Place]:
        with self._asking(group, "read_uncommitted") as client, _translated():
            client.committed([TopicPartition(*place) for place in places], timeout)
        # It answers; so whoever waits for an answer about one of them waits for a transaction.
        with self._asking(group, "read_committed") as client:
            return [place for place in places if not _answers(client, place)]

    @contextmanager
    def _asking(self, group: str, level: str) -> Iterator[_Consumer]:
        """A client that only asks what a group has: no member of it.

        The admin client's own question aborts the process where its time is up and the answer comes after all
        (librdkafka 2.16, an assertion in `rd_kafka_enq_once_del_source_return`).
        """
        settings = {**self._kafka, "group.id": group, "isolation.level": level, "enable.auto.commit": False}
        client = _Consumer(settings, logger=librdkafka_log)
        try:
            yield client
        finally:
            client.close()

    def unowned(self, group: str, topics: Sequence[str], timeout: float) -> frozenset[Place] | None:
        with _translated():
            described = self._admin.describe_consumer_groups([group], request_timeout=timeout)[group].result()
            if described.state is not ConsumerGroupState.STABLE:
                return None
            there = self._admin.list_topics(timeout=timeout).topics
        every = {Place(topic, number) for topic in topics if topic in there for number in there[topic].partitions}
        owned = {_place(one) for member in described.members for one in member.assignment.topic_partitions}
        return frozenset(every - owned)


def _place(one: TopicPartition) -> Place:
    return Place(one.topic, one.partition)


def _place_of(record: Record) -> Place:
    return Place(record.topic() or "", record.partition() or 0)
