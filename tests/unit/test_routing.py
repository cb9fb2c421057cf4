"""The routing table: what is drawn, what is refused, what a listener is made from."""

from __future__ import annotations

import re
from inspect import iscoroutinefunction
from typing import Any

import pytest

from karafka.app import App
from karafka.config import Config
from karafka.controllers import BatchController, Controller
from karafka.errors import ConfigError
from karafka.events import Events
from karafka.policy import Backoff, DeadLetter
from karafka.routing import BATCH, GATHER, Routes, Subscription, group, topic


class Orders(Controller[Any]):
    def perform(self) -> None: ...


class Clicks(Controller[Any]):
    async def perform(self) -> None: ...


class Totals(BatchController[Any]):
    def perform(self) -> None: ...


@pytest.fixture
def routes() -> Routes:
    return Routes(Config(client_id="shop", kafka={"bootstrap.servers": "localhost:9092"}))


def subscriptions(routes: Routes) -> tuple[Subscription, ...]:
    return routes.subscriptions(Events(), App("shop", kafka={"bootstrap.servers": "localhost:9092"}))


class TestDrawing:
    """Topics go to the app's group, or the one they name; a group on a cluster is one subscription."""

    def test_topics_of_no_group_are_the_app_s(self, routes: Routes) -> None:
        """The client id is its name."""
        routes.draw(topic("orders", Orders), topic("clicks", Clicks))

        (one,) = subscriptions(routes)
        assert (one.group, one.topics) == ("shop", ("orders", "clicks"))

    def test_a_group_of_its_own(self, routes: Routes) -> None:
        """Named by the topic, or around several."""
        routes.draw(topic("orders", Orders, group="a"), group("b", topic("orders", Orders), topic("clicks", Clicks)))

        assert [(one.group, one.topics) for one in subscriptions(routes)] == [
            ("a", ("orders",)),
            ("b", ("orders", "clicks")),
        ]

    def test_a_group_drawn_in_parts_is_one_subscription(self, routes: Routes) -> None:
        """One listener reads it."""
        routes.draw(topic("orders", Orders, group="a"))
        routes.draw(group("a", topic("clicks", Clicks)))

        (one,) = subscriptions(routes)
        assert one.topics == ("orders", "clicks")

    def test_a_group_on_two_clusters_is_two_subscriptions(self, routes: Routes) -> None:
        """The same topic may be read on each."""
        other = {"bootstrap.servers": "other:9092"}
        routes.draw(group("a", topic("orders", Orders)), group("a", topic("orders", Orders), kafka=other))

        assert [(one.group, dict(one.kafka)) for one in subscriptions(routes)] == [("a", {}), ("a", other)]

    def test_what_is_drawn_can_be_looked_through(self, routes: Routes) -> None:
        """Each topic with its group, in order."""
        routes.draw(topic("orders", Orders), group("b", topic("clicks", Clicks)))

        assert [(name, line.shown) for name, line in routes] == [("shop", "orders"), ("b", "clicks")]


class TestRoutes:
    """What an option says is the route's; what it leaves open is the app's."""

    def test_defaults(self, routes: Routes) -> None:
        """JSON, the app's retry and start, shared workers."""
        routes.draw(topic("orders", Orders))

        (route,) = subscriptions(routes)[0].routes
        assert (route.policy.retry, route.policy.start, route.policy.batch) == (Backoff(), "earliest", False)
        assert (route.concurrency, route.asynchronous, route.controller) == (None, False, Orders)

    def test_options(self, routes: Routes) -> None:
        """Each reaches the policy."""
        grave = DeadLetter("dead", after=5)
        routes.draw(topic("orders", Orders, retry=Backoff(2, 4), dead_letter=grave, start="latest", max_messages=7))

        (route,) = subscriptions(routes)[0].routes
        policy = route.policy
        assert (policy.retry, policy.dead_letter, policy.start) == (Backoff(2, 4), grave, "latest")
        assert (policy.max_messages, policy.max_wait) == (7, 0)

    def test_no_second_try_is_said_with_none(self, routes: Routes) -> None:
        """Which is not the same as saying nothing."""
        routes.draw(topic("orders", Orders, retry=None))

        assert subscriptions(routes)[0].routes[0].policy.retry is None

    def test_batches(self, routes: Routes) -> None:
        """Gathered for a while by default; 0 says not to wait."""
        routes.draw(topic("a", Totals), topic("b", Totals, max_messages=5, max_wait=0))

        first, second = (route.policy for route in subscriptions(routes)[0].routes)
        assert (first.batch, first.max_messages, first.max_wait) == (True, BATCH, GATHER)
        assert (second.max_messages, second.max_wait) == (5, 0)

    def test_an_async_perform_is_known(self, routes: Routes) -> None:
        """It goes to the loop."""
        routes.draw(topic("clicks", Clicks))

        (route,) = subscriptions(routes)[0].routes
        assert route.asynchronous
        assert iscoroutinefunction(route.handler)


