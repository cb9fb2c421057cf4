"""TSTP makes a server quiet: what runs is finished and committed, nothing new is begun, no partition is given up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from signal import SIGINT, SIGTERM, SIGTSTP, SIGTTIN
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from karafka import Backoff
from tests.brokers import Running, new_group, until
from tests.process.servers import GATED, Scene, Server, app, each, serve

COOPERATIVE = {"partition.assignment.strategy": "cooperative-sticky"}
# The member would be thrown out after 3 s without a poll.
IMPATIENT = {"session.timeout.ms": 2500, "heartbeat.interval.ms": 500, "max.poll.interval.ms": 3000}

HOOKS = """\
    @classmethod
    {define} on_shutdown(cls, partition):
        print("shut down", partition.partition)

    @classmethod
    {define} on_revoked(cls, partition):
        print("revoked", partition.partition)

"""


def hooked(scene: Scene, *perform: str, asynchronous: bool = False, **settings: Any) -> str:
    """An app that says what it performs, and which partitions its hooks are told of."""
    define = "async def" if asynchronous else "def"
    head, name, body = scene.app(*perform, asynchronous=asynchronous, **settings).partition(f"    {define} perform")
    return head + HOOKS.format(define=define) + name + body


def hush(server: Server) -> None:
    """Make it quiet, and wait until it says so: what ran has ended and is committed."""
    server.signal(SIGTSTP)
    server.event("server_quiet")


def begin_to_hush(server: Server) -> None:
    """Tell it to be quiet while something runs. It has been told when it does what was asked after that."""
    before = len(server.happened("stacks_shown"))
    server.signal(SIGTSTP)
    server.signal(SIGTTIN)
    server.until(lambda: len(server.happened("stacks_shown")) > before, "the stacks")


def another_reads(scene: Scene, count: int) -> None:
    """A server of another group performs `count` messages of the scene's topic: they are there for whoever would."""
    body = each(scene.topic, f"if self.message.offset == {count - 1}: print('all read')")
    folder = scene.folder / "another"
    folder.mkdir(exist_ok=True)
    with serve(folder, app(scene.bootstrap, new_group(), body)) as server:
        server.says("all read")
        assert server.stop() == 0, str(server.heard)


def owners(scene: Scene) -> Mapping[str, set[int]]:
    """Who has which partition, as the broker knows it: by member; empty while the group is not settled."""
    admin = AdminClient({"bootstrap.servers": scene.bootstrap, "log_level": 0})
    group = admin.describe_consumer_groups([scene.group])[scene.group].result(10)
    if group.state.name != "STABLE":
        return {}
    return {
        one.member_id: {place.partition for place in (one.assignment.topic_partitions if one.assignment else ())}
        for one in group.members
    }


def ends_in_order(server: Server) -> None:
    assert server.stop() == 0, str(server.heard)
    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_what_runs_is_finished_and_nothing_new_begun(scene: Scene, *, asynchronous: bool) -> None:
    """Though messages are in hand, and more arrive."""
    perform = tuple(line.replace("time.sleep", "await asyncio.sleep") for line in GATED) if asynchronous else GATED
    scene.send(0, 1, 2)
    with serve(scene.folder, hooked(scene, *perform, asynchronous=asynchronous)) as server:
        server.says("begun 0")
        begin_to_hush(server)
        scene.send(3, 4)
        assert not server.happened("server_quiet")
        (scene.folder / "open").touch()
        server.event("server_quiet")
        assert scene.committed == [1]
        another_reads(scene, 5)
        ends_in_order(server)

    assert server.heard.said == ["begun 0", "done 0", "shut down 0"]
    assert not server.happened("lost")
    assert scene.committed == [1]

    with serve(scene.folder, hooked(scene, *perform, asynchronous=asynchronous)) as server:
        server.says("done 4")
        ends_in_order(server)
    assert [line for line in server.heard.said if "done" in line] == [f"done {number}" for number in range(1, 5)]


