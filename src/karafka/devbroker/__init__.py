"""Brokers to develop and test on: `Embedded` starts at once and forgets, `Kafka` is the real one.

Importing this takes no extra: `Kafka` looks for its own when it is started.
"""

from karafka.devbroker.embedded import Embedded
from karafka.devbroker.kafka import Kafka

__all__ = ["Embedded", "Kafka"]
