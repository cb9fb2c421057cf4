"""The page of figures: a section for each part that was measured, and no figure without its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import page
from bench.loops import part as loops
from bench.page import Section, keep
from bench.part import Bar, Found, Plot, spread


def section(name: str, rate: str, plot: Plot | None = None) -> Section:
    return Section(
        name=name,
        title=name.capitalize(),
        goals="as fast as can be.",
        date="2026-11-26",
        machine="2 cores",
        versions="Python 3.11",
        rounds=5,
        found=Found(said="How it was done.", head=("", "messages/s"), rows=(("ours", rate),), plot=plot),
    )


def test_a_part_that_is_measured_anew_replaces_its_own_section_alone(tmp_path: Path) -> None:
    """Whatever was measured first: the page has the order of the parts."""
    keep(section("partitions", "1,000"), tmp_path)
    keep(section("loops", "2,000"), tmp_path)
    keep(section("partitions", "3,000"), tmp_path)

    assert (tmp_path / "RESULTS.md").read_text() == (
        "# Results\n"
        "\n"
        "Written by the runs: `make bench` measures all parts anew, `make bench PART=lanes` one.\n"
        "\n"
        "## Loops\n"
        "How it was done.\n"
        "\n"
        "|  | messages/s |\n"
        "|---|---:|\n"
        "| ours | 2,000 |\n"
        "\n"
        "Goals: as fast as can be.\n"
        "\n"
        "2026-11-26, 5 rounds of `make bench PART=loops`; 2 cores, Python 3.11.\n"
        "\n"
        "## Partitions\n"
        "How it was done.\n"
        "\n"
        "|  | messages/s |\n"
        "|---|---:|\n"
        "| ours | 3,000 |\n"
        "\n"
        "Goals: as fast as can be.\n"
        "\n"
        "2026-11-26, 5 rounds of `make bench PART=partitions`; 2 cores, Python 3.11.\n"
    )


def test_a_plot_stands_above_its_table() -> None:
    bars = (Bar(said="ours", series="karafka", middle=0.8, least=0.7, most=0.9),)
    lines = page.written([section("loops", "2,000", Plot(axis="of the tuned client", bars=bars))]).splitlines()

    assert lines.index("![Loops: of the tuned client](results/loops.svg)") < lines.index("|  | messages/s |")


@pytest.mark.parametrize("wrong", [{"count": 9.0}, {"total": 44.0}])
def test_a_figure_without_its_ledger_ends_the_bench(wrong: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten records have the ids 0 to 9: one of them is missing here, or was read twice."""
    answer = {"wall": 1.0, "cpu": 1.0, "librdkafka": 0.0, "count": 10.0, "total": 45.0, **wrong}

    def answered(*_: Any, **__: Any) -> dict[str, float]:
        return answer

    monkeypatch.setattr(loops, "answered", answered)

    with pytest.raises(SystemExit, match="10 messages add up to 45"):
        loops.run(loops.LOOPS["consume"], "python", "127.0.0.1:9092", "topic", 10)


def test_a_row_is_compared_with_what_was_measured_in_the_same_round() -> None:
    """Each round's own ratio, not the ratio of medians; a dash where the other was left out."""
    figures = {"consume": [loops.Figure(wall, wall, 0.0) for wall in (1.0, 2.0, 4.0)]}
    figures["perform"] = [loops.Figure(wall, wall, 0.0) for wall in (2.0, 2.5, 8.0)]

    ratios = loops.compared(figures, "perform")

    assert loops.row("perform", figures["perform"], ratios)[4:] == ("0.50", "0.50 to 0.80")
    assert loops.row("perform", figures["perform"], [])[4:] == ("-", "-")
    assert (spread(ratios), spread([])) == ("0.50 (0.50 to 0.80)", "-")
