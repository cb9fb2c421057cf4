"""What `karafka info` says of what it found."""

from __future__ import annotations

import json
from typing import Any

from click import unstyle

from karafka.app import App
from karafka.cli.clusters import clusters
from karafka.cli.info import cluster, described, sheet
from karafka.cluster import BrokerSeen
from karafka.controllers import Controller
from karafka.policy import DeadLetter
from karafka.routing import group, topic

HERE = "here:9092"
THERE: dict[str, str | int | float | bool] = {"bootstrap.servers": "there:9093", "sasl.password": "hunter3"}
VERSIONS = {
    "karafka": "0.1.0",
    "confluent-kafka": "2.16.1",
    "librdkafka": "2.16.0",
    "python": "3.11.7",
    "executable": "/usr/bin/python3",
    "system": "Linux x86_64",
}
ANSWERS = BrokerSeen(address=HERE, number=1, cluster="abc", version="4.3 or newer")
SILENT = BrokerSeen(address="gone:9092", trouble="no broker answers at gone:9092 (Connection refused)")
# A proxy, say, which announces others, and a Kafka that is not known.
NAMELESS = BrokerSeen(address="proxy:9092", cluster="abc")


class Videos(Controller[Any]):
    def perform(self) -> None: ...


def shop() -> App:
    kafka: dict[str, str | int | float | bool] = {"bootstrap.servers": HERE, "sasl.password": "hunter2"}
    app = App("shop", kafka=kafka, processes=2)
    app.routes.draw(
        topic("videos", Videos), topic("orders", Videos), group("far", topic("videos", Videos), kafka=THERE)
    )
    return app


def told(app: App, *brokers: BrokerSeen) -> dict[str, Any]:
    there = [cluster(HERE, ["shop"], brokers)]
    return {"versions": VERSIONS, "app": described(app, "app:app", "/home/you/shop/app.py"), "clusters": there}


def shown(told: dict[str, Any]) -> dict[str, list[str]]:
    return {label: list(map(unstyle, lines)) for label, lines in sheet(told)}


def test_a_person_sees_each_in_a_line() -> None:
    assert shown(told(shop(), ANSWERS, SILENT, NAMELESS)) == {
        "karafka": ["0.1.0"],
        "client": ["confluent-kafka 2.16.1, librdkafka 2.16.0"],
        "Python": ["3.11.7, /usr/bin/python3"],
        "system": ["Linux x86_64"],
        "app": ["shop, app:app"],
        "boot file": ["/home/you/shop/app.py"],
        "environment": ["development"],
        "concurrency": ["5 worker threads shared, 2 processes"],
        "groups": ["shop: videos, orders", "far: videos"],
        "settings": ["bootstrap.servers  here:9092", "sasl.password      ********"],
        "of far": ["bootstrap.servers  there:9093", "sasl.password      ********"],
        "cluster": ["abc, here:9092"],
        "brokers": [
            "here:9092   answers as broker 1, Kafka 4.3 or newer",
            "gone:9092   no broker answers at gone:9092 (Connection refused)",
            "proxy:9092  answers",
        ],
    }


def test_a_cluster_that_does_not_answer_is_said_so() -> None:
    silent = told(shop(), SILENT)

    assert shown(silent)["cluster"] == ["does not answer, here:9092"]
    assert silent["clusters"][0]["answers"] is False


def test_secrets_are_masked() -> None:
    """The app's and those of its groups; for people and for programs."""
    everything = told(shop(), ANSWERS)

    assert "hunter" not in json.dumps(everything) + repr(shown(everything))


def test_each_cluster_is_asked_once() -> None:
    """Settings that say nothing of which it is, or as whom, make no other of it. Dead letters may go elsewhere."""
    app = shop()
    app.routes.draw(
        group("slow", topic("videos", Videos), kafka={"fetch.wait.max.ms": 500}),
        topic("clicks", Videos, dead_letter=DeadLetter("dead", producer={"bootstrap.servers": "grave:9092"})),
    )

    found = clusters(app)

    assert {one.servers: [group.group for group in one.groups] for one in found} == {
        HERE: ["shop", "slow"],
        "there:9093": ["far"],
        "grave:9092": [],
    }
    assert {one.servers: one.topics for one in found} == {
        HERE: {"videos": ["shop", "slow"], "orders": ["shop"], "clicks": ["shop"]},
        "there:9093": {"videos": ["far"]},
        "grave:9092": {"dead": ["dead letters of clicks"]},
    }


def test_an_app_without_routes_has_its_cluster() -> None:
    app = App("empty", kafka={"bootstrap.servers": HERE})

    assert [one.servers for one in clusters(app)] == [HERE]
    assert shown(told(app, ANSWERS))["groups"] == ["none: no routes"]
