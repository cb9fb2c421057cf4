"""What a linter says to the Python files that a commit touched: the slow one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from karafka import Abort, ConfigError, before_enqueue

from controllers.application import ApplicationController
from history import python_files, sources
from models import Commit, Finding, Metric, Offense

RULES = "E,F,W,B,C4,SIM,PIE,RET"
# Not the repository's own settings: histories are to be compared, and older commits have none.
OPTIONS = ("--isolated", "--no-cache", "--quiet", "--exit-zero", "--line-length=120", "--output-format=json")


def lint(commit: Commit, files: Mapping[str, bytes], linter: str) -> Iterator[Finding]:
    """An offense for each thing that ruff says, and their number as a metric."""
    said = list(_said(files, linter)) if files else []
    for path, one in said:
        kind, place = f"lint.{one['code'] or 'syntax'}", one["location"]
        yield Offense.of(commit, kind, one["message"], path=path, line=place["row"], column=place["column"])
    yield Metric.of(commit, "lint.offenses", len(said))


def find_linter() -> str:
    """Where ruff is: beside this Python, or on the path. Raises `ConfigError`."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("ruff", path=places)
    if found is None:
        raise ConfigError("ruff is not installed, and one of the perspectives is a linter: pip install ruff")
    return found


def _said(files: Mapping[str, bytes], linter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with TemporaryDirectory(prefix="insights-") as temporary:
        # A folder each: whatever a path looks like, its file's name is what some rules ask for.
        paths: dict[str, str] = {}
        for number, (path, source) in enumerate(files.items()):
            copy = Path(temporary).resolve() / str(number) / PurePosixPath(path).name
            copy.parent.mkdir()
            copy.write_bytes(source)
            paths[str(copy)] = path
        command = [linter, "check", *OPTIONS, "--select", RULES, *paths]
        done = subprocess.run(command, capture_output=True, check=False, process_group=0)
        if done.returncode:
            raise RuntimeError(f"ruff failed: {done.stderr.decode(errors='replace').strip()}")
        for one in msgspec.json.decode(done.stdout):
            yield paths[one["filename"]], one


class LintController(ApplicationController):
    linter: str

    @classmethod
    def setup(cls, app: Any) -> None:
        cls.linter = find_linter()

    @before_enqueue
    def only_python(self) -> None:
        if not python_files(self.params):
            raise Abort("no Python file")

    def perform(self) -> None:
        self.respond_with(lint(self.params, sources(self.params), self.linter))
