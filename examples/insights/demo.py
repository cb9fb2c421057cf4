"""The demo: publish a repository's history, let all groups catch up, report."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from confluent_kafka import KafkaException
from karafka import Error, Server
from karafka.devbroker import Embedded
from karafka.devbroker.embedded import NOTICE
from rich.console import Console
from rich.live import Live

from app import app
from broker import Broker
from feed import Feed, fitting
from history import GitError, Repository
from page import page
from progress import Progress, Watch, line, table
from report import report
from store import Store
from summary import summarize

# The embedded broker keeps 5 MiB of a partition, and a repository's commits are all in one.
EMBEDDED_ROOM = 3 * 1024 * 1024
# Seconds between looks at the groups, between lines said of them, between looks for new commits.
LOOK, SAY, FOLLOW = 0.25, 2.0, 1.0

NEXT = """
The page with plots: {page}
Try next:
  --repo PATH        another repository
  --limit 2000       more of its history
  --follow           go on with commits as they come
  karafka broker     in another terminal: a Kafka that remembers. Then --bootstrap localhost:9092,
                     stop it half-way with Ctrl-C, start it again: it goes on from where it stopped."""


@click.command()
@click.option(
    "--repo", type=click.Path(path_type=Path), default=Path(), help="A git repository.  [default: this folder's]"
)
@click.option(
    "--bootstrap", metavar="HOST:PORT", help="A Kafka, such as that of `karafka broker`.  [default: embedded]"
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=400, show_default=True, help="So many of the newest commits."
)
@click.option("--follow", is_flag=True, help="Go on with commits as they come, until Ctrl-C.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".karafka/insights"),
    show_default=True,
    help="Where the findings and the page are kept.",
)
def main(repo: Path, bootstrap: str | None, limit: int, *, follow: bool, folder: Path) -> None:
    """Look at the commits of a git repository from six perspectives, over Kafka."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends in order, as Ctrl-C does
    os.environ["INSIGHTS_FOLDER"] = str(folder)
    console = Console(highlight=False, soft_wrap=True)
    try:
        repository = Repository(repo)
        with cluster(console, bootstrap) as address, Broker(address) as broker:
            demonstrate(console, repository, broker, limit=limit, follow=follow, embedded=bootstrap is None)
    except (GitError, Error) as error:
        sys.exit(f"insights: {error}")
    except KafkaException as error:
        sys.exit(f"insights: {bootstrap} does not answer as a Kafka does: {error.args[0].str()}")


@contextmanager
def cluster(console: Console, bootstrap: str | None) -> Iterator[str]:
    """Point the app at the Kafka at `bootstrap`, or at an embedded one that lives as long as this."""
    if bootstrap is not None:
        app.override({"bootstrap.servers": bootstrap})
        yield bootstrap
        return
    with Embedded() as broker:
        console.print(f"[dim]{NOTICE}")
        app.override({"bootstrap.servers": broker.bootstrap, **broker.consumer_settings})
        yield broker.bootstrap


def demonstrate(
    console: Console, repository: Repository, broker: Broker, *, limit: int, follow: bool, embedded: bool
) -> None:
    total = repository.size()
    if not total and not follow:
        console.print(f"{repository.folder} has no commits yet: nothing to look at.", markup=False)
        return
    began = time.monotonic()
    server = Server(app, jobs=True)
    broker.prepare(sorted({"offenses", "metrics", *(topic for one in server.subscriptions for topic in one.topics)}))
    if embedded:
        shas = repository.shas(limit)
        if (fit := sum(1 for _ in fitting(repository.commits(shas), EMBEDDED_ROOM))) < len(shas):
            console.print(f"The embedded broker has room for the newest {fit} commits only.")
            limit = fit
    feed = Feed(repository, app.producer, broker.published(repository.name), limit)
    watch = Watch(app, server.subscriptions, broker)
    try:
        new = feed.new()
        feed.publish(new[::-1])
        console.print(
            f"{repository.name}: {total} commits, {len(new)} of the newest {limit} published now.", markup=False
        )
        server.start()
        catch_up(console, watch, feed if follow else None)
    except KeyboardInterrupt:
        console.print("Stopping: what runs is finished first.")
    finally:
        server.stop()
    console.print(f"Stopped in order after {time.monotonic() - began:.1f} s; {line(watch.look())}.", markup=False)
    store = Store.from_environment()
    summary = summarize(store, repository.name)
    report(summary, console)
    written = store.path.with_name(f"{repository.name}.html")
    written.write_text(page(summary), encoding="utf-8")
    console.print(NEXT.format(page=written), markup=False)


def catch_up(console: Console, watch: Watch, feed: Feed | None) -> None:
    """Show how far the groups are until nothing is left to do; with a `feed` go on for ever, publishing what is new."""
    with screen(console) as show:
        while True:
            groups = watch.look()
            show(groups)
            if any(one.lag for one in groups):
                time.sleep(LOOK)
            elif feed is None:
                return
            elif new := feed.new():
                feed.publish(new[::-1])
                console.print(f"{len(new)} more published.")
            else:
                time.sleep(FOLLOW)


@contextmanager
def screen(console: Console) -> Iterator[Callable[[list[Progress]], None]]:
    """What shows the groups: a table that changes; where there is no terminal, a line now and then."""
    if console.is_terminal:
        with Live(console=console) as live:
            yield lambda groups: live.update(table(groups))
        return
    said_at, said = -SAY, ""

    def say(groups: list[Progress]) -> None:
        nonlocal said_at, said
        if (now := time.monotonic()) - said_at >= SAY and (new := line(groups)) != said:
            said_at, said = now, new
            console.print(new, markup=False)

    yield say
