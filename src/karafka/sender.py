"""The sending half of the Kafka port over confluent-kafka: `ConfluentSender`, and `ConfluentTransactor`.

What the client really does, and why each line below is as it is, was measured; `tests/contract` proves it again.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from time import monotonic
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Producer as _Producer

from karafka.aside import aside
from karafka.client import Effect, Kept, Posted, Quick, Refused, Remedy, Trouble, Unsettled
from karafka.confluent import EFFECTS, librdkafka_log, refusal, retriable, trouble
from karafka.delivery import Failure, Fault, no_utf8
from karafka.letters import Letter
from karafka.messages import Place

_log = logging.getLogger("karafka.producer")

# How long after its time-out a step is waited for that the client does not come back from, in seconds.
GRACE = 1.0

# Who has to act, by code; of all others the brokers' word is passed on.
FAULTS: Mapping[int, Fault] = {
    KafkaError.MSG_SIZE_TOO_LARGE: Fault.TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE: Fault.TOO_LARGE,
    KafkaError.INVALID_MSG: Fault.INVALID,
    KafkaError.INVALID_RECORD: Fault.INVALID,
    KafkaError.INVALID_TIMESTAMP: Fault.INVALID,
    KafkaError.TOPIC_EXCEPTION: Fault.INVALID,
    KafkaError._INVALID_ARG: Fault.INVALID,  # noqa: SLF001 - the client's own names begin so
    KafkaError.UNKNOWN_TOPIC_OR_PART: Fault.UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_TOPIC: Fault.UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION: Fault.UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Fault.NOT_AUTHORIZED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: Fault.NOT_AUTHORIZED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Fault.NOT_AUTHORIZED,
    KafkaError.SASL_AUTHENTICATION_FAILED: Fault.NOT_AUTHORIZED,
    KafkaError._AUTHENTICATION: Fault.NOT_AUTHORIZED,  # noqa: SLF001
    KafkaError._SSL: Fault.NOT_AUTHORIZED,  # noqa: SLF001
    KafkaError._MSG_TIMED_OUT: Fault.TIMED_OUT,  # noqa: SLF001
    KafkaError._TIMED_OUT: Fault.TIMED_OUT,  # noqa: SLF001
    KafkaError.REQUEST_TIMED_OUT: Fault.TIMED_OUT,
    KafkaError._PURGE_QUEUE: Fault.PURGED,  # noqa: SLF001
    KafkaError._PURGE_INFLIGHT: Fault.PURGED,  # noqa: SLF001
    KafkaError._FATAL: Fault.CLIENT_FAILED,  # noqa: SLF001
}
# Of codes that only a producer hears: the brokers lack replicas for now.
AGAIN = frozenset({KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND})
# Sending again may help.
PASSING = frozenset({Fault.TIMED_OUT, Fault.CLIENT_FAILED})
# Sending again cannot help before somebody acts.
LASTING = frozenset({Fault.INVALID, Fault.TOO_LARGE, Fault.UNKNOWN_TOPIC, Fault.NOT_AUTHORIZED, Fault.PURGED})
FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})  # noqa: SLF001

# How long the client's last word about the cluster explains what was not delivered, in seconds.
RECENT = 60.0

# The broker took the message for a repetition of one that it has. It may be wrong (seen on partitions just made, where
# the first batch was refused and its successor was not): then the message is nowhere.
UNSURE = Failure(
    Fault.OTHER,
    "DUPLICATE",
    "not confirmed: the broker took it for a repetition, and gave no offset (DUPLICATE)",
    retriable=True,
)
CLOSED = Failure(Fault.PURGED, "_PURGE_QUEUE", "the client was closed before the broker confirmed it", retriable=False)
ABORTED = Failure(Fault.ABORTED, "_PURGE_QUEUE", "its transaction was aborted", retriable=False)


def defaults(kafka: Mapping[str, Any]) -> dict[str, Any]:
    """`kafka` with what a producer has that says nothing else: confirmed by all, not doubled, keys as in Java's."""
    acks = str(kafka.get("acks", kafka.get("request.required.acks", "all")))
    idempotent = acks in {"all", "-1"}
    return {
        **({} if "request.required.acks" in kafka else {"acks": acks}),
        **({"enable.idempotence": True} if idempotent else {}),
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 0,
        "log.connection.close": False,
        **kafka,
    }


