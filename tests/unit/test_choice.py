"""`--group`, `--topic` and what they exclude: which lines are chosen, and what is no name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from karafka.app import App
from karafka.cli.choice import Choice
from karafka.controllers import Controller
from karafka.errors import ConfigError
from karafka.routing import group, topic


class Reads(Controller[Any]):
    def perform(self) -> None: ...


@pytest.fixture
def app() -> App:
    app = App("shop", kafka={"bootstrap.servers": "localhost:9092"})
    app.routes.draw(
        topic("orders", Reads),
        group("search", topic("orders", Reads), topic("videos", Reads)),
        group("search-lag", topic("videos", Reads), topic(re.compile(r"video_[a-z]\d*"), Reads)),
    )
    return app


def lines(app: App) -> list[tuple[str, str]]:
    return [(group, line.shown) for group, line in app.routes]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        (
            Choice(),
            ["shop/orders", "search/orders", "search/videos", "search-lag/videos", r"search-lag/video_[a-z]\d*"],
        ),
        (Choice(groups=("search",)), ["search/orders", "search/videos"]),
        (
            Choice(groups=("search*",)),
            ["search/orders", "search/videos", "search-lag/videos", r"search-lag/video_[a-z]\d*"],
        ),
        (Choice(topics=("orders",)), ["shop/orders", "search/orders"]),
        (Choice(groups=("shop", "search"), topics=("orders",)), ["shop/orders", "search/orders"]),
        (Choice(topics=(r"video_[a-z]\d*",)), [r"search-lag/video_[a-z]\d*"]),
        (Choice(without_groups=("search*",)), ["shop/orders"]),
        (Choice(groups=("search*",), without_topics=("video*",)), ["search/orders"]),
    ],
)
def test_what_is_chosen(app: App, choice: Choice, chosen: list[str]) -> None:
    """By groups, by topics as they are declared, by shell patterns; what is excluded is so in any case."""
    choice.apply(app)

    assert [f"{group}/{topic}" for group, topic in lines(app)] == chosen


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(groups=("serch",)), "--group 'serch': no group is named so; there are search, search-lag, shop"),
        (Choice(topics=("orders", "vidoes")), "--topic 'vidoes': no topic is named so; there are orders, video"),
        (Choice(without_groups=("x*",)), r"--exclude-group 'x\*': no group"),
        (Choice(without_topics=("x",)), "--exclude-topic 'x': no topic"),
        (Choice(groups=("shop",), topics=("videos",)), "leaves nothing over"),
        (Choice(without_groups=("s*",)), "leaves nothing over"),
    ],
)
def test_a_name_that_is_not_there_is_said_so(app: App, choice: Choice, said: str) -> None:
    """Nothing is silently not consumed for a slip."""
    with pytest.raises(ConfigError, match=said):
        choice.apply(app)


def test_an_app_without_routes_has_nothing_to_choose() -> None:
    app = App("empty", kafka={"bootstrap.servers": "localhost:9092"})

    Choice().apply(app)

    assert lines(app) == []
    with pytest.raises(ConfigError, match="the app has no routes"):
        Choice(topics=("orders",)).apply(app)
