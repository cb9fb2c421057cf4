"""The docs say what the code does: every setting with its default, every name that they mention."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import karafka
from karafka import App, Backoff, DeadLetter
from karafka.cli.main import ALIASES, COMMANDS
from karafka.config import OWNED
from karafka.routing import TopicOptions

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Names in architecture.md that are not ours.
FOREIGN = {"code", "SystemExit"}


def table(heading: str) -> dict[str, str]:
    """The first two columns of the table under `heading` in configuration.md."""
    text = (DOCS / "configuration.md").read_text()
    part = text.split(f"## {heading}")[1].split("\n## ")[0]
    rows = re.finditer(r"^\| `([^`]+)` \|([^|]*)\|", part, re.MULTILINE)
    return {row[1]: row[2].strip().strip("`") for row in rows}


def test_every_setting_of_the_app_is_documented_with_its_default() -> None:
    """`App(…)`'s signature and its table in the docs are the same."""
    documented = table("`App(client_id, kafka, …)`")
    parameters = inspect.signature(App).parameters

    assert documented.keys() == parameters.keys()
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty:
            assert documented[name] == ""
        elif name != "retry":
            assert documented[name].strip('"') == str(parameter.default)


def test_every_option_of_a_topic_is_documented() -> None:
    """`topic(…)`'s options and their table in the docs are the same."""
    assert table("`topic(name, controller, …)`").keys() == TopicOptions.__annotations__.keys()


@pytest.mark.parametrize("value", [Backoff, DeadLetter])
def test_every_field_of_a_policy_is_documented_with_its_default(value: type) -> None:
    """`Backoff` and `DeadLetter` have the fields and defaults that the docs tell."""
    documented = table(f"`{value.__name__}(…)`")
    fields = {one.name: one for one in dataclasses.fields(value)}

    assert documented.keys() == fields.keys()
    for name, one in fields.items():
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        assert documented[name] == ("" if default is dataclasses.MISSING else str(default))


def test_every_command_is_documented() -> None:
    """Each has its heading in cli.md, its letter there."""
    text = (DOCS / "cli.md").read_text()
    headings = "\n".join(line for line in text.splitlines() if line.startswith("## "))

    assert [name for name in COMMANDS if name != "help" and f"`karafka {name}`" not in headings] == []
    assert [letter for letter, name in ALIASES.items() if f"`{letter}` {name}" not in text.replace("\n", " ")] == []


def test_every_setting_that_is_refused_is_documented() -> None:
    """The settings that belong to the framework are listed with the way to what was meant."""
    text = (DOCS / "configuration.md").read_text()

    for name, instead in OWNED.items():
        assert f"| `{name}` | {instead} |" in text


def names() -> set[str]:
    """Every module, class, function, method and field of the package."""
    found: set[str] = set()
    for module in pkgutil.walk_packages(karafka.__path__, "karafka."):
        if module.name.endswith("__main__"):
            continue
        loaded = import_module(module.name)
        found |= {module.name.rpartition(".")[2], *vars(loaded)}
        for name, value in vars(loaded).items():
            if inspect.isclass(value) and value.__module__.startswith("karafka"):
                members = {*dir(value), *getattr(value, "__annotations__", {}), *getattr(value, "__slots__", ())}
                found |= members | {f"{name}.{member}" for member in members}
    return found


def mentioned(page: Path) -> Iterator[str]:
    for quoted in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if re.fullmatch(r"[A-Za-z_]+(\.[A-Za-z_]+)?", quoted):
            yield quoted


def test_what_the_architecture_names_exists() -> None:
    """Every module, class and method in architecture.md is in the package."""
    ours = names() | FOREIGN | set(inspect.signature(App).parameters)
    files = {path.name for path in (ROOT / "src").rglob("*.py")}

    missing = {name for name in mentioned(DOCS / "architecture.md") if name not in ours | files}

    assert not missing


def defined(path: Path) -> Iterator[str]:
    """The tests of a file as pytest names them, and its classes of tests."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
            yield from (f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef))
        elif isinstance(node, ast.FunctionDef):
            yield node.name


@pytest.mark.parametrize("page", ["promises.md", "what-happens-when.md"])
def test_every_test_that_a_promise_names_exists(page: str) -> None:
    """The tables of a page name tests that are there, one at least in each row."""
    text = (DOCS / page).read_text()
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and not re.fullmatch(r"\|[^`]*\| (test|is seen.*|shown by) \|", line)
    ]
    named = [re.findall(r"`([a-z0-9_/]+\.py)::([A-Za-z0-9_:]+)`", row) for row in rows]

    assert all(named), [row for row, tests in zip(rows, named, strict=True) if not tests]
    missing = {
        f"{file}::{test}"
        for tests in named
        for file, test in tests
        if not (ROOT / "tests" / file).exists() or test not in set(defined(ROOT / "tests" / file))
    }
    assert not missing


def test_every_scenario_has_its_row() -> None:
    """One to thirty-nine, none left out and none twice."""
    text = (DOCS / "promises.md").read_text().split("## Forty scenarios")[1].split("\n## ")[0]
    numbers = [int(number) for row in re.findall(r"^\| ([0-9, ]+) \|", text, re.MULTILINE) for number in row.split(",")]

    assert numbers == list(range(1, 40))


@pytest.mark.parametrize("page", sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")]), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Links between pages, and paths that they name, exist."""
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
