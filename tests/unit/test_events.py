"""The bus: who hears what, and that a listener breaks nothing but itself."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from karafka import events as told
from karafka.events import ErrorOccurred, Event, Events, Paused, Resumed, TopicFound, TopicMissing

FOUND = TopicFound(group="g", topic="orders")
MISSING = TopicMissing(group="g", topic="orders")
TROUBLE = told.ClientTroubled(group="g", code="_X", error="away")
KINDS = [one for one in vars(told).values() if isinstance(one, type) and issubclass(one, Event)]


def test_a_listener_hears_its_kind_and_those_below() -> None:
    """Everything for `Event`, all errors for `ErrorOccurred`."""
    events, heard = Events(), list[tuple[str, Event]]()
    events.on(Event, lambda event: heard.append(("all", event)))
    events.on(ErrorOccurred, lambda event: heard.append(("errors", event)))
    events.on(TopicFound, lambda event: heard.append(("found", event)))

    for event in (FOUND, MISSING, TROUBLE):
        events.tell(event)

    assert heard == [("all", FOUND), ("found", FOUND), ("all", MISSING), ("all", TROUBLE), ("errors", TROUBLE)]


def test_a_listener_that_raises_breaks_nothing_but_itself(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and counted, the others hear, and it goes on being told."""
    events, heard = Events(), list[Event]()

    def fail(event: Event) -> None:
        raise ZeroDivisionError(event)

    events.on(TopicFound, fail)
    events.on(TopicFound, heard.append)
    with caplog.at_level(logging.ERROR, "karafka.events"):
        events.tell(FOUND)
        events.tell(FOUND)

    assert heard == [FOUND, FOUND]
    assert events.failures == 2
    assert len(caplog.records) == 2


def test_an_event_is_made_only_when_someone_wants_it() -> None:
    """Asked before it is made, on hot paths; a listener that comes later is known at once."""
    events = Events()
    assert not events.wants(Paused)

    events.on(Paused, print)
    assert events.wants(Paused)
    assert not events.wants(Resumed)

    events.on(Event, print)
    assert events.wants(Resumed)


def test_a_listener_added_by_a_listener_hears_the_next() -> None:
    """Adding while telling is no trouble."""
    events, heard = Events(), list[Event]()
    events.on(TopicFound, lambda _event: events.on(TopicFound, heard.append))

    events.tell(FOUND)
    events.tell(FOUND)

    assert heard == [FOUND]


@pytest.mark.parametrize("kind", KINDS)
def test_events_are_frozen_values_named_by_field(kind: type[Any]) -> None:
    """Plain, complete, safe to hand to any thread."""
    assert kind.__struct_config__.frozen
    # What is named by field alone can not be matched by place.
    assert kind.__match_args__ == ()
    assert kind.__doc__
