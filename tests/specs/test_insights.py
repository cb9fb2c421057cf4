"""The insights look at every commit once, whatever git holds, and report what git itself would count."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGINT
from uuid import uuid4

import history
import pytest
from controllers.complexity import measure
from controllers.habits import watch
from controllers.hot_spots import locate
from controllers.lint import find_linter, lint
from controllers.message import read
from controllers.size import weigh
from feed import fitting
from history import CHANGES_KEPT, GitError, Repository, sources
from models import Change, Commit, Finding, Metric, Offense
from page import page
from store import Store
from summary import summarize

from tests.brokers import Running
from tests.readmes import blocks, printed

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Folder:
    """A git repository being written, by nobody's settings."""

    path: Path

    @classmethod
    def made(cls, path: Path) -> Folder:
        path.mkdir()
        folder = cls(path)
        folder.git("init", "--quiet", "--initial-branch=main")
        return folder

    def git(self, *arguments: str | bytes, **environment: str) -> str:
        person = {f"GIT_{role}_{what}": what.lower() for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", "-C", self.path, *arguments],
            env={**os.environ, **person, **nobody, **environment},
            capture_output=True,
            check=True,
        )
        return done.stdout.decode(errors="replace").strip()

    def commit(
        self,
        files: Mapping[str, str | bytes],
        message: str = "Change something",
        at: str = "2026-03-02T10:00:00+01:00",
        **environment: str,
    ) -> str:
        """Write `files`, commit everything; the new commit's name."""
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        dates = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at}
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", message, **dates, **environment)
        return self.git("rev-parse", "HEAD")

    def commits(self) -> list[Commit]:
        """As the example reads them, newest first."""
        repository = Repository(self.path)
        return list(repository.commits(repository.shas(1_000)))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.made(tmp_path / f"shop-{uuid4().hex[:8]}")


def of(*changes: Change, message: str = "Change something", at: str = "2026-03-02T10:00:00+01:00") -> Commit:
    """A commit that needs no repository."""
    return Commit(
        repository="shop",
        folder="/nowhere",
        sha="0" * 40,
        parents=("1" * 40,),
        author="Ada",
        at=datetime.fromisoformat(at),
        message=message,
        changes=changes,
        left_out=0,
    )


def changed(path: str, added: int = 1, deleted: int = 0, *, binary: bool = False) -> Change:
    return Change(path=path, added=added, deleted=deleted, binary=binary)


def kinds(findings: Iterable[Finding]) -> list[str]:
    return [one.kind for one in findings if isinstance(one, Offense)]


def metrics(findings: Iterable[Finding]) -> dict[tuple[str, str], float]:
    return {(one.name, one.path): one.value for one in findings if isinstance(one, Metric)}


# ── what git holds ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_is_read_whole(folder: Folder) -> None:
    first = folder.commit({"a.py": "x = 1\ny = 2\n"}, "Add a\n\nBecause.", "2026-03-02T23:30:00+05:30")
    second = folder.commit({"a.py": "x = 1\n", "b/c.txt": "hello\n"}, "Change a")

    newest, oldest = folder.commits()

    assert (newest.sha, newest.parents, oldest.sha, oldest.parents) == (second, (first,), first, ())
    assert (oldest.message.strip(), oldest.author, oldest.repository) == ("Add a\n\nBecause.", "name", folder.path.name)
    assert oldest.at.isoformat() == "2026-03-02T23:30:00+05:30"
    assert oldest.changes == (changed("a.py", 2),)
    assert newest.changes == (changed("a.py", 0, 1), changed("b/c.txt", 1))


