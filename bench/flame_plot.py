"""Draws stacks as a flame graph: `flame_plot FOLDED.json PLOT.svg`, in the plots' environment.

Below, the turn; above each line what it calls, as wide as the share of samples in which it was at work.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib import pyplot as plt

Stack: TypeAlias = tuple[list[str], int]

# The client's work, the user's, the framework's.
COLOURS = (("ConfluentConsumer._consume", "#9aa7b1"), ("VideosController", "#e39c37"), ("", "#a9c7e8"))
WIDTH, HEIGHT = 12.0, 0.24
# Characters that fit into all of the width.
LETTERS = 150


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    stacks: list[Stack] = [(frames, count) for frames, count in json.loads(source.read_text())]
    total = sum(count for _, count in stacks)
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "flame", "font.size": 7, "font.family": "monospace"})
    figure, axes = plt.subplots()
    depth = draw(axes, stacks, total, 0.0, 0)
    figure.set_size_inches(WIDTH, HEIGHT * (depth + 2))
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.1, depth + 0.1)
    axes.set_xlabel(f"share of {total:,} samples within turns of the listener")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_yticks([])
    figure.savefig(target, format="svg", metadata={"Date": None}, facecolor="white", bbox_inches="tight")


def draw(axes: Any, stacks: list[Stack], total: int, left: float, level: int) -> int:
    """The frames of one level from `left` on, widest first, and above each those that it called. The height of all."""
    height = level
    by_name: dict[str, list[Stack]] = {}
    for frames, count in stacks:
        if frames:
            by_name.setdefault(frames[0], []).append((frames[1:], count))
    widths = {name: sum(count for _, count in rest) / total for name, rest in by_name.items()}
    for name in sorted(by_name, key=lambda one: -widths[one]):
        width = widths[name]
        if width < 1 / LETTERS:
            break
        colour = next(colour for begin, colour in COLOURS if name.startswith(begin))
        axes.barh(level, width, left=left, height=0.94, align="edge", color=colour, edgecolor="white", linewidth=0.4)
        if (room := int(width * LETTERS)) > 3:
            text = name if len(name) <= room else f"{name[: room - 1]}…"
            axes.text(left + 0.002, level + 0.47, text, va="center", clip_on=True, parse_math=False)
        height = max(height, level + 1, draw(axes, by_name[name], total, left, level + 1))
        left += width
    return height


main()
