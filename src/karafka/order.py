"""Which messages are performed in order: from what a route says to the name of a message's lane."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Literal, TypeAlias

from karafka.controllers import Context
from karafka.errors import words
from karafka.events import LaneUnnamed
from karafka.messages import Message, Record, offset_of

# What a route may say. A function is called with the message, on the thread that polls.
Order: TypeAlias = Literal["partition", "key"] | Callable[[Message[Any]], Hashable] | None


def lane_of(order: Order, context: Context, together: int) -> Callable[[Record], Hashable] | None:
    """The name of a record's lane by `order`; None where the partition is the only one.

    Without an order each message is a lane of its own, or each `together` that lie side by side.
    """
    if order == "partition":
        return None
    if order == "key":
        return key_of
    if order is None:
        return offset_of if together == 1 else lambda record: (record.offset() or 0) // together
    return Named(order, context)


def key_of(record: Record) -> bytes | None:
    return record.key()


class Named:
    """A lane by the user's function. A message that it cannot name goes with those that have no key, and that is told:
    whatever it raises, nothing is passed over.
    """

    def __init__(self, order: Callable[[Message[Any]], Hashable], context: Context) -> None:
        self._order = order
        self._context = context

    def __call__(self, record: Record) -> Hashable:
        context = self._context
        try:
            name = self._order(Message(record, context.parse, context.group))
            hash(name)
        except Exception as error:  # noqa: BLE001 - user code
            said = (
                f"order named no lane for it, {type(error).__name__}: {words(error)}: it goes with those without a key"
            )
            context.events.tell(
                LaneUnnamed(
                    group=context.group,
                    topic=record.topic() or "",
                    partition=record.partition() or 0,
                    offset=record.offset() or 0,
                    error=said,
                )
            )
            return None
        return name
