"""`karafka install`: what it writes runs, passes its own tests, and is as clean as the rest; nothing is overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.servers import run
from tests.readmes import blocks, embedded, printed

ROOT = Path(__file__).parents[2]


def checked(folder: Path, *command: str) -> None:
    """Run a tool of Python's in `folder`; what it finds is the test's failure."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # The package as this run has it, for mypy too.
    environment["MYPYPATH"] = str(ROOT / "src")
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{' '.join(command)}:\n{ran.stdout}{ran.stderr}"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A bigger app, as generated."""
    status, _, told = run(tmp_path, "install", "shop")
    assert (status, told) == (0, "")
    return tmp_path / "shop"


def test_a_bigger_app_passes_its_own_tests(shop: Path) -> None:
    checked(shop, "pytest", "-W", "error")


def test_a_bigger_app_is_clean(shop: Path) -> None:
    """By the settings that it brings, and by this project's own."""
    checked(shop, "ruff", "format", "--check", ".")
    checked(shop, "ruff", "check", ".")
    checked(shop, "ruff", "check", "--config", str(ROOT / "pyproject.toml"), "--ignore", "S101", ".")
    checked(shop, "mypy", ".")
    assert 'name = "shop"' in (shop / "pyproject.toml").read_text()


def test_a_bigger_app_does_what_its_readme_shows(shop: Path) -> None:
    """Its server performs what is sent, and answers."""
    readme = shop / "README.md"
    first, second, _ = blocks(readme, "sh")
    (expected,) = blocks(readme, "text")
    with embedded(shop, first.splitlines()[-1]) as (server, address):
        printed(shop, second.replace("127.0.0.1:PORT", address))
        for line in expected.splitlines():
            server.says(line)

    assert sorted(server.heard.said) == expected.splitlines()


def test_what_its_readme_names_is_there(shop: Path) -> None:
    """And all that is there is Python, or named for what reads it."""
    rows = [line for line in (shop / "README.md").read_text().splitlines() if line.startswith("| `")]
    named = [row.split("`")[1] for row in rows]

    assert len(named) == 9
    assert [name for name in named if not (shop / name).exists()] == []
    assert "example_app" not in "".join(file.read_text() for file in shop.rglob("*") if file.is_file())


def test_a_small_app_is_the_example(tmp_path: Path) -> None:
    """In one file, under another name; and that one alone is written."""
    status, said, told = run(tmp_path, "install", "--single", "shop")

    assert (status, told) == (0, "")
    assert [file.name for file in (tmp_path / "shop").iterdir()] == ["app.py"]
    example = (ROOT / "examples" / "single_file" / "app.py").read_text()
    assert (tmp_path / "shop" / "app.py").read_text() == example.replace('from_env("videos"', 'from_env("shop"')
    assert "karafka server --embedded" in said
    assert run(tmp_path / "shop", "routes")[0] == 0


def test_it_says_what_it_made_and_what_to_do_next(tmp_path: Path) -> None:
    (tmp_path / "my shop").mkdir()

    _, said, _ = run(tmp_path, "install", "my shop")

    files = sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "my shop").rglob("*") if file.is_file())
    made, _, after = said.partition("\n\n")
    assert sorted(line.removeprefix("made        ") for line in made.splitlines()) == files
    assert after.splitlines()[:2] == ["my-shop is there. What to do next:", "  cd 'my shop'"]
    assert "  cd " not in run(tmp_path, "install")[1]


def test_nothing_is_overwritten(shop: Path) -> None:
    """What is there is left alone, and named; what is missing is made."""
    mine = {"app.py": "# mine\n", "controllers/videos.py": "# mine too\n"}
    for name, text in mine.items():
        (shop / name).write_text(text)
    (shop / "README.md").unlink()

    status, said, _ = run(shop, "install")

    assert status == 0
    assert {name: (shop / name).read_text() for name in mine} == mine
    assert [line for line in said.splitlines() if line.startswith("made")] == ["made        README.md"]
    assert all(f"left alone  {name}" in said.splitlines() for name in mine)
    assert "shop is there already. What to do next:" in run(shop, "install")[1]


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "controllers").write_text("a file")

    status, _, told = run(tmp_path, "install")

    assert status == 1
    assert told == "karafka: controllers/__init__.py cannot be written (controllers: File exists)"
    status, _, told = run(tmp_path, "install", "controllers")
    assert status == 2
    assert "Directory 'controllers' is a file." in told