def test_each_commit_asked_for_is_answered(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over the bound of what git is asked at once."""
    monkeypatch.setattr(history, "AT_ONCE", 2)
    shas = [folder.commit({}, f"Empty {number}") for number in range(5)]
    assert [commit.sha for commit in folder.commits()] == shas[::-1]


def test_merges_renames_and_binaries_are_read(folder: Folder) -> None:
    folder.commit({"old.py": "one\ntwo\nthree\n"})
    folder.git("checkout", "--quiet", "-b", "side")
    folder.commit({"side.bin": b"\0\1\2"}, "Add a binary")
    folder.git("checkout", "--quiet", "main")
    folder.git("mv", "old.py", "new name.py")
    folder.commit({}, "Rename")
    folder.git("merge", "--quiet", "--no-edit", "side")

    by_message = {commit.message.strip(): commit for commit in folder.commits()}

    assert by_message["Rename"].changes == (changed("new name.py", 0, 0),)
    merge = by_message["Merge branch 'side'"]
    assert merge.is_merge
    assert merge.changes == ()
    assert by_message["Add a binary"].changes == (changed("side.bin", 0, 0, binary=True),)


def test_no_name_text_or_date_breaks_the_reading(folder: Folder) -> None:
    """What is not UTF-8, what looks like git's own output, what is not there: read as well as may be."""
    folder.commit({"tab\there\nline.py": "x\n"}, "1\t2\tlooks like a statistic")
    folder.commit({}, "")
    raw = os.fsencode(folder.path) + b"/caf\xe9.py"
    Path(os.fsdecode(raw)).write_text("x = 1\n")
    folder.commit({}, "Latin", GIT_AUTHOR_NAME=os.fsdecode(b"Zo\xeb"))

    latin, empty, odd = folder.commits()

    assert latin.author.startswith("Zo")
    assert [change.path for change in latin.changes] == ["caf\N{REPLACEMENT CHARACTER}.py"]
    assert empty.message.strip() == ""
    assert [change.path for change in odd.changes] == ["tab\there\nline.py"]
    assert sources(odd) == sources(latin) == {}


def test_settings_of_a_person_change_nothing(folder: Folder) -> None:
    folder.commit({"a.py": "x\n"})
    folder.git("config", "log.showSignature", "true")
    folder.git("config", "color.ui", "always")
    folder.git("config", "diff.noprefix", "true")
    assert [change.path for commit in folder.commits() for change in commit.changes] == ["a.py"]


def test_a_huge_commit_keeps_its_measure(folder: Folder) -> None:
    folder.commit({f"file{number}": "x\n" for number in range(CHANGES_KEPT + 7)})
    (commit,) = folder.commits()
    assert (len(commit.changes), commit.left_out) == (CHANGES_KEPT, 7)
    assert metrics(weigh(commit))["size.files", ""] == CHANGES_KEPT + 7


def test_where_a_shallow_clone_was_cut_nothing_counts_as_changed(folder: Folder) -> None:
    for number in range(3):
        folder.commit({"a.py": f"x = {number}\n"})
    clone = folder.path.with_name("clone")
    folder.git("clone", "--quiet", "--depth=2", folder.path.as_uri(), str(clone))
    newest, cut = Folder(clone).commits()
    assert newest.changes == (changed("a.py", 1, 1),)
    assert cut.changes == ()


def test_bare_and_empty_repositories_are_read(folder: Folder) -> None:
    empty = Repository(folder.path)
    assert (empty.size(), empty.shas(10)) == (0, [])
    folder.commit({"a.py": "x\n"})
    bare = folder.path.with_name("shop.git")
    folder.git("clone", "--quiet", "--bare", str(folder.path), str(bare))
    repository = Repository(bare)
    (commit,) = repository.commits(repository.shas(10))
    assert (repository.name, sources(commit)) == ("shop", {"a.py": b"x\n"})


def test_a_folder_without_git_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GitError, match=rf"^{tmp_path}: not a git repository"):
        Repository(tmp_path)


def test_files_are_read_as_they_were_at_the_commit(folder: Folder) -> None:
    folder.commit({"a.py": "first\n", "gone.py": "x\n", "notes.txt": "no Python\n"})
    (folder.path / "gone.py").unlink()
    folder.commit({"a.py": "second\n"})
    newest, oldest = folder.commits()
    assert sources(newest) == {"a.py": b"second\n"}
    assert sources(oldest) == {"a.py": b"first\n", "gone.py": b"x\n"}


# ── the perspectives ─────────────────────────────────────────────────────────────────────────────────────────────


