"""Finds the user's app: `-A module:attribute`, else `KARAFKA_APP`, else `app` in the folder's app.py."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import click

from karafka.app import App
from karafka.errors import ConfigError

WAYS = "name it with -A module:attribute or KARAFKA_APP, or start in the folder of app.py"
# What a person has typed or piped has these for its files. Others of that form are made, by dataclasses say.
TYPED = frozenset({"<stdin>", "<console>"})
_OURS = Path(__file__).parents[1]


class BrokenAppError(click.ClickException):
    """The user's module raised: shown is the traceback, by the user's own lines. Ends a command with status 1."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True, nl=False, file=file)


@dataclass(frozen=True, slots=True)
class Found:
    """An app, and where it was found."""

    app: App
    target: str
    module: ModuleType

    @property
    def file(self) -> str:
        return self.module.__file__ or ""


def load_app(target: str | None) -> App:
    """The app that `target` names; see `find`."""
    return find(target).app


def find(target: str | None) -> Found:
    """The app that `target` names. The current folder is importable. Raises `ConfigError` for what is not there.

    What a declaration in the module got wrong is told with its line. An exception of the user's own is a
    `BrokenAppError`.
    """
    target = target or os.environ.get("KARAFKA_APP")
    if target is None:
        if not Path("app.py").is_file():
            raise ConfigError(f"there is no app.py in {Path.cwd()}: {WAYS}")
        target = "app:app"
    name, _, attribute = target.partition(":")
    if not all(part.isidentifier() for part in [*name.split("."), *([attribute] if attribute else [])]):
        raise ConfigError(f"{target!r} names no app: module:attribute is expected, such as shop.main:app")
    here = str(Path.cwd())
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        # The module itself, or a package on the way to it; what is missing inside it is the user's own error.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise BrokenAppError(traceback_of_users(error)) from None
        raise ConfigError(f"the module {name!r} of the app {target!r} is not found in {Path.cwd()}: {WAYS}") from None
    except ConfigError as error:
        raise ConfigError(f"{_line(error)}{error}") from None
    except Exception as error:  # noqa: BLE001 - the user's module may raise anything
        raise BrokenAppError(traceback_of_users(error)) from None
    app = getattr(module, attribute or "app", None)
    if not isinstance(app, App):
        found = "nothing" if app is None else type(app).__name__
        raise ConfigError(f"{target!r}: {attribute or 'app'} in {module.__file__} is {found}, but an App is expected")
    return Found(app, target, module)


def traceback_of_users(error: BaseException) -> str:
    """The traceback of an exception, and of those that led to it, without lines of ours and of the import system."""
    told = traceback.TracebackException.from_exception(error)
    _strip(told)
    return "".join(told.format())


def _strip(told: traceback.TracebackException) -> None:
    kept = [one for one in told.stack if not _is_ours(one.filename)]
    told.stack = traceback.StackSummary.from_list(kept)
    for one in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if one is not None:
            _strip(one)


def _line(error: Exception) -> str:
    """`app.py:12: `, the user's line nearest to the error; nothing if there is none."""
    nearest = ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not _is_ours(file):
            nearest = f"{Path(file).name}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return nearest


def _is_ours(file: str) -> bool:
    if file.startswith("<"):
        return file not in TYPED
    return Path(file).is_relative_to(_OURS) or "importlib" in file
