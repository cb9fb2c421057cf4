"""`karafka server`: consume until told to stop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import click

from karafka.checks import duration, size
from karafka.cli.choice import Choice
from karafka.cli.options import app_option, choice_options
from karafka.config import Settings
from karafka.errors import ConfigError

if TYPE_CHECKING:
    from karafka.app import App
    from karafka.devbroker import Embedded
    from karafka.processes.link import Link
    from karafka.processes.supervisor import Supervisor
    from karafka.processes.tether import Tether
    from karafka.routing import Subscription


# Why there cannot be several processes with them.
ALONE: Mapping[str, str] = {
    "--embedded": "--embedded is one process's own: start `karafka broker` for several --processes",
    "--reload": "--reload starts one process again and again, for development: leave --processes out",
}

Decorator: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]


def _limit(name: str, read: Callable[[str], float], said: str) -> Decorator:
    """An option that people write with its unit."""

    def convert(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
        try:
            return None if text is None else read(text)
        except ConfigError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return click.option(name, metavar=read.__name__.upper(), callback=convert, help=said)


# What commands take that consume.
CONSUMING: tuple[Decorator, ...] = (
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        envvar="KARAFKA_LOG_LEVEL",
        show_envvar=True,
        help="How much is said.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        envvar="KARAFKA_LOG_FORMAT",
        show_envvar=True,
        help="Lines to read, or a JSON object a line.",
    ),
    click.option(
        "--concurrency", type=click.IntRange(1), metavar="N", help="So many shared workers; App(concurrency=…) else."
    ),
    click.option(
        "--processes", type=click.IntRange(1), metavar="N", help="So many servers side by side; App(processes=…) else."
    ),
    _limit("--max-memory", size, "Replace, in order, a process that takes more, such as 512MB."),
    _limit("--max-age", duration, "Replace, in order, a process that is older, such as 6h."),
    _limit("--max-handler-age", duration, "Kill and replace a process whose handler runs longer."),
    _limit("--hang-after", duration, "Kill and replace a process that does not get on for so long; 60s else."),
    click.option("--static-membership", is_flag=True, help="Give each process a name in its groups that outlives it."),
    click.option(
        "--alive-file", metavar="PATH", help="Touch this file while all gets on: a probe can look at its age."
    ),
)


def consuming_options(command: Callable[..., None]) -> Callable[..., None]:
    """How much is said, how many work, how many processes."""
    for option in reversed(CONSUMING):
        command = option(command)
    return command


@click.command()
@app_option
@click.option(
    "--embedded",
    is_flag=True,
    help="Start librdkafka's own cluster for it: at once, and forgotten at exit. It performs its jobs itself.",
)
@click.option("--jobs", is_flag=True, help="Perform the app's background jobs here too, those that Kafka queues.")
@click.option("--reload", is_flag=True, help="For development: start anew when a .py or .env file here changes.")
@consuming_options
@choice_options
def server(target: str | None, *, embedded: bool, jobs: bool, **options: Any) -> None:
    """Consume: route what arrives to the controllers, until INT, TERM or QUIT.

    \b
    Examples:
      karafka server                       in a folder with app.py
      karafka server -A shop.main:app      another module
      karafka server --embedded            no broker at hand
      karafka server --embedded --reload   the same, and anew at each change of the code
      karafka server --processes 4         for work that keeps a processor busy
      karafka server --jobs                a small app's background jobs beside it
      karafka server --group 'search-*'    some of its consumer groups, the others elsewhere
      karafka server --exclude-topic logs  all topics but one

    Exit status: 0 after a stop in order; 1 for what was configured wrong, or an on_start hook that failed; 2 when work
    outlasted shutdown_timeout; 3 when a listener died or the client is of no more use; else what user code asked for
    by SystemExit.
    """
    choice = Choice.taken(options)

    def read(app: App) -> tuple[Subscription, ...]:
        from karafka.background import has_jobs, subscriptions  # noqa: PLC0415 - help needs none of it

        # Whose jobs are done here, all routes may say: also those that others consume.
        theirs = subscriptions(app) if jobs or (embedded and has_jobs(app)) else ()
        choice.apply(app)
        return (*app.subscriptions(), *theirs)

    consume(target, read, embedded=embedded, **options)


# What a process is to read, of an app.
Reading: TypeAlias = Callable[["App"], "tuple[Subscription, ...]"]


def consume(
    target: str | None,
    read: Reading,
    *,
    embedded: bool = False,
    reload: bool = False,
    log_level: str,
    log_format: str,
    concurrency: int | None,
    processes: int | None,
    alive_file: str | None,
    **several: Any,
) -> NoReturn:
    """Consume what `read` says of the app that `target` names, until told to stop; then end the process."""
    # Imported here: `--help` needs none of it.
    from karafka.cli.load import load_app  # noqa: PLC0415
    from karafka.instrumentation import LogListener, configure_logging  # noqa: PLC0415
    from karafka.server import Server, end  # noqa: PLC0415

    take_signals()
    link, folder = _link(), _folder()
    configure_logging(log_level, "json" if log_format == "json" else "text", link.number if link is not None else None)
    if embedded or reload:
        if (processes or 1) > 1:
            raise ConfigError(ALONE["--embedded" if embedded else "--reload"])
        _refuse_alone(several)
        processes = 1
    tether = _tether() if reload else None
    if reload and tether is None:
        sys.exit(_reload(folder, embedded=embedded))
    with ExitStack() as stack:
        broker = stack.enter_context(_broker(tether)) if embedded else None
        app = load_app(target)
        if concurrency is not None:
            app.reconfigure(concurrency=concurrency)
        if broker is not None:
            _point(app, broker)
        reading = read(app)
        LogListener(app.events)
        if link is not None:
            _be_one_of_several(app, reading, link, static=several["static_membership"])
        processes = processes or app.config.processes
        if processes > 1:
            supervisor = _supervisor(app, reading, processes, folder, **several)
            _be_heard(app, alive_file, lambda: supervisor.behind)
            sys.exit(supervisor.run())
        _refuse_alone(several)
        consuming = Server(app, reading)
        _be_heard(app, alive_file, lambda: consuming.ages[0])
        if tether is not None:
            tether.attach(consuming)
        status = consuming.run()
    end(consuming, status)


def _be_heard(app: App, file: str | None, behind: Callable[[], float]) -> None:
    """Tell who watches from outside that all gets on, from the moment it is ready until it has stopped."""
    from karafka.events import ServerStarted, ServerStopped, SwarmStarted, SwarmStopped  # noqa: PLC0415
    from karafka.heartbeat import Heartbeat  # noqa: PLC0415

    heartbeat = Heartbeat(file, behind)
    if heartbeat.wanted:
        for ready in (ServerStarted, SwarmStarted):
            app.events.on(ready, lambda _: heartbeat.start())
        for over in (ServerStopped, SwarmStopped):
            app.events.on(over, lambda _: heartbeat.stop())


def _link() -> Link | None:
    """To the supervisor, if this process is one of several."""
    # As `link.VARIABLE` says, which is not imported where there is none; not for processes that user code starts.
    place = os.environ.pop("KARAFKA_PROCESS", None)
    if place is None:
        return None
    from karafka.processes.link import Link  # noqa: PLC0415

    link = Link(place)
    link.start()
    return link


def _be_one_of_several(app: App, reading: tuple[Subscription, ...], link: Link, *, static: bool) -> NoReturn:
    """Run as one of several processes, to the end."""
    from karafka.server import Server, end  # noqa: PLC0415

    if static:
        app.override({"group.instance.id": link.instance(app.config.client_id)})
    consuming = Server(app, reading)
    link.attach(consuming)
    status = consuming.run()
    link.say()
    end(consuming, status)


def _tether() -> Tether | None:
    """To the process that starts this one again when files change, if this process is not that one itself."""
    # As `tether.VARIABLE` says; not for processes that user code starts.
    place = os.environ.pop("KARAFKA_RELOADED", None)
    if place is None:
        return None
    from karafka.processes.tether import Tether  # noqa: PLC0415

    tether = Tether(place)
    tether.start()
    return tether


def _reload(folder: str, *, embedded: bool) -> int:
    """Be the process that starts the server again when files change, to the end; the exit status."""
    try:
        from karafka.processes.reloader import Reloader  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "watchfiles":
            raise
        raise ConfigError(
            "--reload needs the extra `reload`, which is not installed: pip install 'karafka[reload]'"
        ) from None

    with ExitStack() as stack:
        # Here, so that it outlives the servers.
        broker = stack.enter_context(_broker()).bootstrap if embedded else ""
        return Reloader(_command(), folder, broker).run()


@contextmanager
def _broker(tether: Tether | None = None) -> Iterator[Embedded]:
    """The embedded broker: this process's own, or that of the one which starts this process again and again."""
    from karafka.devbroker.embedded import NOTICE, Embedded  # noqa: PLC0415

    with Embedded(tether.broker if tether is not None else "") as broker:
        if tether is None:
            click.echo(f"{NOTICE} Address: {broker.bootstrap}", err=True)
        yield broker


