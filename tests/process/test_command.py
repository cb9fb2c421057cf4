"""`karafka` and `karafka server` as commands: help, version, which app, how the log looks, and what is never shown."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.process.servers import HEAD, Scene, karafka, run, serve

SECRETS = {
    "sasl.password": "hunter2-one",
    "ssl.key.password": "hunter2-two",
    "ssl.keystore.password": "hunter2-three",
    "sasl.oauthbearer.client.secret": "hunter2-four",
}


def test_help_names_the_commands(tmp_path: Path) -> None:
    status, said, told = run(tmp_path, "--help")

    assert (status, told) == (0, "")
    assert "server" in said
    assert "broker" in said
    assert said == run(tmp_path, "-h")[1]


def test_help_of_server_names_its_options(tmp_path: Path) -> None:
    status, said, told = run(tmp_path, "server", "--help")

    assert (status, told) == (0, "")
    assert all(option in said for option in ("--app", "--embedded", "--log-level", "--log-format", "KARAFKA_APP"))


def test_version_is_the_package_s(tmp_path: Path) -> None:
    from importlib.metadata import version  # noqa: PLC0415

    assert run(tmp_path, "--version")[1] == f"karafka, version {version('karafka')}"


def test_help_is_quick() -> None:
    """Nothing heavy is imported for it. Processor time, the best of three: the machine may be busy with others."""
    command = shutil.which("karafka", path=str(Path(sys.executable).parent))
    assert command is not None

    def took() -> float:
        before = os.times()
        subprocess.run([command, "--help"], stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    best = min(took() for _ in range(3))
    print(f"karafka --help: {best:.2f} s")
    assert best < 0.5


def test_a_command_or_option_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    for arguments in (["sever"], ["server", "--loglevel", "info"], ["server", "--log-level", "loud"]):
        status, _, told = run(tmp_path, *arguments)
        assert status == 2
        assert "Error: " in told
        assert "Traceback" not in told


@pytest.mark.parametrize("way", ["option", "environment", "both"])
def test_the_app_is_named(scene: Scene, way: str) -> None:
    """By `-A module:attribute`, before KARAFKA_APP, before app.py; the command `s` is `server`."""
    scene.send("one")
    (scene.folder / "shop").mkdir()
    (scene.folder / "shop" / "main.py").write_text(scene.app("print('shop')").replace("app", "mine"))
    arguments = ["-A", "shop.main:mine"] if way != "environment" else []
    environment = {"environment": {"KARAFKA_APP": "shop.main:mine"}, "both": {"KARAFKA_APP": "nowhere:app"}}.get(way)
    with karafka(scene.folder, "s", *arguments, environment=environment) as server:
        server.says("shop")
        assert server.stop() == 0, str(server.heard)


def test_the_log_is_json_by_the_line(scene: Scene) -> None:
    scene.send("one", "two")
    perform = ("import logging, warnings", "logging.getLogger('mine').warning('two\\nlines')", "1 / 0")
    with serve(scene.folder, scene.app(*perform), "--log-level", "debug") as server:
        failed = server.event("failed")
        assert server.stop() == 0, str(server.heard)

    lines = [json.loads(line) for line in server.heard.told]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert {"server_started", "assigned", "received", "failed", "server_stopping", "server_stopped"} <= {
        line.get("event") for line in lines
    }
    assert any(line["logger"] == "mine" and line["message"] == "two\nlines" for line in lines)
    assert (failed["topic"], failed["partition"], failed["offset"]) == (scene.topic, 0, 0)
    assert "1 / 0" in failed["traceback"]


def test_the_log_is_text_by_default(scene: Scene) -> None:
    scene.send("one")
    (scene.folder / "app.py").write_text(scene.app("print('done')"))
    with karafka(scene.folder, "server") as server:
        server.says("done")
        assert server.stop() == 0, str(server.heard)

    assert any(scene.topic in line and "INFO" in line for line in server.heard.told)
    assert not any(line.startswith("{") or "\x1b" in line for line in server.heard.told)


def test_the_log_level_is_kept_to(scene: Scene) -> None:
    scene.send("one")
    with serve(scene.folder, scene.app("print('done')"), "--log-level", "error") as server:
        server.says("done")
        assert server.stop() == 0, str(server.heard)

    assert server.heard.told == []


def test_embedded_starts_at_once_and_says_what_it_is(tmp_path: Path) -> None:
    source = f"""{HEAD}
app = App("embedded", kafka={{"bootstrap.servers": "127.0.0.1:9"}})

@app.topic("videos")
class VideosController(Controller):
    @classmethod
    def setup(cls, app):
        app.producer.produce_async("videos", 1)

    def perform(self):
        print("done", self.params)
"""
    began = time.monotonic()
    with serve(tmp_path, source, "--embedded") as server:
        server.event("server_started")
        started = time.monotonic() - began
        server.says("done 1")
        performed = time.monotonic() - began
        assert server.stop(SIGTERM) == 0, str(server.heard)

    print(f"embedded: started in {started:.2f} s, performed a message in {performed:.2f} s")
    assert started < 3
    assert performed < 5
    (notice,) = [line for line in server.heard.told if "embedded" in line and not line.startswith("{")]
    assert "forgets" in notice
    assert "karafka broker" in notice
    assert "127.0.0.1:" in notice


@pytest.mark.parametrize("debug", ["", "all"], ids=["ours", "librdkafka's too"])
def test_secrets_are_never_shown(scene: Scene, debug: str) -> None:
    """Whatever is logged, failed or refused: with the log at debug, and librdkafka's debugging on."""
    kafka = {"security.protocol": "sasl_plaintext", "sasl.mechanisms": "PLAIN", "sasl.username": "u", **SECRETS}
    kafka |= {"debug": debug} if debug else {}
    with serve(scene.folder, scene.app("pass", kafka=kafka), "--log-level", "debug") as server:
        server.until(lambda: server.happened("client_troubled") + server.happened("cluster_refused") != [], "trouble")
        server.ended() if server.happened("cluster_refused") else server.stop()

    everything = "\n".join(server.heard.said + server.heard.told)
    assert [secret for secret in SECRETS.values() if secret in everything] == []


@pytest.mark.parametrize(
    "mistake",
    [
        '"sasl.password": ["hunter2"]',
        '"sasl.password": b"hunter2"',
        '"sasl.jaas.config": "hunter2"',
        '"sasl.pasword": "hunter2"',
        '"enable.auto.commit": True, "sasl.password": "hunter2"',
        '"ssl.key.pem": "hunter2"',
        '"ssl.key.location": "/nowhere", "ssl.key.password": "hunter2", "security.protocol": "ssl"',
    ],
)
def test_secrets_are_not_in_the_sentence_about_a_mistake(tmp_path: Path, mistake: str) -> None:
    (tmp_path / "app.py").write_text(
        f'from karafka import App\napp = App("v", kafka={{"bootstrap.servers": "localhost:9", {mistake}}})\n'
    )

    status, said, told = run(tmp_path, "server", "--log-level", "debug")

    print(told)
    assert status == 1
    assert "hunter2" not in said + told
    assert "Traceback" not in told
