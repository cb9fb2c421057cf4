"""`karafka topics`: the topics that the app declares, whether they are there; makes those that are missing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from karafka.cli.choice import Choice
from karafka.cli.options import app_option, choice_options, json_option, timeout_option
from karafka.cli.tables import Table, show

if TYPE_CHECKING:
    from karafka.app import App
    from karafka.cli.clusters import Used
    from karafka.cluster import TopicSeen

COLOURS: Mapping[str, str] = {"missing": "red", "created": "green"}


@dataclass(slots=True)
class Declared:
    """A topic, or a pattern of names, that the app declares on a cluster; `state`: there, missing, created, pattern.

    `in_kafka` is the cluster's name of it, None for a pattern.
    """

    name: str
    in_kafka: str | None
    state: str
    by: list[str]
    servers: str
    partitions: int | None = None
    replicas: int | None = None
    matches: list[str] = field(default_factory=list)
    error: str | None = None

    def see(self, there: TopicSeen) -> None:
        self.partitions, self.replicas = there.partitions, there.replicas


def _config(ctx: click.Context, param: click.Parameter, given: Iterable[str]) -> dict[str, str]:
    """`retention.ms=60000`, as often as it is given."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{text!r}: NAME=VALUE is expected, such as retention.ms=86400000", ctx, param)
        found[name] = value
    return found


@click.command()
@app_option
@choice_options
@click.option("--create", is_flag=True, help="Make those that are missing.")
@click.option(
    "--partitions", type=click.IntRange(1), metavar="N", help="Of those made; as the brokers do by default else."
)
@click.option(
    "--replicas", type=click.IntRange(1), metavar="N", help="Of those made; as the brokers do by default else."
)
@click.option(
    "--config", multiple=True, metavar="NAME=VALUE", callback=_config, help="A setting of those made; again for more."
)
@timeout_option
@json_option
def topics(
    target: str | None,
    *,
    create: bool,
    partitions: int | None,
    replicas: int | None,
    config: dict[str, str],
    timeout: float,
    as_json: bool,
    **chosen: Any,
) -> None:
    """The topics that the app declares, of its routes, their answers and dead letters: which are missing; make them.

    --topic is any of them, also one for dead letters. Nothing is ever changed or deleted: what is there stays as it is.

    \b
    Examples:
      karafka topics                                   what is there, what is missing
      karafka topics --create                          made as the brokers make topics
      karafka topics --create --partitions 12 --topic videos_created
      karafka topics --create --config cleanup.policy=compact --topic profiles
      karafka topics --create --partitions 1 --topic 'dead_*'

    Exit status: 1 when one is missing, or cannot be made, or no broker answers.
    """
    from karafka.cli.clusters import clusters  # noqa: PLC0415 - needs the client
    from karafka.cli.load import load_app  # noqa: PLC0415
    from karafka.cluster import Cluster  # noqa: PLC0415

    if not create and (partitions or replicas or config):
        raise click.UsageError("--partitions, --replicas and --config are for topics that are made: add --create")
    choice = Choice.taken(chosen)
    app = load_app(target)
    choice.apply_groups(app)
    seen = []
    for used in clusters(app):
        if used.topics or used.patterns:
            cluster = Cluster(used.kafka)
            seen.append((cluster, declared(app, used, cluster.topics(timeout))))
    choice.check_topics(one.name for _, here in seen for one in here)
    found: list[Declared] = []
    for cluster, here in seen:
        kept = [one for one in here if choice.wants_topic(one.name)]
        missing = [one for one in kept if one.state == "missing"]
        if create and missing:
            names = [one.in_kafka for one in missing if one.in_kafka is not None]
            wrong = cluster.create(names, partitions=partitions, replicas=replicas, config=config, timeout=timeout)
            settle(missing, wrong, cluster.topics(timeout))
        found += kept
    tell(found, as_json=as_json)
    if any(one.state == "missing" for one in found):
        sys.exit(1)


def declared(app: App, used: Used, there: Mapping[str, TopicSeen]) -> list[Declared]:
    """What is declared on a cluster where `there` are all topics, by the cluster's names; sorted by name."""
    found = []
    for name, by in used.topics.items():
        known = app.in_kafka(name)
        one = Declared(name, known, "there" if known in there else "missing", by, used.servers)
        if known in there:
            one.see(there[known])
        found.append(one)
    names = there.keys() if app.names is None else {own for name in there if (own := app.names.here(name))}
    for line, group in used.patterns:
        matches = sorted(name for name in names if line.matches(name))
        found.append(Declared(line.shown, None, "pattern", [group], used.servers, matches=matches))
    return sorted(found, key=lambda one: one.name)


def settle(missing: Iterable[Declared], wrong: Mapping[str, str], there: Mapping[str, TopicSeen]) -> None:
    """These were to be made: `wrong` says which were not, `there` how the others are, as far as it is known yet."""
    for one in missing:
        known = one.in_kafka or one.name
        one.error = wrong.get(known)
        if one.error is None:
            one.state = "created"
            if known in there:
                one.see(there[known])


def tell(found: list[Declared], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "topic": one.name,
                "in_kafka": one.in_kafka,
                "state": one.state,
                "partitions": one.partitions,
                "replicas": one.replicas,
                "declared_by": one.by,
                "matches": one.matches,
                "cluster": one.servers,
                "error": one.error,
            }
            for one in found
        ]
        click.echo(json.dumps(rows, indent=2))
    elif found:
        show(table(found))
    for one in found:
        if one.error is not None:
            click.secho(f"karafka: topic {one.name!r} cannot be made: {one.error}", err=True, fg="red")
    if not found:
        click.echo("The app declares no topics: it has no routes.", err=True)
    elif not as_json and (missing := [one.name for one in found if one.state == "missing" and not one.error]):
        are, them = ("topic is", "it") if len(missing) == 1 else ("topics are", "them")
        click.echo(f"{len(missing)} {are} missing: karafka topics --create makes {them}.", err=True)


def table(found: list[Declared]) -> Table:
    """For people. The cluster is named where there are several, and a topic's name there where it is another."""
    several = len({one.servers for one in found}) > 1
    mapped = any(one.in_kafka not in {None, one.name} for one in found)
    return Table(
        headings=(
            "topic",
            *(["in Kafka"] if mapped else []),
            "state",
            "partitions",
            "replicas",
            "declared by",
            *(["cluster"] if several else []),
        ),
        rows=[
            (
                one.name,
                *([one.in_kafka or "-"] if mapped else []),
                f"{len(one.matches)} match" if one.state == "pattern" else one.state,
                "-" if one.partitions is None else str(one.partitions),
                "-" if one.replicas is None else str(one.replicas),
                ", ".join(one.by),
                *([one.servers] if several else []),
            )
            for one in found
        ],
        numbers=frozenset({"partitions", "replicas"}),
        styles=[COLOURS.get(one.state) for one in found],
    )