def _command() -> list[str]:
    """Exactly as this process was started, so that what starts again finds what is new."""
    return [sys.executable, *sys.orig_argv[1:]]


def _supervisor(
    app: App,
    reading: tuple[Subscription, ...],
    size: int,
    folder: str,
    *,
    static_membership: bool,
    max_memory: float | None,
    max_age: float | None,
    max_handler_age: float | None,
    hang_after: float | None,
) -> Supervisor:
    from karafka.processes.members import Limits  # noqa: PLC0415
    from karafka.processes.supervisor import Supervisor  # noqa: PLC0415

    said = {"memory": max_memory, "age": max_age, "handler": max_handler_age, "hang": hang_after}
    limits = Limits(**{name: limit for name, limit in said.items() if limit is not None})
    return Supervisor(app, reading, size, _command(), folder, limits, static=static_membership)


def _refuse_alone(several: Mapping[str, Any]) -> None:
    """Refuse what only a supervisor can do where there is none."""
    for name, value in several.items():
        if value:
            raise ConfigError(f"--{name.replace('_', '-')} is for several processes: add --processes 2, or more")


def _folder() -> str:
    """The current folder as the shell names it: a link to a release may soon lead to another."""
    named, found = os.environ.get("PWD", ""), os.getcwd()
    try:
        return named if named and os.path.samefile(named, found) else found
    except OSError:
        return found


def take_signals() -> None:
    """Until the server takes them: process 1 of a container has no defaults, and what nobody handles is lost."""

    def end(_number: int, _frame: object) -> None:
        sys.exit(0)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, end)


def _point(app: App, broker: Embedded) -> None:
    """Have `app` use `broker`, with the settings that suit it where they do not contradict the app's own, and its
    topics there.
    """
    from karafka.background import topics  # noqa: PLC0415

    there: Settings = {
        "bootstrap.servers": broker.bootstrap,
        "security.protocol": "plaintext",
    }
    try:
        app.override({**there, **broker.consumer_settings})
    except ConfigError:
        app.override(there)
    named = [line.name for _, line in app.routes if isinstance(line.name, str)]
    queued = [name for _, name, _ in topics(app)]
    broker.create(map(app.in_kafka, dict.fromkeys([*named, *queued])))
