"""Finds the user's app: `-A module:attribute`, else `KARAFKA_APP`, else `app` in the folder's app.py."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import click

from karafka.app import App
from karafka.errors import ConfigError

WAYS = "name it with -A module:attribute or KARAFKA_APP, or start in the folder of app.py"


def load_app(target: str | None) -> App:
    """The app that `target` names. The current folder is importable. Raises `ConfigError` for what is not there.

    What a declaration in the module got wrong is told with its line. An exception of the user's own ends the process
    with status 1, and shows the user's lines, not ours.
    """
    target = target or os.environ.get("KARAFKA_APP")
    if target is None:
        if not Path("app.py").is_file():
            raise ConfigError(f"there is no app.py in {Path.cwd()}: {WAYS}")
        target = "app:app"
    name, _, attribute = target.partition(":")
    if not all(part.isidentifier() for part in [*name.split("."), *([attribute] if attribute else [])]):
        raise ConfigError(f"{target!r} names no app: module:attribute is expected, such as shop.main:app")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        # The module itself, or a package on the way to it; what is missing inside it is the user's own error.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            _end_with(error)
        raise ConfigError(f"the module {name!r} of the app {target!r} is not found in {Path.cwd()}: {WAYS}") from None
    except ConfigError as error:
        raise ConfigError(f"{_line(error)}{error}") from None
    except Exception as error:  # noqa: BLE001 - the user's module may raise anything
        _end_with(error)
    app = getattr(module, attribute or "app", None)
    if not isinstance(app, App):
        found = "nothing" if app is None else type(app).__name__
        raise ConfigError(f"{target!r}: {attribute or 'app'} in {module.__file__} is {found}, but an App is expected")
    return app


def _end_with(error: Exception) -> NoReturn:
    """Show an exception of the user's own, by the user's lines alone, and end with status 1."""
    click.echo("".join(traceback.format_exception(error.with_traceback(_users(error)))), err=True, nl=False)
    sys.exit(1)


def _users(error: Exception) -> TracebackType | None:
    """The part of the traceback that begins in the user's module: before it are ours and the import system's."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace):
        trace = trace.tb_next
    return trace


def _line(error: Exception) -> str:
    """`app.py:12: `, the user's line nearest to the error; nothing if there is none."""
    nearest = ""
    trace = error.__traceback__
    while trace is not None:
        if not _is_ours(trace):
            nearest = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return nearest


def _is_ours(trace: TracebackType) -> bool:
    file = trace.tb_frame.f_code.co_filename
    return file.startswith("<") or Path(file).is_relative_to(Path(__file__).parents[1]) or "importlib" in file
