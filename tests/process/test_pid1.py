"""As process 1 of a container a server takes every signal, though the kernel gives process 1 no defaults."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, Signals

import psutil
import pytest

from tests.process.servers import PYTHON, Scene, Server, started

# A new PID namespace, as a container has. Who is not root may make one in a user namespace of their own.
USER = () if os.geteuid() == 0 else ("--user", "--map-root-user")
UNSHARE = ("unshare", *USER, "--pid", "--fork", "--kill-child")


class Contained(Server):
    """A server that is process 1 of its own namespace; signals come from outside of it, as a container's do."""

    def signal(self, number: Signals) -> None:
        """To the server itself: `unshare`, which waits for it beside us, passes nothing on but its end."""
        for child in psutil.Process(self.process.pid).children():
            child.send_signal(number)


@contextmanager
def contained(folder: Path, source: str) -> Iterator[Contained]:
    """`karafka server` as process 1, with `source` as app.py in `folder`."""
    (folder / "app.py").write_text(f"import os\nassert os.getpid() == 1\n{source}")
    command = [*UNSHARE, *PYTHON, "-m", "karafka", "server", "--log-format", "json"]
    with started(Contained(folder, command, {})) as server:
        yield server


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGQUIT])
def test_it_stops_in_order(scene: Scene, number: Signals) -> None:
    scene.send("one", "two")
    with contained(scene.folder, scene.app("print('begun')", "time.sleep(1)", "print('done')")) as server:
        server.says("begun")
        assert server.stop(number) == 0, str(server.heard)

    assert server.heard.said == ["begun", "done"]
    assert server.happened("server_stopping", reason=number.name)
    assert scene.committed == [1]


def test_idle_it_stops_within_a_second(scene: Scene) -> None:
    scene.send("one")
    with contained(scene.folder, scene.app("print('done')")) as server:
        server.says("done")
        began = time.monotonic()
        assert server.stop() == 0, str(server.heard)
        took = time.monotonic() - began

    print(f"as process 1: stopped in {took:.2f} s")
    assert took < 1
    assert scene.committed == [1]


def test_a_second_signal_does_not_wait(scene: Scene) -> None:
    scene.send("one")
    with contained(scene.folder, scene.app("print('begun')", "time.sleep(600)")) as server:
        server.says("begun")
        server.signal(SIGINT)
        server.event("server_stopping")
        assert server.press(SIGINT) == 2, str(server.heard)

    assert f"{scene.topic}/0/0" in str(server.happened("server_stopped")[0]["unfinished"])
    assert scene.committed == [None]


def test_past_the_time_out_it_ends_with_2(scene: Scene) -> None:
    scene.send("one")
    with contained(scene.folder, scene.app("print('begun')", "time.sleep(600)", shutdown_timeout=0.5)) as server:
        server.says("begun")
        assert server.stop(timeout=10) == 2, str(server.heard)

    assert scene.committed == [None]


def test_user_code_may_end_it(scene: Scene) -> None:
    scene.send("one")
    with contained(scene.folder, scene.app("raise SystemExit(7)")) as server:
        assert server.ended() == 7, str(server.heard)


def test_quiet_and_asked_for_stacks_it_still_stops_in_order(scene: Scene) -> None:
    scene.send("one")
    with contained(scene.folder, scene.app("print('done')")) as server:
        server.says("done")
        server.signal(SIGTTIN)
        server.until(lambda: "karafka-listener" in "\n".join(server.heard.told), "the stacks")
        server.signal(SIGTSTP)
        server.event("server_quiet")
        assert server.stop() == 0, str(server.heard)

    assert scene.committed == [1]


@pytest.mark.parametrize("number", [SIGTERM, SIGQUIT, SIGINT])
def test_a_signal_while_the_app_is_imported_is_not_lost(tmp_path: Path, number: Signals) -> None:
    """Of process 1 the kernel drops what nobody handles: the container would wait out its grace, and be killed."""
    with contained(tmp_path, "import time\nprint('importing')\ntime.sleep(600)\n") as server:
        server.says("importing")
        assert server.stop(number, timeout=10) == 0, str(server.heard)

    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)


def test_what_user_code_left_behind_does_not_hold_it_up(scene: Scene) -> None:
    """Children whose parents have gone come to process 1, and end with it."""
    scene.send("one")
    orphan = "subprocess.run(['sh', '-c', 'sleep 600 >&- 2>&- &'], check=True)"
    with contained(scene.folder, scene.app("import subprocess", orphan, "print('done')")) as server:
        server.says("done")
        assert server.stop(timeout=5) == 0, str(server.heard)

    assert scene.committed == [1]


def test_where_no_file_can_be_written_it_runs_all_the_same(scene: Scene) -> None:
    """As in a container whose file system may only be read."""
    scene.send("one")
    (scene.folder / "app.py").write_text(scene.app("print('done')"))
    limited = ("sh", "-c", 'ulimit -f 0; exec "$@"', "sh")
    command = [*limited, *PYTHON, "-m", "karafka", "server", "--log-format", "json"]
    with started(Server(scene.folder, command, {})) as server:
        server.says("done")
        assert server.stop() == 0, str(server.heard)

    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)
    assert scene.committed == [1]
