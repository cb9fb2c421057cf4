"""`make chaos ROUNDS=200`, or `python -m tests.chaos --help`: as many rounds as asked, then the verdict."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from karafka.devbroker import Kafka
from tests.chaos.rounds import VARIANTS, Chaos, Progress, Settings


@click.command()
@click.option("--rounds", default=50, show_default=True, type=click.IntRange(1), help="Lives that end by -9.")
@click.option("--seed", type=int, help="Repeat a plan; a new one is printed otherwise.")
@click.option("--bootstrap", help="A broker that runs; one of its own otherwise.")
@click.option("--variant", "variants", multiple=True, type=click.Choice(VARIANTS), help="Only these controllers.")
@click.option("--failing/--no-failing", default=True, show_default=True, help="One message in 100 fails at first.")
@click.option("--rate", default=1_000, show_default=True, type=click.IntRange(1), help="Messages a second.")
@click.option("--commit-interval", default=0.25, show_default=True, help="Seconds.")
def chaos(
    rounds: int,
    seed: int | None,
    bootstrap: str | None,
    variants: tuple[str, ...],
    *,
    failing: bool,
    rate: int,
    commit_interval: float,
) -> None:
    """Kill a server with -9 again and again while messages flow, and see whether the promises hold."""
    seed = random.randrange(1_000_000) if seed is None else seed
    click.echo(f"seed {seed}: --seed {seed} repeats this plan")
    folder = Path(tempfile.mkdtemp(prefix="karafka-chaos-"))
    with ExitStack() as stack:
        address = bootstrap or stack.enter_context(Kafka(folder / "kafka")).bootstrap
        settings = Settings(
            bootstrap=address,
            rounds=rounds,
            seed=seed,
            variants=variants or VARIANTS,
            failing=failing,
            rate=rate,
            commit_interval=commit_interval,
        )
        tell = stack.enter_context(shown())
        run = Chaos(settings, folder, tell)
        verdict = run.run()
    click.echo(verdict)
    if not verdict.sound:
        click.echo(f"the ledger is kept: {run.ledger} (life partition offset sequence time)", err=True)
        sys.exit(1)
    shutil.rmtree(folder)


@contextmanager
def shown() -> Iterator[Callable[[Progress], object]]:
    """Progress as a table that lives in a terminal, as a line for each life elsewhere."""
    console, began = Console(), time.monotonic()
    if not console.is_terminal:
        said = set()

        def say(progress: Progress) -> None:
            if progress.lives and len(progress.lives) not in said:
                said.add(len(progress.lives))
                click.echo(" · ".join(f"{name} {value}" for name, value in figures(progress, began)))

        yield say
        return
    with Live(console=console, refresh_per_second=8) as live:
        yield lambda progress: live.update(table(progress, began))


def table(progress: Progress, began: float) -> Table:
    shape = Table.grid(padding=(0, 2))
    for name, value in figures(progress, began):
        shape.add_row(f"[bold]{name}", value)
    return shape


def figures(progress: Progress, began: float) -> list[tuple[str, str]]:
    plan = progress.plan
    now = f"{plan.variant}, to be killed {plan.moment} after {plan.wait:.2f} s" if plan else ""
    if len(progress.lives) >= progress.rounds:
        now = "the last life, which may finish"
    return [
        ("round", f"{min(len(progress.lives), progress.rounds)} of {progress.rounds}"),
        ("killed", f"{progress.kills}"),
        ("sent", f"{progress.sent:,}"),
        ("performed", f"{progress.performed:,}"),
        ("time", f"{time.monotonic() - began:.0f} s"),
        ("now", now),
    ]


if __name__ == "__main__":
    chaos()