def test_size() -> None:
    small, large = of(changed("a", 3, 2), changed("b", 1)), of(*(changed(str(n), 20) for n in range(31)))
    assert metrics(weigh(small)) == {("size.added", ""): 4, ("size.deleted", ""): 2, ("size.files", ""): 2}
    assert kinds(weigh(small)) == []
    assert kinds(weigh(large)) == ["size.lines", "size.files"]


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("Pause a slow partition alone\n\nIt held up the others.\n", []),
        ("", ["message.empty"]),
        ("Fix", ["message.short"]),
        ("Write a subject that goes on, and on, and on, and would not fit into any list of commits", ["message.long"]),
        ("Pause a slow partition.", ["message.full-stop"]),
        ("Pause a slow partition\nwithout a blank line", ["message.no-blank-line"]),
        ("fixup! Pause a slow partition", ["message.unfinished"]),
        ("WIP on the slow partition", ["message.unfinished"]),
        ("Wipe the slow partition", []),
    ],
)
def test_message(message: str, found: list[str]) -> None:
    assert kinds(read(of(message=message))) == found


def test_habits_are_told_by_the_author_s_own_clock() -> None:
    day, night = of(at="2026-03-02T10:00:00+01:00"), of(at="2026-03-01T02:30:00-08:00")
    assert metrics(watch(day)) == {("habits.hour", ""): 10, ("habits.weekday", ""): 0}
    assert metrics(watch(night)) == {("habits.hour", ""): 2, ("habits.weekday", ""): 6}
    assert (kinds(watch(day)), kinds(watch(night))) == ([], ["habits.night", "habits.weekend"])


def test_hot_spots() -> None:
    found = list(locate(of(changed("a", 3, 2), changed("logo.png", binary=True))))
    assert metrics(found) == {("hot-spots.lines", "a"): 5, ("hot-spots.lines", "logo.png"): 1}
    assert kinds(found) == ["hot-spots.binary"]


def test_complexity() -> None:
    plain = b"def f(a, b):\n    def inner():\n        if a: pass\n    return [x for x in a if x] if a and b else b\n"
    knot = b"async def knot(a):\n" + b"    if a: pass\n" * 10
    files = {"plain.py": plain, "knot.py": knot, "broken.py": b"def f(:\n", "empty.py": b""}
    found = list(measure(of(), files))
    assert metrics(found) == {
        ("complexity.worst", "plain.py"): 4,
        ("complexity.worst", "knot.py"): 11,
        ("complexity.worst", "empty.py"): 0,
    }
    assert kinds(found) == ["complexity.function", "complexity.unreadable"]


def test_lint() -> None:
    files = {"a/b.py": b"import os\n", "c/b.py": b"x = 1\n", "odd\n-name.py": b"def f(:\n"}
    found = list(lint(of(), files, find_linter()))
    places = {(one.kind, one.path, one.line) for one in found if isinstance(one, Offense)}
    assert ("lint.F401", "a/b.py", 1) in places
    assert {path for _, path, _ in places} == {"a/b.py", "odd\n-name.py"}
    assert metrics(found) == {("lint.offenses", ""): len(found) - 1}


# ── what becomes of it ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_finding_kept_twice_is_kept_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "insights.db")
    found = [*watch(of(at="2026-03-01T02:30:00-08:00")), *locate(of(changed("a", 3, 2)))]
    store.keep(found)
    store.keep(found)
    summary = summarize(store, "shop")
    assert (summary.commits, summary.offenses, summary.metrics) == (1, 2, 3)
    assert summary.by_hour == [0, 0, 1, *[0] * 21]
    assert summary.hot_spots == [("a", 1, 5)]
    assert summarize(store, "another").commits == 0


def test_a_page_loads_nothing_and_trusts_no_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "insights.db")
    store.keep(locate(of(changed("<script>alert()</script>", 3, 2))))
    written = page(summarize(store, "shop"))
    assert "&lt;script&gt;" in written
    assert "<script" not in written
    assert "http" not in written


def test_only_the_newest_that_fit_are_published() -> None:
    commits = [of(message="x" * 1_000) for _ in range(10)]
    assert len(list(fitting(commits, 5_000))) == 4
    assert len(list(fitting(commits, 50_000))) == 10


