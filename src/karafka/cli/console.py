"""`karafka console`: Python with the app at hand."""

from __future__ import annotations

import linecache
import platform
import sys
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from karafka.cli.options import app_option

if TYPE_CHECKING:
    from karafka.app import App

BANNER = """\
karafka {karafka}, Python {python}: {client_id} on {servers}
  app, producer               the app, its producer; and all that {file} names
  routes()                    which topics go to which controllers
  send(topic, payload, key=)  a message, confirmed
  peek(topic, 10)             its newest messages; partition=0, offset=7 for those from there on
  reload()                    the app's code as it is now
Ctrl-D ends it."""


@click.command()
@app_option
@click.option("--start", is_flag=True, help="Call the app's on_start hooks first, and on_stop at the end.")
@click.option("--plain", is_flag=True, help="Python's own shell, also where IPython is installed.")
def console(target: str | None, *, start: bool, plain: bool) -> None:
    """Python with the app at hand: send, look at topics, try things. IPython where it is installed.

    What comes by a pipe is run as a program. Nothing is consumed: no group is joined, nothing is committed.

    \b
    Examples:
      karafka console                           in a folder with app.py
      karafka console --start                   with app.state filled by the on_start hooks
      echo 'print(peek("videos_created", 3))' | karafka console

    Exit status: that of the shell: 0, or what exit(…) says; 1 when what came by a pipe raised.
    """
    from karafka.cli.workbench import Workbench  # noqa: PLC0415 - needs the client

    bench = Workbench(target, start=start)
    try:
        bench.begin()
        if not sys.stdin.isatty():
            run(sys.stdin.read(), bench.namespace)
        elif not plain and find_spec("IPython") is not None:
            ipython(bench.namespace, banner(bench.app, bench.file))
        else:
            python(bench.namespace, banner(bench.app, bench.file))
    finally:
        bench.end()


def banner(app: App, file: str) -> str:
    """What is at hand."""
    return BANNER.format(
        karafka=version("karafka"),
        python=platform.python_version(),
        client_id=app.config.client_id,
        servers=app.kafka_for({})["bootstrap.servers"],
        file=Path(file).name,
    )


def run(source: str, namespace: dict[str, Any]) -> None:
    """Run a program that came by a pipe. What it raises shows its own lines, with status 1."""
    from karafka.cli.load import BrokenAppError, traceback_of_users  # noqa: PLC0415
    from karafka.errors import Error  # noqa: PLC0415

    linecache.cache["<stdin>"] = (len(source), None, source.splitlines(keepends=True), "<stdin>")
    try:
        exec(compile(source, "<stdin>", "exec"), namespace)  # noqa: S102 - it is the user's
    except Error:
        raise
    except Exception as error:  # noqa: BLE001 - the user's program may raise anything
        raise BrokenAppError(traceback_of_users(error)) from None


def python(namespace: dict[str, Any], text: str) -> None:
    """Python's own shell, completing by TAB."""
    from code import InteractiveConsole  # noqa: PLC0415

    class Shell(InteractiveConsole):
        def showtraceback(self) -> None:
            error = sys.exception()
            assert error is not None  # noqa: S101 - it is called in a handler
            # As the shell's own does, for `pdb.pm()`; the first line is its own.
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
            self.write(told(error))

    with suppress(ImportError):  # some Pythons have none: then there is no completion
        import readline  # noqa: PLC0415
        from rlcompleter import Completer  # noqa: PLC0415

        readline.set_completer(Completer(namespace).complete)
        editline = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if editline else "tab: complete")
    Shell(namespace).interact(text, exitmsg="")


def ipython(namespace: dict[str, Any], text: str) -> None:
    from IPython.terminal.ipapp import TerminalIPythonApp  # noqa: PLC0415
    from traitlets.config import Config  # noqa: PLC0415

    from karafka.errors import Error  # noqa: PLC0415

    def show(_shell: Any, _kind: Any, error: BaseException, _trace: Any, tb_offset: Any = None) -> None:  # noqa: ARG001
        click.echo(told(error), nl=False)

    config = Config()
    config.TerminalInteractiveShell.banner1 = f"{text}\n"
    shell: Any = TerminalIPythonApp.instance(user_ns=namespace, config=config)
    shell.initialize(argv=[])
    shell.shell.set_custom_exc((Error,), show)
    shell.start()


def told(error: BaseException) -> str:
    """What a person at the shell reads of an error: of ours the sentence, of others the lines that are not ours."""
    from karafka.cli.load import traceback_of_users  # noqa: PLC0415
    from karafka.errors import Error  # noqa: PLC0415

    return f"karafka: {error}\n" if isinstance(error, Error) else traceback_of_users(error)
