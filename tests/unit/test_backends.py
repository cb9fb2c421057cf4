"""Job queues by name, what a route may say of them, and the one that is Kafka itself."""

from __future__ import annotations

import re
from typing import Any

import pytest

from karafka import App, BatchController, Binary, ConfigError, Controller, Producer, Worker, group, topic
from karafka.backends.envelope import read
from karafka.backends.kafka import KafkaBackend
from karafka.backends.named import Backends, check_backend
from karafka.backends.port import Backend
from karafka.messages import Run
from karafka.outbox import Confirmed
from tests.unit.house import Letter
from tests.unit.paper import KAFKA, Paper


class VideosController(Controller[Any]):
    def perform(self) -> None: ...


class ManyController(BatchController[Any]):
    def perform(self) -> None: ...


class UrgentWorker(Worker):
    priority = -1


class DeadWorker(Worker):
    queue = "dead"


class LongWorker(Worker):
    queue = "x" * 100


def routes(*declared: Any, **options: Any) -> list[Any]:
    """What became of them: their routes."""
    app = App(**{"client_id": "shop", "kafka": KAFKA, **options})
    app.routes.draw(*declared)
    return [route for one in app.subscriptions() for route in one.routes]


class TestByName:
    def test_each_name_is_one_queue_however_often_it_is_said(self) -> None:
        told: list[Backend] = []
        backends = Backends(told.append)
        first, own = backends.get("here", "kafka"), Paper()

        assert isinstance(first, KafkaBackend)
        assert backends.get("there", "kafka") is first
        assert backends.get("there", own) is own
        assert backends.get("there", own) is own
        assert backends.get("there", None) is None
        assert told == [first, own]

    @pytest.mark.parametrize("backend", ["kafak", "Kafka", 7, KafkaBackend, object(), ""])
    def test_what_is_none_is_refused_with_those_there_are(self, backend: Any) -> None:
        with pytest.raises(
            ConfigError, match=r"here=.*: there is no such job queue; there are 'kafka'.*, or None for none"
        ):
            check_backend("here", backend)
        with pytest.raises(ConfigError, match=r"App\(backend=…\)=.*: there is no such job queue"):
            App("shop", KAFKA, backend=backend)
        with pytest.raises(ConfigError, match=r"topic\('videos'\): backend=.*: there is no such job queue"):
            topic("videos", VideosController, backend=backend)


class TestOnARoute:
    def test_the_route_s_word_comes_before_the_app_s(self) -> None:
        paper = Paper()
        said = routes(
            topic("a", VideosController),
            topic("b", VideosController, backend=paper),
            topic("c", VideosController, backend=None),
            backend="kafka",
        )
        names = [one.background.backend.name if one.background is not None else None for one in said]
        assert names == ["kafka", "paper", None]
        assert routes(topic("a", VideosController))[0].background is None

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (
                {"worker": UrgentWorker},
                r"UrgentWorker.* is of no use without a backend: topic\(…, backend=\"kafka\"\), or",
            ),
            ({"interchanger": Binary()}, r"Binary.* is of no use without a backend"),
            ({"worker": UrgentWorker, "backend": None}, "is of no use without a backend"),
        ],
    )
    def test_what_is_idle_is_refused(self, options: Any, said: str) -> None:
        with pytest.raises(ConfigError, match=rf"topic\('videos'\): .*{said}"):
            routes(topic("videos", VideosController, **options))

    @pytest.mark.parametrize(
        ("controller", "options", "said"),
        [
            (
                ManyController,
                {},
                r"a job is one message, but ManyController takes batches: make it a Controller, or topic",
            ),
            (
                VideosController,
                {"marking": "manual"},
                'marking="manual" leaves it to perform when a message is finished',
            ),
            (
                VideosController,
                {"worker": UrgentWorker},
                r"UrgentWorker\.priority=-1, but a topic of Kafka's has no priori",
            ),
            (
                VideosController,
                {"worker": DeadWorker},
                r"DeadWorker\.queue='dead' is where jobs are that were given up",
            ),
        ],
    )
    def test_what_cannot_work_is_refused(self, controller: Any, options: Any, said: str) -> None:
        with pytest.raises(ConfigError, match=rf"topic\('videos'\): {said}"):
            routes(topic("videos", controller, backend="kafka", **options))

    @pytest.mark.parametrize("worker", ["UrgentWorker", object, Worker()])
    def test_what_is_no_worker_is_refused_where_it_is_said(self, worker: Any) -> None:
        with pytest.raises(
            ConfigError, match=r"topic\('videos'\): worker: .* is no worker: a subclass of Worker is expected"
        ):
            topic("videos", VideosController, backend="kafka", worker=worker)

    def test_a_queue_whose_topic_kafka_does_not_take_is_refused(self) -> None:
        """Each job would fail, and be tried for ever."""
        with pytest.raises(ConfigError, match=r"topic\('videos'\): LongWorker\.queue: '.*' is no topic name for Kafka"):
            routes(topic("videos", VideosController, worker=LongWorker, backend=KafkaBackend("y" * 200)))

    def test_a_mapper_must_know_the_topics_of_jobs_too(self) -> None:
        class Mapper:
            def outgoing(self, topic: str) -> str:
                return "elsewhere" if "jobs" in topic else topic

            def incoming(self, topic: str) -> str:
                return topic

        with pytest.raises(ConfigError, match=r"'shop_jobs_default' is 'elsewhere' in Kafka"):
            routes(topic("videos", VideosController, backend="kafka"), topic_mapper=Mapper())


