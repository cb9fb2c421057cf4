"""What does not go with `exactly_once=True` is refused where it is declared, in words; what goes with it is taken."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from karafka.app import App
from karafka.assignment import TransactedAssignment
from karafka.config import Setting
from karafka.controllers import BatchController, Controller
from karafka.errors import ConfigError
from karafka.messages import Run
from karafka.policy import Backoff, DeadLetter
from karafka.routing import Route, group, topic
from tests.unit.house import letters

KAFKA: Mapping[str, Setting] = {"bootstrap.servers": "a:1"}


class Plain(Controller[Any]):
    def perform(self) -> None: ...


class Aside(Controller[Any]):
    async def perform(self) -> None: ...


class Several(BatchController[Any]):
    def perform(self) -> None: ...


class SeveralAside(BatchController[Any]):
    async def perform(self) -> None: ...


CONTROLLERS = (Plain, Aside, Several, SeveralAside)


def route(app: App) -> Route:
    (subscription,) = app.subscriptions()
    (one,) = subscription.routes
    return one


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"order": "key"}, 'order other than "partition"'),
        ({"order": None}, 'order other than "partition"'),
        ({"order": lambda message: message.key}, 'order other than "partition"'),
        ({"marking": "manual"}, 'marking="manual"'),
        ({"dead_letter": DeadLetter("grave", crashes=True)}, r"DeadLetter\(crashes=True\)"),
    ],
    ids=["order by key", "no order", "an order of one's own", "manual marking", "crashes"],
)
class TestOptions:
    """Each is named, with its topic and with why."""

    def test_as_a_line_of_the_routing_table(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError, match=rf"topic\('orders'\): exactly_once=True .* does not go with {said}$"):
            topic("orders", Plain, exactly_once=True, **options)

    def test_as_a_decorator(self, options: dict[str, Any], said: str) -> None:
        """Nothing is routed then."""
        app = App("shop", kafka=KAFKA)
        with pytest.raises(ConfigError, match=said):
            app.topic("orders", exactly_once=True, **options)(Plain)

        assert list(app.routes) == []

    def test_without_it_they_are_taken(self, options: dict[str, Any], said: str) -> None:
        topic("orders", Plain, **options)


def test_what_could_be_read_too_early_is_refused() -> None:
    """An app that reads what is not committed could begin before its partition's last transaction has ended."""
    app = App("shop", kafka={**KAFKA, "isolation.level": "read_uncommitted"})
    app.routes.draw(topic("orders", Plain, exactly_once=True))

    with pytest.raises(
        ConfigError, match=r"topic\('orders'\): exactly_once=True needs isolation\.level=read_committed"
    ):
        app.subscriptions()


@pytest.mark.parametrize("kafka", [{}, {"isolation.level": "read_committed"}])
def test_what_is_committed_may_be_read(kafka: dict[str, Setting]) -> None:
    app = App("shop", kafka={**KAFKA, **kafka})
    app.routes.draw(topic("orders", Plain, exactly_once=True))

    assert route(app).policy.exactly_once


def test_beside_others_it_concerns_itself_alone() -> None:
    """A topic of the same app that is not exactly-once may have what it likes."""
    app = App("shop", kafka=KAFKA)
    app.routes.draw(
        topic("orders", Plain, exactly_once=True),
        topic("clicks", Plain, order="key", dead_letter=DeadLetter("grave", crashes=True)),
        group("other", topic("orders", Plain, marking="manual")),
    )
    found = {(one.group, line.topic.shown): line.policy for one in app.subscriptions() for line in one.routes}

    assert {where for where, policy in found.items() if policy.exactly_once} == {("shop", "orders")}


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"order": "partition", "marking": "auto"},
        {"dead_letter": DeadLetter("grave"), "retry": Backoff(1, 2)},
        {"retry": None, "concurrency": 3},
        {"start": "latest", "on_gap": "latest", "max_messages": 10},
    ],
    ids=["alone", "the defaults", "dead letters", "no second try", "bounds"],
)
def test_the_rest_goes_with_it(controller: type[Any], options: dict[str, Any]) -> None:
    """Single messages and batches, `def` and `async def`; by name and by pattern."""
    for name in ("orders", re.compile("orders-.*")):
        app = App("shop", kafka=KAFKA)
        app.routes.draw(topic(name, controller, exactly_once=True, **options))

        assert route(app).policy.exactly_once


class Sending(Controller[Any]):
    def perform(self) -> None:
        self.produce("results", b"x")


class SendingSeveral(BatchController[Any]):
    def perform(self) -> None:
        self.produce("results", b"x")


@pytest.mark.parametrize("controller", [Sending, SendingSeveral])
def test_without_a_server_what_sends_with_an_offset_is_refused(controller: type[Any]) -> None:
    """In words: nobody would send it."""
    app = App("shop", kafka=KAFKA)
    app.routes.draw(topic("orders", controller))

    with pytest.raises(RuntimeError, match="there is no server here that would send"):
        route(app).handler(Run(letters(1)))


def test_a_mark_is_refused() -> None:
    """Nothing but its transaction finishes a message: a mark that would do nothing is not answered as if it counted."""
    assignment = TransactedAssignment("shop", "orders", 0, 0, lambda _wish: None)

    with pytest.raises(RuntimeError, match=r"mark\(7\): on a route with exactly_once=True"):
        assignment.mark(7)