class TestPatterns:
    """A compiled pattern takes all topics whose whole name it matches."""

    def test_a_name_goes_before_a_pattern(self, routes: Routes) -> None:
        """And an earlier pattern before a later."""
        routes.draw(
            topic(re.compile(r"logs\..*"), Orders), topic(re.compile(r"logs\.a.*"), Totals), topic("logs.a", Clicks)
        )
        (one,) = subscriptions(routes)

        found = [one.route_for(name) for name in ("logs.a", "logs.ab", "logs.b", "my.logs.a")]

        assert [route.controller if route else None for route in found] == [Clicks, Orders, Orders, None]
        assert one.topics == ("logs.a",)
        assert len(one.patterns) == 2


class TestRefusals:
    """Told where it is written, in one sentence."""

    @pytest.mark.parametrize("name", ["", " ", "a b", "a/b", ".", "..", "x" * 250, "ö", None, 7, b"orders"])
    def test_a_name_that_kafka_does_not_take(self, name: Any) -> None:
        """With what it takes."""
        with pytest.raises(ConfigError, match="is no topic name for Kafka"):
            topic(name, Orders)

    @pytest.mark.parametrize("name", ["a", "x" * 249, "A-b_c.9", "..."])
    def test_names_that_kafka_takes(self, name: str) -> None:
        """Are taken."""
        assert topic(name, Orders).name == name

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"group": ""}, ["topic('orders')", "group", "''"]),
            ({"concurrency": 0}, ["topic('orders')", "concurrency=0", "at least 1"]),
            ({"concurrency": 1.5}, ["topic('orders')", "concurrency=1.5"]),
            ({"start": "now"}, ["topic('orders')", "'now'", "'latest'"]),
            ({"max_messages": 0}, ["topic('orders')", "max_messages=0"]),
            ({"retry": 3}, ["topic('orders')", "retry=3", "Backoff"]),
            ({"dead_letter": "dead"}, ["topic('orders')", "dead_letter='dead'", "DeadLetter"]),
            ({"dead_letter": DeadLetter("no good")}, ["topic('orders')", "'no good'"]),
            ({"dead_letter": DeadLetter("orders")}, ["topic('orders')", "back to itself"]),
            ({"parser": object()}, ["topic('orders')", "parse(bytes)"]),
            ({"parser": dict}, ["topic('orders')", "parse(bytes)"]),
            ({"max_wait": 1.0}, ["topic('orders')", "max_wait", "Orders", "BatchController"]),
        ],
    )
    def test_an_option_that_cannot_work(self, options: dict[str, Any], words: list[str]) -> None:
        """The topic, the option, its value, the way out."""
        with pytest.raises(ConfigError) as refused:
            topic("orders", Orders, **options)

        assert [word for word in words if word not in str(refused.value)] == []

    def test_an_option_that_there_is_not(self) -> None:
        """Named with its topic: a slip of the pen is no traceback."""
        with pytest.raises(ConfigError, match=r"topic\('orders'\).*grup"):
            topic("orders", Orders, grup="a")  # type: ignore[call-arg]

    def test_a_pattern_whose_dead_letters_it_would_read(self) -> None:
        """They would go round for ever."""
        with pytest.raises(ConfigError, match="back to itself"):
            topic(re.compile("orders.*"), Orders, dead_letter=DeadLetter("orders_dead"))

    def test_a_pattern_of_bytes(self) -> None:
        """Topic names are text."""
        with pytest.raises(ConfigError):
            topic(re.compile(b"orders.*"), Orders)  # type: ignore[arg-type]

    def test_a_controller_that_is_none(self) -> None:
        """See `check_controller`."""
        with pytest.raises(ConfigError, match="cannot be routed to"):
            topic("orders", object)  # type: ignore[arg-type]

    def test_a_topic_twice_in_one_group(self, routes: Routes) -> None:
        """Within a draw, across draws, or in one group(…)."""
        routes.draw(topic("orders", Orders))
        for again in (topic("orders", Clicks), group("shop", topic("orders", Clicks))):
            with pytest.raises(ConfigError, match="'orders' is routed twice in group 'shop', to Orders and Clicks"):
                routes.draw(again)
        with pytest.raises(ConfigError, match="routed twice"):
            routes.draw(group("b", topic("orders", Orders), topic("orders", Clicks)))

    def test_a_pattern_twice_in_one_group(self, routes: Routes) -> None:
        """The same pattern compiled again is the same."""
        routes.draw(topic(re.compile("a.*"), Orders))

        with pytest.raises(ConfigError, match="routed twice"):
            routes.draw(topic(re.compile("a.*"), Clicks))

    def test_a_group_within_a_group(self) -> None:
        """One of them."""
        with pytest.raises(ConfigError, match=r"group\('b'\): topic 'orders' names the group 'a'"):
            group("b", topic("orders", Orders, group="a"))

    @pytest.mark.parametrize("odd", ["orders", None, Orders, ("orders", Orders)])
    def test_what_is_no_line(self, routes: Routes, odd: Any) -> None:
        """`routes.draw("orders", …)` is a likely slip."""
        with pytest.raises(
            ConfigError, match="a topic(…) or a group(…) is expected".replace("(", r"\(").replace(")", r"\)")
        ):
            routes.draw(odd)

    def test_settings_that_belong_to_the_framework(self) -> None:
        """In a group too."""
        with pytest.raises(ConfigError, match=r"group\('a', kafka=…\) sets 'group.id'"):
            group("a", topic("orders", Orders), kafka={"group.id": "x"})


