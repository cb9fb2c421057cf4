"""What `karafka routes` says of a route: to people and to programs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from karafka.app import App
from karafka.cli.routes import described, table, usually
from karafka.controllers import BatchController, Controller, before_enqueue
from karafka.messages import Message
from karafka.parsers import Raw
from karafka.policy import Backoff, DeadLetter, Retry
from karafka.responders import Responder, outgoing
from karafka.routing import TopicOptions, group, topic


class Plain(Controller[Any]):
    def perform(self) -> None: ...


class Waits(Controller[int | None]):
    @before_enqueue
    async def known(self) -> None: ...

    async def perform(self) -> None: ...


class Batches(BatchController[str]):
    def perform(self) -> None: ...


class Answers(Responder):
    results = outgoing("results")
    audit = outgoing("audit", required=False, multiple=True)

    def respond(self) -> None: ...


class NamedController(Controller[Any]):
    def perform(self) -> None: ...


class NamedResponder(Answers): ...


def lane(_message: Message[Any]) -> str:
    return ""


def later(_error: BaseException, _attempt: int) -> Retry | None:
    return None


@pytest.fixture
def app() -> App:
    kafka: dict[str, str | int | float | bool] = {"bootstrap.servers": "here:9092", "sasl.password": "hunter2"}
    return App("shop", kafka=kafka)


def besides(app: App, controller: Any, **options: Any) -> str:
    """The last cell of the row of one route."""
    chosen: TopicOptions = options  # type: ignore[assignment] # any mix of them
    app.routes.draw(topic("orders", controller, **chosen))
    ((name, group_, shown, text),) = table(described(app), usually(app)).rows
    assert (name, group_, shown) == ("orders", "shop", controller.__qualname__)
    return text


@pytest.mark.parametrize(
    ("controller", "options", "said"),
    [
        (Plain, {}, ""),
        (Plain, {"concurrency": 16}, "perform sync, 16 workers of its own"),
        (Plain, {"order": None}, "order none"),
        (Plain, {"order": "key"}, "order key"),
        (Plain, {"order": lane}, "order lane"),
        (Plain, {"parser": Raw()}, "parser Raw"),
        (Plain, {"retry": None}, "retry none"),
        (
            Plain,
            {"retry": Backoff(0.5, 60, 3).on(OSError).never(TimeoutError)},
            "retry after 0.5 s to 60 s, times 3 each, only OSError, never TimeoutError",
        ),
        (Plain, {"dead_letter": DeadLetter("dead")}, "dead letters to dead after 3 tries"),
        (
            Plain,
            {"dead_letter": DeadLetter("dead", after=1, strategy=later, crashes=True)},
            "dead letters to dead after 1 try, by later, crashes too",
        ),
        (Plain, {"start": "latest", "on_gap": "stop"}, "start latest; on gap stop"),
        (Plain, {"marking": "manual"}, "marking manual"),
        (Plain, {"exactly_once": True}, "exactly once yes"),
        (Plain, {"responder": Answers}, "answers by Answers (named by the route)"),
        (
            NamedController,
            {"responder_missing": "warn"},
            f"answers by NamedResponder (by its name, in {__name__}), a missing one: warn",
        ),
        (NamedController, {"responder": None}, ""),
        (Waits, {}, "payload int | None; hooks known; perform async, a task for each partition"),
        (Waits, {"order": "key"}, "payload int | None; hooks known; order key; perform async, 100 tasks"),
        (Waits, {"concurrency": 7}, "payload int | None; hooks known; perform async, 7 tasks"),
        (Batches, {"max_wait": 0.2}, "payload str; takes batches of 100 within 0.2 s"),
    ],
)
def test_what_is_not_usual_stands_beside_a_route(app: App, controller: Any, options: Any, said: str) -> None:
    assert besides(app, controller, **options) == said


def test_what_the_app_says_for_all_is_usual() -> None:
    """A route of an app with its own settings has nothing to say of them."""
    app = App("shop", kafka={"bootstrap.servers": "here:9092"}, concurrency=9, retry=None, start="latest")

    assert besides(app, Plain) == ""
    assert usually(app)["perform"] == "sync, 9 shared workers"
    assert usually(app)["retry"] == "none"


def test_rows_are_sorted_by_topic_then_by_group(app: App) -> None:
    app.routes.draw(
        group("b", topic("videos", Plain), topic("orders", Plain)), group("a", topic("videos", Plain), kafka={})
    )

    rows = table(described(app), usually(app)).rows

    assert [row[:2] for row in rows] == [("orders", "b"), ("videos", "a"), ("videos", "b")]


def test_another_cluster_is_named_and_no_secret_of_it(app: App) -> None:
    there: dict[str, str | int | float | bool] = {"bootstrap.servers": "there:9093", "sasl.password": "hunter3"}
    app.routes.draw(group("far", topic("orders", Plain), kafka=there))

    ((*_, text),) = table(described(app), usually(app)).rows

    assert "cluster there:9093" in text
    assert "hunter" not in text + json.dumps(described(app))


def test_a_pattern_is_one(app: App) -> None:
    app.routes.draw(topic(re.compile(r"video_\d+"), Plain))

    (row,) = described(app)

    assert (row["topic"], row["pattern"]) == (r"video_\d+", True)
    assert table([row], usually(app)).rows[0][3] == "topic by pattern"


def test_programs_are_told_everything(app: App) -> None:
    """One JSON value for each option of a route, defaults included, and where its controller is defined."""
    app.routes.draw(topic("orders", Batches, dead_letter=DeadLetter("dead"), max_messages=7))

    (row,) = json.loads(json.dumps(described(app)))

    assert row.keys() >= TopicOptions.__annotations__.keys() - {"concurrency", "max_messages", "max_wait"}
    assert row["controller"].endswith("test_routes_table.Batches")
    assert re.search(r"test_routes_table\.py:\d+$", row["defined"])
    assert row["workers"] == {"shared": 5}
    assert row["batch"] == {"max_messages": 7, "max_wait": 1.0}
    assert row["retry"] == {"first": 1.0, "cap": 30.0, "factor": 2.0, "jitter": 0.1, "only": [], "but": []}
    assert row["dead_letter"]["topic"] == "dead"
    assert row["responder"] is None


def test_programs_are_told_what_a_route_answers_with(app: App) -> None:
    """Which class, where it is defined and was found, and what it sends."""
    app.routes.draw(topic("orders", NamedController))

    (row,) = json.loads(json.dumps(described(app)))

    assert row["responder"]["class"].endswith("test_routes_table.NamedResponder")
    assert re.search(r"test_routes_table\.py:\d+$", row["responder"]["defined"])
    assert row["responder"]["found"] == f"by its name, in {__name__}"
    assert row["responder"]["sends"] == [
        {"topic": "results", "required": True, "multiple": False},
        {"topic": "audit", "required": False, "multiple": True},
    ]