def check_producer(kafka: Mapping[str, Any], where: str) -> None:
    """Refuse a setting that librdkafka does not know, or does not take the value of. Makes no connection."""
    try:
        _Producer({**defaults(kafka), "bootstrap.servers": "", "log_level": 0})
    except KafkaException as error:
        raise refusal(error, kafka, where) from None


class Reports:
    """What the client calls back with. It does not know the client: who lets that go has let go of all of it."""

    def __init__(self, *, acks: bool, error_cb: Callable[[KafkaError], object] | None) -> None:
        self._acks = acks
        self._error_cb = error_cb
        self.news: list[Trouble] = []
        self.given_up = CLOSED
        self.fenced = False
        self.statistics = ""
        # What the client said of the cluster last, and when.
        self._trouble: Trouble | None = None
        self._troubled_at = 0.0

    def judge(self, error: KafkaError | None) -> Failure | None:
        if error is None:
            return UNSURE if self._acks else None
        return self.failure(error)

    def failure(self, error: KafkaError) -> Failure:
        fault = Fault.CLIENT_FAILED if error.fatal() else FAULTS.get(error.code(), Fault.OTHER)
        if fault is Fault.PURGED:
            return self.given_up
        text = f"{error.str()} ({error.name()})"
        if fault is Fault.TIMED_OUT and self._trouble is not None and monotonic() - self._troubled_at < RECENT:
            # Why, the client has said before.
            text = f"{text}; the client's last word: {self._trouble.text} ({self._trouble.code})"
            if self._trouble.effect is Effect.HOLD:
                fault = Fault.NOT_AUTHORIZED
        passes = error.code() in AGAIN or (error.code() in EFFECTS and retriable(error))
        again = fault in PASSING or (fault not in LASTING and passes)
        return Failure(fault, error.name(), text, retriable=again)

    def on_error(self, error: KafkaError) -> None:
        said = trouble(error)
        self.fenced = self.fenced or error.code() in FENCED
        # What only a consumer dies of.
        if said.effect is Effect.END and not error.fatal():
            said = Trouble(said.code, said.text, Effect.NEWS)
        self.news.append(said)
        self._trouble, self._troubled_at = said, monotonic()
        if self._error_cb is not None:
            try:
                self._error_cb(error)
            except Exception:  # noqa: BLE001 - the user's: reports are served by the same call
                _log.exception("the error_cb of a producer raised")

    def on_statistics(self, text: str) -> None:
        self.statistics = text


