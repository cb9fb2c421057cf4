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
    from karafka.delivery import Delivery, DeliveryError, Handle
    from karafka.errors import BrokerError, ConfigError, Error, MessageError, ParseError, StartError
    from karafka.messages import Batch, Message
    from karafka.policy import Backoff, Bury, DeadLetter, Retry, Skip
    from karafka.producer import Producer, QueueFullError
    from karafka.routing import group, topic
    from karafka.server import Server

__all__ = [
    "Abort",
    "App",
    "Assignment",
    "Backoff",
    "Batch",
    "BatchController",
    "BrokerError",
    "Bury",
    "ConfigError",
    "Controller",
    "DeadLetter",
    "Delivery",
    "DeliveryError",
    "Error",
    "Handle",
    "Message",
    "MessageError",
    "ParseError",
    "Producer",
    "QueueFullError",
    "Retry",
    "Server",
    "Skip",
    "StartError",
    "before_enqueue",
    "group",
    "topic",
]

_HOMES = {
    "app": ("App",),
    "assignment": ("Assignment",),
    "controllers": ("Abort", "BatchController", "Controller", "before_enqueue"),
    "delivery": ("Delivery", "DeliveryError", "Handle"),
    "errors": ("BrokerError", "ConfigError", "Error", "MessageError", "ParseError", "StartError"),
    "messages": ("Batch", "Message"),
    "policy": ("Backoff", "Bury", "DeadLetter", "Retry", "Skip"),
    "producer": ("Producer", "QueueFullError"),
    "routing": ("group", "topic"),
    "server": ("Server",),
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
