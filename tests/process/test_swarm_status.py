"""`karafka status`: how the processes of running servers are, for people, pipes and programs; and when none is."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Any

import psutil
import pytest

from tests.brokers import Running, until
from tests.process.servers import PYTHON, Scene, run
from tests.process.swarms import alive, swarm

NONE = "No server with several processes runs here: karafka server --processes N starts one."


@pytest.fixture
def scene(kafka: Running, tmp_path: Path) -> Scene:
    return Scene(kafka.bootstrap, tmp_path, partitions=4)


def asked(folder: Path, *arguments: str) -> tuple[int, str, str]:
    return run(folder, "status", *arguments, environment={"XDG_RUNTIME_DIR": str(folder)})


def processes(folder: Path) -> list[dict[str, Any]]:
    """What `karafka status --json` tells of the processes of the one server that runs."""
    (server,) = json.loads(asked(folder, "--json")[1])
    rows: list[dict[str, Any]] = server["processes"]
    return rows


def becomes(folder: Path, true: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The processes, as soon as that holds of them."""
    rows: list[dict[str, Any]] = []

    def holds() -> bool:
        rows[:] = processes(folder)
        return true(rows)

    until(holds, timeout=60)
    return rows


def test_it_tells_each_process(scene: Scene) -> None:
    """Process, pid, state, uptime, partitions, lag, rate, memory, ages of the longest handler and oldest message."""
    perform = ("if self.params == 'long': time.sleep(600)",)
    with swarm(scene.folder, scene.app(*perform, shutdown_timeout=1.0, stall_after=600.0)) as server:
        server.runs()
        for partition in range(4):
            scene.send(*range(100), partition=partition)
        rows = becomes(scene.folder, lambda rows: sum(one["rate"] for one in rows) > 0)
        scene.send('"long"', *range(9), partition=0)
        rows = becomes(scene.folder, lambda rows: {one["lag"] for one in rows} == {0, 10})

        assert [one["process"] for one in rows] == [1, 2]
        assert [one["pid"] for one in rows] == [server.pid(1), server.pid(2)]
        assert {one["state"] for one in rows} == {"running"}
        assert sum(one["partitions"] for one in rows) == 4
        (long,) = [one for one in rows if one["lag"] == 10]
        assert 0 < long["handler"] < long["uptime"] < 120
        rows = becomes(scene.folder, lambda rows: any(one["oldest"] > 0 for one in rows))
        assert {one["process"] for one in rows if one["oldest"]} == {long["process"]}
        for one in rows:
            found = psutil.Process(one["pid"]).memory_info().rss
            assert found / 2 < one["memory"] < found * 2

        status, text, told = asked(scene.folder)
        assert (status, told) == (0, "")
        title, headings, *table = text.splitlines()
        assert title.startswith(f"{scene.group}: running, up ")
        assert headings.split() == [
            *("process", "pid", "state", "uptime", "parts", "lag", "msg/s", "memory", "handler", "oldest"),
        ]
        assert [line.split()[1] for line in table] == [str(server.pid(1)), str(server.pid(2))]
        assert "\x1b" not in text
        assert server.stop() == 2


def test_in_a_terminal_it_is_a_table(scene: Scene) -> None:
    with swarm(scene.folder, scene.app("pass")) as server:
        server.runs()
        shown = in_a_terminal([*PYTHON, "-m", "karafka", "status"], scene.folder)
        assert server.stop() == 0, str(server.heard)

    assert "\x1b[" in shown
    assert "─" in shown
    assert "running" in shown


def in_a_terminal(command: list[str], folder: Path) -> str:
    """What a command writes to a terminal."""
    mine, theirs = pty.openpty()
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "TERM": "xterm", "COLUMNS": "120"}
    shown = b""
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        while select.select([mine], [], [], 30)[0]:
            try:
                chunk = os.read(mine, 4096)
            except OSError:  # as Linux tells that nobody is left on the other end
                break
            shown += chunk
        assert process.wait(30) == 0
    os.close(mine)
    return shown.decode()


def test_it_says_plainly_when_nothing_runs(tmp_path: Path) -> None:
    assert asked(tmp_path) == (1, "", NONE)
    assert asked(tmp_path, "--json") == (1, "[]", NONE)
    assert asked(tmp_path, "--client-id", "videos") == (1, "", NONE.replace("server", "server of 'videos'", 1))


