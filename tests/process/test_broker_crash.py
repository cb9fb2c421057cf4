"""The broker dies under a running server, or stands still, and comes back: the server goes on, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from karafka.devbroker import Kafka
from tests.chaos.feeder import PARTITIONS
from tests.chaos.journal import Tail
from tests.process.servers import Scene, Server, serve
from tests.process.test_rebalance import SESSIONS, Flow

# How long the controller waits for a broker that says nothing before it fences it, in milliseconds: Kafka's default.
# Our development broker has less, to come back sooner after a kill. One that is its own controller, and stood still
# for longer, fences itself when it wakes; after one of eight such wakings the next assignment took a minute.
PATIENT = {"broker.session.timeout.ms": "9000"}


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """A Kafka that this test may kill, or freeze."""
    how = getattr(request.node, "callspec", None)
    frozen = how is not None and how.params.get("how") == "frozen"
    with Kafka(tmp_path / "kafka", settings=PATIENT if frozen else {}) as kafka:
        yield kafka


def again(server: Server, tail: Tail) -> float:
    """Wait until it performs something that it had not yet; the seconds it took."""
    began = time.monotonic()
    tail.read()
    before = {partition: tail.top(partition) for partition in range(PARTITIONS)}

    def new() -> bool:
        tail.read()
        return all(tail.top(partition) > top for partition, top in before.items())

    server.until(new, "new messages of each partition performed", timeout=60)
    return time.monotonic() - began


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_server_outlives_its_broker(own: Kafka, tmp_path: Path, how: str) -> None:
    flow = Flow(own.bootstrap, tmp_path, SESSIONS)
    with flow.consumer(0, "fast").served() as server:
        server.assigned(PARTITIONS)
        flow.feeder.start()
        flow.works(server, 0, 1_000)
        if how == "killed":
            own.kill()
            server.event("client_troubled")
            own.start()
        else:
            own.freeze()
            with pytest.raises(TimeoutError):
                server.event("server_stopped", timeout=5)
            own.thaw()
        print(f"{how}: new messages {again(server, flow.tail):.2f} s after the broker was back")
        sent = flow.feeder.stop()
        server.until(lambda: flow.tail.reached(sent), "the last message performed")
        assert server.stop() == 0, str(server.heard)

    flow.tail.read()
    lines = flow.tail.lines
    print(f"{how}: {len(lines)} performed of {sum(map(len, sent.values()))} sent")
    for partition, offsets in sent.items():
        mine = [line.sequence for line in lines if line.partition == partition]
        assert set(mine) == set(range(len(offsets))), str(server.heard)
        firsts = list(dict.fromkeys(mine))
        assert firsts == sorted(firsts), str(server.heard)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_stop_without_a_broker_is_bounded_and_says_what_it_could_not_commit(
    own: Kafka, tmp_path: Path, how: str
) -> None:
    scene = Scene(own.bootstrap, tmp_path)
    scene.send(0, 1)
    perform = ("print('begun', self.params)", "while self.params and not Path('go').exists(): time.sleep(0.01)")
    with serve(tmp_path, scene.app(*perform, "print('done')", commit_interval=0.1)) as server:
        server.says("begun 1")
        server.event("server_started")
        server.until(lambda: scene.committed == [1], "the first message committed")
        (own.kill if how == "killed" else own.freeze)()
        (tmp_path / "go").touch()
        server.until(lambda: server.heard.said.count("done") == 2, "both done")
        began = time.monotonic()
        status = server.stop(timeout=60)
        print(f"broker {how}: stopped in {time.monotonic() - began:.2f} s, status {status}")
        if how == "frozen":
            own.thaw()

    assert status == 0, str(server.heard)
    assert time.monotonic() - began < 15
    assert server.happened("commit_failed") or server.happened("lost"), str(server.heard)


FREEZING = """
from karafka.confluent import ConfluentConsumer

ask = ConfluentConsumer.committed

def committed(self, places, timeout):
    if not Path("frozen").exists():
        Path("frozen").touch()
        os.kill({pid}, signal.SIGSTOP)
    say("asked")
    return ask(self, places, timeout)

ConfluentConsumer.committed = committed
"""


def test_a_broker_that_stands_still_during_an_assignment_is_asked_again(own: Kafka, tmp_path: Path) -> None:
    """Where the partitions begin is the broker's to say: until it does the server waits, and does not end."""
    scene = Scene(own.bootstrap, tmp_path)
    scene.send(0)
    with serve(tmp_path, scene.app("say('done')") + FREEZING.format(pid=own.pid)) as server:
        server.until(lambda: server.heard.said.count("asked") > 1, "the question asked again", timeout=20)
        own.thaw()
        server.says("done", timeout=60)
        assert server.stop() == 0, str(server.heard)
    assert scene.committed == [1]