def test_the_readme_shows_its_flow() -> None:
    """The picture there is what the command draws."""
    (shown,) = blocks(ROOT / "README.md", "mermaid")

    assert shown == printed(ROOT / "examples" / "insights", "karafka flow --mermaid")


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────────


def demo(folder: Folder, keep: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "examples.insights", "--repo", str(folder.path), "--folder", str(keep), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def whole(folder: Folder, keep: Path, *options: str) -> str:
    with demo(folder, keep, *options) as running:
        said = running.communicate(timeout=120)[0]
    assert running.returncode == 0, said
    return said


def write_history(folder: Folder, commits: int) -> None:
    for number in range(commits):
        moment = datetime.fromtimestamp(1_772_000_000 + number * 40_000, UTC).isoformat()
        files = {"often.py": f"import os\nx = {number}\n", f"seldom{number % 7}.py": f"y = {number}\n"}
        folder.commit(files, f"Change number {number}", moment)


def check_against_git(folder: Folder, keep: Path, said: str) -> None:
    """The store and the report tell what git itself counts."""
    hours = Counter(map(int, folder.git("log", "--format=%ad", "--date=format:%H").split()))
    paths = Counter(path for path in folder.git("log", "--format=", "--name-only").splitlines() if path)
    name = folder.path.name
    with closing(sqlite3.connect(keep / "insights.db")) as store:
        ask = "SELECT {}, count(*) FROM metrics WHERE repository = ? AND name = ? GROUP BY 1"
        assert dict(store.execute(ask.format("value"), (name, "habits.hour"))) == hours
        assert dict(store.execute(ask.format("path"), (name, "hot-spots.lines"))) == paths
        # Each version of often.py imports what it does not use.
        unused = store.execute("SELECT count(*) FROM offenses WHERE repository = ? AND kind = 'lint.F401'", (name,))
        assert unused.fetchone() == (hours.total(),)
    lines = [line.split() for line in said.splitlines()]
    assert f"{hours.total()} commits," in said
    for hour, count in hours.items():
        assert any(line[:2] == [f"{hour:02}:00", str(count)] for line in lines)
    for path, count in paths.items():
        assert any(line[:2] == [path, str(count)] for line in lines)
    assert "all caught up" in said
    assert (keep / f"{name}.html").read_text().count("<svg") == 6


def test_the_demo_reports_what_git_counts(folder: Folder, tmp_path: Path) -> None:
    write_history(folder, 40)
    said = whole(folder, tmp_path / "kept")
    assert "40 commits, 40 of the newest 400 published now" in said
    check_against_git(folder, tmp_path / "kept", said)


def test_stopped_half_way_it_goes_on_and_starting_again_changes_nothing(
    folder: Folder, tmp_path: Path, kafka: Running
) -> None:
    write_history(folder, 60)
    options = ("--bootstrap", kafka.bootstrap)
    with demo(folder, tmp_path / "kept", *options) as running:
        assert running.stdout is not None
        while "60 of the newest 400 published now" not in running.stdout.readline():
            assert running.poll() is None
        running.send_signal(SIGINT)
        said = running.communicate(timeout=60)[0]
    assert running.returncode == 0, said
    assert "Stopping" in said

    said = whole(folder, tmp_path / "kept", *options)
    assert "0 of the newest 400 published now" in said
    check_against_git(folder, tmp_path / "kept", said)

    folder.commit({"often.py": "import os\n"}, "Change it once more")
    said = whole(folder, tmp_path / "kept", *options)
    assert "1 of the newest 400 published now" in said
    check_against_git(folder, tmp_path / "kept", said)


def test_an_empty_repository_and_a_broker_that_is_not_there_are_one_sentence_each(
    folder: Folder, tmp_path: Path
) -> None:
    assert "has no commits yet: nothing to look at" in whole(folder, tmp_path / "kept")
    folder.commit({"a.py": "x\n"})
    with demo(folder, tmp_path / "kept", "--bootstrap", "localhost:1") as running:
        said = running.communicate(timeout=60)[0]
    assert running.returncode == 1
    assert said.splitlines()[-1].startswith("insights: localhost:1 does not answer")
    assert "Traceback" not in said
