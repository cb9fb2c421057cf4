"""`karafka worker`: perform background jobs until told to stop."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from karafka.cli.options import app_option
from karafka.cli.server import consume, consuming_options, take_signals
from karafka.errors import ConfigError

if TYPE_CHECKING:
    from karafka.backends.port import Backend


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
@click.option("--backend", metavar="NAME", help="Whose jobs, where the app has several job queues.")
@consuming_options
def worker(target: str | None, *, queues: dict[str, int], backend: str | None, **options: Any) -> None:
    """Perform the jobs that a server has handed over (backend=…), until INT, TERM or QUIT.

    \b
    Examples:
      karafka worker                                all queues, in a folder with app.py
      karafka worker -q critical:5 -q default:1     five of one to one of the other, where both have jobs
      karafka worker -q slow --concurrency 50       many at once
      karafka worker --processes 4                  for work that keeps a processor busy

    Exit status: as that of `karafka server`.
    """

    from karafka.background import backgrounds, check_queues, subscriptions  # noqa: PLC0415 - help needs none of it
    from karafka.cli.load import load_app  # noqa: PLC0415
    from karafka.instrumentation import LogListener, configure_logging  # noqa: PLC0415

    app = load_app(target)
    chosen = _backend({one.backend.name: one.backend for one in backgrounds(app)}, backend)
    if chosen.name != "kafka":
        check_queues(app, chosen, queues)
        for name in ("max_memory", "max_age", "max_handler_age", "hang_after", "static_membership", "alive_file"):
            if options[name]:
                raise ConfigError(
                    f"--{name.replace('_', '-')} is not for jobs by {chosen.name}, whose own program runs the processes"
                )
        take_signals()
        configure_logging(options["log_level"], "json" if options["log_format"] == "json" else "text")
        LogListener(app.events)
        sys.exit(
            chosen.run(
                target,
                queues,
                concurrency=options["concurrency"] or app.config.concurrency,
                processes=options["processes"] or app.config.processes,
                shutdown_timeout=app.config.shutdown_timeout,
            )
        )
    consume(target, lambda app: subscriptions(app, queues or None), **options)


def serve_dramatiq() -> None:
    """Called by Dramatiq's command in each of its processes, where `karafka worker` has started it."""
    from karafka.backends.dramatiq import DramatiqBackend  # noqa: PLC0415 - help needs none of it
    from karafka.background import backgrounds  # noqa: PLC0415
    from karafka.cli.load import load_app  # noqa: PLC0415

    app = load_app(None)
    backend = next(one.backend for one in backgrounds(app) if isinstance(one.backend, DramatiqBackend))
    backend.serve(app.config.shutdown_timeout)


def _backend(there: Mapping[str, Backend], name: str | None) -> Backend:
    """The one that is meant. Raises `ConfigError`."""
    known = ", ".join(there)
    if not there:
        raise ConfigError(
            'no route hands its messages over to a job queue: topic(…, backend="kafka"), or App(…, backend="kafka")'
        )
    if name is None and len(there) > 1:
        raise ConfigError(f"the app has several job queues ({known}): say which one's jobs are meant, --backend …")
    if name is not None and name not in there:
        raise ConfigError(f"--backend {name}: the app hands nothing over to it; it has {known}")
    return there[name] if name is not None else next(iter(there.values()))
