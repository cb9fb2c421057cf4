"""What holds up the process, its event loop or a listener is told while it lasts, with the stack that does it."""

from __future__ import annotations

import pytest

from tests.brokers import new_topic
from tests.process.servers import Event, Scene, Server, app, each, send, serve
from tests.process.test_async_stop import LOOPS, WITHOUT
from tests.process.test_fencing import EAGER

# Each holds the GIL for about three seconds, in one call that lets nobody else run; after which the function goes on.
HOLDERS = {
    "a call into C": ("import ctypes", "ctypes.PyDLL(None).usleep(3_000_000)"),
    "a sum": (
        "began = time.perf_counter()",
        "sum(range(5_000_000))",
        "sum(range(int(5_000_000 * 3 / (time.perf_counter() - began))))",
    ),
    "a regular expression": (
        "import re",
        "length, took = 16, 0.0",
        "while took < 1.5:  # each letter more takes twice as long",
        "    began = time.perf_counter()",
        "    re.match(r'(a+)+$', 'a' * length + 'b')",
        "    length, took = length + 1, time.perf_counter() - began",
    ),
}


def holding(scene: Scene, *lines: str, asynchronous: bool = False) -> str:
    """An app whose `perform` calls `holds_it_up`, which is those lines."""
    body = "\n".join(f"    {line}" for line in (*lines, "time.sleep(0.5)"))
    perform = ("print('begun')", "holds_it_up()", "print('done')")
    return app(
        scene.bootstrap,
        scene.group,
        f"def holds_it_up():\n{body}\n\n{each(scene.topic, *perform, asynchronous=asynchronous)}",
        kafka={"session.timeout.ms": 30_000},
    )


def blamed(server: Server, what: str | None = None) -> Event:
    """Wait for the event that says what was late, with the user's function in its stacks."""

    def found() -> list[Event]:
        late = server.happened("late", **({"what": what} if what is not None else {}))
        return [one for one in late if "holds_it_up" in one["stacks"]]

    server.until(lambda: bool(found()), f"the lateness of {what or 'anything'}, blamed on holds_it_up")
    return found()[0]


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_holds_the_gil_is_named(scene: Scene, holder: str) -> None:
    """By its own stack, taken as soon as a line of Python could run again."""
    scene.send(0)
    with serve(scene.folder, holding(scene, *HOLDERS[holder])) as server:
        server.says("done", timeout=90)
        late = blamed(server)
        assert server.stop() == 0, str(server.heard)

    print(f"{holder}: {late['what']} was late by {late['by']:.2f} s")
    assert late["by"] >= 0.5
    assert "app.py" in late["stacks"]
    assert scene.committed == [1]


def test_by_how_much_is_told(scene: Scene) -> None:
    """Of three seconds without the GIL the first may go by before it is noticed, no more."""
    scene.send(0)
    with serve(scene.folder, holding(scene, *HOLDERS["a call into C"])) as server:
        server.says("done")
        blamed(server)
        server.until(lambda: any(2 <= one["by"] <= 6 for one in server.happened("late")), "a lateness of 3 s")
        assert server.stop() == 0, str(server.heard)


def test_what_blocks_the_event_loop_is_named(scene: Scene) -> None:
    scene.send(0)
    with serve(scene.folder, holding(scene, "time.sleep(1.5)", asynchronous=True)) as server:
        server.says("done")
        late = blamed(server, "the event loop")
        assert server.stop() == 0, str(server.heard)

    print(f"the event loop was late by {late['by']:.2f} s")
    assert 0.5 <= late["by"] < 5
    assert scene.committed == [1]


def test_what_holds_up_a_listener_is_named(scene: Scene) -> None:
    """A listener of events is called on the thread that tells them: it has to be quick."""
    scene.send(0)
    body = f"""
from karafka.events import Committed

def holds_it_up(event):
    time.sleep(2.5)
    print("heard")

app.events.on(Committed, holds_it_up)

{each(scene.topic, "print('done')")}"""
    with serve(scene.folder, app(scene.bootstrap, scene.group, body)) as server:
        server.says("heard")
        late = blamed(server, f"the listener of {scene.group!r}")
        assert server.stop() == 0, str(server.heard)

    assert 1 <= late["by"] < 6


def test_long_work_is_not_late(scene: Scene) -> None:
    """Neither a `perform` that takes its time, nor a revocation or a stop that waits for it."""
    scene.send(0, 1)
    perform = ("print('begun', self.params)", "time.sleep(3)", "print('done', self.params)")
    with serve(scene.folder, scene.app(*perform, drain_timeout=20.0, kafka=EAGER)) as first:
        first.says("begun 0")
        with serve(scene.folder, scene.app(*perform, kafka=EAGER)) as second:
            second.event("server_started")
            first.until(lambda: bool(first.happened("revoked")), "its revocation")
            assert second.stop() == 0, str(second.heard)
        first.says("begun 1")
        assert first.stop() == 0, str(first.heard)

    assert first.heard.said == ["begun 0", "done 0", "begun 1", "done 1"]
    assert not first.happened("late"), str(first.heard)


def test_waiting_in_the_event_loop_is_not_late(scene: Scene) -> None:
    scene.send(0)
    perform = ("print('begun')", "await asyncio.sleep(3)", "print('done')")
    with serve(scene.folder, scene.app(*perform, asynchronous=True)) as server:
        server.says("done")
        assert server.stop() == 0, str(server.heard)

    assert not server.happened("late"), str(server.heard)


