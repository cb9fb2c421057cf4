"""`karafka`: the group of commands. A command's module is imported when it is called, so that help is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from karafka.errors import Error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: Mapping[str, str] = {
    "broker": "Run a one-node Apache Kafka for development, no Java or Docker needed.",
    "console": "Python with the app at hand: send, look at topics, try things.",
    "flow": "What goes out for what comes in: incoming => outgoing.",
    "help": "How the commands are used, or one of them.",
    "info": "Versions, the app and its settings, and whether its brokers answer.",
    "install": "An app to begin with, in folders or in one file.",
    "routes": "Which topics go to which controllers, and how.",
    "server": "Consume: route what arrives to the controllers.",
    "status": "How the processes of running servers are.",
    "topics": "The topics that the app declares: which are missing; make them.",
    "worker": "Perform the background jobs that servers hand over.",
}
ALIASES: Mapping[str, str] = {"c": "console", "i": "info", "r": "routes", "s": "server", "w": "worker"}


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """What is no command may be a slip of one."""
        if (name := args[0]) not in {*COMMANDS, *ALIASES}:
            from difflib import get_close_matches  # noqa: PLC0415 - seldom

            if near := get_close_matches(name, COMMANDS, 1):
                ctx.fail(f"No such command {name!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in `--help`, from the tables above: nothing is imported for it."""
        letters = {name: letter for letter, name in ALIASES.items()}
        shown = [(f"{name}, {letters[name]}" if name in letters else name, said) for name, said in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(shown)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, from the table above too, and the options."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - help needs none of it

        commands = [CompletionItem(name, help=said) for name, said in COMMANDS.items() if name.startswith(incomplete)]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """What a person wrote wrong is one sentence and exit status 1, never a traceback."""
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except Error as error:
            click.secho(f"karafka: {error}", err=True, fg="red")
            sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="karafka", prog_name="karafka")
def main() -> None:
    """The framework for Kafka applications in Python.

    \b
    Examples:
      karafka server --embedded    consume, with no broker at hand
      karafka routes               what the app in this folder reads
      karafka help server          all about one command

    \b
    Completion of commands and options, for bash (zsh and fish likewise):
      eval "$(_KARAFKA_COMPLETE=bash_source karafka)"

    Exit status: 0 when it went well; 1 for what is wrong in the app or the cluster, in one sentence; 2 for a command
    line that is no command. What each command adds to that its own help says.
    """
