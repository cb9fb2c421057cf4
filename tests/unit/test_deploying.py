"""The files of docs/deploying.md hold what a stop in order takes: time enough, signals that arrive, honest probes."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from karafka import App
from karafka.cli.main import COMMANDS
from karafka.processes.swarm import LATE
from tests.readmes import blocks

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "deploying.md"
TEMPLATE = ROOT / "src" / "karafka" / "cli" / "templates" / "folders" / "Dockerfile.tpl"
# What the last process has gone by, whatever hangs.
LONGEST = inspect.signature(App).parameters["shutdown_timeout"].default + LATE
PROBE = "find /tmp/alive -mmin -1 | grep -q ."


def unit(several: str = "") -> str:
    """The unit as the page shows it; with the lines for several processes in place of those of their names."""
    text, added = blocks(PAGE, "ini")
    lines = added.splitlines() if several else []
    for line in lines:
        name = line.partition("=")[0]
        text = (
            re.sub(rf"^{name}=.*$", line, text, flags=re.MULTILINE)
            if name == "ExecStart"
            else text.replace("[Install]", f"{line}\n[Install]")
        )
    return text


def directives(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def manifest() -> dict[str, Any]:
    """The Deployment, read as the part of YAML that it is written in: maps, lists, scalars, lists in JSON."""
    lines = [line for line in blocks(PAGE, "yaml")[0].splitlines() if line.strip()]
    read, rest = _block([(len(line) - len(line.lstrip()), line.strip()) for line in lines])
    assert not rest
    assert isinstance(read, dict)
    return read


Lines = list[tuple[int, str]]


def _block(lines: Lines) -> tuple[Any, Lines]:
    depth, first = lines[0]
    listed: list[Any] = []
    mapped: dict[str, Any] = {}
    while lines and lines[0][0] == depth:
        _, text = lines[0]
        if text.startswith("- "):
            value, lines = _block([(depth + 2, text[2:]), *lines[1:]])
            listed.append(value)
            continue
        name, _, scalar = text.partition(":")
        lines = lines[1:]
        if scalar.strip():
            mapped[name] = _scalar(scalar.strip())
        else:
            mapped[name], lines = _block(lines)
    return (listed if first.startswith("- ") else mapped), lines


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.fixture
def pod() -> dict[str, Any]:
    found: dict[str, Any] = manifest()["spec"]["template"]["spec"]
    return found


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    return dict(found)


def test_each_waits_longer_than_a_stop_can_take(pod: dict[str, Any]) -> None:
    """systemd, Docker and Kubernetes alike: whoever kills sooner kills work that would have ended."""
    (systemd,) = directives(unit())["TimeoutStopSec"]
    docker = re.findall(r"--stop-timeout (\d+)", PAGE.read_text())
    stops = [systemd, pod["terminationGracePeriodSeconds"], *docker, *re.findall(r"--time (\d+)", PAGE.read_text())]

    assert len(docker) >= 3
    assert [stop for stop in stops if int(stop) < LONGEST] == []


def test_systemd_signals_the_server_alone() -> None:
    """And TERM, its default."""
    found = directives(unit("several"))

    assert found["Type"] == ["notify"]
    assert found["KillMode"] == ["mixed"]
    assert "KillSignal" not in found
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert "ExecReload" not in directives(unit())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("several", ["", "several"])
def test_systemd_takes_the_unit(tmp_path: Path, several: str) -> None:
    """Without a word: a name that it does not know would be one."""
    file = tmp_path / "shop.service"
    file.write_text(unit(several).replace("/srv/shop/.venv/bin/karafka", sys.executable))

    ran = subprocess.run(
        ["systemd-analyze", "verify", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_dockerfile_is_the_one_that_install_writes() -> None:
    (shown,) = blocks(PAGE, "dockerfile")

    assert shown == TEMPLATE.read_text()


def commands(container: dict[str, Any]) -> Iterator[list[str]]:
    """All that start a server or a worker, in exec form."""
    yield container["command"]
    yield from map(json.loads, re.findall(r"^CMD (.*)$", TEMPLATE.read_text(), re.MULTILINE))
    yield from map(json.loads, re.findall(r"`command: (\[.*?\])`", PAGE.read_text()))


def test_the_server_is_process_1(container: dict[str, Any]) -> None:
    """The exec form: a shell before it would keep the signals to itself. And the probe looks at the file it keeps."""
    found = list(commands(container))

    assert len(found) == 3
    for program, command, *rest in found:
        assert program == "karafka"
        assert command in COMMANDS
        assert rest == ["--alive-file", "/tmp/alive"]


def test_probes_look_at_the_file_and_at_nothing_else(container: dict[str, Any]) -> None:
    """The same that the page explains, and the image has."""
    shell = ["sh", "-c", PROBE]

    assert container["startupProbe"]["exec"]["command"] == shell
    assert container["livenessProbe"]["exec"]["command"] == shell
    assert "readinessProbe" not in container
    assert "lifecycle" not in container
    assert re.findall(r"^HEALTHCHECK .*CMD (.*)$", TEMPLATE.read_text(), re.MULTILINE) == [PROBE]
    assert blocks(PAGE, "sh")[0].startswith(PROBE)


def test_the_probe_says_how_old_is_too_old(tmp_path: Path) -> None:
    """Missing and older than a minute are not alive."""
    alive = tmp_path / "alive"

    def probe() -> int:
        return subprocess.run(
            ["sh", "-c", PROBE.replace("/tmp/alive", str(alive))], stderr=subprocess.DEVNULL, check=False
        ).returncode

    assert probe() == 1
    alive.touch()
    assert probe() == 0
    subprocess.run(["touch", "-d", "62 seconds ago", str(alive)], check=True)
    assert probe() == 1


def test_a_pod_may_hold_what_its_server_may_take(container: dict[str, Any]) -> None:
    """Messages in hand as the app's default has it, and the server itself (45 MB)."""
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20

    assert limit > inspect.signature(App).parameters["memory"].default + 45e6
    assert "cpu" not in container["resources"]["limits"]
