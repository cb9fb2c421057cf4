"""A stop is in order and soon over, whatever the server is at: idle, starting, joining, rebalancing, full, cut off."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGINT, SIGTERM
from statistics import median
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from karafka import Producer
from tests.brokers import Running, new_group, new_topic, until
from tests.process.servers import GATED, HEAD, Scene, Server, app, each, serve
from tests.process.test_fencing import EAGER

SESSIONS = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
PROTOCOLS: Mapping[str, Mapping[str, object]] = {
    "eager": SESSIONS,
    "cooperative": {**SESSIONS, "partition.assignment.strategy": "cooperative-sticky"},
    "kip848": {"group.protocol": "consumer"},
}


def stopped(server: Server, within: float) -> float:
    """Stop it, in order, within so many seconds; the seconds it took."""
    began = time.monotonic()
    status = server.stop()
    took = time.monotonic() - began
    print(f"stopped in {took:.2f} s")
    assert status == 0, str(server.heard)
    assert took < within, str(server.heard)
    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)
    return took


def state(scene: Scene) -> str:
    """How the broker says the scene's group is."""
    admin = AdminClient({"bootstrap.servers": scene.bootstrap, "log_level": 0})
    found: str = admin.describe_consumer_groups([scene.group])[scene.group].result(10).state.name
    return found


# ── idle ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_idle_it_never_waits_for_a_poll(kafka: Running, tmp_path: Path, protocol: str) -> None:
    """The median of five, each idle since its assignment."""
    took = []
    for _ in range(5):
        scene = Scene(kafka.bootstrap, tmp_path, partitions=3)
        settings = {"bootstrap.servers": kafka.bootstrap, **PROTOCOLS[protocol]}
        source = f"{HEAD}app = App({scene.group!r}, kafka={settings!r})\n\n{each(scene.topic, 'pass')}"
        with serve(tmp_path, source) as server:
            server.assigned(3)
            took.append(stopped(server, within=6))

    print(f"{protocol}: {', '.join(f'{one:.2f}' for one in took)} s")
    assert median(took) < 1


def test_idle_with_many_groups_it_does_not_add_them_up(kafka: Running, tmp_path: Path) -> None:
    topics = [new_topic(kafka.bootstrap) for _ in range(8)]
    routes = ", ".join(f"group({new_group()!r}, topic({name!r}, Each))" for name in topics)
    body = f"class Each(Controller):\n    async def perform(self): ...\n\napp.routes.draw({routes})\n"
    with serve(tmp_path, app(kafka.bootstrap, new_group(), body)) as server:
        server.assigned(8)
        took = stopped(server, within=6)

    assert took < 1


# ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_before_the_first_assignment(scene: Scene) -> None:
    with serve(scene.folder, scene.app("pass")) as server:
        server.event("server_started")
        stopped(server, within=6)  # a join under way may end first


@contextmanager
def standing_still(scene: Scene) -> Iterator[Consumer]:
    """A member of the scene's group that has its partitions and does not poll: who joins waits for it."""
    member = Consumer(
        {
            "bootstrap.servers": scene.bootstrap,
            "group.id": scene.group,
            "enable.auto.commit": False,
            "session.timeout.ms": 30_000,
            "max.poll.interval.ms": 60_000,
        }
    )
    member.subscribe([scene.topic])

    def assigned() -> bool:
        member.poll(0.1)
        return bool(member.assignment())

    try:
        until(assigned)
        yield member
    finally:
        member.close()


def test_while_the_group_keeps_it_waiting_for_its_first_assignment(scene: Scene) -> None:
    """The join has no end that the server could wait for: it leaves all the same."""
    with standing_still(scene), serve(scene.folder, scene.app("pass", kafka=EAGER)) as server:
        until(lambda: state(scene) == "PREPARING_REBALANCING")
        stopped(server, within=8)

    assert not server.happened("assigned")


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32])
def test_at_any_moment_of_its_start(scene: Scene, moment: float) -> None:
    """Before it is set up there is nothing to put in order: that is as orderly an end as any."""
    with serve(scene.folder, scene.app("pass") + "\nprint('imported')\n") as server:
        server.says("imported")
        with pytest.raises(TimeoutError):
            server.ended(timeout=moment)
        began = time.monotonic()
        status = server.stop()
        took = time.monotonic() - began

    print(f"{moment} s after its import: status {status} in {took:.2f} s")
    assert status == 0, str(server.heard)
    assert took < 6
    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)


