"""Background jobs where they are performed: which topics a worker reads, and whose jobs it finds in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest

from karafka import App, Controller, Producer, Worker, group, topic
from karafka.backends.envelope import packed, text_of
from karafka.background import subscriptions, topics
from karafka.interchangers import Interchanger
from karafka.messages import Run
from karafka.outbox import Confirmed
from karafka.performing import Background
from karafka.routing import Group, Subscription, Topic
from karafka.server import Server
from karafka.workers import named
from tests.unit.house import Letter
from tests.unit.paper import KAFKA


class Noting(Controller[Any]):
    """Base of the test controllers: what they note is gone before each test."""

    notes: ClassVar[list[Any]] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    Noting.notes.clear()


class SlowWorker(Worker):
    queue = "slow"


class FirstController(Noting):
    worker = SlowWorker

    def perform(self) -> None:
        self.notes.append(("first", self.params))


class SecondController(Noting):
    worker = SlowWorker

    def perform(self) -> None:
        self.notes.append(("second", self.params))


def drawn(*declarations: Topic | Group, **options: Any) -> App:
    app = App("shop", KAFKA, **{"backend": "kafka", **options})
    app.routes.draw(*declarations)
    return app


def slow(found: Iterable[Subscription]) -> list[Subscription]:
    """Those that read the queue of these workers."""
    return [one for one in found if one.group.endswith("_slow")]


def job(app: App, line: str, number: int = 0) -> Letter:
    """One of the route `line`, as a server of the app hands it over."""
    (route,) = (route for one in app.subscriptions() for route in one.routes if route.topic.shown == line)
    assert route.background is not None
    return job_of(route.background, number)


def job_of(background: Background, number: int) -> Letter:
    made = packed(
        Letter("videos", 0, number, b"%d" % number),
        None,
        parsed=False,
        of=Any,
        interchanger=Interchanger(),
        enqueued=0.0,
        group=background.group,
        route=background.route,
        worker=named(background.worker.cls),
    )
    return Letter("shop_jobs_slow", 0, number, text_of(made))


def perform(found: Subscription, *jobs: Letter) -> None:
    (route,) = found.routes
    handler: Any = Confirmed(route.handler, Producer.recorder()).perform
    handler(Run(list(jobs)))


class TestClusters:
    def test_groups_with_settings_of_their_own_share_the_queues_of_their_cluster(self) -> None:
        """Two members of one consumer group, each knowing half of the jobs, would bury the other half."""
        app = drawn(
            topic("a", FirstController),
            group("g", topic("b", SecondController), kafka={"fetch.min.bytes": 2}),
        )
        (found,) = slow(subscriptions(app))
        perform(found, job(app, "a", 1), job(app, "b", 2))

        assert found.kafka == {}
        assert Noting.notes == [("first", 1), ("second", 2)]
        assert [name for _, name, _ in topics(app) if name.endswith("_slow")] == ["shop_jobs_slow"]

    def test_the_brokers_may_stand_in_another_order(self) -> None:
        app = drawn(
            group("g", topic("a", FirstController), kafka={"bootstrap.servers": "one:9092,two:9092"}),
            group("h", topic("b", SecondController), kafka={"bootstrap.servers": "two:9092, one:9092"}),
        )
        (found,) = slow(subscriptions(app))
        perform(found, job(app, "a", 1), job(app, "b", 2))

        assert found.kafka == {"bootstrap.servers": "one:9092,two:9092"}

    def test_another_cluster_has_queues_of_its_own(self) -> None:
        app = drawn(
            topic("a", FirstController),
            group("g", topic("b", SecondController), kafka={"bootstrap.servers": "other:9092"}),
        )
        here, there = slow(subscriptions(app))

        assert here.topics == there.topics == ("shop_jobs_slow",)
        assert (here.kafka, there.kafka) == ({}, {"bootstrap.servers": "other:9092"})

    def test_of_which_jobs_come_here_all_are_known(self) -> None:
        """What looks like two clusters may be one, by two names."""
        app = drawn(
            topic("a", FirstController),
            group("g", topic("b", SecondController), kafka={"bootstrap.servers": "other:9092"}),
        )
        for found in slow(subscriptions(app)):
            perform(found, job(app, "a", 1), job(app, "b", 2))
        assert Noting.notes == [("first", 1), ("second", 2)] * 2

    def test_a_group_of_one_name_on_two_clusters_is_two(self) -> None:
        """Each has the jobs of its own routes."""
        app = drawn(
            group("g", topic("a", FirstController)),
            group("g", topic("a", SecondController), kafka={"bootstrap.servers": "other:9092"}),
        )
        here, there = slow(subscriptions(app))
        text = job(drawn(group("g", topic("a", FirstController))), "a")
        perform(here, text)
        perform(there, text)

        assert Noting.notes == [("first", 0), ("second", 0)]


class TestPatterns:
    def test_a_pattern_and_a_topic_of_the_same_text_are_two_routes(self) -> None:
        """Each performs its own jobs."""
        app = drawn(topic("a.b", FirstController), topic(re.compile("a.b"), SecondController))
        routes = app.subscriptions()[0].routes
        backgrounds = [one.background for one in routes if one.background is not None]
        (found,) = slow(subscriptions(app))
        perform(found, *(job_of(one, number) for number, one in enumerate(backgrounds)))

        assert Noting.notes == [("first", 0), ("second", 1)]

    @pytest.mark.parametrize("pattern", [{}, {"backend": None}], ids=["in the background", "here"])
    def test_no_pattern_takes_jobs_for_messages(self, pattern: Any) -> None:
        """Each would be handed over as a message of its own, and that again, for ever. Whoever hands them over: this
        process has the pattern alone.
        """
        app = drawn(topic(re.compile("shop_.*"), FirstController, **pattern), topic("orders", SecondController))
        app.routes.select(lambda _group, line: line.shown != "orders")
        jobs = ["shop_jobs_slow", "shop_jobs_dead"]
        server = Server(app)
        (subscription,) = server._subscriptions
        wanted = server._wanted(subscription)
        assert wanted is not None

        assert [name for name in jobs if wanted(name)] == []
        assert wanted("shop_videos")
