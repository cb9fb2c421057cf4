"""The summary as one HTML file with plots: nothing else is loaded, so it can be mailed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from summary import WEEKDAYS, Summary

WIDTH = 760
HEIGHT = 160
ROW = 22

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 800px; margin: 2rem auto; padding: 0 1rem }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
svg { width: 100%; height: auto }
text { fill: currentColor; font: 12px system-ui, sans-serif }
rect { fill: #2a9d8f }
"""


def page(summary: Summary) -> str:
    hours = [(f"{hour:02}", count) for hour, count in enumerate(summary.by_hour)]
    plots = [
        ("Offenses by kind", rows(summary.by_kind)),
        ("Hot spots: commits that changed a file", rows([(path, commits) for path, commits, _ in summary.hot_spots])),
        ("Commits by hour", columns(hours)),
        ("Commits by weekday", columns(list(zip(WEEKDAYS, summary.by_weekday, strict=True)))),
        ("Lines changed, commit by commit", columns([("", lines) for lines in summary.lines])),
        ("The most complex function, commit by commit", columns([("", ways) for ways in summary.complexities])),
    ]
    title = f"Insights into {escape(summary.repository)}"
    counts = f"{summary.commits} commits, {summary.offenses} offenses, {summary.metrics} metrics"
    sections = "\n".join(f"<h2>{escape(heading)}</h2>\n{plot}" for heading, plot in plots)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>\n'
        f"<h1>{title}</h1>\n<p>{counts}</p>\n{sections}\n</html>\n"
    )


def rows(counts: Sequence[tuple[str, int]]) -> str:
    """Horizontal bars: a name, its bar, its count."""
    greatest = max((count for _, count in counts), default=0) or 1
    left, room = 330, WIDTH - 330 - 60
    drawn = []
    for number, (name, count) in enumerate(counts):
        y, length = number * ROW, count / greatest * room
        shown = name if len(name) <= 48 else f"…{name[-47:]}"
        drawn.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(shown)}</text>')
        drawn.append(f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{ROW - 6}"/>')
        drawn.append(f'<text x="{left + length + 6:.1f}" y="{y + 15}">{count}</text>')
    return _svg(drawn, len(counts) * ROW)


def columns(counts: Sequence[tuple[str, int]]) -> str:
    """Vertical bars: what they count is said by pointing at them, the greatest is written at the top."""
    greatest = max((count for _, count in counts), default=0)
    step = WIDTH / max(1, len(counts))
    drawn = [f'<text x="0" y="12">{greatest}</text>']
    for number, (name, count) in enumerate(counts):
        x, width, length = number * step, step * 0.85, count / (greatest or 1) * (HEIGHT - 40)
        y, said = HEIGHT - 20 - length, f"<title>{escape(name)} {count}</title>"
        drawn.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{length:.1f}">{said}</rect>')
        drawn.append(f'<text x="{x + width / 2:.1f}" y="{HEIGHT - 4}" text-anchor="middle">{escape(name)}</text>')
    return _svg(drawn, HEIGHT)


def _svg(drawn: Sequence[str], height: int) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(drawn)}</svg>' if drawn else "<p>none</p>"
