"""Classes that belong together by their names: `VideosCreatedController` and `VideosCreatedResponder`.

Looked for where the controller is, then in the folder beside its own: `shop.controllers.videos` has its responders in
`shop.responders.videos`, or in `shop.responders`. Nowhere else: a class of that name in another name space belongs to
another controller.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from karafka.errors import ConfigError, words

T = TypeVar("T")

CONTROLLER = "Controller"
#: Where a class comes from that a route names itself.
NAMED = "named by the route"


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A class that goes with a controller, and where it comes from, in words."""

    cls: type[T]
    source: str


def belonging(controller: type, kind: str, base: type[T], otherwise: str) -> Found[T] | None:
    """The `kind` ("Responder") of `controller` by its name, a subclass of `base`; None if there is none.

    Raises `ConfigError` for something else of that name, which says what to do `otherwise`, and for a module beside the
    controller's that cannot be imported.
    """
    outside, _, name = controller.__qualname__.rpartition(".")
    if not name.endswith(CONTROLLER) or "<locals>" in outside:
        return None
    wanted = f"{outside}.".lstrip(".") + name.removesuffix(CONTROLLER) + kind
    for module in _modules(controller.__module__, f"{kind.lower()}s"):
        found = _within(module, wanted)
        if found is None:
            continue
        if not isinstance(found, type) or not issubclass(found, base):
            raise ConfigError(
                f"{module.__name__}.{wanted} is named as the {kind.lower()} of {controller.__qualname__}, but is no "
                f"{base.__qualname__}: make it one, or {otherwise}"
            )
        return Found(found, f"by its name, in {module.__name__}")
    return None


def around(controller: type, folder: str) -> Iterator[ModuleType]:
    """Where a name space of controllers has what they share, the nearest first: the module of `controller`, then the
    packages in `folder` that hold those of its name space, each with its module `application`.
    """
    home = controller.__module__
    if home in sys.modules:
        yield sys.modules[home]
    parts = home.split(".")
    if "controllers" not in parts:
        return
    at = len(parts) - 1 - parts[::-1].index("controllers")
    inside = parts[at + 1 : -1]
    for depth in range(len(inside), -1, -1):
        package = ".".join((*parts[:at], folder, *inside[:depth]))
        for name in (f"{package}.application", package):
            if (module := _imported(name, home)) is not None:
                yield module


def _within(module: ModuleType, path: str) -> object:
    """What `path` names in `module`: a class, maybe inside of others; None if it is not there."""
    found: object = module
    for name in path.split("."):
        found = vars(found).get(name) if isinstance(found, type | ModuleType) else None
    return found


def _modules(home: str, folder: str) -> Iterator[ModuleType]:
    """The module named `home`, then those beside it."""
    if home in sys.modules:
        yield sys.modules[home]
    for name in _beside(home, folder):
        if (module := _imported(name, home)) is not None:
            yield module


def _beside(home: str, folder: str) -> Iterator[str]:
    """Where else things of `home` may be: the same module in `folder` instead of `controllers`, and what holds it."""
    parts = home.split(".")
    places = [at for at, part in enumerate(parts) if part == "controllers"]
    if not places:
        return
    at = places[-1]
    # videos_controller.py goes with videos_responder.py.
    rest = [part.replace("_controller", f"_{folder.removesuffix('s')}") for part in parts[at + 1 :]]
    yield ".".join((*parts[:at], folder, *rest))
    if rest:
        yield ".".join((*parts[:at], folder, *rest[:-1]))


def _imported(name: str, home: str) -> ModuleType | None:
    """The module of that name, if there is one in the name space of `home`."""
    parent = name.rpartition(".")[0]
    if parent and parent not in sys.modules and _imported(parent, home) is None:
        return None
    if name not in sys.modules:
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        if not parent and not _neighbours(spec.origin, home):
            return None
        try:
            return import_module(name)
        except Exception as error:
            raise ConfigError(
                f"{name}, beside {home}, cannot be imported: {type(error).__name__}: {words(error)}"
            ) from error
    module = sys.modules[name]
    return module if parent or _neighbours(getattr(module, "__file__", None), home) else None


def _neighbours(origin: str | None, home: str) -> bool:
    """Whether a module at `origin` stands in the same folder as the outermost one of `home`: at the top of all names
    stands what others have installed, too.
    """
    first = sys.modules.get(home.partition(".")[0])
    mine = getattr(first, "__file__", None)
    return origin is not None and mine is not None and _folder(origin) == _folder(mine)


def _folder(origin: str) -> Path:
    path = Path(origin).resolve()
    return path.parent.parent if path.name == "__init__.py" else path.parent