# ── a partition that stands still ────────────────────────────────────────────────────────────────────────────────


def test_a_partition_that_does_not_move_is_named_again_and_again(scene: Scene) -> None:
    """With the oldest message that is not finished; and no more once it moves."""
    scene.send(0, 1, 2)
    perform = ("if self.params == 1:", "    while not Path('open').exists(): time.sleep(0.01)", "print(self.params)")
    with serve(scene.folder, scene.app(*perform, stall_after=1.0)) as server:
        server.until(lambda: len(server.happened("stalled")) >= 3, "three times")
        told = server.happened("stalled")
        (scene.folder / "open").touch()
        server.says("2")
        assert server.stop() == 0, str(server.heard)

    assert {(one["topic"], one["partition"], one["offset"]) for one in told} == {(scene.topic, 0, 1)}
    waited = [one["waited"] for one in told]
    assert waited == sorted(waited)
    assert waited[0] >= 1
    assert waited[2] >= 3
    assert {one["offset"] for one in server.happened("stalled")} == {1}


def test_a_partition_that_backs_off_stands_still_too(scene: Scene) -> None:
    scene.send(0)
    with serve(scene.folder, scene.app("1 / 0", stall_after=1.0)) as server:
        server.event("stalled", topic=scene.topic, partition=0, offset=0)
        assert server.stop() == 0, str(server.heard)


def test_a_partition_that_moves_is_not_named_however_slow(scene: Scene) -> None:
    """Nor is one with nothing to do."""
    scene.send(*range(10))
    with serve(scene.folder, scene.app("time.sleep(0.5)", "print(self.params)", stall_after=2.0)) as server:
        server.says("9")
        with pytest.raises(TimeoutError):
            server.ended(timeout=4)
        assert server.stop() == 0, str(server.heard)

    assert not server.happened("stalled"), str(server.heard)


# ── the event loop ───────────────────────────────────────────────────────────────────────────────────────────────

# Ways in which a coroutine holds up the loop for two seconds, and leaves the GIL to others.
BLOCKERS = {
    "itself": ("holds_it_up()",),
    "a task that it waits for": (
        "async def child(): holds_it_up()",
        "async with asyncio.TaskGroup() as tasks: tasks.create_task(child())",
    ),
    "one with a time-out": ("async def child(): holds_it_up()", "await asyncio.wait_for(child(), 60)"),
}


@LOOPS
@pytest.mark.parametrize("blocker", BLOCKERS)
def test_who_blocks_the_loop_is_named_and_for_how_long(scene: Scene, blocker: str, loop: str) -> None:
    """Its controller and message, while it lasts, among others that wait; and once it is over, how long it was."""
    scene.send(*range(5))
    perform = ("if self.params == 3:", *(f"    {line}" for line in BLOCKERS[blocker]), "print('done', self.params)")
    waiting = "class Other(Controller):\n    async def perform(self):\n        await asyncio.sleep(3600)\n"
    other = new_topic(scene.bootstrap)
    body = (
        f"{'' if loop == 'uvloop' else WITHOUT}"
        f"def holds_it_up():\n    time.sleep(2)\n\n{each(scene.topic, *perform, asynchronous=True)}\n"
        f"@app.topic({other!r})\n{waiting}"
    )
    send(scene.bootstrap, other, [1])
    with serve(scene.folder, app(scene.bootstrap, scene.group, body, shutdown_timeout=1.0)) as server:
        server.until(lambda: bool(server.happened("late", what="the event loop")), "the lateness")
        assert "done 3" not in server.heard.said
        over = server.event("caught_up", what="the event loop")
        server.says("done 4")
        server.stop()
    (late,) = server.happened("late")

    print(f"{blocker}, {loop}: noticed after {late['by']:.2f} s, over after {over['after']:.2f} s")
    assert late["at_work"] == over["at_work"] == f"Each at {scene.topic}/0/3"
    assert "holds_it_up" in late["stacks"]
    assert 0.5 <= late["by"] <= 1.5
    assert 1.7 <= over["after"] <= 3
    assert f"at work: Each at {scene.topic}/0/3" in late["message"]


def test_who_holds_the_gil_in_the_loop_is_named(scene: Scene) -> None:
    """A call into C lets nobody look meanwhile: it is told right after."""
    scene.send(0, 1)
    source = holding(scene, *HOLDERS["a call into C"], asynchronous=True)
    with serve(scene.folder, source) as server:
        server.until(lambda: server.heard.said.count("done") == 2, "both performed", timeout=60)
        server.until(lambda: bool(server.happened("late", what="the process")), "the lateness")
        assert server.stop() == 0, str(server.heard)

    told = [one for one in server.happened("late", what="the process") if one["by"] > 1.5]
    assert told
    assert {one["at_work"] for one in told} <= {f"Each at {scene.topic}/0/{offset}" for offset in (0, 1)}, told


def test_who_blocks_the_loop_from_a_hook_is_named(scene: Scene) -> None:
    scene.send(0)
    hook = (
        "    @classmethod\n    async def on_assigned(cls, partition):\n        time.sleep(2)\n\n    async def perform"
    )
    source = scene.app("print('done')", asynchronous=True).replace("    async def perform", hook)
    with serve(scene.folder, source) as server:
        server.says("done")
        assert server.stop() == 0, str(server.heard)

    assert [one["at_work"] for one in server.happened("late")] == [f"Each.on_assigned of {scene.topic}/0"]
