"""What `karafka topics` says of the topics that an app declares."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from karafka.app import App
from karafka.cli.clusters import clusters
from karafka.cli.topics import Declared, declared, settle, table, tell
from karafka.cluster import TopicSeen
from karafka.controllers import Controller
from karafka.policy import DeadLetter
from karafka.responders import Responder, outgoing
from karafka.routing import group, topic

VIDEOS = TopicSeen("videos", 12, 3)


class Videos(Controller[Any]):
    def perform(self) -> None: ...


@pytest.fixture
def found() -> list[Declared]:
    """Of `videos` (there), `orders` and where its dead letters go (missing), and a pattern."""
    app = App("shop", kafka={"bootstrap.servers": "here:9092"})
    app.routes.draw(
        topic("videos", Videos),
        topic("orders", Videos, dead_letter=DeadLetter("orders_dead")),
        group("search", topic("videos", Videos), topic(re.compile("video.*"), Videos)),
    )
    (used,) = clusters(app)
    return declared(app, used, {"videos": VIDEOS, "videoclips": TopicSeen("videoclips", 1, 1), "else": VIDEOS})


def test_a_person_sees_which_are_there_and_who_declares_them(found: list[Declared]) -> None:
    """Sorted; dead letters are declared by whose they are; what is there otherwise is nobody's business here."""
    assert table(found).plain().splitlines() == [
        "topic        state    partitions  replicas  declared by",
        "orders       missing           -         -  shop",
        "orders_dead  missing           -         -  dead letters of orders",
        "video.*      2 match           -         -  search",
        "videos       there            12         3  shop, search",
    ]


class Answers(Responder):
    notices = outgoing("notices")
    audit = outgoing("audit", required=False)

    def respond(self) -> None: ...


def test_what_a_route_answers_on_is_declared_too() -> None:
    """On the cluster that the route reads from, by the names that its responder declares."""
    app = App("shop", kafka={"bootstrap.servers": "here:9092"})
    there: dict[str, str | int | float | bool] = {"bootstrap.servers": "there:9092"}
    app.routes.draw(topic("notices", Videos), group("far", topic("videos", Videos, responder=Answers), kafka=there))

    own, far = clusters(app)

    assert own.topics == {"notices": ["shop"]}
    assert far.topics == {"videos": ["far"], "notices": ["answers to videos"], "audit": ["answers to videos"]}


def test_what_was_made_is_told_and_what_could_not_be(found: list[Declared], capsys: pytest.CaptureFixture[str]) -> None:
    missing = [one for one in found if one.state == "missing"]

    settle(missing, {"orders_dead": "no right"}, {"orders": TopicSeen("orders", 4, 1)})
    tell(found, as_json=False)

    assert [(one.name, one.state, one.partitions) for one in missing] == [
        ("orders", "created", 4),
        ("orders_dead", "missing", None),
    ]
    assert capsys.readouterr().err == "karafka: topic 'orders_dead' cannot be made: no right\n"


def test_what_is_missing_is_told_with_the_way_to_make_it(
    found: list[Declared], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(found, as_json=False)

    assert capsys.readouterr().err == "2 topics are missing: karafka topics --create makes them.\n"


def test_programs_are_told_the_same(found: list[Declared], capsys: pytest.CaptureFixture[str]) -> None:
    tell(found, as_json=True)

    said = capsys.readouterr()
    rows = {row.pop("topic"): row for row in json.loads(said.out)}
    assert said.err == ""
    assert list(rows) == ["orders", "orders_dead", "video.*", "videos"]
    assert rows["videos"] == {
        "in_kafka": "videos",
        "state": "there",
        "partitions": 12,
        "replicas": 3,
        "declared_by": ["shop", "search"],
        "matches": [],
        "cluster": "here:9092",
        "error": None,
    }
    assert rows["video.*"]["matches"] == ["videoclips", "videos"]


def test_the_cluster_is_named_where_there_are_several(found: list[Declared]) -> None:
    found.append(Declared("videos", "videos", "missing", ["far"], "there:9093"))

    assert table(found).headings[-1] == "cluster"
    assert table(found).rows[-1][-1] == "there:9093"
