"""`make chaos MINUTES=60`, or `python -m tests.chaos --help`: faults for as long as asked, then the verdict."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import cast

import click

from tests.chaos.broker import Broker
from tests.chaos.display import shown
from tests.chaos.faults import FAULTS
from tests.chaos.members import PROTOCOLS, VARIANTS, Protocol
from tests.chaos.messages import ORDERS, Order
from tests.chaos.run import Chaos, Settings


def named(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, ...]:
    """Names of faults, with commas between."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if unknown := [name for name in names if name not in FAULTS]:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(FAULTS)}")
    return names


@click.command(epilog="Faults: " + "; ".join(f"{one.name}: {one.said}" for one in FAULTS.values()) + ".")
@click.option("--minutes", type=click.FloatRange(0), help="At least so long, and each fault at least once.")
@click.option("--rounds", type=click.IntRange(1), help="So many rounds, instead.")
@click.option("--seed", type=int, help="Repeat a plan; a new one is made up otherwise.")
@click.option(
    "--faults", default=",".join(FAULTS), callback=named, help="Only these, with commas between.", metavar="NAMES"
)
@click.option("--protocol", type=click.Choice(list(PROTOCOLS)), default="eager", show_default=True)
@click.option("--variant", "variants", multiple=True, type=click.Choice(VARIANTS), help="Only these controllers.")
@click.option("--order", default="partition", show_default=True, type=click.Choice(ORDERS), help="What is in order.")
@click.option("--rate", default=200, show_default=True, type=click.IntRange(4), help="Messages a second.")
def chaos(
    minutes: float | None,
    rounds: int | None,
    seed: int | None,
    faults: tuple[str, ...],
    protocol: str,
    variants: tuple[str, ...],
    order: str,
    rate: int,
) -> None:
    """Strike servers, their broker and their messages while messages flow, and see whether the promises hold.

    A Ctrl-C ends it after the round under way, with a verdict on what was sent until then; a second one at once.
    """
    settings = Settings(
        seed=random.randrange(1_000_000) if seed is None else seed,
        faults=faults,
        rounds=rounds,
        minutes=5.0 if rounds is None and minutes is None else minutes,
        protocol=cast("Protocol", protocol),
        variants=variants,
        order=cast("Order", order),
        rate=rate,
    )
    click.echo(f"seed {settings.seed}; the same plan again: {settings.command}")
    folder = Path(tempfile.mkdtemp(prefix="karafka-chaos-"))
    with Broker(folder / "kafka") as broker, shown() as tell:
        run = Chaos(settings, broker, folder, tell)

        def interrupted(_number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            run.stop()

        signal.signal(signal.SIGINT, interrupted)
        verdict = run.run()
    slowest, took = max(run.progress.recoveries.items(), key=lambda one: one[1], default=("nothing", 0.0))
    click.echo(
        f"rounds: {run.progress.round}; faults: {', '.join(f'{n} {t}' for n, t in run.progress.strikes.items())}"
    )
    click.echo(f"the longest until each partition went on: {took:.1f} s, after {slowest}")
    click.echo(f"{verdict}\nseed {settings.seed}; the same plan again: {settings.command}")
    if not verdict.sound:
        click.echo(f"journal and logs are kept: {folder}", err=True)
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    chaos()
