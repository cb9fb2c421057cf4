"""What an app takes for its hooks, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest

from karafka import App, ConfigError, Controller, Producer


@pytest.fixture
def app() -> App:
    return App("shop", kafka={"bootstrap.servers": "localhost:9092"})


def test_it_and_its_producer_say_what_they_are(app: App) -> None:
    """In a console, a debugger, a log line."""
    assert repr(App("a", kafka={"bootstrap.servers": "here:9092"})) == "<App 'a' of no topics yet>"
    for name in ("videos", "orders"):
        app.topic(name)(type("AnyController", (Controller,), {"perform": lambda _: None}))
    assert repr(app) == "<App 'shop' of orders, videos>"
    producer = Producer({"bootstrap.servers": "here:9092"})
    assert repr(producer) == "<Producer to here:9092>"
    producer.close()
    assert repr(producer) == "<Producer to here:9092, closed>"
    assert repr(Producer.recorder()) == "<Producer that records>"


def test_hooks_are_kept_in_order_and_stay_what_they_are(app: App) -> None:
    @app.on_start
    def first() -> str:
        return "first"

    @app.on_start
    async def second() -> None: ...

    last = app.on_stop(partial(print, "bye"))

    assert app.start_hooks == [first, second]
    assert app.stop_hooks == [last]
    assert first() == "first"


def _yields() -> Iterator[None]:
    yield


async def _yields_in_the_loop() -> AsyncIterator[None]:
    yield


def _wants(app: App) -> None: ...


async def _wants_by_name(*, app: App) -> None: ...


@pytest.mark.parametrize("name", ["on_start", "on_stop"])
@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (None, "stands above None: a function is expected"),
        ("connect", "a function is expected"),
        (_yields, "_yields has a yield, so that calling it would do nothing: take the yield out"),
        (_yields_in_the_loop, "has a yield"),
        (_wants, "_wants wants arguments, but gets none: what it opens goes to app.state"),
        (_wants_by_name, "wants arguments"),
    ],
)
def test_what_cannot_be_one_is_refused(app: App, name: str, hook: Any, said: str) -> None:
    """In one sentence, where it is written."""
    with pytest.raises(ConfigError, match=rf"@app.{name}.*{said}"):
        getattr(app, name)(hook)


@pytest.mark.parametrize("hook", [print, dict, lambda *_, **__: None, lambda _wanted=1: None])
def test_what_can_do_without_arguments_is_taken(app: App, hook: Any) -> None:
    assert app.on_start(hook) is hook


def test_its_state_is_whatever_it_is_given(app: App) -> None:
    """A namespace to begin with; an object of one's own, with types, if wished."""
    app.state.client = "client"
    assert app.state.client == "client"

    app.state = {"client": "other"}
    assert app.state == {"client": "other"}


def test_settings_that_are_changed_hold_for_what_is_drawn_already(app: App) -> None:
    """The width of lanes comes from them, say; what cannot be is refused as in `App`."""

    @app.topic("videos", order="key")
    class Videos(Controller[Any]):
        def perform(self) -> None: ...

    app.reconfigure(concurrency=17)

    ((route,),) = [one.routes for one in app.subscriptions()]
    assert (app.config.concurrency, route.policy.width) == (17, 17)
    with pytest.raises(ConfigError, match="concurrency=0"):
        app.reconfigure(concurrency=0)
