"""`karafka worker`: perform background jobs until told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from karafka.cli.options import app_option
from karafka.cli.server import consume, consuming_options

if TYPE_CHECKING:
    from karafka.app import App
    from karafka.routing import Subscription


def _weights(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    """`critical:5`, as often as it is given; without a number it weighs 1."""
    found = {}
    for text in given:
        queue, colon, weight = text.partition(":")
        if not queue or (colon and not (weight.isdecimal() and int(weight) > 0)):
            raise click.BadParameter(f"{text!r}: QUEUE or QUEUE:WEIGHT is expected, such as critical:5", ctx, param)
        found[queue] = int(weight) if colon else 1
    return found


@click.command()
@app_option
@click.option(
    "-q",
    "--queue",
    "queues",
    multiple=True,
    metavar="QUEUE[:WEIGHT]",
    callback=_weights,
    help="Only this queue; again for more. Its weight is its share of the workers where several queues have jobs.",
)
@consuming_options
def worker(target: str | None, *, queues: dict[str, int], **options: Any) -> None:
    """Perform the jobs that a server has handed over (backend=…), until INT, TERM or QUIT.

    \b
    Examples:
      karafka worker                                all queues, in a folder with app.py
      karafka worker -q critical:5 -q default:1     five of one to one of the other, where both have jobs
      karafka worker -q slow --concurrency 50       many at once
      karafka worker --processes 4                  for work that keeps a processor busy

    Exit status: as that of `karafka server`.
    """

    def read(app: App) -> tuple[Subscription, ...]:
        from karafka.background import subscriptions  # noqa: PLC0415 - help needs none of it

        return subscriptions(app, queues or None)

    consume(target, read, **options)
