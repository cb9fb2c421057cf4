"""What a person wrote wrong is one sentence with the thing, the value found and the way out: status 1, no traceback."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.process.servers import HEAD, run

KAFKA = '{"bootstrap.servers": "127.0.0.1:9"}'
APP = f'{HEAD}app = App("videos", kafka={KAFKA})\n'
FINE = '@app.topic("videos")\nclass Videos(Controller):\n    def perform(self): pass\n'


def with_kafka(setting: str, value: object) -> str:
    return f'{HEAD}app = App("videos", kafka={{**{KAFKA}, {setting!r}: {value!r}}})\n{FINE}'


MISTAKES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "the attribute is no app": ("app = 3\n", ("app.py", "int", "App")),
    "the attribute is missing": ("other = 3\n", ("app.py", "nothing", "App")),
    "a setting that librdkafka does not know": (
        with_kafka("sesion.timeout.ms", 6000),
        ("sesion.timeout.ms", "librdkafka"),
    ),
    "a value that librdkafka does not take": (
        with_kafka("session.timeout.ms", "soon"),
        ("session.timeout.ms", "soon"),
    ),
    "values that contradict each other": (
        with_kafka("max.poll.interval.ms", 1000),
        ("max.poll.interval.ms", "session.timeout.ms"),
    ),
    "a setting of the wrong type": (with_kafka("session.timeout.ms", [6000]), ("session.timeout.ms", "6000")),
    "a certificate that is not there": (
        with_kafka("ssl.ca.location", "/nowhere/ca.pem").replace('9"', '9", "security.protocol": "ssl"'),
        ("/nowhere/ca.pem",),
    ),
    "enable.auto.commit is the framework's": (with_kafka("enable.auto.commit", True), ("commit_interval",)),
    "auto.offset.reset is the framework's": (
        with_kafka("auto.offset.reset", "earliest"),
        ("auto.offset.reset", 'start="earliest"', 'start="latest"'),
    ),
    "group.id is the framework's": (with_kafka("group.id", "mine"), ("group.id", "group(")),
    "bootstrap.servers is missing": (
        f'{HEAD}app = App("videos", kafka={{}})\n{FINE}',
        ("bootstrap.servers", "localhost:9092"),
    ),
    "kafka is no dict": (f'{HEAD}app = App("videos", kafka="localhost:9092")\n{FINE}', ("kafka", "str", "dict")),
    "a number out of range": (
        f'{HEAD}app = App("videos", kafka={KAFKA}, concurrency=0)\n{FINE}',
        ("concurrency=0", "at least 1"),
    ),
    "a route drawn twice": (APP + FINE + FINE.replace("Videos", "Again"), ("'videos'", "Videos", "Again", "group(")),
    "a controller without perform": (
        f'{APP}@app.topic("videos")\nclass Videos(Controller): pass\n',
        ("Videos", "def perform"),
    ),
    "a controller that wants arguments": (
        APP + FINE + "    def __init__(self, database): pass\n",
        ("Videos", "__init__", "setup"),
    ),
    "no controller": (f'{APP}app.routes.draw(topic("videos", print))\n', ("print", "Controller")),
    "a topic name that Kafka refuses": (
        APP + FINE.replace('"videos"', '"new videos"'),
        ("'new videos'", "letters"),
    ),
    "no routes": (APP, ("no routes", "@app.topic")),
    "a back-off of nothing": (f"{APP}Backoff(0)\n", ("Backoff(first=0", "0 < first")),
    "a dead letter topic that is its own": (
        APP + FINE.replace('"videos")', '"videos", dead_letter=DeadLetter("videos"))'),
        ("'videos'", "dead letters"),
    ),
}


def sentence(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """The one line that `karafka server` says before it ends with status 1."""
    status, said, told = run(folder, "server", *arguments, environment=environment)
    assert status == 1, told
    assert said == ""
    (line,) = told.splitlines()
    assert line.startswith("karafka: ")
    return line


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_one_sentence(tmp_path: Path, mistake: str) -> None:
    source, words = MISTAKES[mistake]
    (tmp_path / "app.py").write_text(source)

    said = sentence(tmp_path)

    print(said)
    assert all(word in said for word in words), said


def test_a_folder_without_an_app(tmp_path: Path) -> None:
    said = sentence(tmp_path)

    assert all(word in said for word in (str(tmp_path), "app.py", "-A", "KARAFKA_APP")), said


def test_a_target_that_is_not_there(tmp_path: Path) -> None:
    assert "'nowhere'" in sentence(tmp_path, environment={"KARAFKA_APP": "nowhere"})
    assert "'shop.nowhere'" in sentence(tmp_path, "-A", "shop.nowhere:app")
    (tmp_path / "here.py").write_text(APP)
    assert "'here:other'" in sentence(tmp_path, "-A", "here:other")


@pytest.mark.parametrize("target", [":app", ".shop:app", "shop..main:app", "shop/main.py"])
def test_a_target_that_is_no_name(tmp_path: Path, target: str) -> None:
    assert repr(target) in sentence(tmp_path, "-A", target)


def test_a_mistake_in_the_settings_of_a_group(tmp_path: Path) -> None:
    draw = 'app.routes.draw(group("g", topic("v", type("V", (Controller,), {"perform": print})), kafka={"nope": 1}))\n'
    (tmp_path / "app.py").write_text(APP + draw)

    said = sentence(tmp_path)

    assert "'nope'" in said
    assert "'g'" in said


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os\n\ndef broken():\n    return 1 / 0\n\nbroken()\n", ("line 6", "return 1 / 0", "ZeroDivisionError")),
        ("import a_module_that_is_not_there\n", ("line 1", "ModuleNotFoundError", "a_module_that_is_not_there")),
        ("def broken(:\n", ("line 1", "def broken(:", "SyntaxError")),
    ],
)
def test_a_broken_app_shows_its_own_lines(tmp_path: Path, source: str, words: tuple[str, ...]) -> None:
    (tmp_path / "app.py").write_text(source)

    status, _, told = run(tmp_path, "server")

    assert status == 1
    assert "app.py" in told
    assert all(word in told for word in words), told


def test_a_setup_that_fails_shows_its_own_lines(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(f"{APP}{FINE}    @classmethod\n    def setup(cls, app): 1 / 0\n")

    status, _, told = run(tmp_path, "server")

    assert status != 0
    assert "def setup(cls, app): 1 / 0" in told
