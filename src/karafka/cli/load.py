"""Finds the user's app: `-A module:attribute`, else `KARAFKA_APP`, else `app` in the folder's app.py."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

from karafka.app import App
from karafka.errors import ConfigError

WAYS = "name it with -A module:attribute or KARAFKA_APP, or start in the folder of app.py"


def load_app(target: str | None) -> App:
    """The app that `target` names. The current folder is importable. Raises `ConfigError` for what is not there.

    An error inside the user's module is the user's, and leaves as it is.
    """
    target = target or os.environ.get("KARAFKA_APP")
    if target is None:
        if not Path("app.py").is_file():
            raise ConfigError(f"there is no app.py in {Path.cwd()}: {WAYS}")
        target = "app:app"
    name, _, attribute = target.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        # The module itself, or a package on the way to it; what is missing inside it is the user's own error.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise ConfigError(f"the module {name!r} of the app {target!r} is not found in {Path.cwd()}: {WAYS}") from None
    app = getattr(module, attribute or "app", None)
    if not isinstance(app, App):
        found = "nothing" if app is None else type(app).__name__
        raise ConfigError(f"{target!r}: {attribute or 'app'} in {module.__file__} is {found}, but an App is expected")
    return app
