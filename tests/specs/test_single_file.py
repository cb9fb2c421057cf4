"""The example in one file works as its README says: its commands are run, and what they print is compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.process.servers import karafka

FOLDER = Path(__file__).parents[2] / "examples" / "single_file"
README = (FOLDER / "README.md").read_text()
# A user's, whose environment is at hand.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def blocks(language: str) -> list[str]:
    """What stands in the README's blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def printed(commands: str) -> str:
    """What a shell prints of `commands` in the example's folder."""
    environment = {**os.environ, "PATH": PATH}
    ran = subprocess.run(
        commands, shell=True, cwd=FOLDER, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return ran.stdout


def test_what_its_readme_shows_is_what_happens() -> None:
    """Whoever follows a channel is notified of the video that is sent."""
    first, second = blocks("sh")
    (expected,) = blocks("text")
    with karafka(FOLDER, *first.split()[1:]) as server:
        server.until(lambda: any("Address: " in line for line in server.heard.told), "its address")
        address = re.search(r"Address: (\S+)", str(server.heard))
        assert address is not None
        printed(second.replace("127.0.0.1:PORT", address[1]))
        for line in expected.splitlines():
            server.says(line)
        assert server.stop() == 0, str(server.heard)

    assert sorted(server.heard.said) == expected.splitlines()


def test_its_flow_is_as_shown() -> None:
    (shown,) = blocks("console")
    command, _, output = shown.removeprefix("$ ").partition("\n")

    assert printed(command) == output
