"""`karafka server --reload`: the server starts again when the code changes, and nothing is lost or left behind."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import psutil
import pytest

from karafka import Producer
from tests.brokers import until
from tests.process.servers import Scene, Server, karafka, run
from tests.process.swarms import alive
from tests.process.terminals import on_terminal

EMBEDDED = """\
from karafka import App, Controller

app = App("shop", kafka={"bootstrap.servers": "127.0.0.1:9"}, processes=3)

@app.topic("videos")
class Videos(Controller):
    def perform(self):
        print("first", self.params, flush=True)
"""


@contextmanager
def reloading(folder: Path, source: str, *arguments: str) -> Iterator[Server]:
    """`karafka server --reload` with `source` as app.py in `folder`."""
    (folder / "app.py").write_text(source)
    arguments = ("server", "--reload", "--log-format", "json", *arguments)
    with karafka(folder, *arguments) as server:
        yield server


def tells(server: Server, words: str, times: int = 1) -> None:
    """Wait for words on its stderr, so many times."""
    server.until(lambda: sum(words in line for line in server.heard.told) >= times, f"{words!r}, {times} times")


def child(server: Server) -> int:
    """The process id of the server that it has started."""
    (found,) = psutil.Process(server.process.pid).children()
    return found.pid


def test_a_change_starts_the_server_again_in_order(scene: Scene) -> None:
    """What is in hand is finished and committed by the old code, what comes next performed by the new."""
    (scene.folder / "names.py").write_text("name = 'old'")
    perform = (
        "from names import name",
        "print('begun', self.params)",
        "while not Path('open').exists(): time.sleep(0.01)",
        "print(name, self.params)",
    )
    with reloading(scene.folder, scene.app(*perform)) as server:
        scene.send(1)
        server.says("begun 1")
        (scene.folder / "names.py").write_text("name = 'new'")
        server.event("server_stopping", reason="SIGTERM")
        (scene.folder / "open").touch()
        server.event("server_stopped", status=0)
        scene.send(2)
        server.says("new 2")
        assert server.stop(SIGINT) == 0, str(server.heard)

    assert server.heard.said == ["begun 1", "old 1", "begun 2", "new 2"]
    assert scene.committed == [2]
    told = [json.loads(line)["message"] for line in server.heard.told]
    assert told.count("names.py changed: the server starts again") == 1
    assert len(server.happened("server_started")) == 2


def test_the_embedded_broker_outlives_a_restart(tmp_path: Path) -> None:
    """It keeps its address, its messages and what the group has committed; and says once what it is."""
    with reloading(tmp_path, EMBEDDED, "--embedded") as server:
        tells(server, "Address: ")
        server.assigned(4)
        address = re.search(r"Address: (\S+)", "\n".join(server.heard.told))
        assert address is not None
        with Producer({"bootstrap.servers": address[1]}) as producer:
            producer.produce_sync("videos", 1, key="a")
            server.says("first 1")
            (tmp_path / "app.py").write_text(EMBEDDED.replace("first", "second"))
            server.event("server_stopped", status=0)
            producer.produce_sync("videos", 2, key="a")
            server.says("second 2")
        assert server.stop() == 0, str(server.heard)

    assert server.heard.said == ["first 1", "second 2"]
    assert sum("Address: " in line for line in server.heard.told) == 1


def test_a_broken_app_shows_its_error_and_waits_for_a_change(scene: Scene) -> None:
    """At the start too, and again; whoever ends it then is told by the status that it was broken."""
    scene.send(1)
    with reloading(scene.folder, "from karafka import *\nup = App(1 / 0)\n") as server:
        tells(server, "a change starts it again")
        assert "up = App(1 / 0)" in str(server.heard)
        assert "/karafka/" not in "".join(line for line in server.heard.told if "File" in line)
        (scene.folder / "app.py").write_text(scene.app("print('good')"))
        server.says("good")
        (scene.folder / "app.py").write_text("app = None")
        tells(server, "is nothing, but an App is expected")
        tells(server, "a change starts it again", 2)
        assert server.stop() == 1, str(server.heard)

    assert scene.committed == [1]


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_its_status_is_the_server_s(scene: Scene, number: Signals) -> None:
    """Here of a stop whose time is over before the work is."""
    perform = ("print('begun')", "time.sleep(60)")
    with reloading(scene.folder, scene.app(*perform, shutdown_timeout=0.2)) as server:
        scene.send(1)
        server.says("begun")
        assert server.stop(number) == 2, str(server.heard)


def test_a_second_signal_does_not_wait(scene: Scene) -> None:
    with reloading(scene.folder, scene.app("print('begun')", "time.sleep(60)")) as server:
        scene.send(1)
        server.says("begun")
        assert server.press(SIGTERM) == 2, str(server.heard)


def test_ctrl_c_in_a_terminal_stops_in_order(scene: Scene) -> None:
    """There both hear it, and the server is told by both: it is not taken for a second one, which would not wait."""
    scene.send(1)
    (scene.folder / "app.py").write_text(scene.app("print('be' + 'gun')", "time.sleep(2)", "print('do' + 'ne')"))
    with on_terminal(scene.folder, "server", "--reload") as terminal:
        at = terminal.shows("begun")
        terminal.type("\x03")
        terminal.shows("done", after=at)
        assert terminal.ended() == 0, terminal.text

    assert scene.committed == [1]


def test_nothing_is_left_behind_when_it_is_killed(scene: Scene) -> None:
    """The server notices, finishes, commits, and ends."""
    perform = ("print('begun', self.params)", "while not Path('open').exists(): time.sleep(0.01)")
    with reloading(scene.folder, scene.app(*perform)) as server:
        scene.send(1)
        server.says("begun 1")
        left = child(server)
        os.kill(server.process.pid, SIGKILL)
        server.event("supervisor_gone")
        server.event("server_stopping")
        (scene.folder / "open").touch()
        server.event("server_stopped", status=0)
        until(lambda: not alive(left))

    assert scene.committed == [1]


def test_a_server_that_dies_is_waited_for_a_change(scene: Scene) -> None:
    with reloading(scene.folder, scene.app("pass")) as server:
        server.assigned()
        os.kill(child(server), SIGKILL)
        tells(server, "the server has ended by itself (SIGKILL)")
        assert server.stop() == 128 + SIGKILL, str(server.heard)


def test_changes_that_do_not_matter_do_nothing(scene: Scene) -> None:
    """Pages, data, what is compiled, what others have installed. A file of variables does, wherever the folder is."""
    scene.folder = scene.folder / ".venv" / "shop"
    scene.folder.mkdir(parents=True)
    with reloading(scene.folder, scene.app("pass")) as server:
        server.assigned()
        (scene.folder / ".venv").mkdir()
        for name in ("notes.md", "data.json", ".venv/module.py", "app.pyc"):
            (scene.folder / name).write_text("changed")
        (scene.folder / ".env").write_text("A=1")
        tells(server, "the server starts again")
        server.event("server_stopped")
        assert server.stop() == 0, str(server.heard)

    assert [line for line in server.heard.told if "changed:" in line and ".env changed" not in line] == []


def test_it_is_for_one_process(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(EMBEDDED)

    status, _, told = run(tmp_path, "server", "--reload", "--processes", "2")
    assert (status, told) == (
        1,
        "karafka: --reload starts one process again and again, for development: leave --processes out",
    )
    assert "--max-age is for several processes" in run(tmp_path, "server", "--reload", "--max-age", "1h")[2]


@pytest.mark.parametrize(
    ("library", "said"),
    [
        (
            "raise ModuleNotFoundError(name='watchfiles')",
            "--reload needs the extra `reload`, which is not installed: pip install 'karafka[reload]'",
        ),
        (
            "PythonFilter = dict\ndef watch(*_, **__):\n    raise OSError('too many folders')\n    yield",
            "--reload cannot watch {folder}: too many folders",
        ),
    ],
)
def test_what_keeps_it_from_watching_is_said(tmp_path: Path, library: str, said: str) -> None:
    """The library is not there, or the system does not let it."""
    (tmp_path / "app.py").write_text(EMBEDDED)
    (tmp_path / "watchfiles.py").write_text(library)
    places = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    status, _, told = run(tmp_path, "server", "--reload", environment={"PYTHONPATH": places})

    assert status == 1
    assert told.splitlines()[-1] == f"karafka: {said.format(folder=tmp_path)}"