# ── rebalancing ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("leaver", ["who gives up", "who joins"])
def test_while_partitions_change_hands(kafka: Running, tmp_path: Path, leaver: str) -> None:
    """One member works on a partition that it should give up, the other waits for it: either may be stopped."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=2)
    source = scene.app(*GATED, kafka=EAGER, drain_timeout=60.0)
    scene.send(0, 1)
    with ExitStack() as stack:
        first = stack.enter_context(serve(tmp_path, source))
        first.says("begun 0")
        second = stack.enter_context(serve(tmp_path, source))
        until(lambda: state(scene) == "PREPARING_REBALANCING")
        if leaver == "who gives up":
            first.signal(SIGTERM)
            first.event("server_stopping")
            (tmp_path / "open").touch()
            assert first.ended() == 0, str(first.heard)
            second.says("done 1")
            stopped(second, within=6)
            said = first.heard.said + second.heard.said
        else:
            stopped(second, within=8)
            (tmp_path / "open").touch()
            first.says("done 1")
            stopped(first, within=6)
            said = first.heard.said

    assert [line for line in said if line.startswith("done")] == ["done 0", "done 1"]
    assert scene.committed[0] == 2


def test_while_its_next_assignment_is_on_its_way(kafka: Running, tmp_path: Path) -> None:
    """What the group gave it since it last polled, nobody needs any more: it is given back without a question."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=2)
    lingers = """

from karafka.listener import Listener

close = Listener.close
Listener.close = lambda self: [time.sleep(2), close(self)][-1]
"""
    source = scene.app(*GATED, kafka=EAGER, drain_timeout=60.0) + lingers
    scene.send(0, 1)
    with serve(tmp_path, source) as first:
        first.says("begun 0")
        with serve(tmp_path, source) as second:
            until(lambda: state(scene) == "PREPARING_REBALANCING")
            first.signal(SIGTERM)
            first.event("server_stopping")
            (tmp_path / "open").touch()
            assert first.ended() == 0, str(first.heard)
            second.says("done 1")
            stopped(second, within=6)

    assert not first.happened("client_troubled"), str(first.heard)
    assert scene.committed[0] == 2


@pytest.mark.parametrize("way", ["time-out", "second signal"])
def test_while_a_partition_that_goes_is_waited_for(kafka: Running, tmp_path: Path, way: str) -> None:
    """The bound of the stop holds inside a revocation that would wait longer, and what ran on is named."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=2)
    patience = 1.0 if way == "time-out" else 100.0
    source = scene.app("print('begun')", "time.sleep(600)", kafka=EAGER, drain_timeout=100.0, shutdown_timeout=patience)
    scene.send(0)
    with ExitStack() as stack:
        first = stack.enter_context(serve(tmp_path, source))
        first.says("begun")
        second = stack.enter_context(serve(tmp_path, source))
        until(lambda: state(scene) == "PREPARING_REBALANCING")
        with pytest.raises(TimeoutError):
            first.ended(timeout=1.5)  # three heartbeats: it knows of the rebalance by now
        began = time.monotonic()
        status = first.stop(timeout=20) if way == "time-out" else first.press(SIGINT)
        took = time.monotonic() - began
        second.kill()

    print(f"{way}: ended in {took:.2f} s")
    assert status == 2, str(first.heard)
    assert f"{scene.topic}/0/0" in str(first.happened("server_stopped")[0]["unfinished"])
    assert took < 5
    assert scene.committed[0] is None


# ── full ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_full_buffers(scene: Scene) -> None:
    """A slow handler, far more messages than fit: what is in hand is left to the next start."""
    scene.send(*("x" * 500_000 for _ in range(60)))
    source = scene.app("print(self.message.offset)", "time.sleep(0.3)", memory=8 * 1024 * 1024)
    with serve(scene.folder, source, "--log-level", "debug") as server:
        server.event("paused")
        server.says("1")
        stopped(server, within=1.3)
        said = [int(line) for line in server.heard.said]

    assert said == list(range(len(said)))
    assert scene.committed == [len(said)]


def spread(scene: Scene, count: int) -> None:
    """Send so many messages to each partition of the scene."""
    places = ((partition, payload) for partition in range(scene.partitions) for payload in range(count))
    with Producer({"bootstrap.servers": scene.bootstrap}) as producer:
        producer.produce_many_sync({"topic": scene.topic, "payload": two, "partition": one} for one, two in places)


def test_with_all_workers_taken_and_lanes_that_wait(kafka: Running, tmp_path: Path) -> None:
    """One worker, twenty partitions: what it is at is finished, what waits for it is not begun."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=20)
    spread(scene, 3)
    with serve(tmp_path, scene.app(*GATED, concurrency=1), "--log-level", "debug") as server:
        server.until(lambda: len(server.happened("received")) >= 20, "messages of all partitions")
        server.says("begun 0")
        server.signal(SIGTERM)
        server.event("server_stopping")
        (tmp_path / "open").touch()
        assert server.ended(timeout=6) == 0, str(server.heard)

    assert server.heard.said == ["begun 0", "done 0"]
    assert sum(offset or 0 for offset in scene.committed) == 1


