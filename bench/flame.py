"""`python -m bench.flame`: where the time of a message goes, line by line, into docs/flame.svg.

The loop `perform` of the bench on a Kafka of its own, sampled by py-spy from outside. Only the turns are shown: what is
imported, joined and left is cut off.
"""

from __future__ import annotations

import json
import linecache
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import click

from bench.environments import interpreter
from bench.ground import broker, filled
from bench.loops.part import RECORDS, values
from bench.page import PLOTTER

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "flame.svg"
PROFILER = ("profile", ("py-spy==0.4.3",))
RATE = 1_000
# Where a turn begins: what calls it is the same for all.
TURN = "Listener.step"


class Frame(NamedTuple):
    """One line of code that was at work: its function, its file as the profiler names it, its number."""

    function: str
    file: str
    line: int

    @property
    def said(self) -> str:
        """The function with the text of the line, where it is ours."""
        for folder in (ROOT / "src", ROOT):
            if text := linecache.getline(str(folder / self.file), self.line).strip():
                return f"{self.function}:  {text}"
        return self.function


@click.command(help=__doc__)
@click.option("--records", default=RECORDS, show_default=True)
def main(records: int) -> None:
    with broker(None) as address, tempfile.TemporaryDirectory() as folder:
        topic, found = filled(address, 1, values(records)), Path(folder) / "stacks"
        loop = [
            sys.executable,
            "-m",
            "bench.loops.perform",
            address,
            topic,
            str(records),
            f"flame-{uuid.uuid4().hex[:8]}",
        ]
        sampling = ["record", "--rate", str(RATE), "--format", "raw", "--output", str(found)]
        profiler = Path(interpreter(*PROFILER)).with_name("py-spy")
        subprocess.run([str(profiler), *sampling, "--", *loop], check=True)
        if not (counts := turns(found.read_text().splitlines())):
            raise SystemExit(f"no sample of {TURN} among what {profiler.name} has found")
        folded = Path(folder) / "folded.json"
        folded.write_text(json.dumps([[[one.said for one in frames], count] for frames, count in counts.items()]))
        subprocess.run([interpreter(*PLOTTER), "-m", "bench.flame_plot", str(folded), str(TARGET)], check=True)


def turns(stacks: Iterable[str]) -> dict[tuple[Frame, ...], int]:
    """How often each stack was seen below a turn. A line is `frame;frame;frame count`, a frame `name (file:line)`."""
    counts: dict[tuple[Frame, ...], int] = {}
    for stack in stacks:
        frames, count = stack.rsplit(" ", 1)
        found = [frame(text) for text in frames.split(";") if text.endswith(")")]
        begin = next((at for at, one in enumerate(found) if one.function == TURN), None)
        if begin is not None:
            key = tuple(found[begin:])
            counts[key] = counts.get(key, 0) + int(count)
    return counts


def frame(text: str) -> Frame:
    function, _, place = text[:-1].rpartition(" (")
    file, _, line = place.rpartition(":")
    return Frame(function, file, int(line) if line.isdigit() else 0)


if __name__ == "__main__":
    main()
