"""`karafka status`: how the processes of running servers are, asked of their supervisors."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from karafka.cli.options import json_option
from karafka.cli.tables import Table, show
from karafka.processes.runtime import answers

HEADINGS = ("process", "pid", "state", "uptime", "parts", "lag", "msg/s", "memory", "handler", "oldest")
NUMBERS = frozenset(HEADINGS) - {"state"}
COLOURS: Mapping[str, str] = {
    "running": "green",
    "starting": "yellow",
    "waiting": "yellow",
    "silent": "red",
}


@click.command()
@click.option(
    "-A", "--app", "target", metavar="MODULE:ATTRIBUTE", help="Of this app alone; of all that run here, else."
)
@click.option("--client-id", metavar="NAME", help="Of the app of that client_id alone.")
@json_option
def status(target: str | None, client_id: str | None, *, as_json: bool) -> None:
    """How the processes of `karafka server --processes N` are, of every one that this user runs on this machine.

    \b
    Examples:
      karafka status                       all that run here
      karafka status --client-id videos    those of one app
      karafka status --json                for a program

    Exit status: 1 when none runs.
    """
    if target is not None:
        from karafka.cli.load import load_app  # noqa: PLC0415 - needs the client

        client_id = load_app(target).config.client_id
    found = sorted((one for one in answers() if client_id in {None, one["client_id"]}), key=_named)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(*map(table, found))
    if not found:
        whose = "" if client_id is None else f" of {client_id!r}"
        click.echo(
            f"No server{whose} with several processes runs here: karafka server --processes N starts one.", err=True
        )
        sys.exit(1)


def _named(supervisor: Mapping[str, Any]) -> tuple[str, int]:
    return supervisor["client_id"], supervisor["pid"]


def title(supervisor: Mapping[str, Any]) -> str:
    """The line above a table."""
    up = lasted(supervisor["uptime"])
    return f"{supervisor['client_id']}: {supervisor['state']}, up {up}, supervisor pid {supervisor['pid']}"


def cells(process: Mapping[str, Any]) -> tuple[str, ...]:
    """One row; what is not known is a dash."""
    names = ("process", "pid", "state", "uptime", "partitions", "lag", "rate", "memory", "handler", "oldest")
    return tuple(_cell(name, process.get(name)) for name in names)


def _cell(name: str, value: Any) -> str:
    match name, value:
        case (_, None) | (("handler" | "oldest"), 0):
            return "-"
        case (("uptime" | "handler" | "oldest"), _):
            return lasted(value)
        case (("partitions" | "lag" | "rate"), _):
            return f"{value:,.0f}"
        case "memory", _:
            return f"{value / 1e6:,.0f} MB"
        case _:
            return str(value)


def table(supervisor: Mapping[str, Any]) -> Table:
    """A supervisor's processes."""
    processes = supervisor["processes"]
    return Table(
        headings=HEADINGS,
        rows=[cells(process) for process in processes],
        title=title(supervisor),
        numbers=NUMBERS,
        styles=[COLOURS.get(process["state"]) for process in processes],
        whole=True,
    )


def lasted(seconds: float) -> str:
    """A duration in its two largest units: "6d 02h", "2h 05m", "3m 07s"; below a minute "7.3s"."""
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(max(60, int(seconds)), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02}h"