def test_with_work_that_the_event_loop_has_not_begun(kafka: Running, tmp_path: Path) -> None:
    scene = Scene(kafka.bootstrap, tmp_path, partitions=10)
    spread(scene, 3)
    perform = (line.replace("time.sleep", "await asyncio.sleep") for line in GATED)
    body = each(scene.topic, *perform, asynchronous=True)
    body = body.replace(f"@app.topic({scene.topic!r})", f"@app.topic({scene.topic!r}, concurrency=2)")
    with serve(tmp_path, app(kafka.bootstrap, scene.group, body), "--log-level", "debug") as server:
        server.until(lambda: len(server.happened("received")) >= 10, "messages of all partitions")
        server.until(lambda: len(server.heard.said) == 2, "two begun")
        server.signal(SIGTERM)
        server.event("server_stopping")
        (tmp_path / "open").touch()
        assert server.ended(timeout=6) == 0, str(server.heard)

    assert sorted(server.heard.said) == ["begun 0", "begun 0", "done 0", "done 0"]
    assert sum(offset or 0 for offset in scene.committed) == 2


# ── cut off ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("broker", ["silent", "nowhere"])
def test_with_a_broker_that_does_not_answer(tmp_path: Path, broker: str) -> None:
    """It takes the connection and says nothing, or its name is nobody's; one that refuses is in `test_stop`."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}" if broker == "silent" else "broker.invalid:9092"
        with serve(tmp_path, app(address, new_group(), each("topic", "pass"))) as server:
            server.event("server_started")
            if broker == "nowhere":
                server.event("client_troubled")
                stopped(server, within=6)
            else:
                with silent.accept()[0]:
                    stopped(server, within=6)


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_hook(scene: Scene, line: str, **settings: Any) -> str:
    """An app whose `on_shutdown` is that line."""
    hook = f"    @classmethod\n    def on_shutdown(cls, partition):\n        {line}\n\n"
    return scene.app("print(self.params)", **settings).replace("    def perform", f"{hook}    def perform")


def test_with_a_hook_that_fails(scene: Scene) -> None:
    """It is told of, and the stop is an orderly one."""
    scene.send(0)
    with serve(scene.folder, with_hook(scene, "1 / 0")) as server:
        server.says("0")
        assert server.stop(timeout=10) == 0, str(server.heard)

    assert any("ZeroDivisionError" in line for line in server.heard.told), str(server.heard)
    assert scene.committed == [1]


def test_with_a_hook_that_does_not_return(scene: Scene) -> None:
    """`shutdown_timeout` bounds it as it bounds all that runs; what was finished is committed."""
    scene.send(0)
    with serve(scene.folder, with_hook(scene, "time.sleep(600)", shutdown_timeout=1.0)) as server:
        server.says("0")
        began = time.monotonic()
        status = server.stop()
        took = time.monotonic() - began

    assert status == 2, str(server.heard)
    assert scene.topic in str(server.happened("server_stopped")[0]["unfinished"])
    assert took < 5
    assert scene.committed == [1]


# ── again and again ──────────────────────────────────────────────────────────────────────────────────────────────


def test_again_and_again_nothing_is_lost_nor_done_twice(scene: Scene) -> None:
    """Ten starts, each stopped at work: together they perform each message once, in order."""
    scene.send(*range(1_000))
    said: list[int] = []
    source = scene.app("print(self.params)", "time.sleep(0.002)")
    for life in range(1, 11):
        with serve(scene.folder, source) as server:
            server.until(lambda: len(server.heard.said) >= 20, "twenty messages")
            stopped(server, within=6)
            said += map(int, server.heard.said)
            assert scene.committed == [len(said)], life

    assert said == list(range(len(said)))
