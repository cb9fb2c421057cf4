"""What this package raises on purpose: one tree, branched by who has to act."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Error(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(Error):
    """The developer, before anything starts: a declaration or a setting cannot work.

    The text is one sentence with the thing, the value found and the way out: commands print it as it is and
    end with status 1.
    """


class StartError(Error):
    """What the app opens when it starts could not be: an `on_start` hook raised. Its cause is what that raised."""


class BrokerError(Error):
    """The cluster: `retriable` says whether waiting may help; `code` is Kafka's name for it, where that matters."""

    def __init__(self, reason: str, *, retriable: bool, code: str = "") -> None:
        super().__init__(reason)
        self.retriable = retriable
        self.code = code


class MessageError(Error):
    """One message: what becomes of it is the route's policy."""


class CrashError(MessageError):
    """A message that was in hand each time a process died: it is buried unperformed. Never raised."""


class ResponderError(MessageError):
    """The developer: a responder was not used as it declares; nothing was sent. `problems`: each thing, in words."""

    def __init__(self, reason: str, problems: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.problems = tuple(problems)


class ParseError(MessageError):
    """A payload that its parser refused, or that is not of the controller's type. Trying again cannot help."""


class InterchangeError(ParseError):
    """Params that cannot cross the job queue as they are: the route's interchanger may. Trying again cannot help."""


class JobError(MessageError):
    """A background job that no worker here can perform: its class is gone, or it is of a form nobody knows yet."""


class TimeLimitError(MessageError):
    """A background job took longer than its worker's `time_limit`."""


class EnqueueError(Error):
    """Who runs the job queue: it did not take a job. The message waits until it does, whatever its policy."""


class DeliveryError(Error):
    """A message that was to be sent and is not delivered. The kinds below say who has to act.

    `topic` and `key` are the message's, `code` is Kafka's name for the reason (empty where it is ours). `retriable`:
    whether sending it again may help.
    """

    retriable = False

    def __init__(
        self,
        reason: str,
        *,
        topic: str = "",
        key: str | bytes | None = None,
        code: str = "",
        retriable: bool | None = None,
    ) -> None:
        super().__init__(reason)
        self.topic = topic
        self.key = key
        self.code = code
        if retriable is not None:
            self.retriable = retriable


class InvalidMessageError(DeliveryError):
    """The developer: Kafka has no such message, or its parser refused the payload. It was not accepted."""


class TooLargeError(DeliveryError):
    """The developer: larger than the client (`message.max.bytes`) or the topic (`max.message.bytes`) takes."""


class UnknownTopicError(DeliveryError):
    """Who runs the cluster: the topic, or the partition of it, is not there, and the brokers do not make it."""


class NotAuthorizedError(DeliveryError):
    """Who runs the cluster: this user may not write there, or its credentials are refused."""


class QueueFullError(DeliveryError):
    """The client's queue stayed full: the message was not accepted. Waiting, then sending again, may help."""

    retriable = True


class DeliveryTimeoutError(DeliveryError):
    """Not confirmed within `message.timeout.ms`: sending again may help, and may double it."""

    retriable = True


class ClientFailedError(DeliveryError):
    """The client is of no more use, and this message went with it. The producer takes another one: send again."""

    retriable = True


class ProducerClosedError(DeliveryError):
    """The producer was closed: before the message was accepted, or before it was confirmed."""


class PartlyDeliveredError(Error):
    """Of several messages not all were delivered. `results`: a `Delivery` or `DeliveryError` for each, in order."""

    def __init__(self, reason: str, results: Sequence[Any]) -> None:
        super().__init__(reason)
        self.results = tuple(results)

    @property
    def retriable(self) -> bool:
        """Whether sending those again that failed may help, all of them."""
        return all(one.retriable for one in self.results if isinstance(one, DeliveryError))


class TransactionError(Error):
    """A transaction was not committed: nobody who reads what is committed sees any of it.

    `retriable`: whether the same work, done again in a new transaction, may succeed. `unknown`: nobody could say
    whether it was committed; then doing it again may do it twice.
    """

    def __init__(self, reason: str, *, retriable: bool, unknown: bool = False) -> None:
        super().__init__(reason)
        self.retriable = retriable
        self.unknown = unknown


class FencedError(TransactionError):
    """Another producer took over this `transactional.id`: what this one does counts no more. Make a new one only if
    this one is meant to be the one that lives.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason, retriable=False)


# Of a group of exceptions so many are named.
NAMED = 5


def words(error: BaseException) -> str:
    """The text of an exception of somebody else's, whose `__str__` may itself raise; of a group with what is in it."""
    try:
        text = str(error)
    except Exception as raised:  # noqa: BLE001 - it is theirs
        text = f"(its text cannot be had: {type(raised).__name__})"
    if not isinstance(error, BaseExceptionGroup):
        return text
    inside = [f"{type(one).__name__}: {words(one)}".removesuffix(": ") for one in error.exceptions[:NAMED]]
    more = len(error.exceptions) - NAMED
    return f"{text}: {'; '.join(inside)}{f'; and {more} more' if more > 0 else ''}"
