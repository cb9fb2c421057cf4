"""What a README shows, taken at its word: its commands are run, in its folder, and what they print is compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.process.servers import Server, karafka

# A user's, whose environment is at hand.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def blocks(readme: Path, language: str) -> list[str]:
    """What stands in its blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", readme.read_text(), re.DOTALL | re.MULTILINE)


def printed(folder: Path, commands: str) -> str:
    """What a shell prints of `commands` in `folder`. Raises `CalledProcessError`."""
    environment = {**os.environ, "PATH": PATH}
    ran = subprocess.run(
        commands, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return ran.stdout


@contextmanager
def embedded(folder: Path, command: str) -> Iterator[tuple[Server, str]]:
    """A server as `command` starts it, on the embedded broker, and the address of that. It ends in order."""
    program, *arguments = command.split()
    assert program == "karafka"
    with karafka(folder, *arguments) as server:
        server.until(lambda: any("Address: " in line for line in server.heard.told), "its address")
        (address,) = re.findall(r"Address: (\S+)", "\n".join(server.heard.told))
        yield server, address
        assert server.stop() == 0, str(server.heard)
