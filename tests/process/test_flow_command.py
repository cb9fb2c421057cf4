"""`karafka flow` as a person runs it: on a terminal, by a pipe, of a part of the routes. No broker is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.process.servers import run
from tests.process.terminals import on_terminal

SHOP = """\
from karafka import *

app = App("shop", kafka={"bootstrap.servers": "127.0.0.1:9"})

class PaymentsController(Controller):
    def perform(self): ...

class PaymentsResponder(Responder):
    users_notified = outgoing("users_notified")
    def respond(self): ...

class ClicksController(Controller):
    def perform(self): ...

app.routes.draw(
    topic("payments", PaymentsController, dead_letter=DeadLetter("dead")),
    group("analytics", topic("clicks", ClicksController), topic("payments", ClicksController)),
)
"""
PAYMENTS = """\
payments =>
  - users_notified:       (always, exactly once)
  - dead:                 (dead letters, after 3 tries)"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(SHOP)
    return tmp_path


def test_in_a_pipe_it_is_plain_text(shop: Path) -> None:
    said = PAYMENTS.replace("payments =>", "payments (shop) =>", 1)

    assert run(shop, "flow") == (0, f"clicks => (nothing)\npayments (analytics) => (nothing)\n{said}", "")


def test_on_a_terminal_it_has_colours(shop: Path) -> None:
    with on_terminal(shop, "flow", "--group", "shop") as terminal:
        assert terminal.ended() == 0

    assert terminal.text.replace("\r", "").strip() == PAYMENTS
    assert "\x1b[32m(always, exactly once)" in terminal.raw
    assert "\x1b[31m(dead letters, after 3 tries)" in terminal.raw


def test_a_part_of_the_routes_can_be_chosen(shop: Path) -> None:
    """By the options of `karafka routes`."""
    assert run(shop, "flow", "--exclude-group", "analytics") == (0, PAYMENTS, "")
    assert run(shop, "flow", "--topic", "cl*") == (0, "clicks => (nothing)", "")
    status, said, told = run(shop, "flow", "--topic", "payment")
    assert (status, said) == (1, "")
    assert told == "karafka: --topic 'payment': no topic is named so; there are clicks, payments"


def test_other_forms_are_for_programs(shop: Path) -> None:
    status, document, _ = run(shop, "flow", "--json")
    assert status == 0
    assert [(route["topic"], len(route["outgoing"])) for route in json.loads(document)] == [
        ("clicks", 0),
        ("payments", 0),
        ("payments", 2),
    ]
    assert run(shop, "flow", "--dot")[1].startswith("digraph flow {\n")
    assert run(shop, "flow", "--mermaid")[1].startswith("flowchart LR\n")


def test_an_app_without_routes_is_told_how_to_add_one(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SHOP.partition("app.routes")[0])

    status, said, told = run(tmp_path, "flow")

    assert (status, said) == (0, "")
    assert told == 'The app has no routes: add one with @app.topic("name") or app.routes.draw(…)'
    assert run(tmp_path, "flow", "--json") == (0, "[]", "")
