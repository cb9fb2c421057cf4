"""Answers that wait for their confirmation, and what happens meanwhile: none is lost, no offset goes ahead of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from time import monotonic

import pytest

from karafka.devbroker import Kafka
from tests.brokers import Running, until
from tests.process.answers import Servers, early, judged, text
from tests.specs.exact import Flow, Line
from tests.specs.run import Stage

RATE = 600
# How long Kafka may take to start on a machine that is busy.
PATIENCE = 120.0
# A controller that hears nothing of its broker for longer fences it; a frozen one is both.
PATIENT = {"broker.session.timeout.ms": "9000"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Kafka]:
    """A Kafka that this test may stop, or freeze."""
    with Kafka(tmp_path / "kafka", settings=PATIENT) as kafka:
        yield kafka


def flows(line: Line, more: int = RATE // 2, timeout: float = 60) -> None:
    """Wait until so many more are committed."""
    before = sum(filter(None, line.committed()))
    until(lambda: sum(filter(None, line.committed())) > before + more, timeout)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("how", "kind"), [("stopped", "def"), ("killed", "async batch"), ("frozen", "def key")])
def test_the_only_broker_goes_and_comes_back(own: Kafka, tmp_path: Path, how: str, kind: str) -> None:
    """No message is blamed for it; each answer is there, in order."""
    line = Line(Stage(own.bootstrap), 3)
    with Servers(tmp_path, text(line, kind)) as servers:
        server = servers.start(0)
        with Flow(line, RATE) as flow:
            flows(line)
            for _ in range(2):
                if how == "frozen":
                    own.freeze()
                    with pytest.raises(TimeoutError):
                        server.event("server_stopped", timeout=3)
                    own.thaw()
                else:
                    (own.stop if how == "stopped" else own.kill)()
                    with pytest.raises(TimeoutError):
                        server.event("server_stopped", timeout=1)
                    own.start(patience=PATIENCE)
                assert early(line) == []
                began = monotonic()
                flows(line)
                print(f"{how}: {monotonic() - began:.1f} s until {RATE // 2} more were committed")
        counts = flow.counts()
        until(lambda: line.committed() == counts, 60)
        failed = servers.failed()
        servers.stop()
    assert list(judged(line, counts)) == []
    assert failed == 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["def", "async"])
def test_a_stop_while_the_broker_is_away_ends_in_its_time(own: Kafka, tmp_path: Path, kind: str) -> None:
    """With status 2, as work that outlasts the time-out does; the next start answers what was not confirmed."""
    line = Line(Stage(own.bootstrap), 2)
    with Servers(tmp_path, text(line, kind, shutdown_timeout=2.0)) as servers:
        server = servers.start(0)
        with Flow(line, RATE) as flow:
            flows(line)
            own.kill()
            server.event("client_troubled")
            server.signal(SIGTERM)
            began = monotonic()
            status = server.ended(60)
            took = monotonic() - began
            print(f"{kind}: status {status}, {took:.1f} s after the signal")
            own.start(patience=PATIENCE)
            assert early(line) == []
            servers.start(0)
            flows(line)
        counts = flow.counts()
        until(lambda: line.committed() == counts, 60)
        servers.stop()
    assert list(judged(line, counts)) == []
    assert status == 2, str(server.heard)
    assert [one["unfinished"] for one in server.happened("server_stopped")] != [[]]
    assert took < 20


@pytest.mark.timeout(120)
def test_a_stop_waits_for_confirmations(own: Kafka, tmp_path: Path) -> None:
    """Of a broker that is slow, and there in time: all that was performed is committed, and the status is 0."""
    line = Line(Stage(own.bootstrap), 1)
    with Servers(tmp_path, text(line, "def", shutdown_timeout=30.0)) as servers:
        server = servers.start(0)
        with Flow(line, RATE):
            flows(line)
            own.freeze()
            server.signal(SIGTERM)
            with pytest.raises(TimeoutError):
                server.event("server_stopped", timeout=2)
            own.thaw()
            assert server.ended() == 0, str(server.heard)
    assert early(line) == []
    (end,) = line.committed()
    assert end is not None
    assert list(judged(line, [end])) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["def", "async batch"])
def test_a_member_joins_while_answers_wait(kafka: Running, tmp_path: Path, kind: str) -> None:
    """For longer than `drain_timeout`: what is not confirmed then is answered again by who has the partition now."""
    line = Line(Stage(kafka.bootstrap), 4)
    with Servers(tmp_path, text(line, kind, {"linger.ms": 3_000}, drain_timeout=1.0)) as servers:
        first = servers.start(0)
        with Flow(line, RATE) as flow:
            flows(line, 1)
            second = servers.start(1)
            second.assigned(2)
            overran = first.happened("overran")
            assert early(line) == []
            flows(line)
        counts = flow.counts()
        until(lambda: line.committed() == counts, 60)
        failed = servers.failed()
        servers.stop()
    print(f"{kind}: {[one['waited'] for one in overran]} s waited for what ran on")
    assert list(judged(line, counts)) == []
    assert failed == 0
    assert overran
