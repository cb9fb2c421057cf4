"""Background jobs where they are performed: which topics a worker reads, and whose jobs it finds in them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, ClassVar

import msgspec
import pytest

from karafka import App, Backoff, ConfigError, Controller, DeadLetter, Producer, Worker, group, topic
from karafka.assignment import Assignment
from karafka.backends.envelope import packed, read, text_of
from karafka.background import Job, has_jobs, subscriptions, topics
from karafka.errors import JobError, TimeLimitError
from karafka.interchangers import Interchanger
from karafka.messages import Record, Run
from karafka.outbox import Confirmed
from karafka.performing import Background
from karafka.routing import Group, Subscription, Topic
from karafka.server import Server
from karafka.workers import named
from tests.unit.house import Letter
from tests.unit.paper import KAFKA, Paper


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


class ThirdWorker(Worker):
    queue = "quick"
    max_retries = 2
    backoff = Backoff(5, 5)


class ThirdController(Noting):
    worker = ThirdWorker

    def perform(self) -> None:
        self.notes.append(("third", self.params))


class AsideController(Noting):
    async def perform(self) -> None: ...


VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")
OPENED: ContextVar[str] = ContextVar("opened", default="not opened")


class SettingController(Noting):
    def perform(self) -> None:
        self.notes.append((VARIABLE.get(), self.message.attempt))
        VARIABLE.set("set")


class ProducingController(Noting):
    def perform(self) -> None:
        self.produce("results", self.params)


class Kept:
    """An outbox that notes what is sent for which offset."""

    used, unsure = False, None

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def send(self, offset: int, *letter: Any) -> None:
        self.sent.append((offset, *letter[:2]))

    def add(self, offset: int, letters: Iterable[tuple[Any, ...]]) -> None:
        for one in letters:
            self.send(offset, *one)

    def mark(self, at: int, offset: int, assignment: Assignment) -> bool:
        raise NotImplementedError

    def post_early(self, before: int) -> None: ...


class PlainHosted(Noting):
    @classmethod
    def setup(cls, app: App) -> None:  # noqa: ARG003 - that is how it is called
        cls.notes.append("setup")

    def perform(self) -> None:
        if self.params < 0:
            raise TimeoutError("mine")
        assert 1 / self.params
        self.notes.append((OPENED.get(), self.params, self.message.attempt))
        self.produce("results", self.params)
        OPENED.set("spoiled")


class AsideHosted(PlainHosted):
    async def perform(self) -> None:  # type: ignore[override]  # it is plain there
        await asyncio.sleep(0)
        super().perform()


class HangingWorker(Worker):
    time_limit = 0.05


class HangingController(Noting):
    worker = HangingWorker

    async def perform(self) -> None:
        await asyncio.sleep(60)


def drawn(*declarations: Topic | Group, **options: Any) -> App:
    app = App(**{"client_id": "shop", "kafka": KAFKA, "backend": "kafka", **options})
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


def job_text(app: App, line: str, number: int) -> Any:
    """The same as the objects of a queue that makes the text itself."""
    return json.loads(job(app, line, number).value() or b"")


def with_offset(record: Record, offset: int) -> Letter:
    return Letter(record.topic() or "", 0, offset, record.value())


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


class TestQueues:
    def test_each_is_a_topic_and_a_group_of_its_own_without_an_order(self) -> None:
        app = drawn(topic("a", FirstController), client_id="my shop")
        found = {one.group: one for one in subscriptions(app)}

        # Also those of workers that no route names: a hook may choose them.
        assert found.keys() == {"my_shop_jobs_default", "my_shop_jobs_quick", "my_shop_jobs_slow"}
        (route,) = found["my_shop_jobs_slow"].routes
        assert route.group == route.topic.name == "my_shop_jobs_slow"
        assert route.topic.options.order is None
        assert route.policy.dead_letter is not None
        assert route.policy.dead_letter.topic == "my_shop_jobs_dead"

    def test_of_several_that_are_named_each_has_its_share(self) -> None:
        app = drawn(topic("a", FirstController), topic("b", ThirdController), concurrency=10)

        def widths(weights: dict[str, int] | None = None) -> dict[str, int]:
            return {one.group.rpartition("_")[2]: one.routes[0].policy.width for one in subscriptions(app, weights)}

        assert widths() == {"slow": 10, "quick": 10, "default": 10}
        assert widths({"quick": 3}) == {"quick": 10}
        assert widths({"quick": 5, "slow": 2}) == {"quick": 25, "slow": 10}

    def test_one_that_nobody_has_is_refused(self) -> None:
        app = drawn(topic("a", FirstController), topic("b", ThirdController))
        with pytest.raises(ConfigError, match="-q sloww: no worker has that queue; there are default, quick, slow"):
            subscriptions(app, {"sloww": 1})

    def test_where_none_is_in_kafka_there_is_nothing_to_read(self) -> None:
        for app in (
            drawn(topic("a", FirstController), backend=None),
            drawn(topic("a", FirstController, backend=Paper())),
        ):
            assert not has_jobs(app)
            with pytest.raises(
                ConfigError, match=r"no route hands its messages over to a job queue that Kafka is: topic"
            ):
                subscriptions(app)

    def test_plain_jobs_have_the_app_s_workers_and_coroutines_tasks(self) -> None:
        plain = drawn(topic("a", FirstController), concurrency=3)
        mixed = drawn(topic("a", FirstController), topic("c", AsideController), concurrency=3)

        assert {(one.routes[0].asynchronous, one.routes[0].policy.width) for one in subscriptions(plain)} == {
            (False, 3)
        }
        assert {(one.routes[0].asynchronous, one.routes[0].policy.width) for one in subscriptions(mixed)} == {
            (True, 100)
        }

    def test_the_route_s_controller_is_a_stand_in(self) -> None:
        with pytest.raises(NotImplementedError):
            Job().perform()


class TestWhoseAJobIs:
    def test_its_own_policy_is_by_which_it_is_judged(self) -> None:
        """And its own controller the one that events name."""
        app = drawn(topic("a", FirstController), topic("b", ThirdController))
        (found,) = slow(subscriptions(app))
        inside = found.routes[0].inside
        assert inside is not None
        first, third = inside(job(app, "a")), inside(job(app, "b"))
        assert first is not None
        assert third is not None

        assert (first.controller, third.controller) == ("FirstController", "ThirdController")
        assert first.policy.retry == SlowWorker.backoff
        assert first.policy.dead_letter == DeadLetter("shop_jobs_dead", after=21)
        assert third.policy.retry == Backoff(5, 5)
        assert third.policy.dead_letter == DeadLetter("shop_jobs_dead", after=3)

    def test_of_what_is_no_job_it_cannot_be_told(self) -> None:
        (found,) = slow(subscriptions(drawn(topic("a", FirstController))))
        inside = found.routes[0].inside
        assert inside is not None
        assert inside(Letter("shop_jobs_slow", 0, 0, b"{}")) is None
        assert inside(Letter("shop_jobs_slow", 0, 0, None)) is None

    def test_one_of_a_route_that_has_gone_says_so(self) -> None:
        old = drawn(topic("gone", FirstController))
        (found,) = slow(subscriptions(drawn(topic("a", FirstController))))
        said = "the job shop/videos/0/7 belongs to the route 'gone' of the group 'shop', which this app has not"
        with pytest.raises(JobError, match=said):
            perform(found, job(old, "gone", 7))

    def test_one_whose_worker_has_gone_says_so(self) -> None:
        app = drawn(topic("a", FirstController))
        (found,) = slow(subscriptions(app))
        envelope = read(job(app, "a", 7).value())
        said = "the job shop/videos/0/7 is to be performed as nowhere:Gone says, which is not in this process"
        with pytest.raises(JobError, match=said):
            perform(
                found, Letter("shop_jobs_slow", 0, 0, text_of(msgspec.structs.replace(envelope, worker="nowhere:Gone")))
            )

    def test_what_is_before_one_that_fails_is_finished(self) -> None:
        app = drawn(topic("a", FirstController))
        (found,) = slow(subscriptions(app))
        run = Run([job(app, "a", 0), Letter("shop_jobs_slow", 0, 1, b"{}"), job(app, "a", 2)])
        handler: Any = found.routes[0].handler
        with pytest.raises(JobError):
            handler(run)
        assert run.finished == 1
        assert Noting.notes == [("first", 0)]

    @pytest.mark.parametrize("beside", [(), ("c",)], ids=["alone", "beside coroutines"])
    def test_each_job_has_variables_of_its_own_and_tries_of_its_own(self, beside: tuple[str, ...]) -> None:
        app = drawn(topic("s", SettingController), *(topic(one, AsideController) for one in beside))
        (found,) = [one for one in subscriptions(app) if one.group.endswith("_default")]
        run = Run([job(app, "s", at) for at in range(3)], attempt=5)
        handler: Any = found.routes[0].handler
        if beside:
            asyncio.run(handler(run))
        else:
            handler(run)

        assert run.finished == 3
        assert Noting.notes == [("unset", 5), ("unset", 1), ("unset", 1)]

    def test_what_a_job_sends_goes_with_the_offset_of_the_job(self) -> None:
        """That of the message in it is of another topic."""
        app = drawn(topic("p", ProducingController))
        (found,) = [one for one in subscriptions(app) if one.group.endswith("_default")]
        run = Run([with_offset(job(app, "p", number), at) for at, number in enumerate((50, 40))])
        run.outbox = outbox = Kept()
        handler: Any = found.routes[0].handler
        handler(run)

        assert outbox.sent == [(0, "results", 50), (1, "results", 40)]


class TestAHost:
    def test_each_app_has_one_for_its_queue(self) -> None:
        """Once the app is imported whole: what is declared after the first route counts too."""
        paper = Paper()
        app = drawn(topic("a", FirstController, backend=paper))
        app.routes.draw(topic("b", ThirdController, backend=paper))
        (host,) = paper.hosts

        assert {one.queue for one in host().workers} == {"slow", "quick", "default"}

    @pytest.mark.parametrize("controller", ["PlainHosted", "AsideHosted"])
    def test_it_performs_as_a_server_does(self, monkeypatch: pytest.MonkeyPatch, controller: str) -> None:
        """Hooks and setup first, what is sent confirmed, each job in variables of its own."""
        paper, recorder = Paper(), Producer.recorder()
        monkeypatch.setattr(App, "producer_for", lambda _app, _kafka: recorder)
        app = drawn(topic("a", globals()[controller], backend=paper))
        app.on_start(lambda: OPENED.set("opened"))
        app.on_stop(lambda: Noting.notes.append("stopped"))
        host = paper.hosts[0]()
        host.start()
        host.perform(job_text(app, "a", 1), 4)
        host.perform(job_text(app, "a", 2), 1)
        host.stop()

        assert Noting.notes == ["setup", ("opened", 1, 4), ("opened", 2, 1), "stopped"]
        assert [one.payload for one in recorder.recorded] == [b"1", b"2"]

    @pytest.mark.parametrize("controller", ["PlainHosted", "AsideHosted"])
    def test_it_raises_what_perform_raises(self, monkeypatch: pytest.MonkeyPatch, controller: str) -> None:
        monkeypatch.setattr(App, "producer_for", lambda _app, _kafka: Producer.recorder())
        paper = Paper()
        app = drawn(topic("a", globals()[controller], backend=paper))
        host = paper.hosts[0]()
        host.start()
        with pytest.raises(ZeroDivisionError):
            host.perform(job_text(app, "a", 0), 1)
        with pytest.raises(JobError):
            host.perform({"v": 99}, 1)
        with pytest.raises(TimeoutError, match="mine"):
            host.perform(job_text(app, "a", -1), 1)
        host.stop()

    def test_it_cuts_off_coroutines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(App, "producer_for", lambda _app, _kafka: Producer.recorder())
        paper = Paper()
        app = drawn(topic("a", HangingController, backend=paper))
        host = paper.hosts[0]()
        host.start()
        with pytest.raises(TimeLimitError, match=r"0\.05 s"):
            host.perform(job_text(app, "a", 1), 1)
        host.stop()

    def test_what_a_route_sends_goes_to_the_cluster_that_its_messages_come_from(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: dict[str, Producer] = {}

        def producer_for(_app: App, kafka: Any) -> Producer:
            assert kafka.get("bootstrap.servers", "") not in made, "one for each"
            made[kafka.get("bootstrap.servers", "")] = Producer.recorder()
            return made[kafka.get("bootstrap.servers", "")]

        monkeypatch.setattr(App, "producer_for", producer_for)
        paper, other = Paper(), {"bootstrap.servers": "other:9092"}
        app = drawn(
            topic("a", PlainHosted, backend=paper), group("g", topic("b", PlainHosted, backend=paper), kafka=other)
        )
        host = paper.hosts[0]()
        host.start()
        for line in ("a", "b", "b"):
            host.perform(job_text(app, line, 1), 1)
        host.stop()

        assert {servers: len(one.recorded) for servers, one in made.items()} == {"": 1, "other:9092": 2}

    def test_two_routes_whose_jobs_cannot_be_told_apart_are_refused(self) -> None:
        """One group on two clusters, one topic: only Kafka itself keeps their jobs apart."""
        paper = Paper()
        drawn(
            group("g", topic("a", FirstController, backend=paper)),
            group("g", topic("a", ThirdController, backend=paper), kafka={"bootstrap.servers": "other:9092"}),
        )
        with pytest.raises(ConfigError, match=r"group 'g' reads 'a' on two clusters, .* another name"):
            paper.hosts[0]()
