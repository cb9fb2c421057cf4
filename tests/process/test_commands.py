"""What holds of every command: help with examples, quickly; one letter; completion; the user's own lines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from karafka.cli.main import ALIASES, COMMANDS
from tests.process.servers import run
from tests.process.terminals import on_terminal

NEED_THE_APP = ("console", "flow", "info", "routes", "server", "topics")
SCRIPTS = Path(sys.executable).parent

# Fails in a module of the user's that the app's module imports, and again while it handles that.
BROKEN = {
    "app.py": "from shop import settings\n",
    "shop/__init__.py": "",
    "shop/settings.py": """\
from karafka import App, Controller

def read():
    return int("many")

try:
    read()
except ValueError as error:
    app = App("shop", kafka={"bootstrap.servers": "127.0.0.1:9"})
    app.routes.draw(*read)
""",
}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(tmp_path: Path, name: str) -> None:
    """By `--help`, `-h` and `karafka help`: what it does, examples that name it, its exit statuses."""
    status, said, told = run(tmp_path, name, "--help")

    assert (status, told) == (0, "")
    assert "Examples:" in said
    assert f"karafka {name}" in said
    assert "Exit status:" in said
    assert said == run(tmp_path, name, "-h")[1] == run(tmp_path, "help", name)[1]


def test_help_lists_all_commands_and_their_letters(tmp_path: Path) -> None:
    status, said, told = run(tmp_path, "help")

    assert (status, told) == (0, "")
    listed = said.split("Commands:")[1]
    assert all(f"\n  {name}" in listed for name in COMMANDS)
    assert all(f"\n  {name}, {letter} " in listed for letter, name in ALIASES.items())
    assert said == run(tmp_path, "--help")[1]


def test_help_of_what_is_no_command(tmp_path: Path) -> None:
    status, said, told = run(tmp_path, "help", "sever")

    assert (status, said) == (2, "")
    assert "No such command 'sever'. Did you mean 'server'?" in told
    assert "Did you mean" not in run(tmp_path, "xyzzy")[2]


@pytest.mark.parametrize("letter", sorted(ALIASES))
def test_one_letter_is_enough(tmp_path: Path, letter: str) -> None:
    name = ALIASES[letter]

    assert run(tmp_path, letter, "--help")[1].split("\n", 1)[1] == run(tmp_path, name, "--help")[1].split("\n", 1)[1]


def seconds(arguments: Sequence[str], **environment: str) -> float:
    """Processor time of `karafka ARGUMENTS`, the best of three: the machine may be busy with others."""

    def took() -> float:
        before = os.times()
        command = [str(SCRIPTS / "karafka"), *arguments]
        subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    return min(took() for _ in range(3))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_command_keeps_who_asks_for_help_waiting(name: str) -> None:
    best = seconds([name, "--help"])

    print(f"karafka {name} --help: {best:.2f} s")
    assert best < 0.3


@pytest.mark.parametrize("words", ["karafka ", "karafka server --"])
def test_completion_keeps_nobody_waiting(words: str) -> None:
    best = seconds([], _KARAFKA_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))

    print(f"TAB after {words!r}: {best:.2f} s")
    assert best < 0.3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["karafka", ""], sorted(COMMANDS)),
        (["karafka", "s"], ["server", "status"]),
        (["karafka", "routes", "--exc"], ["--exclude-group", "--exclude-topic"]),
        (["karafka", "r", "--js"], ["--json"]),
        (["karafka", "server", "--log-format", ""], ["json", "text"]),
    ],
)
def test_the_shell_completes(words: list[str], expected: list[str]) -> None:
    """As its help says, in a bash of its own: commands, options, their values."""
    bash = shutil.which("bash")
    assert bash is not None
    script = (
        'eval "$(_KARAFKA_COMPLETE=bash_source karafka)"\n'
        f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}\n"
        '_karafka_completion karafka; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}

    said = subprocess.run([bash, "-c", script], env=environment, capture_output=True, text=True, check=True).stdout

    assert sorted(said.split()) == expected


@pytest.mark.parametrize("name", NEED_THE_APP)
def test_a_broken_app_shows_the_lines_of_its_author_alone(tmp_path: Path, name: str) -> None:
    """In each module that the way leads through, also of what the failure came from; none of ours."""
    (tmp_path / "shop").mkdir()
    for file, text in BROKEN.items():
        (tmp_path / file).write_text(text)

    status, said, told = run(tmp_path, name)

    assert (status, said) == (1, "")
    ordered = ['return int("many")', "ValueError", "app.py", "app.routes.draw(*read)", "TypeError"]
    places = [told.index(words) for words in ordered]
    assert places == sorted(places), told
    files = [line for line in told.splitlines() if line.strip().startswith("File ")]
    assert files
    assert all(str(tmp_path) in line for line in files), told


@pytest.mark.parametrize("name", NEED_THE_APP)
def test_where_there_is_no_app_that_is_one_sentence(tmp_path: Path, name: str) -> None:
    status, said, told = run(tmp_path, name, "-A", "nowhere:app")

    assert (status, said) == (1, "")
    assert told.startswith("karafka: the module 'nowhere' of the app 'nowhere:app' is not found in ")
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [("routes",), ("flow",), ("info", "--timeout", "0.1"), ("routes", "-A", "nowhere")]
)
def test_no_color_is_no_colour(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """On a terminal, which has some otherwise: text and nothing else."""
    (tmp_path / "app.py").write_text(
        "from karafka import *\n"
        'app = App("shop", kafka={"bootstrap.servers": "127.0.0.1:9"})\n'
        'app.routes.draw(topic("videos", type("V", (Controller,), {"perform": print})))\n'
    )

    with on_terminal(tmp_path, *arguments) as coloured:
        status = coloured.ended()
    with on_terminal(tmp_path, *arguments, environment={"NO_COLOR": "1"}) as plain:
        assert plain.ended() == status

    assert "\x1b[" in coloured.raw
    assert "\x1b" not in plain.raw
    assert plain.text.strip()
