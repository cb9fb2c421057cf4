"""`karafka info`: what is there, and whether it answers, over whatever lies between; no secret in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from karafka.devbroker import artifacts, ports
from tests.brokers import new_group
from tests.process.servers import Scene, run
from tests.secured import Secured, Settings

RELEASE = artifacts.VERSION.rpartition(".")[0]


def app(kafka: Mapping[str, object]) -> str:
    return f"from karafka import App\napp = App('shop', kafka={dict(kafka)!r})\n"


def asked(folder: Path, kafka: Mapping[str, object]) -> tuple[int, dict[str, Any]]:
    """Exit status and document of `karafka info --json`, of an app with those settings."""
    (folder / "app.py").write_text(app(kafka))
    status, said, told = run(folder, "info", "--json", "--timeout", "10")
    assert told == ""
    document: dict[str, Any] = json.loads(said)
    return status, document


def test_it_tells_the_app_and_who_answers(scene: Scene) -> None:
    (scene.folder / "app.py").write_text(scene.app("pass", processes=3))

    status, said, told = run(scene.folder, "info")

    assert (status, told) == (0, "")
    lines = [line.split(maxsplit=1) for line in said.splitlines()]
    shown = {line[0]: line[1] for line in lines if len(line) == 2}
    assert shown["app"] == f"{scene.group}, app:app"
    assert shown["concurrency"] == "5 worker threads shared, 3 processes"
    assert shown["groups"] == f"{scene.group}: {scene.topic}"
    assert shown["brokers"].split(maxsplit=1)[0] == scene.bootstrap
    assert f"answers as broker 1, Kafka {RELEASE}" in shown["brokers"]
    assert f"boot file    {scene.folder / 'app.py'}" in said


def test_some_that_do_not_answer_are_named(scene: Scene) -> None:
    """One that does is enough for the cluster to be there."""
    gone = f"127.0.0.1:{ports.free()}"
    (scene.folder / "app.py").write_text(app({"bootstrap.servers": f"{scene.bootstrap},{gone}"}))

    status, said, _ = run(scene.folder, "info", "--timeout", "1")

    assert status == 0
    assert f"no broker answers at {gone} (Connection refused)" in said


def test_a_cluster_that_does_not_answer_is_status_1(tmp_path: Path) -> None:
    """All else is told."""
    (tmp_path / "app.py").write_text(app({"bootstrap.servers": f"127.0.0.1:{ports.free()}"}))

    status, said, told = run(tmp_path, "info", "--timeout", "1")

    assert (status, told) == (1, "")
    assert "cluster      does not answer" in said
    assert "boot file" in said


def test_without_an_app_it_tells_the_versions(tmp_path: Path) -> None:
    """For whoever reports a fault, or has only just installed it."""
    status, said, told = run(tmp_path, "info")

    assert (status, told) == (0, "")
    assert "librdkafka" in said
    assert f"none: there is no app.py in {tmp_path}" in said
    assert json.loads(run(tmp_path, "info", "--json")[1])["app"] is None


@pytest.mark.xdist_group("secured")
class TestBehindLocks:
    """The same through SASL and TLS, which know no more of Kafka's version than others do."""

    def answers(self, folder: Path, kafka: Settings) -> dict[str, Any]:
        status, document = asked(folder, kafka)
        ((broker,),) = [one["brokers"] for one in document["clusters"]]
        assert status == (0 if broker["answers"] else 1)
        assert "right" not in json.dumps(document["app"])
        found: dict[str, Any] = broker
        return found

    def test_who_has_the_key_is_answered(self, secured: Secured, tmp_path: Path) -> None:
        for kafka in (secured.plain(), secured.over_tls(secured.authority)):
            broker = self.answers(tmp_path, kafka)
            assert broker["kafka"].split()[0] == RELEASE, broker

    def test_who_has_not_is_told_why(self, secured: Secured, tmp_path: Path) -> None:
        wrong = self.answers(tmp_path, {**secured.plain("right-not")})
        strange = self.answers(tmp_path, secured.over_tls(secured.stranger))

        assert "refuses the user 'ada'" in wrong["trouble"]
        assert "is not trusted" in strange["trouble"]


def test_a_group_on_another_cluster_is_asked_too(scene: Scene) -> None:
    gone = f"127.0.0.1:{ports.free()}"
    (scene.folder / "app.py").write_text(
        "from karafka import *\n"
        f"app = App({new_group()!r}, kafka={{'bootstrap.servers': {scene.bootstrap!r}}})\n"
        "V = type('V', (Controller,), {'perform': print})\n"
        f"app.routes.draw(group('far', topic('videos', V), kafka={{'bootstrap.servers': {gone!r}}}))\n"
    )

    status, said, _ = run(scene.folder, "info", "--json", "--timeout", "1")

    here, far = json.loads(said)["clusters"]
    assert status == 1
    assert (here["answers"], here["groups"]) == (True, [])
    assert (far["answers"], far["groups"], far["bootstrap.servers"]) == (False, ["far"], gone)
