"""`karafka server`: consume until told to stop."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from karafka.config import Settings
from karafka.errors import ConfigError

if TYPE_CHECKING:
    from karafka.app import App
    from karafka.devbroker import Embedded


@click.command()
@click.option(
    "-A", "--app", "target", metavar="MODULE:ATTRIBUTE", help="The app; app.py's `app`, or $KARAFKA_APP, else."
)
@click.option("--embedded", is_flag=True, help="Start librdkafka's own cluster for it: at once, and forgotten at exit.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much is said.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines to read, or a JSON object a line.",
)
def server(target: str | None, *, embedded: bool, log_level: str, log_format: str) -> None:
    """Consume: route what arrives to the controllers, until INT, TERM or QUIT.

    \b
    Examples:
      karafka server                       in a folder with app.py
      karafka server -A shop.main:app      another module
      karafka server --embedded            no broker at hand
    """
    # Imported here: `--help` needs none of it.
    from karafka.cli.load import load_app  # noqa: PLC0415
    from karafka.instrumentation import LogListener, configure_logging  # noqa: PLC0415
    from karafka.server import Server, end  # noqa: PLC0415

    _take_signals()
    configure_logging(log_level, "json" if log_format == "json" else "text")
    if not embedded:
        app = load_app(target)
        LogListener(app.events)
        consuming = Server(app)
        end(consuming, consuming.run())

    from karafka.devbroker.embedded import NOTICE, Embedded  # noqa: PLC0415

    with Embedded() as broker:
        app = load_app(target)
        _point(app, broker)
        broker.create(line.name for _, line in app.routes if isinstance(line.name, str))
        click.echo(f"{NOTICE} Address: {broker.bootstrap}", err=True)
        LogListener(app.events)
        consuming = Server(app)
        status = consuming.run()
    end(consuming, status)


def _take_signals() -> None:
    """Until the server takes them: process 1 of a container has no defaults, and what nobody handles is lost."""

    def end(_number: int, _frame: object) -> None:
        sys.exit(0)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, end)


def _point(app: App, broker: Embedded) -> None:
    """Have `app` use `broker`, with the settings that suit it where they do not contradict the app's own."""
    there: Settings = {
        "bootstrap.servers": broker.bootstrap,
        "security.protocol": "plaintext",
    }
    try:
        app.override({**there, **broker.consumer_settings})
    except ConfigError:
        app.override(there)
