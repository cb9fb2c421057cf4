"""What unit tests may ask for: a house of their own."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from importlib import invalidate_caches
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import pytest

from tests.unit.house import House
from tests.unit.notary import Register, on_paper
from tests.unit.post import Passing

Build: TypeAlias = Callable[..., House]
Write: TypeAlias = Callable[[Mapping[str, str]], None]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Makes a `House` with options of the test's own, its topic's first two partitions assigned to it."""

    def made(*, partitions: tuple[int, ...] = (0, 1), **options: Any) -> House:
        house = House(monkeypatch, **options)
        for topic in house.topics:
            house.assign(topic, *partitions)
        return house

    return made


@pytest.fixture
def house(build: Build) -> House:
    """Reads `orders`, partitions 0 and 1, with the policy that a route has by default."""
    return build()


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> tuple[Passing, Register]:
    """Time that is moved by hand, and what the brokers know of a `transactional.id`."""
    return on_paper(monkeypatch)


@pytest.fixture
def passing(paper: tuple[Passing, Register]) -> Passing:
    return paper[0]


@pytest.fixture
def register(paper: tuple[Passing, Register]) -> Register:
    return paper[1]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules, each by its name; folders become packages. They are forgotten at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module that is written again within a second

    def written(modules: Mapping[str, str]) -> None:
        roots = {name.partition(".")[0] for name in modules}
        for name, module in list(sys.modules.items()):
            # Others of that name, such as an example's `controllers`, are aside for the test.
            if name.partition(".")[0] in roots and not _within(module, tmp_path):
                monkeypatch.delitem(sys.modules, name)
        for name, text in modules.items():
            path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in path.relative_to(tmp_path).parents:
                if folder != Path():
                    (tmp_path / folder / "__init__.py").touch()
            path.write_text(textwrap.dedent(text))
        invalidate_caches()

    yield written
    for name, module in list(sys.modules.items()):
        if _within(module, tmp_path):
            del sys.modules[name]


def _within(module: ModuleType, folder: Path) -> bool:
    return (getattr(module, "__file__", None) or "").startswith(str(folder))