class ConfluentSender:
    """`client.Sender` over confluent-kafka's producer. Any thread."""

    def __init__(self, kafka: Mapping[str, Any]) -> None:
        """Raises `ConfigError`."""
        settings = defaults(kafka)
        # Without acknowledgements there are no offsets either.
        acks = str(settings.get("acks", settings.get("request.required.acks"))) != "0"
        self._reports = reports = Reports(acks=acks, error_cb=settings.pop("error_cb", None))
        settings["error_cb"] = reports.on_error
        if "statistics.interval.ms" in settings:
            settings.setdefault("stats_cb", reports.on_statistics)
        try:
            self._client: Any = _Producer(settings, logger=librdkafka_log)
        except KafkaException as error:
            raise refusal(error, kafka, "Producer(…)") from None
        self._lingers = float(settings.get("queue.buffering.max.ms", settings["linger.ms"])) > 0
        self.quick = cast("Quick", self._client.produce)
        self.judge = reports.judge

    def send(self, letter: Letter, posted: Posted) -> None:
        try:
            self.quick(
                *(letter.topic, letter.value, letter.key, letter.partition),
                *(posted, None, letter.timestamp, letter.headers),
            )
        except KafkaException as error:
            raise Refused(self._reports.failure(error.args[0])) from None
        except UnicodeEncodeError as error:
            raise Refused(no_utf8(error)) from None

    def serve(self, timeout: float) -> None:
        try:
            self._client.poll(timeout)
        except KafkaException as error:  # a fatal one, which is news like any other
            self._reports.on_error(error.args[0])

    def hasten(self, timeout: float) -> None:
        if not self._lingers:
            self.serve(timeout)
            return
        try:
            self._client.flush(timeout)
        except KafkaException as error:
            self._reports.on_error(error.args[0])

    def waiting(self) -> int:
        return len(self._client)

    def purge(self, failure: Failure) -> None:
        self._reports.given_up = failure
        self._client.purge()

    def news(self) -> list[Trouble]:
        reports = self._reports
        if not reports.news:
            return []
        said, reports.news = reports.news, []
        return said

    def statistics(self) -> str:
        return self._reports.statistics

    def close(self) -> None:
        # Not its own `close`: another thread may be inside `send`. It ends with the last one that holds it.
        gone = _Gone(fenced=self._reports.fenced)
        self._client, self.quick = gone, cast("Quick", gone.produce)

    def leave_behind(self) -> None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._client))
        self.close()


class _Gone:
    """In the place of a client that was let go."""

    def __init__(self, *, fenced: bool) -> None:
        self._remedy = Remedy.FENCED if fenced else Remedy.END

    def __len__(self) -> int:
        return 0

    def produce(self, *_: object) -> None:
        raise Refused(CLOSED)

    def poll(self, timeout: float) -> None: ...

    flush = poll

    def purge(self) -> None: ...

    def _step(self, *_: object) -> None:
        raise Unsettled(self._remedy, "", "the client was closed")

    init_transactions = begin_transaction = send_offsets_to_transaction = commit_transaction = abort_transaction = _step


class ConfluentTransactor(ConfluentSender):
    """`client.Transactor`: the same with a `transactional.id`. Its steps are one thread's at a time."""

    @property
    def fenced(self) -> bool:
        return self._reports.fenced

    def ready(self, timeout: float) -> None:
        with _settled():
            self._client.init_transactions(timeout)

    def begin(self) -> None:
        with _settled():
            self._client.begin_transaction()

    def add_offsets(self, offsets: Mapping[Place, Kept], member: object, timeout: float) -> None:
        # The client may never come back from this one, whatever its time-out (librdkafka #5456), where the group's
        # coordinator was away: then it is left to the thread that is in it, and of no more use.
        kept = [TopicPartition(*place, one.offset, one.metadata) for place, one in offsets.items()]
        asked = aside("karafka-offsets", self._client.send_offsets_to_transaction, kept, member, timeout)
        with _settled():
            try:
                asked.result(timeout + GRACE)
            except FutureTimeoutError:
                said = f"the client has not come back from it, though it was to within {timeout:.1f} s"
                raise Unsettled(Remedy.END, "_TIMED_OUT", said) from None

    def commit(self, timeout: float) -> None:
        with _settled():
            self._client.commit_transaction(timeout)

    def abort(self, timeout: float) -> None:
        self._reports.given_up = ABORTED
        with _settled():
            self._client.abort_transaction(timeout)


@contextmanager
def _settled() -> Iterator[None]:
    """What the client raises inside becomes `Unsettled`."""
    try:
        yield
    except KafkaException as raised:
        error = raised.args[0]
        if error.code() in FENCED:
            remedy = Remedy.FENCED
        elif error.fatal():
            remedy = Remedy.END
        elif error.txn_requires_abort():
            remedy = Remedy.ABORT
        elif error.retriable():
            remedy = Remedy.AGAIN
        else:
            remedy = Remedy.END
        passes = FAULTS.get(error.code(), Fault.OTHER) not in LASTING
        raise Unsettled(remedy, error.name(), error.str(), passes=passes) from raised
