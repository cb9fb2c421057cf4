"""Leaders move, brokers are restarted in turn, all of them get other addresses: work goes on, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from karafka.devbroker import ports
from tests.brokers import until
from tests.chaos.feeder import PARTITIONS
from tests.cluster import Cluster
from tests.process.servers import Server
from tests.process.test_rebalance import SESSIONS, Flow
from tests.process.troubles import loud

# Three Javas on a busy machine take their time.
pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(600)]
RATE = 200
# What may follow from a broker's end, and is told for what it is.
FOLLOWS = ("lost", "commit_failed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as three:
        yield three


class Moves:
    """A server at work on the cluster while things happen to it."""

    def __init__(self, cluster: Cluster, flow: Flow, server: Server) -> None:
        self.cluster, self.flow, self.server = cluster, flow, server

    def goes_on(self) -> None:
        """New messages of each partition are performed."""
        tops = {partition: self.flow.tail.top(partition) for partition in range(PARTITIONS)}

        def further() -> bool:
            self.flow.tail.read()
            return all(self.flow.tail.top(partition) > top + 20 for partition, top in tops.items())

        self.server.until(further, "new messages of each partition performed", timeout=120)

    def whole(self) -> None:
        """All replicas are in sync again: the next node may go."""
        until(lambda: self.cluster.whole(self.flow.topic), timeout=120)


@contextmanager
def at_work(cluster: Cluster, folder: Path, addresses: str = "") -> Iterator[Moves]:
    """Messages flow and are performed; at the end all were, in order, and no sentence was said twice."""
    flow = Flow(addresses or cluster.bootstrap, folder, SESSIONS, rate=RATE)
    with flow.consumer(0, "fast").served() as server:
        server.assigned(timeout=120)
        flow.feeder.start()
        moves = Moves(cluster, flow, server)
        moves.goes_on()
        yield moves
        sent = flow.feeder.stop()
        server.until(lambda: flow.tail.reached(sent), "the last message performed", timeout=120)
        said = loud(server, FOLLOWS)
        print("\n".join(said))
        assert len(said) == len(set(said)), str(server.heard)
        assert server.stop() == 0, str(server.heard)
    flow.bootstrap = cluster.bootstrap
    flow.complete(sent)


@pytest.mark.parametrize("role", ["leader", "coordinator"])
def test_a_broker_is_killed_and_its_leadership_comes_back(cluster: Cluster, tmp_path: Path, role: str) -> None:
    """The others answer, so it is not said that nobody does."""
    with at_work(cluster, tmp_path) as moves:
        topic, group = moves.flow.topic, moves.flow.group
        number = cluster.leaders(topic)[0] if role == "leader" else cluster.coordinator(group)
        cluster.nodes[number].kill()
        until(lambda: not {number, -1} & set(cluster.leaders(topic).values()), timeout=120)
        moves.goes_on()
        cluster.start_again(number)
        moves.whole()
        cluster.prefer(topic)
        moves.goes_on()
        # That the broker is gone, and that the new coordinator was not ready when it was asked.
        said = loud(moves.server, FOLLOWS)
        assert len(said) <= 2, str(moves.server.heard)
        assert not any("no broker answers" in line for line in said)


def test_all_brokers_are_restarted_in_turn(cluster: Cluster, tmp_path: Path) -> None:
    with at_work(cluster, tmp_path) as moves:
        for number, node in cluster.nodes.items():
            node.stop()
            moves.goes_on()
            cluster.start_again(number)
            moves.whole()
            moves.goes_on()


def test_all_brokers_change_one_by_one(cluster: Cluster, tmp_path: Path) -> None:
    """At the end nobody listens at any address that the server was told at its start."""
    with at_work(cluster, tmp_path) as moves:
        for number, node in cluster.nodes.items():
            node.stop()
            node.move(ports.free())
            cluster.start_again(number)
            moves.whole()
            moves.goes_on()


def test_all_brokers_change_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """Known to the server are the old addresses and the new ones, as when a name stands for a cluster."""
    new = {number: ports.free() for number in cluster.nodes}
    both = ",".join([cluster.bootstrap, *(f"{ports.HOST}:{port}" for port in new.values())])
    with at_work(cluster, tmp_path, addresses=both) as moves:
        for number, node in cluster.nodes.items():
            node.kill()  # without a majority a stop would wait for one
            node.move(new[number])
        cluster.start()
        moves.goes_on()
        moves.server.event("client_recovered")
