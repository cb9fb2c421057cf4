"""Listeners to events: each takes the bus and says what it heard its own way."""

from karafka.instrumentation.log import LogListener, configure_logging

__all__ = ["LogListener", "configure_logging"]
