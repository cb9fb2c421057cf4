"""`karafka help [COMMAND]`: what `--help` says, for those who ask first."""

from __future__ import annotations

import click


@click.command("help")
@click.argument("command", required=False)
@click.pass_context
def help(ctx: click.Context, command: str | None) -> None:  # noqa: A001 - the command's name
    """How the commands are used, or one of them.

    \b
    Examples:
      karafka help           all commands
      karafka help server    one of them; karafka server --help says the same

    Exit status: 2 when there is no such command.
    """
    above = ctx.parent
    assert above is not None  # noqa: S101 - it stands in the group
    group = above.command
    assert isinstance(group, click.Group)  # noqa: S101
    if command is None:
        click.echo(above.get_help())
        return
    name, found, _ = group.resolve_command(above, [command])
    assert found is not None  # noqa: S101 - resolve_command has said so otherwise
    with click.Context(found, info_name=name, parent=above, **group.context_settings) as inside:
        click.echo(found.get_help(inside))