class TestKafka:
    def test_its_topics_begin_with_the_app_or_as_it_is_told(self) -> None:
        app: Any = App("my shop/é", KAFKA)

        assert KafkaBackend().topic(app, "slow") == "my_shop___jobs_slow"
        assert KafkaBackend().grave(app) == "my_shop___jobs_dead"
        assert KafkaBackend("encoding").topic(app, "slow") == "encoding_slow"
        assert KafkaBackend("encoding").topics(app, "slow") == {
            "encoding_slow": "jobs of the queue slow",
            "encoding_dead": "jobs that were given up",
        }

    @pytest.mark.parametrize("prefix", ["", "a b", "x" * 250, 7], ids=repr)
    def test_a_prefix_that_no_topic_can_have_is_refused(self, prefix: Any) -> None:
        with pytest.raises(ConfigError, match=r"KafkaBackend\(prefix=…\): .* is no topic name"):
            KafkaBackend(prefix)

    def test_two_of_one_prefix_are_one_queue(self) -> None:
        assert KafkaBackend() == KafkaBackend()
        assert KafkaBackend("a") == KafkaBackend("a") != KafkaBackend("b")
        assert len({KafkaBackend("a"), KafkaBackend("a"), KafkaBackend()}) == 2
        assert KafkaBackend() != "kafka"

    def test_a_job_is_a_message_that_the_offset_waits_for(self) -> None:
        """It goes as what a message sends: nothing is finished before it is confirmed."""
        (route,) = routes(topic("videos", VideosController, backend="kafka"))
        producer, run = Producer.recorder(), Run([Letter("videos", 3, at, b"%d" % at, b"k") for at in (5, 9)])
        handler: Any = Confirmed(route.handler, producer).perform
        handler(run)

        assert run.finished == 2
        assert [one.topic for one in producer.recorded] == ["shop_jobs_default"] * 2
        jobs = [read(one.payload) for one in producer.recorded]
        assert [(one.topic, one.partition, one.offset, one.params, one.key) for one in jobs] == [
            ("videos", 3, 5, "5", "k"),
            ("videos", 3, 9, "9", "k"),
        ]
        assert {one.group for one in jobs} == {"shop"}

    def test_jobs_have_no_key_so_that_they_spread(self) -> None:
        (route,) = routes(topic("videos", VideosController, backend="kafka"))
        producer = Producer.recorder()
        handler: Any = Confirmed(route.handler, producer).perform
        handler(Run([Letter("videos", 0, 0, b"1", b"the same")]))
        assert producer.recorded[0].key is None

    def test_it_has_no_worker_program_of_its_own(self) -> None:
        with pytest.raises(NotImplementedError, match="kafka has no worker program of its own"):
            KafkaBackend().run(None, {}, concurrency=1, processes=1, shutdown_timeout=1)


class TestAPattern:
    def test_it_may_be_performed_in_the_background_too(self) -> None:
        (route,) = routes(group("g", topic(re.compile("a.*"), VideosController, backend="kafka")))
        assert (route.background.group, route.background.route) == ("g", "/a.*/")
