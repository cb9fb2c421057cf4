"""`karafka`: the group of commands. A command's module is imported when it is called, so that help is quick."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from karafka.errors import Error

COMMANDS: Mapping[str, str] = {
    "broker": "Run a one-node Apache Kafka for development, no Java or Docker needed.",
    "server": "Consume: route what arrives to the controllers (alias: s).",
    "status": "How the processes of running servers are.",
}
ALIASES: Mapping[str, str] = {"s": "server"}


class Commands(click.Group):
    """Commands by name, each imported from its own module only when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"karafka.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in `--help`, from the table above: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """What a person wrote wrong is one sentence and exit status 1, never a traceback."""
        try:
            return super().invoke(ctx)
        except Error as error:
            click.secho(f"karafka: {error}", err=True, fg="red")
            sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="karafka", prog_name="karafka")
def main() -> None:
    """The framework for Kafka applications in Python."""