def test_no_partition_is_given_up(scene: Scene) -> None:
    """A second member gets nothing, however long the first is quiet: it goes on polling."""
    source = hooked(scene, "print(self.params)", kafka={**IMPATIENT, **COOPERATIVE})
    scene.send(0)
    with ExitStack() as stack:
        first = stack.enter_context(serve(scene.folder, source))
        first.says("0")
        hush(first)
        assert scene.committed == [1]
        (before,) = owners(scene)
        second = stack.enter_context(serve(scene.folder, source))
        until(lambda: len(owners(scene)) == 2)
        scene.send(1)
        with pytest.raises(TimeoutError):
            first.ended(timeout=5)  # longer than the group waits for a member that does not poll
        assert owners(scene)[before] == {0}
        assert "1" not in first.heard.said + second.heard.said
        assert not any(one["positions"] for one in first.happened("revoked"))
        ends_in_order(first)
        second.says("1")  # what it left is the other's at once
        ends_in_order(second)

    assert first.heard.said == ["0", "shut down 0"]
    assert not first.happened("lost")
    assert scene.committed == [2]


def test_what_is_assigned_to_a_quiet_server_is_not_performed(kafka: Running, tmp_path: Path) -> None:
    scene = Scene(kafka.bootstrap, tmp_path, partitions=2)
    source = hooked(scene, "print(self.params)", kafka=COOPERATIVE)
    scene.send(0)
    scene.send(1, partition=1)
    with ExitStack() as stack:
        first = stack.enter_context(serve(tmp_path, source))
        first.assigned(2)
        second = stack.enter_context(serve(tmp_path, source))
        second.assigned(1)
        until(lambda: scene.committed == [1, 1])
        until(lambda: sorted(map(len, owners(scene).values())) == [1, 1])
        moved = next(place for one in second.happened("assigned") for place in one["starts"])
        partition = int(moved.rpartition("/")[2])
        hush(first)
        ends_in_order(second)
        first.until(lambda: len(first.happened("assigned", starts={moved: 1})) == 1, "the other's partition")
        scene.send(2, partition=partition)
        until(lambda: owners(scene) != {} and set().union(*owners(scene).values()) == {0, 1})
        another_reads(scene, 1)
        ends_in_order(first)

    assert "2" not in first.heard.said
    assert scene.committed == [1, 1]


def test_a_partition_that_a_quiet_server_must_hand_over_is_handed_over(kafka: Running, tmp_path: Path) -> None:
    """It keeps what it has, not what the group gives to another."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=2)
    source = hooked(scene, "print(self.params)", kafka=COOPERATIVE)
    scene.send(0)
    with ExitStack() as stack:
        first = stack.enter_context(serve(tmp_path, source))
        first.says("0")
        first.assigned(2)
        hush(first)
        first.says("shut down 0")
        first.says("shut down 1")
        second = stack.enter_context(serve(tmp_path, source))
        second.assigned(1)
        for partition in (0, 1):
            scene.send(10 + partition, partition=partition)
        second.until(lambda: not {"10", "11"}.isdisjoint(second.heard.said), "the message of its partition")
        ends_in_order(first)
        second.until(lambda: {"10", "11"} <= set(second.heard.said), "that of the first one's partition")
        ends_in_order(second)

    assert sorted(line for line in first.heard.said if line.startswith("shut")) == ["shut down 0", "shut down 1"]
    assert {"10", "11"}.isdisjoint(first.heard.said)


def test_a_second_one_changes_nothing(scene: Scene) -> None:
    scene.send(0)
    with serve(scene.folder, hooked(scene, "print(self.params)")) as server:
        server.says("0")
        hush(server)
        server.says("shut down 0")
        for _ in range(5):
            server.signal(SIGTSTP)
        scene.send(1)
        another_reads(scene, 2)
        ends_in_order(server)

    assert server.heard.said == ["0", "shut down 0"]
    assert len(server.happened("server_quiet")) == 1
    assert scene.committed == [1]


def test_the_hook_is_told_once_of_each_partition(kafka: Running, tmp_path: Path) -> None:
    """As it goes quiet, and not again as it stops."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=3)
    for partition in range(3):
        scene.send(partition, partition=partition)
    with serve(tmp_path, hooked(scene, "print('performed', self.params)")) as server:
        for partition in range(3):
            server.says(f"performed {partition}")
        hush(server)
        for partition in range(3):
            server.says(f"shut down {partition}")
        ends_in_order(server)

    told = [line for line in server.heard.said if not line.startswith("performed")]
    assert sorted(told) == ["shut down 0", "shut down 1", "shut down 2"]
    assert scene.committed == [1, 1, 1]


