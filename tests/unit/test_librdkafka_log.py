"""What librdkafka logs by itself, for those who listen to its logger."""

from __future__ import annotations

import logging

import pytest

from karafka import confluent
from karafka.clock import ManualClock

AWAY = (
    "[thrd:a:1/bootstrap]: a:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after {} ms in state)"
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setattr(confluent, "monotonic", clock.monotonic)
    return clock


def heard(once: logging.Filter, level: int, kind: str, client: str, text: str) -> bool:
    arguments = (kind, client, text)
    return bool(once.filter(logging.LogRecord("karafka.librdkafka", level, "", 0, "%s [%s] %s", arguments, None)))


def test_that_a_broker_is_away_is_heard_once(clock: ManualClock) -> None:
    """Whichever client says it, at each of its tries; again once it has not been said for a while."""
    once = confluent.Once()
    found = []
    for second in range(100):
        found += [heard(once, logging.ERROR, "FAIL", f"producer-{one}", AWAY.format(second)) for one in range(12)]
        clock.advance(1)
    assert found == [True] + 1_199 * [False]

    assert heard(once, logging.ERROR, "FAIL", "producer-1", AWAY.replace("a:1", "b:1"))
    clock.advance(60)
    assert heard(once, logging.ERROR, "FAIL", "producer-1", AWAY.format(0))


def test_all_else_is_heard_each_time() -> None:
    once = confluent.Once()

    assert all(heard(once, logging.WARNING, "REQTMOUT", "producer-1", "Timed out 1 in-flight") for _ in range(3))
    assert once.filter(logging.LogRecord("karafka.librdkafka", logging.WARNING, "", 0, "of another's", None, None))


def test_whoever_wants_all_hears_all(caplog: pytest.LogCaptureFixture) -> None:
    """Of debugging each try is part."""
    once = confluent.Once()
    with caplog.at_level(logging.DEBUG, "karafka.librdkafka"):
        assert all(heard(once, logging.ERROR, "FAIL", "producer-1", AWAY) for _ in range(3))
