"""What the store tells of one repository, as plain values: for the terminal and for the page."""

from __future__ import annotations

from dataclasses import dataclass

from store import Store

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
TOP = 12

COUNTS = "SELECT CAST(value AS INTEGER), count(*) FROM metrics WHERE repository = ? AND name = ? GROUP BY 1"
KINDS = "SELECT kind, count(*) FROM offenses WHERE repository = ? GROUP BY kind ORDER BY 2 DESC, 1"
HOT_SPOTS = """
SELECT path, count(*), CAST(sum(value) AS INTEGER) FROM metrics WHERE repository = ? AND name = 'hot-spots.lines'
GROUP BY path ORDER BY 2 DESC, 3 DESC, 1 LIMIT ?"""
LINES = """
SELECT CAST(sum(value) AS INTEGER) FROM metrics WHERE repository = ? AND name IN ('size.added', 'size.deleted')
GROUP BY sha ORDER BY julianday(at), sha"""
COMPLEXITIES = """
SELECT CAST(max(value) AS INTEGER) FROM metrics WHERE repository = ? AND name = 'complexity.worst'
GROUP BY sha ORDER BY julianday(at), sha"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Commits are counted by their authors' local time. Pairs and triples are sorted, the greatest first."""

    repository: str
    commits: int
    metrics: int
    by_kind: list[tuple[str, int]]
    by_hour: list[int]
    by_weekday: list[int]
    hot_spots: list[tuple[str, int, int]]  # path, commits, lines changed
    lines: list[int]  # changed by each commit, the oldest first
    complexities: list[int]  # the worst function that each commit touched the file of, the oldest first

    @property
    def offenses(self) -> int:
        return sum(count for _, count in self.by_kind)


def summarize(store: Store, repository: str) -> Summary:
    hours = dict(store.ask(COUNTS, repository, "habits.hour"))
    weekdays = dict(store.ask(COUNTS, repository, "habits.weekday"))
    ((metrics,),) = store.ask("SELECT count(*) FROM metrics WHERE repository = ?", repository)
    return Summary(
        repository=repository,
        commits=sum(hours.values()),
        metrics=metrics,
        by_kind=store.ask(KINDS, repository),
        by_hour=[hours.get(hour, 0) for hour in range(24)],
        by_weekday=[weekdays.get(day, 0) for day in range(7)],
        hot_spots=store.ask(HOT_SPOTS, repository, TOP),
        lines=[lines for (lines,) in store.ask(LINES, repository)],
        complexities=[worst for (worst,) in store.ask(COMPLEXITIES, repository)],
    )
