"""`App.from_env(…)`: `karafka server` and the other commands, told by variables where they are and whom to ask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.brokers import new_group
from tests.process.servers import HEAD, Scene, each, karafka, run
from tests.secured import Secured


def variables(kafka: Mapping[str, object]) -> dict[str, str]:
    """librdkafka's settings as variables."""
    return {f"KARAFKA_KAFKA_{name.upper().replace('.', '_')}": str(value) for name, value in kafka.items()}


def test_a_server_is_told_everything_by_its_environment(scene: Scene) -> None:
    """Brokers, name, environment, workers, how it logs: the code names nothing but a topic."""
    perform = "print(self.app.env, self.app.env.staging, self.app.config.concurrency, self.params)"
    (scene.folder / "app.py").write_text(f"{HEAD}app = App.from_env()\n\n{each(scene.topic, perform)}")
    told = {
        "KARAFKA_BROKERS": scene.bootstrap,
        "KARAFKA_CLIENT_ID": scene.group,
        "KARAFKA_ENV": "staging",
        "KARAFKA_CONCURRENCY": "7",
        "KARAFKA_LOG_LEVEL": "debug",
        "KARAFKA_LOG_FORMAT": "json",
        "KARAFKA_KAFKA_SESSION_TIMEOUT_MS": "9000",
    }
    scene.send(1, 2)

    with karafka(scene.folder, "server", environment=told) as server:
        server.says("staging True 7 1")
        server.says("staging True 7 2")
        assert server.stop() == 0
        assert server.happened("performed")

    assert scene.committed == [2]


def test_the_command_line_wins_over_a_variable_and_that_over_the_code(scene: Scene) -> None:
    body = each(scene.topic, "print(self.app.config.concurrency, self.app.config.memory)")
    made = f"App.from_env({scene.group!r}, {{'bootstrap.servers': 'nowhere:1'}}, concurrency=2, memory=10_000_000)"
    (scene.folder / "app.py").write_text(f"{HEAD}app = {made}\n\n{body}")
    told = {"KARAFKA_BROKERS": scene.bootstrap, "KARAFKA_CONCURRENCY": "3", "KARAFKA_MEMORY": "64MiB"}
    scene.send(1)

    with karafka(scene.folder, "server", "--concurrency", "4", environment=told) as server:
        server.says(f"4 {64 * 2**20}")
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "karafka: app.py:2: no broker is named: set KARAFKA_BROKERS, to localhost:9092 say"),
        ({"KARAFKA_BROKERS": "x:1", "KARAFKA_ENV": "prod"}, "app.py:2: KARAFKA_ENV: 'prod' is none of development"),
        ({"KARAFKA_BROKERS": "x:1", "KARAFKA_CONCURENCY": "1"}, "is KARAFKA_CONCURRENCY meant?"),
    ],
)
def test_what_is_missing_or_wrong_is_one_sentence(tmp_path: Path, told: dict[str, str], words: str) -> None:
    (tmp_path / "app.py").write_text("from karafka import App\napp = App.from_env('shop')\n")

    status, said, error = run(tmp_path, "server", environment=told)

    assert (status, said) == (1, "")
    assert words in error
    assert "\n" not in error


def test_a_level_that_is_none_is_refused_by_the_variable_s_name(tmp_path: Path) -> None:
    status, _, error = run(tmp_path, "server", environment={"KARAFKA_LOG_LEVEL": "loud"})

    assert status == 2
    assert "env var: 'KARAFKA_LOG_LEVEL'" in error


@pytest.mark.xdist_group("secured")
def test_who_is_told_the_password_so_is_let_in(secured: Secured, tmp_path: Path) -> None:
    """Over SASL; and what `karafka info` shows has no password in it."""
    (tmp_path / "app.py").write_text(f"from karafka import App\napp = App.from_env({new_group()!r})\n")

    status, said, error = run(tmp_path, "info", "--json", "--timeout", "10", environment=variables(secured.plain()))

    document = json.loads(said)
    assert (status, error) == (0, "")
    assert document["clusters"][0]["answers"]
    assert document["app"]["kafka"]["sasl.password"] == "********"
    assert "KARAFKA_KAFKA_SASL_PASSWORD" in document["app"]["variables"]["read"]
    assert "right" not in said
