"""`karafka routes`: which topics go to which controllers, and how."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from karafka.cli.choice import Choice
from karafka.cli.options import app_option, choice_options, json_option
from karafka.cli.tables import Table, show

if TYPE_CHECKING:
    from karafka.app import App
    from karafka.naming import Found
    from karafka.performing import Background
    from karafka.policy import Backoff, DeadLetter
    from karafka.responders import Responder
    from karafka.routing import Route, Subscription

# That of `Backoff`, of which nothing need be said.
USUAL_FACTOR = 2.0
HEADINGS = ("topic", "group", "controller", "besides")


@click.command()
@app_option
@choice_options
@json_option
def routes(target: str | None, *, as_json: bool, **chosen: Any) -> None:
    """Which topics go to which controllers, and how: sorted by topic, then by group.

    What a route has that is not usual stands beside it, what is usual below the table.

    \b
    Examples:
      karafka routes                        in a folder with app.py
      karafka routes --group analytics      of one consumer group
      karafka routes --topic 'videos_*'     of some topics
      karafka routes --json                 everything, for programs

    Exit status: 1 when the app is broken, or a name is not there.
    """
    from karafka.cli.load import load_app  # noqa: PLC0415 - needs the client

    choice = Choice.taken(chosen)
    app = load_app(target)
    choice.apply(app)
    rows = described(app)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo('The app has no routes: add one with @app.topic("name") or app.routes.draw(…)', err=True)
        return
    usual = usually(app)
    show(table(rows, usual))
    text = f"\nUnless something else is said: {_listed(usual)}."
    click.echo(click.wrap_text(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text)


def described(app: App) -> list[dict[str, Any]]:
    """All that each route has, in words that JSON knows, sorted. Raises `ConfigError` for what cannot work."""
    found = [(route, one) for one in app.subscriptions() for route in one.routes]
    rows = [_described(app, route, one) for route, one in found]
    return sorted(rows, key=lambda row: (row["topic"], row["group"], row["cluster"]))


def _described(app: App, route: Route, subscription: Subscription) -> dict[str, Any]:
    from karafka.config import masked  # noqa: PLC0415 - needs the client
    from karafka.controllers import BatchController, hooks_of, payload_type  # noqa: PLC0415

    controller, policy, options = route.controller, route.policy, route.topic.options
    batch = issubclass(controller, BatchController)
    return {
        "topic": route.topic.shown,
        "in_kafka": app.in_kafka(route.topic.name) if app.names and isinstance(route.topic.name, str) else None,
        "pattern": not isinstance(route.topic.name, str),
        "group": route.group,
        "controller": f"{controller.__module__}.{controller.__qualname__}",
        "defined": _place(controller),
        "payload": _type(payload_type(controller)),
        "parser": _named(options.parser) if options.parser is not None else "JSON",
        "async": route.asynchronous,
        "hooks": list(hooks_of(controller)),
        "batch": {"max_messages": policy.max_messages, "max_wait": policy.max_wait} if batch else None,
        "order": _named(options.order) if callable(options.order) else options.order,
        "workers": _workers(app, route),
        "retry": _retry(policy.retry),
        "dead_letter": _dead_letter(app, policy.dead_letter),
        "start": policy.start,
        "on_gap": policy.on_gap,
        "marking": "manual" if policy.manual else "auto",
        "exactly_once": policy.exactly_once,
        "responder": _responder(route.responder) if route.responder is not None else None,
        "responder_missing": options.responder_missing,
        **_background(route.background),
        "cluster": str(app.kafka_for(subscription.kafka)["bootstrap.servers"]),
        "kafka": masked(subscription.kafka),
    }


def table(rows: Sequence[Mapping[str, Any]], usual: Mapping[str, str]) -> Table:
    """The routes as a person reads them."""
    return Table(headings=HEADINGS, rows=[cells(row, usual) for row in rows])


def cells(row: Mapping[str, Any], usual: Mapping[str, str]) -> tuple[str, str, str, str]:
    besides = {name: value for name, value in said(row).items() if value != usual.get(name)}
    return row["topic"], row["group"], row["controller"].rpartition(".")[2], _listed(besides)


def said(row: Mapping[str, Any]) -> dict[str, str]:
    """What a route has, in the words of a person."""
    batch, retry, grave = row["batch"], row["retry"], row["dead_letter"]
    return {
        **({"in Kafka": row["in_kafka"]} if row["in_kafka"] not in {None, row["topic"]} else {}),
        "topic": "by pattern" if row["pattern"] else "by name",
        "payload": row["payload"],
        "parser": row["parser"],
        "hooks": ", ".join(row["hooks"]) or "none",
        "takes": f"batches of {batch['max_messages']} within {batch['max_wait']:g} s" if batch else "one by one",
        "order": row["order"] or "none",
        "perform": _performed(row),
        "retry": _retried(retry) if retry else "none",
        "dead letters": _buried(grave) if grave else "none",
        "start": row["start"],
        "on gap": row["on_gap"],
        "marking": row["marking"],
        "exactly once": "yes" if row["exactly_once"] else "no",
        "answers": _answered(row["responder"], row["responder_missing"]) if row["responder"] else "none",
        "background": _handed_over(row) if row["backend"] else "none",
        "cluster": row["cluster"],
        "settings": ", ".join(f"{name}={value}" for name, value in row["kafka"].items()) or "the app's",
    }


def usually(app: App) -> dict[str, str]:
    """The same of a route of this app that says nothing."""
    return said(
        {
            "topic": "",
            "in_kafka": None,
            "pattern": False,
            "payload": "any",
            "parser": "JSON",
            "hooks": [],
            "batch": None,
            "order": "partition",
            "async": False,
            "workers": {"shared": app.config.concurrency},
            "retry": _retry(app.config.retry),
            "dead_letter": None,
            "start": app.config.start,
            "on_gap": "earliest",
            "marking": "auto",
            "exactly_once": False,
            "responder": None,
            "responder_missing": "error",
            **_background(None),
            "cluster": str(app.kafka_for({})["bootstrap.servers"]),
            "kafka": {},
        }
    )


def _workers(app: App, route: Route) -> dict[str, int | None]:
    if route.asynchronous:
        return {"tasks": route.policy.width if route.policy.lane is not None else route.concurrency}
    return {"shared": app.config.concurrency} if route.concurrency is None else {"own": route.concurrency}


def _performed(row: Mapping[str, Any]) -> str:
    match row["workers"]:
        case {"shared": count}:
            return f"sync, {count} shared workers"
        case {"own": count}:
            return f"sync, {count} workers of its own"
        case {"tasks": None}:
            return "async, a task for each partition"
        case {"tasks": count}:
            return f"async, {count} tasks"
        case _:
            raise AssertionError(row)


def _listed(values: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in values.items())


def _retried(retry: Mapping[str, Any]) -> str:
    text = f"after {retry['first']:g} s to {retry['cap']:g} s"
    if retry["factor"] != USUAL_FACTOR:
        text += f", times {retry['factor']:g} each"
    if retry["only"]:
        text += f", only {', '.join(retry['only'])}"
    return f"{text}, never {', '.join(retry['but'])}" if retry["but"] else text


def _buried(grave: Mapping[str, Any]) -> str:
    there = f" ({grave['in_kafka']} in Kafka)" if grave["in_kafka"] not in {None, grave["topic"]} else ""
    text = f"to {grave['topic']}{there} after {grave['after']} {'try' if grave['after'] == 1 else 'tries'}"
    if grave["strategy"]:
        text += f", by {grave['strategy']}"
    return f"{text}, crashes too" if grave["crashes"] else text


def _retry(retry: Backoff | None) -> dict[str, Any] | None:
    if retry is None:
        return None
    numbers = {name: getattr(retry, name) for name in ("first", "cap", "factor", "jitter")}
    return {**numbers, "only": _names(retry.only), "but": _names(retry.but)}


def _dead_letter(app: App, grave: DeadLetter | None) -> dict[str, Any] | None:
    from karafka.config import masked  # noqa: PLC0415 - needs the client

    if grave is None:
        return None
    strategy = _named(grave.strategy) if grave.strategy is not None else None
    own = masked(grave.producer)
    return {
        "topic": grave.topic,
        "in_kafka": app.in_kafka(grave.topic) if app.names else None,
        "after": grave.after,
        "strategy": strategy,
        "crashes": grave.crashes,
        "producer": own,
    }


def _names(types: Iterable[type]) -> list[str]:
    return [one.__qualname__ for one in types]


def _named(thing: object) -> str:
    return getattr(thing, "__qualname__", None) or type(thing).__qualname__


def _type(of: Any) -> str:
    if of is Any:
        return "any"
    return of.__qualname__ if isinstance(of, type) and not getattr(of, "__args__", ()) else str(of)


def _background(background: Background | None) -> dict[str, Any]:
    if background is None:
        return {"backend": None, "worker": None, "interchanger": None}
    worker = background.worker.cls
    return {
        "backend": background.backend.name,
        "worker": {
            "class": f"{worker.__module__}.{worker.__qualname__}",
            "found": background.worker.source,
            "queue": worker.queue,
            "priority": worker.priority,
            "time_limit": worker.time_limit,
            "max_retries": worker.max_retries,
            "backoff": _retry(worker.backoff),
        },
        "interchanger": _named(background.interchanger),
    }


def _handed_over(row: Mapping[str, Any]) -> str:
    worker = row["worker"]
    return f"queue {worker['queue']} of {row['backend']}, by {worker['class'].rpartition('.')[2]} ({worker['found']})"


def _responder(found: Found[Responder]) -> dict[str, Any]:
    return {
        "class": f"{found.cls.__module__}.{found.cls.__qualname__}",
        "defined": _place(found.cls),
        "found": found.source,
        "sends": [
            {"topic": one.name, "required": one.required, "multiple": one.multiple} for one in found.cls.topics.values()
        ],
    }


def _answered(responder: Mapping[str, Any], missing: str) -> str:
    owed = "" if missing == "error" else f", a missing one: {missing}"
    return f"by {responder['class'].rpartition('.')[2]} ({responder['found']}){owed}"


def _place(controller: Callable[..., Any]) -> str:
    """`controllers/lint.py:12`, from the current folder where it lies in it."""
    try:
        file, (_, line) = Path(inspect.getfile(controller)), inspect.getsourcelines(controller)
    except (OSError, TypeError):  # made by hand: there is no source
        return "-"
    return f"{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}:{line}"
