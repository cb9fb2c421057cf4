"""What `karafka flow` says goes out for what comes in: in lines, in pictures, to programs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import click
import pytest

from karafka.app import App
from karafka.cli.flow import document, dot, lines, mermaid, picture
from karafka.cli.routes import described
from karafka.controllers import Controller
from karafka.policy import DeadLetter, Retry
from karafka.responders import Responder, outgoing
from karafka.routing import group, topic


class Silent(Controller[Any]):
    def perform(self) -> None: ...


class PaymentsController(Controller[Any]):
    def perform(self) -> None: ...


class PaymentsResponder(Responder):
    users_notified = outgoing("users_notified")
    audit = outgoing("audit", required=False, multiple=True)

    def respond(self) -> None: ...


class Undeclared(Responder):
    def respond(self) -> None: ...


def later(_error: BaseException, _attempt: int) -> Retry | None:
    return None


THERE: Mapping[str, str | int | float | bool] = {"bootstrap.servers": "there:9092"}


@pytest.fixture
def app() -> App:
    return App("shop", kafka={"bootstrap.servers": "here:9092"})


def said(app: App) -> list[str]:
    """The lines, without their colours."""
    return [click.unstyle(line) for line in lines(described(app))]


def test_what_goes_out_stands_below_what_comes_in(app: App) -> None:
    """Sorted by topic; each answer in the order of its declaration, with when and how often; then the dead letters."""
    app.routes.draw(
        topic("videos_created", Silent),
        topic("payments", PaymentsController, dead_letter=DeadLetter("payments_dead", after=5)),
    )

    assert said(app) == [
        "payments =>",
        "  - users_notified:       (always, exactly once)",
        "  - audit:                (conditionally, one or more)",
        "  - payments_dead:        (dead letters, after 5 tries)",
        "videos_created => (nothing)",
    ]


@pytest.mark.parametrize(
    ("grave", "words"),
    [
        (DeadLetter("dead", after=1), "(dead letters, after 1 try)"),
        (DeadLetter("dead", strategy=later), "(dead letters, by later)"),
    ],
)
def test_dead_letters_are_told_from_answers(app: App, grave: DeadLetter, words: str) -> None:
    app.routes.draw(topic("orders", Silent, dead_letter=grave))

    assert said(app) == ["orders =>", f"  - dead:                 {words}"]


def test_a_responder_that_declares_nothing_sends_nothing(app: App) -> None:
    app.routes.draw(topic("orders", Silent, responder=Undeclared))

    assert said(app) == ["orders => (nothing)"]


def test_who_reads_the_same_topic_is_told_apart(app: App) -> None:
    """By what differs: the group, the cluster, or both; who reads it alone needs neither."""
    app.routes.draw(
        topic("orders", Silent),
        topic("videos", Silent),
        group("search", topic("orders", Silent)),
        group("far", topic("clicks", Silent), kafka=THERE),
        group("near", topic("clicks", Silent)),
    )

    assert [line.partition(" =>")[0] for line in said(app)] == [
        "clicks (far, there:9092)",
        "clicks (near, here:9092)",
        "orders (search)",
        "orders (shop)",
        "videos",
    ]


def test_a_long_name_moves_the_second_column(app: App) -> None:
    """Of all routes, so that it stays one column."""
    long = DeadLetter("dead_letters_of_all_that_is_left")
    app.routes.draw(topic("orders", Silent, dead_letter=long), topic("a", Silent, dead_letter=DeadLetter("b")))

    assert len({line.index("(") for line in said(app) if line.startswith("  -")}) == 1


def test_what_is_performed_in_the_background_is_told(app: App) -> None:
    """Whether it answers or not, in lines, pictures, and to programs."""
    app.routes.draw(
        topic("payments", PaymentsController, backend="kafka"), topic("videos_created", Silent, backend="kafka")
    )
    rows, apart = described(app), "in the background, queue default of kafka"

    assert [line for line in said(app) if "=>" in line] == [
        f"payments => ({apart})",
        f"videos_created => ({apart}) (nothing)",
    ]
    assert sorted(picture(rows).controllers.values()) == [
        f"PaymentsController\nshop\n{apart}",
        f"Silent\nshop\n{apart}",
    ]
    assert [(one["backend"], one["queue"]) for one in map(document, rows)] == [("kafka", "default")] * 2


def test_programs_are_told_the_facts(app: App) -> None:
    app.routes.draw(topic("payments", PaymentsController, dead_letter=DeadLetter("dead", producer=THERE)))

    (route,) = json.loads(json.dumps([document(row) for row in described(app)]))

    assert (route["topic"], route["group"], route["cluster"]) == ("payments", "shop", "here:9092")
    assert route["controller"].endswith("test_flow_shown.PaymentsController")
    here, there = {"cluster": "here:9092"}, {"cluster": "there:9092"}
    assert route["outgoing"] == [
        {"topic": "users_notified", **here, "dead_letters": False, "required": True, "multiple": False},
        {"topic": "audit", **here, "dead_letters": False, "required": False, "multiple": True},
        {"topic": "dead", **there, "dead_letters": True, "after": 3, "strategy": None},
    ]


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_topic_stands_once_in_a_picture(app: App) -> None:
    """Whether it comes in, goes out or both, so that the arrows lead on."""
    app.routes.draw(topic("payments", PaymentsController), topic("users_notified", Silent))

    shown = picture(described(app))

    assert sorted(shown.topics.values()) == ["audit", "payments", "users_notified"]
    assert sorted(shown.controllers.values()) == ["PaymentsController\nshop", "Silent\nshop"]
    texts = {**shown.topics, **shown.controllers}
    arrows = [(texts[start], texts[end], way.said if way else "") for start, end, way in shown.arrows]
    assert arrows == [
        ("payments", "PaymentsController\nshop", ""),
        ("PaymentsController\nshop", "users_notified", "always, exactly once"),
        ("PaymentsController\nshop", "audit", "conditionally, one or more"),
        ("users_notified", "Silent\nshop", ""),
    ]


def test_a_controller_of_several_groups_stands_in_each(app: App) -> None:
    app.routes.draw(group("a", topic("orders", Silent), topic("videos", Silent)), group("b", topic("orders", Silent)))

    assert sorted(picture(described(app)).controllers.values()) == ["Silent\na", "Silent\nb"]


def test_topics_of_several_clusters_are_not_one(app: App) -> None:
    app.routes.draw(topic("orders", Silent, dead_letter=DeadLetter("dead", producer=THERE)))
    app.routes.draw(group("far", topic("orders", Silent), kafka=THERE))

    topics = picture(described(app)).topics.values()

    assert sorted(topics) == ["dead\nthere:9092", "orders\nhere:9092", "orders\nthere:9092"]


def test_the_pictures_say_what_the_lines_say(app: App) -> None:
    """The same arrows in both languages, drawn apart by what they mean."""
    app.routes.draw(topic("payments", PaymentsController, dead_letter=DeadLetter("dead")))
    shown = picture(described(app))

    assert dot(shown).splitlines() == [
        "digraph flow {",
        "  rankdir=LR",
        '  topic0 [label="payments", shape=cds]',
        '  topic1 [label="users_notified", shape=cds]',
        '  topic2 [label="audit", shape=cds]',
        '  topic3 [label="dead", shape=cds]',
        '  controller0 [label="PaymentsController\\nshop", shape=box]',
        "  topic0 -> controller0",
        '  controller0 -> topic1 [label="always, exactly once"]',
        '  controller0 -> topic2 [label="conditionally, one or more", style=dashed]',
        '  controller0 -> topic3 [label="dead letters, after 3 tries", style=dotted, color=red, fontcolor=red]',
        "}",
    ]
    assert mermaid(shown).splitlines() == [
        "flowchart LR",
        '  topic0(["payments"])',
        '  topic1(["users_notified"])',
        '  topic2(["audit"])',
        '  topic3(["dead"])',
        '  controller0["PaymentsController<br>shop"]',
        "  topic0 --> controller0",
        '  controller0 -->|"always, exactly once"| topic1',
        '  controller0 -.->|"conditionally, one or more"| topic2',
        '  controller0 -.->|"dead letters, after 3 tries"| topic3',
    ]


def test_no_name_breaks_a_picture(app: App) -> None:
    """A pattern may have any character, and stays text."""
    app.routes.draw(topic(re.compile(r'a"b;<i>\d[|]#'), Silent))
    shown = picture(described(app))

    assert r'topic0 [label="a\"b;<i>\\d[|]#", shape=cds]' in dot(shown)
    assert 'topic0(["a#34;b#59;#60;i#62;#92;d#91;#124;#93;#35;"])' in mermaid(shown)
