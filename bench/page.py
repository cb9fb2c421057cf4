"""RESULTS.md: a section for each part, made of what its last run found and kept in `results/`.

A part that is measured anew replaces its own section alone, so each says when, where and with which versions it was
measured.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.environments import interpreter
from bench.part import NAMES, Found, Part
from karafka.devbroker.artifacts import VERSION

FOLDER = Path(__file__).parent
PLOTTER = ("plot", ("matplotlib==3.11.2",))
OWN_KAFKA = f"Apache Kafka {VERSION} on the same machine"
GIVEN_KAFKA = "on a broker that was given"


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a part's last run."""

    name: str
    title: str
    goals: str
    date: str
    machine: str
    versions: str
    rounds: int
    found: Found


def section(part: Part, found: Found, rounds: int, kafka: str) -> Section:
    """What `part` found just now, on this machine."""
    return Section(
        name=part.name,
        title=part.title,
        goals=part.goals,
        date=time.strftime("%Y-%m-%d"),
        machine=f"{os.cpu_count()} cores ({platform.machine()})",
        versions=f"Python {platform.python_version()}, confluent-kafka {version('confluent-kafka')}, {kafka}",
        rounds=rounds,
        found=found,
    )


def keep(new: Section, folder: Path = FOLDER) -> None:
    """Put it in the place of the part's former section, and write the page anew."""
    results = folder / "results"
    results.mkdir(exist_ok=True)
    kept = results / f"{new.name}.json"
    kept.write_bytes(msgspec.json.format(msgspec.json.encode(new), indent=1) + b"\n")
    paths = (results / f"{name}.json" for name in NAMES)
    sections = [msgspec.json.decode(path.read_bytes(), type=Section) for path in paths if path.exists()]
    (folder / "RESULTS.md").write_text(written(sections))
    if new.found.plot is not None:
        command = [interpreter(*PLOTTER), "-m", "bench.plot", str(kept), str(kept.with_suffix(".svg"))]
        subprocess.run(command, check=True)


def written(sections: Sequence[Section]) -> str:
    """The page in Markdown."""
    lines = ["# Results", "", "Written by the runs: `make bench` measures all parts anew, `make bench PART=lanes` one."]
    for one in sections:
        lines += ["", f"## {one.title}", one.found.said, ""]
        if one.found.plot is not None:
            lines += [f"![{one.title}: {one.found.plot.axis}](results/{one.name}.svg)", ""]
        lines += ["| " + " | ".join(one.found.head) + " |", "|---" + "|---:" * (len(one.found.head) - 1) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in one.found.rows]
        lines += ["", f"Goals: {one.goals}"] if one.goals else []
        repeat = f"{one.rounds} rounds of `make bench PART={one.name}`"
        lines += ["", f"{one.date}, {repeat}; {one.machine}, {one.versions}."]
    return "\n".join(lines) + "\n"


def show(console: Console, title: str, found: Found) -> None:
    """The table for the one who waits for it."""
    table = Table(title=title)
    for column in found.head:
        table.add_column(column, overflow="fold")
    for row in found.rows:
        table.add_row(*row)
    console.print(table)
