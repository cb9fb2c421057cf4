"""`karafka broker`: real Apache Kafka in the foreground, for development."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from karafka.devbroker import Kafka, artifacts
from karafka.devbroker.artifacts import Fetched
from karafka.errors import BrokerError

READY = """\
Apache Kafka {version} is ready: bootstrap.servers={bootstrap}
It listens on this machine only; a topic appears with 4 partitions when it is first used.
Its data is kept in {folder} (--reset forgets it), its log is kafka.log there.
Try next, in another terminal: karafka server
Ctrl-C stops it."""


@click.command
@click.option("--port", default=9092, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free one.")
@click.option("--folder", default=".karafka", show_default=True, type=Path, help="Where data and log are kept.")
@click.option("--reset", is_flag=True, help="Forget the data first.")
def broker(port: int, folder: Path, *, reset: bool) -> None:
    """Run a one-node Apache Kafka for development, no Java or Docker needed.

    The first time fetches about 45 MB. Ctrl-C stops it cleanly, a second Ctrl-C at once.

    \b
    Examples:
      karafka broker             on localhost:9092, its data in .karafka/
      karafka broker --port 0    wherever there is room
      karafka broker --reset     without what it held

    Exit status: 0 after a stop; 1 when it cannot start, or ends by itself; 130 when it was killed, or stopped before it
    was ready.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which is what nohup asks for
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    kafka = Kafka(folder, port)
    try:
        if reset:
            kafka.reset()
        with shown() as progress:
            kafka.start(progress)
    except KeyboardInterrupt:
        click.echo("Interrupted before Kafka was ready; what is fetched is kept.", err=True)
        sys.exit(130)
    click.echo(READY.format(version=artifacts.VERSION, bootstrap=kafka.bootstrap, folder=kafka.folder.path))
    try:
        kafka.wait()
        raise BrokerError(f"Kafka ended by itself: {kafka.last_words()} ({kafka.folder.log} says more)", retriable=True)
    except KeyboardInterrupt:
        click.echo("Stopping. Ctrl-C again kills it.", err=True)
    finish(kafka)


def finish(kafka: Kafka) -> None:
    """Stop cleanly; at another Ctrl-C kill at once, which costs the next start a few seconds and no data."""
    try:
        kafka.stop()
        click.echo("Stopped.", err=True)
    except KeyboardInterrupt:
        click.echo("Killed.", err=True)
        sys.exit(130)


@contextmanager
def shown() -> Iterator[artifacts.Progress]:
    """Show a start to the person who waits for it: a bar on a terminal, plain lines elsewhere or with NO_COLOR."""
    # Imported here: `--help` needs none of it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal or os.environ.get("NO_COLOR"):
        click.echo("Starting Apache Kafka...", err=True)
        yield in_lines()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[news]}"))
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("Starting Apache Kafka", total=None, news="")

        def draw(fetched: Fetched) -> None:
            whole = fetched.wanted > 0 and fetched.jars == fetched.wanted
            bars.update(
                bar,
                description="Starting Apache Kafka" if whole else f"Fetching Apache Kafka {artifacts.VERSION}, once",
                total=fetched.wanted if fetched.wanted and not whole else None,
                completed=fetched.jars,
                news="" if whole else summary(fetched),
            )

        yield draw


def in_lines() -> artifacts.Progress:
    """Says every tenth jar in a line: `start` tells of every few kilobytes."""
    said = set()

    def say(fetched: Fetched) -> None:
        mark = (fetched.wanted, fetched.jars // 10, fetched.jars == fetched.wanted)
        if mark not in said:
            said.add(mark)
            click.echo(f"Fetching Apache Kafka {artifacts.VERSION}, once: {summary(fetched)}", err=True)

    return say


def summary(fetched: Fetched) -> str:
    """How far a fetch is, in words."""
    if not fetched.wanted:
        return "reading what it needs"
    return f"{fetched.jars} of {fetched.wanted} jars, {fetched.size / 1e6:.0f} MB"