def test_quiet_has_no_time_out(scene: Scene) -> None:
    """`shutdown_timeout` bounds a stop; a quiet server lets its work take as long as it does."""
    scene.send(0)
    perform = ("print('begun')", "time.sleep(3)", "print('done')")
    with serve(scene.folder, hooked(scene, *perform, shutdown_timeout=0.5)) as server:
        server.says("begun")
        hush(server)
        assert scene.committed == [1]
        ends_in_order(server)

    assert server.heard.said == ["begun", "done", "shut down 0"]


def test_it_is_no_first_signal_of_two(scene: Scene) -> None:
    """An INT after it is a first one: it waits for what runs."""
    scene.send(0)
    with serve(scene.folder, hooked(scene, *GATED)) as server:
        server.says("begun 0")
        begin_to_hush(server)
        server.signal(SIGINT)
        server.event("server_stopping")
        (scene.folder / "open").touch()
        assert server.ended() == 0, str(server.heard)

    assert server.heard.said == ["begun 0", "done 0", "shut down 0"]
    assert scene.committed == [1]


def test_it_does_not_hurry_a_stop(scene: Scene) -> None:
    """A stop is quiet already: what runs is still waited for."""
    scene.send(0)
    with serve(scene.folder, hooked(scene, *GATED)) as server:
        server.says("begun 0")
        server.signal(SIGTERM)
        server.event("server_stopping")
        for _ in range(3):
            server.signal(SIGTSTP)
            with pytest.raises(TimeoutError):
                server.ended(timeout=0.4)
        (scene.folder / "open").touch()
        assert server.ended() == 0, str(server.heard)

    assert server.heard.said == ["begun 0", "done 0", "shut down 0"]
    assert scene.committed == [1]


def test_while_it_starts_it_is_quiet_from_the_first_message_on(scene: Scene) -> None:
    setup = "    @classmethod\n    def setup(cls, app):\n        os.kill(os.getpid(), signal.SIGTSTP)\n\n"
    source = hooked(scene, "print(self.params)").replace("    @classmethod", f"{setup}    @classmethod", 1)
    scene.send(0)
    with serve(scene.folder, source) as server:
        server.assigned()
        server.event("server_quiet")
        another_reads(scene, 1)
        ends_in_order(server)

    assert "0" not in server.heard.said
    assert scene.committed == [None]


def test_what_backs_off_is_not_tried_again(scene: Scene) -> None:
    """Its message is not finished, and comes again at the next start."""
    scene.send(0, 1)
    source = hooked(scene, "print(self.params)", "if self.params: 1 / 0", retry=Backoff(1, 1))
    with serve(scene.folder, source) as server:
        server.event("failed", offset=1)
        hush(server)
        tried = server.heard.said.count("1")
        assert scene.committed == [1]
        with pytest.raises(TimeoutError):
            server.ended(timeout=3)
        ended = server.stop()

    assert ended == 0, str(server.heard)
    assert server.heard.said.count("1") == tried
    assert "shut down 0" in server.heard.said
    assert scene.committed == [1]


def test_what_user_code_printed_is_json_still(scene: Scene) -> None:
    """The quiet is an event of the log as any other, at the level of the others about the process."""
    with serve(scene.folder, hooked(scene, "pass")) as server:
        server.assigned()
        hush(server)
        ends_in_order(server)

    (line,) = [one for one in map(json.loads, server.heard.told) if one.get("event") == "server_quiet"]
    assert line["level"] == "INFO"
    assert line["message"]
