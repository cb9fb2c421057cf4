"""karafka: the framework for Kafka applications in Python.

What is public is here, each name imported from its module at first touch: who only sends does not wait for the engine,
nor `karafka --help` for the client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from karafka.app import App
    from karafka.assignment import Assignment
    from karafka.controllers import Abort, BatchController, Controller, before_enqueue
    from karafka.delivery import Delivery, Handle, Handles
    from karafka.environment import Environment
    from karafka.errors import (
        BrokerError,
        ClientFailedError,
        ConfigError,
        DeliveryError,
        DeliveryTimeoutError,
        EnqueueError,
        Error,
        FencedError,
        InterchangeError,
        InvalidMessageError,
        JobError,
        MessageError,
        NotAuthorizedError,
        ParseError,
        PartlyDeliveredError,
        ProducerClosedError,
        QueueFullError,
        ResponderError,
        StartError,
        TimeLimitError,
        TooLargeError,
        TransactionError,
        UnknownTopicError,
    )
    from karafka.interchangers import Binary, Interchanger
    from karafka.letters import Outgoing
    from karafka.mapper import TopicMapper, TopicPrefix
    from karafka.messages import Batch, Message
    from karafka.policy import Backoff, Bury, DeadLetter, Retry, Skip
    from karafka.producer import Producer
    from karafka.responders import Responder, outgoing
    from karafka.routing import group, topic
    from karafka.server import Server
    from karafka.workers import Worker

__all__ = [
    "Abort",
    "App",
    "Assignment",
    "Backoff",
    "Batch",
    "BatchController",
    "Binary",
    "BrokerError",
    "Bury",
    "ClientFailedError",
    "ConfigError",
    "Controller",
    "DeadLetter",
    "Delivery",
    "DeliveryError",
    "DeliveryTimeoutError",
    "EnqueueError",
    "Environment",
    "Error",
    "FencedError",
    "Handle",
    "Handles",
    "InterchangeError",
    "Interchanger",
    "InvalidMessageError",
    "JobError",
    "Message",
    "MessageError",
    "NotAuthorizedError",
    "Outgoing",
    "ParseError",
    "PartlyDeliveredError",
    "Producer",
    "ProducerClosedError",
    "QueueFullError",
    "Responder",
    "ResponderError",
    "Retry",
    "Server",
    "Skip",
    "StartError",
    "TimeLimitError",
    "TooLargeError",
    "TopicMapper",
    "TopicPrefix",
    "TransactionError",
    "UnknownTopicError",
    "Worker",
    "before_enqueue",
    "group",
    "outgoing",
    "topic",
]

_HOMES = {
    "app": ("App",),
    "assignment": ("Assignment",),
    "controllers": ("Abort", "BatchController", "Controller", "before_enqueue"),
    "delivery": ("Delivery", "Handle", "Handles"),
    "environment": ("Environment",),
    "errors": (
        "BrokerError",
        "ClientFailedError",
        "ConfigError",
        "DeliveryError",
        "DeliveryTimeoutError",
        "EnqueueError",
        "Error",
        "FencedError",
        "InterchangeError",
        "InvalidMessageError",
        "JobError",
        "MessageError",
        "NotAuthorizedError",
        "ParseError",
        "PartlyDeliveredError",
        "ProducerClosedError",
        "QueueFullError",
        "ResponderError",
        "StartError",
        "TimeLimitError",
        "TooLargeError",
        "TransactionError",
        "UnknownTopicError",
    ),
    "mapper": ("TopicMapper", "TopicPrefix"),
    "messages": ("Batch", "Message"),
    "interchangers": ("Binary", "Interchanger"),
    "letters": ("Outgoing",),
    "policy": ("Backoff", "Bury", "DeadLetter", "Retry", "Skip"),
    "producer": ("Producer",),
    "responders": ("Responder", "outgoing"),
    "routing": ("group", "topic"),
    "server": ("Server",),
    "workers": ("Worker",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'karafka' has no attribute {name!r}")
    value = getattr(import_module(f"karafka.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
