"""`karafka info`: versions, the app and its settings, and whether its brokers answer."""

from __future__ import annotations

import itertools
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from karafka.cli.options import app_option, json_option, timeout_option

if TYPE_CHECKING:
    from karafka.app import App
    from karafka.cli.load import Found
    from karafka.cluster import BrokerSeen
    from karafka.performing import Background
    from karafka.routing import Name

#: What a person changes of an app besides librdkafka's settings.
SETTINGS = (
    "concurrency",
    "processes",
    "commit_interval",
    "shutdown_timeout",
    "drain_timeout",
    "stall_after",
    "memory",
    "start",
)


@click.command()
@app_option
@timeout_option
@json_option
def info(target: str | None, *, timeout: float, as_json: bool) -> None:
    """Versions, the app and its settings, and whether its brokers answer. Secrets are masked.

    \b
    Examples:
      karafka info                 in a folder with app.py; elsewhere it tells the versions alone
      karafka info -A shop.main    another module
      karafka info --json          for a report, or a program

    Kafka says no version of itself: what is shown goes by the requests that a broker takes.

    Exit status: 1 when of a cluster no broker answers, or the app is broken.
    """
    told: dict[str, Any] = {"versions": versions(), "app": None, "clusters": []}
    found = _found(target)
    if found is not None:
        from karafka.cli.clusters import clusters  # noqa: PLC0415 - needs the client
        from karafka.cluster import Cluster  # noqa: PLC0415

        used = clusters(found.app)
        told["app"] = described(found.app, found.target, found.file)
        for one in used:
            groups = [group.group for group in one.groups]
            told["clusters"].append(cluster(one.servers, groups, Cluster(one.kafka).brokers(timeout)))
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        for label, lines in sheet(told):
            for index, line in enumerate(lines):
                click.echo(click.style(f"{'' if index else label:13}", bold=True) + line)
    if any(not one["answers"] for one in told["clusters"]):
        sys.exit(1)


def _found(target: str | None) -> Found | None:
    """The app; None where none is meant: nobody named one, and none is here."""
    if target is None and not os.environ.get("KARAFKA_APP") and not Path("app.py").is_file():
        return None
    from karafka.cli.load import find  # noqa: PLC0415 - needs the client

    return find(target)


def versions() -> dict[str, str]:
    """Of all that a report of a fault should name."""
    from karafka.cluster import versions as client  # noqa: PLC0415 - needs the client

    confluent, librdkafka = client()
    return {
        "karafka": version("karafka"),
        "confluent-kafka": confluent,
        "librdkafka": librdkafka,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": f"{platform.system()} {platform.machine()}",
    }


def described(app: App, target: str, file: str) -> dict[str, Any]:
    """An app without its secrets."""
    from karafka.config import masked  # noqa: PLC0415
    from karafka.environment import unread  # noqa: PLC0415

    return {
        "client_id": app.config.client_id,
        "target": target,
        "file": file,
        "env": str(app.env),
        "variables": {"read": list(app.variables), "unread": [] if app.variables else unread(os.environ)},
        **{name: getattr(app.config, name) for name in SETTINGS},
        "backends": backends(app),
        "kafka": masked({**app.config.kafka, **app.overrides}),
        "groups": [
            {
                "name": one.group,
                "topics": [route.topic.shown for route in one.routes],
                "in_kafka": [_in_kafka(app, route.topic.name) for route in one.routes],
                "kafka": masked(one.kafka),
            }
            for one in app.subscriptions()
        ],
    }


def backends(app: App) -> list[dict[str, Any]]:
    """The app's job queues, and who has jobs in them."""
    from karafka.background import backgrounds, queues_of  # noqa: PLC0415 - needs the client

    found = []
    for name, here in itertools.groupby(sorted(backgrounds(app), key=_name), _name):
        routes = list(here)
        found.append({"name": name, "queues": queues_of(routes), "routes": [one.route for one in routes]})
    return found


def _name(background: Background) -> str:
    return background.backend.name


def cluster(servers: str, groups: Sequence[str], brokers: Sequence[BrokerSeen]) -> dict[str, Any]:
    """A cluster, and what its brokers answered."""
    answering = [one for one in brokers if not one.trouble]
    return {
        "bootstrap.servers": servers,
        "id": answering[0].cluster if answering else None,
        "answers": bool(answering),
        "groups": list(groups),
        "brokers": [
            {
                "address": one.address,
                "id": one.number,
                "answers": not one.trouble,
                "kafka": one.version or None,
                "trouble": one.trouble or None,
            }
            for one in brokers
        ],
    }


def sheet(told: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """What is told, for people: a label, and the lines beside it."""
    its = told["versions"]
    yield "karafka", [its["karafka"]]
    yield "client", [f"confluent-kafka {its['confluent-kafka']}, librdkafka {its['librdkafka']}"]
    yield "Python", [f"{its['python']}, {its['executable']}"]
    yield "system", [its["system"]]
    app = told["app"]
    if app is None:
        yield "app", [f"none: there is no app.py in {Path.cwd()}, and neither -A nor KARAFKA_APP names one"]
        return
    yield "app", [f"{app['client_id']}, {app['target']}"]
    yield "boot file", [app["file"]]
    yield "environment", [app["env"]]
    if app["variables"]["read"]:
        yield "variables", app["variables"]["read"]
    if app["variables"]["unread"]:
        names = ", ".join(app["variables"]["unread"])
        yield "variables", [f"set, but not read, as the app is not made by App.from_env(…): {names}"]
    threads, processes = app["concurrency"], app["processes"]
    yield "concurrency", [f"{_counted(threads, 'worker thread')} shared, {_counted(processes, 'process', 'es')}"]
    yield "groups", [f"{one['name']}: {', '.join(_topics(one))}" for one in app["groups"]] or ["none: no routes"]
    for one in app["backends"]:
        yield "backend", [f"{one['name']}: queues {', '.join(one['queues'])}, of {', '.join(one['routes'])}"]
    yield "settings", _columns(app["kafka"])
    for one in app["groups"]:
        if one["kafka"]:
            yield f"of {one['name']}", _columns(one["kafka"])
    for one in told["clusters"]:
        yield "cluster", [f"{one['id'] or 'does not answer'}, {one['bootstrap.servers']}"]
        yield "brokers", _columns({broker["address"]: _answer(broker) for broker in one["brokers"]})


def _in_kafka(app: App, name: Name) -> str | None:
    """The cluster's name of a topic; None for a pattern, which finds the app's."""
    return app.in_kafka(name) if isinstance(name, str) else None


def _topics(group: Mapping[str, Any]) -> Iterator[str]:
    """With their names in Kafka where they are others."""
    for name, there in zip(group["topics"], group["in_kafka"], strict=True):
        yield name if there in {None, name} else f"{name} ({there} in Kafka)"


def _answer(broker: Mapping[str, Any]) -> str:
    if not broker["answers"]:
        return click.style(broker["trouble"], fg="red")
    number = "" if broker["id"] is None else f" as broker {broker['id']}"
    kafka = f", Kafka {broker['kafka']}" if broker["kafka"] else ""
    return click.style("answers", fg="green") + number + kafka


def _columns(values: Mapping[str, Any]) -> list[str]:
    width = max(map(len, values), default=0)
    return [f"{name:{width}}  {value}" for name, value in values.items()]


def _counted(count: int, noun: str, plural: str = "s") -> str:
    return f"{count} {noun}{'' if count == 1 else plural}"
