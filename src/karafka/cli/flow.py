"""`karafka flow`: what comes in, and what goes out for it, as responders and dead letter policies declare it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from karafka.cli.choice import Choice
from karafka.cli.options import app_option, choice_options

# Where the second column begins; further to the right where a name is longer.
WIDTH = 25
ALWAYS, CONDITIONALLY, DEAD_LETTERS = "always", "conditionally", "dead letters"
COLOURS: Mapping[str, str] = {ALWAYS: "green", CONDITIONALLY: "yellow", DEAD_LETTERS: "red"}

# A route as `karafka routes --json` tells it.
Row = Mapping[str, Any]


@click.command()
@app_option
@choice_options
@click.option("--dot", "form", flag_value="dot", help="A picture, in Graphviz's language.")
@click.option("--mermaid", "form", flag_value="mermaid", help="A picture, in Mermaid's: for Markdown pages.")
@click.option("--json", "form", flag_value="json", help="One JSON document, for programs.")
def flow(target: str | None, *, form: str | None, **chosen: Any) -> None:
    """What goes out for what comes in: incoming => outgoing, sorted by topic.

    Going out are the topics that the route's responder declares, and the one for dead letters. What a controller sends
    by self.produce, or by a producer, is not declared, and so not shown.

    \b
    Examples:
      karafka flow                         in a folder with app.py
      karafka flow --group analytics       of one consumer group
      karafka flow --dot | dot -Tsvg       a picture
      karafka flow --mermaid               a picture for a Markdown page

    Exit status: 1 when the app is broken, or a name is not there.
    """
    from karafka.cli.load import load_app  # noqa: PLC0415 - needs the client
    from karafka.cli.routes import described  # noqa: PLC0415

    choice = Choice.taken(chosen)
    app = load_app(target)
    choice.apply(app)
    rows = described(app)
    match form:
        case "json":
            click.echo(json.dumps([document(row) for row in rows], indent=2))
        case "dot":
            click.echo(dot(picture(rows)))
        case "mermaid":
            click.echo(mermaid(picture(rows)))
        case _ if rows:
            click.echo("\n".join(lines(rows)))
        case _:
            click.echo('The app has no routes: add one with @app.topic("name") or app.routes.draw(…)', err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One topic to which a route may send: `when` is a key of `COLOURS`, `besides` says how often, or after what.

    `facts` are the same for programs.
    """

    topic: str
    cluster: str
    when: str
    besides: str
    facts: Mapping[str, Any]

    @property
    def said(self) -> str:
        return f"{self.when}, {self.besides}"


def ways(row: Row) -> Iterator[Way]:
    """Where a route may send: its answers, in the order of declaration, then its dead letters."""
    responder, grave = row["responder"], row["dead_letter"]
    for sent in responder["sends"] if responder else ():
        yield Way(
            topic=sent["topic"],
            cluster=row["cluster"],
            when=ALWAYS if sent["required"] else CONDITIONALLY,
            besides="one or more" if sent["multiple"] else "exactly once",
            facts={"dead_letters": False, "required": sent["required"], "multiple": sent["multiple"]},
        )
    if grave:
        tries = f"after {grave['after']} {'try' if grave['after'] == 1 else 'tries'}"
        yield Way(
            topic=grave["topic"],
            cluster=str(grave["producer"].get("bootstrap.servers", row["cluster"])),
            when=DEAD_LETTERS,
            besides=f"by {grave['strategy']}" if grave["strategy"] else tries,
            facts={"dead_letters": True, "after": grave["after"], "strategy": grave["strategy"]},
        )


def background(row: Row) -> str:
    """Where its jobs wait that `karafka worker` performs; empty where the server does."""
    return f"in the background, queue {row['worker']['queue']} of {row['backend']}" if row["backend"] else ""


