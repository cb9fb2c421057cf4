"""Who has lost its partitions commits nothing of them: late results, frozen processes, second bearers of a name."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from tests.brokers import Running
from tests.chaos.feeder import PARTITIONS
from tests.process.servers import Scene, committed, ends, serve
from tests.process.test_rebalance import SESSIONS, Flow

# All partitions are given up at each join, also those that come back.
EAGER = {"partition.assignment.strategy": "range"}


def test_a_late_result_of_a_partition_that_went_changes_nothing(kafka: Running, tmp_path: Path) -> None:
    """The next owner performs the message again, and its commits stand."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=2)
    perform = (
        "say('begun', self.message.partition, self.params)",
        "while 'SLOW' in os.environ and self.params == 0 and not Path('go').exists(): time.sleep(0.01)",
        "say('done', self.message.partition, self.params)",
    )
    source = scene.app(*perform, drain_timeout=0.5, commit_interval=0.1, kafka=EAGER)
    for partition in (0, 1):
        scene.send(0, 1, 2, partition=partition)
    with serve(tmp_path, source, environment={"SLOW": "1"}) as slow:
        slow.says("begun 0 0")
        slow.says("begun 1 0")
        with serve(tmp_path, source) as quick:
            quick.assigned(1)
            (taken,) = (int(place[-1]) for place in quick.event("assigned")["starts"])
            quick.says(f"done {taken} 2")
            quick.event("server_started")
            quick.until(lambda: scene.committed[taken] == 3, "the new owner's commit")
            assert slow.happened("overran"), str(slow.heard)
            (tmp_path / "go").touch()
            slow.says(f"done {taken} 0")
            slow.says(f"done {1 - taken} 2")
            assert slow.stop() == 0, str(slow.heard)
            assert quick.stop() == 0, str(quick.heard)

    assert f"begun {taken} 1" not in slow.heard.said
    assert scene.committed == [3, 3]


def test_long_work_is_not_begun_twice_at_once_in_one_process(kafka: Running, tmp_path: Path) -> None:
    """One message of a partition at a time: also when a rebalance takes a partition and gives it back meanwhile."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=2)
    perform = (
        "say('begun', self.message.partition, self.params)",
        "while not Path('go').exists(): time.sleep(0.01)",
        "say('done', self.message.partition, self.params)",
    )
    source = scene.app(*perform, drain_timeout=0.5, kafka=EAGER)
    for partition in (0, 1):
        scene.send(0, partition=partition)
    with serve(tmp_path, source) as first:
        first.says("begun 0 0")
        first.says("begun 1 0")
        with serve(tmp_path, source) as second:
            second.assigned(1)
            (taken,) = (int(place[-1]) for place in second.event("assigned")["starts"])
            second.says(f"begun {taken} 0")
            first.until(lambda: len(first.happened("assigned")) > 1, "the other partition given back")
            # Begun again it would be within a turn; there is no event to wait for where nothing is to happen.
            time.sleep(0.5)
            (tmp_path / "go").touch()
            first.says(f"done {1 - taken} 0")
            assert second.stop() == 0, str(second.heard)
            assert first.stop() == 0, str(first.heard)

    kept = [line for line in first.heard.said if line.split()[1] == str(1 - taken)]
    assert all(line.startswith(("begun", "done")[number % 2]) for number, line in enumerate(kept)), kept


def test_a_process_that_stood_still_commits_nothing_of_what_it_lost(kafka: Running, tmp_path: Path) -> None:
    """It wakes with messages in hand that another has long performed: the group's offsets do not go back."""
    flow = Flow(kafka.bootstrap, tmp_path, SESSIONS)
    with ExitStack() as stack:
        first = stack.enter_context(flow.consumer(0, "fast").served())
        first.assigned(PARTITIONS)
        second = stack.enter_context(flow.consumer(1, "fast").served())
        second.assigned(1)
        flow.feeder.start()
        flow.works(second, 1, 500)
        taken = len(first.happened("assigned"))
        second.signal(SIGSTOP)
        first.until(lambda: len(first.happened("assigned")) > taken, "the partitions of the one that stands still")
        flow.works(first, 0, 2_000)
        before = committed(flow.bootstrap, flow.group, flow.topic, PARTITIONS)
        second.signal(SIGCONT)
        second.event("lost")
        after = committed(flow.bootstrap, flow.group, flow.topic, PARTITIONS)
        second.until(lambda: len(second.happened("assigned")) > 1, "partitions of its own again")
        flow.works(second, 1, 500)
        sent = flow.feeder.stop()
        first.until(lambda: flow.tail.reached(sent), "the last message performed")
        assert second.stop() == 0, str(second.heard)
        assert first.stop() == 0, str(first.heard)

    assert all((new or 0) >= (old or 0) for old, new in zip(before, after, strict=True)), (before, after)
    flow.tail.read()
    performed = {(line.partition, line.sequence) for line in flow.tail.lines}
    wanted = {(partition, sequence) for partition, offsets in sent.items() for sequence in range(len(offsets))}
    print(f"stood still: {len(flow.tail.lines) - len(wanted)} repeated of {len(wanted)}")
    assert performed == wanted
    assert committed(flow.bootstrap, flow.group, flow.topic, PARTITIONS) == ends(flow.bootstrap, flow.topic, PARTITIONS)


def test_a_second_bearer_of_a_name_ends_the_first(scene: Scene) -> None:
    """Of two servers with one `group.instance.id` the older is fenced: it says so and ends with status 3."""
    source = scene.app("pass", kafka={"group.instance.id": "only-one"})
    with serve(scene.folder, source) as older:
        older.assigned()
        with serve(scene.folder, source) as younger:
            younger.assigned()
            assert older.ended() == 3, str(older.heard)
            assert younger.stop() == 0, str(younger.heard)

    assert "fenced" in str(older.happened("server_stopping")), str(older.heard)
