"""Reads git: a repository's commits, and the files as they were at one of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from models import Change, Commit

# A commit may touch a hundred thousand files; an event has to stay small.
CHANGES_KEPT = 200
MESSAGE_KEPT = 10_000
PYTHON_FILES_READ = 50
SOURCE_READ = 512 * 1024

AT_ONCE = 200
FIELDS = ("%H", "%P", "%aN", "%aI", "%B")
STAT = re.compile(rb"\n?(\d+|-)\t(\d+|-)\t(.*)", re.DOTALL)


class GitError(Exception):
    """What git refused, in its own words."""


class Repository:
    """A local git repository; its folder's name is the name it goes by. Any thread."""

    def __init__(self, path: Path) -> None:
        """Raises `GitError` if there is none at `path`."""
        bare = _git(path, "rev-parse", "--is-bare-repository").strip() == b"true"
        top = _git(path, "rev-parse", "--absolute-git-dir" if bare else "--show-toplevel")
        self.folder = Path(top.rstrip(b"\n").decode(errors="surrogateescape"))
        self.name = self.folder.name.removesuffix(".git") or "root"

    @property
    def is_empty(self) -> bool:
        """Whether nothing was committed yet."""
        return _run(self.folder, "rev-parse", "--verify", "--quiet", "HEAD").returncode != 0

    def size(self) -> int:
        """How many commits there are."""
        return 0 if self.is_empty else int(_git(self.folder, "rev-list", "--count", "HEAD"))

    def shas(self, limit: int) -> list[str]:
        """The newest `limit` commits, newest first."""
        if self.is_empty:
            return []
        return _git(self.folder, "rev-list", f"--max-count={limit}", "HEAD").decode().split()

    def commits(self, shas: Sequence[str]) -> Iterator[Commit]:
        """The commits named `shas`, in that order."""
        cut = self._boundary()
        for start in range(0, len(shas), AT_ONCE):
            asked = "".join(f"{sha}\n" for sha in shas[start : start + AT_ONCE])
            # Plumbing: nobody's settings change what it prints. With -z nothing in a commit can be a separator.
            told = _git(
                self.folder,
                *("diff-tree", "--stdin", "--always", "--root", "-z", "-r", "-M", "--numstat"),
                f"--format={'%x00'.join(FIELDS)}",
                stdin=asked.encode(),
            )
            yield from self._parsed(told, cut)

    def _boundary(self) -> frozenset[str]:
        """Where a shallow clone was cut off: git shows these as if they had added every file there is."""
        path = self.folder / _git(self.folder, "rev-parse", "--git-path", "shallow").decode().strip()
        return frozenset(path.read_text().split()) if path.exists() else frozenset()

    def _parsed(self, told: bytes, cut: frozenset[str]) -> Iterator[Commit]:
        tokens = told.split(b"\0")
        tokens.pop()  # after the last separator
        at = 0
        while at < len(tokens):
            sha, parents, author, moment, message = (_text(one) for one in tokens[at : at + len(FIELDS)])
            at += len(FIELDS)
            changes: list[Change] = []
            while at < len(tokens) and (stat := STAT.fullmatch(tokens[at])):
                added, deleted, path = stat.groups()
                at += 1
                if not path:  # renamed: the old path and the new one follow
                    path = tokens[at + 1]
                    at += 2
                changes.append(_change(added, deleted, path))
            if sha in cut:
                changes = []
            yield Commit(
                repository=self.name,
                folder=str(self.folder),
                sha=sha,
                parents=tuple(parents.split()),
                author=author,
                at=_moment(moment),
                message=message[:MESSAGE_KEPT],
                changes=tuple(changes[:CHANGES_KEPT]),
                left_out=max(0, len(changes) - CHANGES_KEPT),
            )


def python_files(commit: Commit) -> list[str]:
    """The paths of Python files that the commit touched."""
    return [change.path for change in commit.changes if change.path.endswith(".py")]


def sources(commit: Commit) -> dict[str, bytes]:
    """The Python files that the commit touched, as they were after it: path to content.

    What it deleted is not there, nor is what git does not know any more, nor files beyond what is sensible to read.
    """
    # One question a line: a path with a line break in it cannot be asked for.
    paths = [path for path in python_files(commit) if "\n" not in path][:PYTHON_FILES_READ]
    asked = "".join(f"{commit.sha}:{path}\n" for path in paths)
    told = _git(Path(commit.folder), "cat-file", "--batch", stdin=asked.encode())
    found: dict[str, bytes] = {}
    at = 0
    for path in paths:
        end = told.index(b"\n", at)
        header, at = told[at:end], end + 1
        if header.endswith(b" missing"):
            continue
        size = int(header.rsplit(b" ", 1)[1])
        if size <= SOURCE_READ:
            found[path] = told[at : at + size]
        at += size + 1
    return found


def _change(added: bytes, deleted: bytes, path: bytes) -> Change:
    binary = added == b"-"
    return Change(
        path=_text(path), added=0 if binary else int(added), deleted=0 if binary else int(deleted), binary=binary
    )


def _text(raw: bytes) -> str:
    """Names and paths may be in any encoding; JSON has one."""
    return raw.decode(errors="replace")


def _moment(text: str) -> datetime:
    """When it was written. Some histories hold dates that no calendar has: they count as the beginning of time."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    done = _run(folder, *arguments, stdin=stdin)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().removeprefix("fatal: ")
        raise GitError(f"{folder}: {said or f'git {arguments[0]} failed'}")
    return done.stdout


def _run(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    # A process group of its own: Ctrl-C is for the server, which lets what runs come to its end.
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, input=stdin, capture_output=True, check=False, process_group=0)
    except FileNotFoundError:
        raise GitError("git is not installed: the insights are read from it") from None