def document(row: Row) -> dict[str, Any]:
    """A route as programs read it."""
    names = ("topic", "group", "cluster", "controller")
    outgoing = [{"topic": way.topic, "cluster": way.cluster, **way.facts} for way in ways(row)]
    queue = row["worker"]["queue"] if row["backend"] else None
    return {**{name: row[name] for name in names}, "backend": row["backend"], "queue": queue, "outgoing": outgoing}


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """The routes as a person reads them; colours are for whoever prints them to leave out."""
    width = max([WIDTH, *(len(_item(way)) for row in rows for way in ways(row))])
    for row in rows:
        name = click.style(_name(row, rows), bold=True)
        out = list(ways(row))
        apart = click.style(f" ({background(row)})", dim=True) if row["backend"] else ""
        yield f"{name} =>{apart}" if out else f"{name} =>{apart} {click.style('(nothing)', dim=True)}"
        for way in out:
            yield f"{_item(way):<{width}} {click.style(f'({way.said})', fg=COLOURS[way.when])}"


def _item(way: Way) -> str:
    return f"  - {way.topic}:"


def _name(row: Row, rows: Sequence[Row]) -> str:
    """The topic; where several routes read one of that name, what tells them apart too."""
    like = [one for one in rows if one["topic"] == row["topic"]]
    apart = [row[field] for field in ("group", "cluster") if len({one[field] for one in like}) > 1]
    return f"{row['topic']} ({', '.join(apart)})" if apart else row["topic"]


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Picture:
    """What stands on topics and controllers, by names of their own; and the arrows between those names.

    An arrow's way is None where something comes in.
    """

    topics: Mapping[str, str]
    controllers: Mapping[str, str]
    arrows: Sequence[tuple[str, str, Way | None]]


def picture(rows: Sequence[Row]) -> Picture:
    """Each topic once, whether it comes in or goes out, so that it is seen what hangs together."""
    arrows: list[tuple[str, str, Way | None]] = []
    topics: dict[tuple[str, str], str] = {}
    controllers: dict[tuple[str, str, str, str], str] = {}

    def topic(name: str, cluster: str) -> str:
        return topics.setdefault((name, cluster), f"topic{len(topics)}")

    for row in rows:
        key = row["controller"], row["group"], row["cluster"], background(row)
        controller = controllers.setdefault(key, f"controller{len(controllers)}")
        arrows.append((topic(row["topic"], row["cluster"]), controller, None))
        arrows += [(controller, topic(way.topic, way.cluster), way) for way in ways(row)]
    several = len({cluster for _, cluster in topics}) > 1
    return Picture(
        {name: f"{topic}\n{cluster}" if several else topic for (topic, cluster), name in topics.items()},
        {
            name: f"{path.rpartition('.')[2]}\n{group}" + (f"\n{apart}" if apart else "")
            for (path, group, _, apart), name in controllers.items()
        },
        arrows,
    )


def dot(shown: Picture) -> str:
    """In the language of Graphviz."""
    looks = {
        ALWAYS: "",
        CONDITIONALLY: ", style=dashed",
        DEAD_LETTERS: ", style=dotted, color=red, fontcolor=red",
    }

    def arrow(way: Way | None) -> str:
        return f" [label={_quoted(way.said)}{looks[way.when]}]" if way is not None else ""

    return "\n".join(
        [
            "digraph flow {",
            "  rankdir=LR",
            *(f"  {name} [label={_quoted(text)}, shape=cds]" for name, text in shown.topics.items()),
            *(f"  {name} [label={_quoted(text)}, shape=box]" for name, text in shown.controllers.items()),
            *(f"  {start} -> {end}{arrow(way)}" for start, end, way in shown.arrows),
            "}",
        ]
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def mermaid(shown: Picture) -> str:
    """In the language of Mermaid."""
    looks = {ALWAYS: "-->", CONDITIONALLY: "-.->", DEAD_LETTERS: "-.->"}

    def arrow(way: Way | None) -> str:
        return f'{looks[way.when]}|"{_entities(way.said)}"|' if way is not None else "-->"

    return "\n".join(
        [
            "flowchart LR",
            *(f'  {name}(["{_entities(text)}"])' for name, text in shown.topics.items()),
            *(f'  {name}["{_entities(text)}"]' for name, text in shown.controllers.items()),
            *(f"  {start} {arrow(way)} {end}" for start, end, way in shown.arrows),
        ]
    )


def _entities(text: str) -> str:
    """Letters, digits and what is harmless as they are; all else by its number."""
    return "".join(
        "<br>" if one == "\n" else one if one.isalnum() or one in " ._-:,/" else f"#{ord(one)};" for one in text
    )
