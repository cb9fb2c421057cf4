"""Environments for those that are measured beside us, one each: nobody's requirements bend another's."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".karafka" / "bench"


def interpreter(name: str, requirements: Sequence[str]) -> str:
    """The interpreter of the environment `name`, made at first use; this one's where nothing is required."""
    if not requirements:
        return sys.executable
    folder = FOLDER / name
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        subprocess.run([str(python), *install], check=True)
        stamp.write_text(wanted)
    return str(python)
