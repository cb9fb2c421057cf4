"""Draws what a part found: `plot SECTION.json PLOT.svg`, in an environment of its own. Same figures, same file."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

# What is ours has the same one in all plots; the others in the order in which they appear.
OURS, OTHERS = "#1f5fa8", ("#e39c37", "#7a8b99", "#b04a5a", "#3f8f6b")
# Between bars of different rows, in bars.
GAP = 0.6


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    plot = json.loads(source.read_text())["found"]["plot"]
    # Text remains text: small files, and any reader's font.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": source.stem, "font.size": 9})
    figure = drawn(plot["axis"], plot["bars"])
    figure.savefig(target, format="svg", metadata={"Date": None}, facecolor="white", bbox_inches="tight")


def drawn(axis: str, bars: list[dict[str, Any]]) -> Any:
    """Horizontal bars from the top down, those of a row together: medians, and whiskers to the least and the most."""
    others = iter(OTHERS)
    colours = {
        name: OURS if name == "karafka" else next(others) for name in dict.fromkeys(one["series"] for one in bars)
    }
    at, labels = 0.0, {}
    figure, axes = plt.subplots()
    for said, row in groupby(bars, lambda one: one["said"]):
        first = at
        for one in row:
            whisker = [[one["middle"] - one["least"]], [one["most"] - one["middle"]]]
            colour = colours[one["series"]]
            axes.barh(at, one["middle"], height=0.85, color=colour, xerr=whisker, ecolor="#333333", capsize=2)
            axes.annotate(read(one["middle"]), (one["most"], at), (4, 0), textcoords="offset points", va="center")
            at += 1
        labels[(first + at - 1) / 2] = said
        at += GAP
    figure.set_size_inches(7.5, 0.6 + 0.24 * at)
    axes.set_yticks(list(labels), list(labels.values()))
    axes.margins(x=0.1)
    axes.set_ylim(at - GAP - 0.4, -0.6)
    axes.set_xlabel(axis)
    axes.spines[["top", "right"]].set_visible(False)
    patches = [Patch(color=colour, label=name) for name, colour in colours.items()]
    axes.legend(handles=patches, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(patches), frameon=False)
    return figure


def read(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


main()
