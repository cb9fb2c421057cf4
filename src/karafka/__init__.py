"""karafka: the framework for Kafka applications in Python."""

from karafka.app import App
from karafka.controllers import Abort, BatchController, Controller, before_enqueue
from karafka.errors import BrokerError, ConfigError, Error, MessageError, ParseError
from karafka.messages import Batch, Message
from karafka.policy import Backoff, Bury, DeadLetter, Retry, Skip
from karafka.producer import Delivery, DeliveryError, Handle, Producer, QueueFullError
from karafka.routing import group, topic
from karafka.server import Server

__all__ = [
    "Abort",
    "App",
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
    "before_enqueue",
    "group",
    "topic",
]
