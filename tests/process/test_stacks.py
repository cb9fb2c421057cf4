"""TTIN writes the stacks of all threads and of all asyncio tasks to the log, and the server goes on."""

from __future__ import annotations

from signal import SIGTERM, SIGTTIN

from tests.process.servers import GATED, Scene, Server, app, each, serve

DEEP = """\
def wait_for_the_gate():
    print("waits")
    while not Path("open").exists():
        time.sleep(0.01)

async def wait_beside_others():
    print("waits")
    while not Path("open").exists():
        await asyncio.sleep(0.01)

async def side_work():
    await wait_beside_others()

"""


def stacks(server: Server, *words: str) -> str:
    """Ask for the stacks and wait until all of `words` are in the log; what was written."""
    before = len(server.heard.told)

    def written() -> str:
        return "\n".join(server.heard.told[before:])

    server.signal(SIGTTIN)
    server.until(lambda: all(word in written() for word in words), f"stacks with {', '.join(words)}", 10)
    return written()


def test_all_threads_are_there_with_names_and_the_server_goes_on(scene: Scene) -> None:
    scene.send(0, 1)
    body = DEEP + each(scene.topic, "wait_for_the_gate()", "print('done', self.params)")
    with serve(scene.folder, app(scene.bootstrap, scene.group, body)) as server:
        server.says("waits")
        stacks(server, "MainThread", f"karafka-listener-{scene.group}", "karafka-worker-shared-", "wait_for_the_gate")
        (scene.folder / "open").touch()
        server.says("done 1")
        assert server.stop() == 0, str(server.heard)

    assert scene.committed == [2]


def test_all_tasks_are_there_each_to_the_line_where_it_waits(scene: Scene) -> None:
    """Those of `perform`, and those that it made itself, by their names."""
    scene.send(0)
    perform = (
        "mine = asyncio.create_task(side_work(), name='task-of-mine')",
        "await wait_beside_others()",
        "await mine",
        "print('done')",
    )
    body = DEEP + each(scene.topic, *perform, asynchronous=True)
    with serve(scene.folder, app(scene.bootstrap, scene.group, body)) as server:
        server.until(lambda: server.heard.said == ["waits", "waits"], "both of them to wait")
        written = stacks(server, "karafka-loop", "task-of-mine", "in perform", "wait_beside_others")
        (scene.folder / "open").touch()
        server.says("done")
        assert server.stop() == 0, str(server.heard)

    assert written.count("wait_beside_others") >= 2, written  # `perform` and the task of its own
    assert "app.py" in written


def test_an_idle_server_has_stacks_too(scene: Scene) -> None:
    with serve(scene.folder, scene.app("pass")) as server:
        server.assigned()
        stacks(server, "MainThread", f"karafka-listener-{scene.group}")
        assert server.stop() == 0, str(server.heard)


def test_they_can_be_asked_for_again_and_again(scene: Scene) -> None:
    scene.send(0)
    body = DEEP + each(scene.topic, "wait_for_the_gate()", "print('done')")
    with serve(scene.folder, app(scene.bootstrap, scene.group, body)) as server:
        server.says("waits")
        for _ in range(5):
            stacks(server, "wait_for_the_gate")
        (scene.folder / "open").touch()
        server.says("done")
        assert server.stop() == 0, str(server.heard)

    assert scene.committed == [1]


def test_during_a_stop_they_show_what_it_waits_for_and_hurry_nothing(scene: Scene) -> None:
    scene.send(0)
    body = DEEP + each(scene.topic, "wait_for_the_gate()", "print('done')")
    with serve(scene.folder, app(scene.bootstrap, scene.group, body)) as server:
        server.says("waits")
        server.signal(SIGTERM)
        server.event("server_stopping")
        for _ in range(3):
            stacks(server, "wait_for_the_gate")
        (scene.folder / "open").touch()
        assert server.ended() == 0, str(server.heard)

    assert server.heard.said == ["waits", "done"]
    assert scene.committed == [1]


def test_no_secret_is_in_them(scene: Scene) -> None:
    """Stacks are lines of code, not the values of variables."""
    scene.send({"password": "hunter2"})
    with serve(scene.folder, scene.app(*GATED)) as server:
        server.until(lambda: bool(server.heard.said), "its message")
        written = stacks(server, "karafka-worker-shared-", "in perform")
        (scene.folder / "open").touch()
        assert server.stop() == 0, str(server.heard)

    assert "hunter2" not in written