def test_a_server_of_one_process_is_none(scene: Scene) -> None:
    """It has nobody to ask, and costs nothing."""
    with swarm(scene.folder, scene.app("pass"), processes=1) as server:
        server.event("assigned")
        assert asked(scene.folder) == (1, "", NONE)
        assert server.stop() == 0, str(server.heard)


def test_which_app_may_be_said(scene: Scene) -> None:
    """By its client_id, or by naming the app as for the server; all of the user's are told else."""
    other = Scene(scene.bootstrap, scene.folder)
    with swarm(scene.folder, scene.app("pass")) as first:
        first.runs()
        with swarm(scene.folder, other.app("pass")) as second:
            second.event("swarm_started", 60)
            both = [one["client_id"] for one in json.loads(asked(scene.folder, "--json")[1])]
            assert sorted(both) == sorted([scene.group, other.group])
            for arguments in (["--client-id", other.group], ["-A", "app:app"]):
                (one,) = json.loads(asked(scene.folder, "--json", *arguments)[1])
                assert one["client_id"] == other.group
                assert one["pid"] == second.process.pid
            assert second.stop() == 0, str(second.heard)
        assert first.stop() == 0, str(first.heard)


def test_one_that_does_not_answer_is_shown_to_be_silent(scene: Scene) -> None:
    """And one that waits to be started, that it waits; nobody waits long for the answer."""
    dies = "\nif Path('dies').exists(): os.kill(os.getpid(), signal.SIGKILL)\n"
    with swarm(scene.folder, scene.app("pass") + dies) as server:
        server.runs()
        (scene.folder / "dies").touch()
        os.kill(server.pid(1), SIGKILL)
        os.kill(server.pid(2), SIGSTOP)
        server.event("process_died", process=1, after=8.0, timeout=60)
        rows = becomes(scene.folder, lambda rows: rows[1]["state"] == "silent")
        assert rows[0] == {"process": 1, "pid": None, "state": "waiting"}
        os.kill(server.pid(2), SIGKILL)


def test_what_a_killed_one_left_behind_is_nobody(scene: Scene) -> None:
    """Its socket is there still: it is passed over, and removed by the next one."""
    with swarm(scene.folder, scene.app("pass")) as server:
        server.runs()
        server.kill()
        until(lambda: not any(map(alive, server.pids)))
        assert len(sockets(scene.folder)) == 1
        assert asked(scene.folder) == (1, "", NONE)
    with swarm(scene.folder, scene.app("pass")) as server:
        server.event("swarm_started", 60)
        assert [str(server.process.pid) in path.name for path in sockets(scene.folder)] == [True]
        assert server.stop() == 0, str(server.heard)
    assert sockets(scene.folder) == []


def sockets(folder: Path) -> list[Path]:
    return list((folder / "karafka").iterdir())


def test_the_folder_is_the_user_s_alone(scene: Scene) -> None:
    """One that others can enter is not used: it is said, and the server runs all the same."""
    with swarm(scene.folder, scene.app("pass")) as server:
        server.event("process_started")
        assert (scene.folder / "karafka").stat().st_mode & 0o777 == 0o700
        assert server.stop() == 0, str(server.heard)
    (scene.folder / "karafka").chmod(0o755)
    with swarm(scene.folder, scene.app("pass")) as server:
        assert "not a folder of this user's alone" in server.event("status_hidden")["reason"]
        server.runs()
        status, said, told = asked(scene.folder)
        assert (status, said) == (1, "")
        assert "set XDG_RUNTIME_DIR" in told
        assert server.stop() == 0, str(server.heard)


def test_without_a_runtime_folder_a_temporary_one_is_used(scene: Scene) -> None:
    environment = {"XDG_RUNTIME_DIR": "", "TMPDIR": str(scene.folder)}
    with swarm(scene.folder, scene.app("pass"), environment=environment) as server:
        server.event("swarm_started", 60)
        status, text, _ = run(scene.folder, "status", environment=environment)
        assert status == 0
        assert scene.group in text
        assert server.stop() == 0, str(server.heard)