class TestSelecting:
    """A process may have some of the lines; the others stay what they are to the group."""

    def test_only_what_is_selected_is_read(self, routes: Routes) -> None:
        """A group of which nothing is left has no listener."""
        routes.draw(group("a", topic("orders", Orders), topic("clicks", Clicks)), group("b", topic("orders", Totals)))

        routes.select(lambda group, line: group == "a" and line.name == "orders")

        (one,) = subscriptions(routes)
        assert (one.group, one.topics) == ("a", ("orders",))
        assert [line.controller for _, line in routes] == [Orders]

    def test_a_pattern_leaves_alone_what_another_line_of_its_group_reads(self, routes: Routes) -> None:
        """Else a topic would go to another controller wherever its own line is left out."""
        routes.draw(
            topic("orders", Orders), topic(re.compile("ord.*"), Clicks), topic(re.compile("(ord|pay).*"), Totals)
        )

        routes.select(lambda _, line: line.controller is Totals)

        (one,) = subscriptions(routes)
        routed = {name: one.route_for(name) for name in ("orders", "ordered", "payments")}
        assert {name: route.controller if route else None for name, route in routed.items()} == {
            "orders": None,
            "ordered": None,
            "payments": Totals,
        }

    def test_dead_letters_of_what_is_left_out_are_known(self, routes: Routes) -> None:
        """No pattern may read them."""
        routes.draw(topic("orders", Orders, dead_letter=DeadLetter("dead")), topic(re.compile("d.*"), Clicks))

        routes.select(lambda _, line: line.controller is Clicks)

        assert routes.graves == {"dead"}

    def test_loops_through_what_is_left_out_are_refused(self, routes: Routes) -> None:
        """Another process reads it."""
        routes.draw(
            topic("orders", Orders, dead_letter=DeadLetter("clicks")),
            topic("clicks", Clicks, dead_letter=DeadLetter("orders")),
        )

        routes.select(lambda _, line: line.name == "orders")

        with pytest.raises(ConfigError, match="round for ever"):
            subscriptions(routes)


class TestAsyncParsers:
    """A parser that must be awaited needs a perform that waits."""

    class Registry:
        async def parse(self, raw: bytes, /) -> Any: ...

        def generate(self, payload: Any, /) -> bytes:
            return b""

    def test_with_a_plain_perform_it_is_refused(self) -> None:
        """Where it is written, with the way out."""

        class Plain(Controller[Any]):
            def perform(self) -> None: ...

        with pytest.raises(ConfigError, match=r"topic\('a'\): .*Registry.parse is async, but .*Plain.perform is not"):
            topic("a", Plain, parser=self.Registry())

    def test_with_a_coroutine_it_is_not(self) -> None:
        class Waiting(Controller[Any]):
            async def perform(self) -> None: ...

        assert topic("a", Waiting, parser=self.Registry()).options.parser is not None
