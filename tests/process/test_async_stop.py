"""A forced stop cancels what runs in the event loop, which may clean up; hooks of the app have their time, no more."""

from __future__ import annotations

import time
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import pytest

from karafka import Backoff
from tests.process.servers import Scene, Server, app, each, serve

LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
# As if it were not installed.
WITHOUT = 'sys.modules["uvloop"] = None\n'


def source(scene: Scene, *perform: str, loop: str = "uvloop", hooks: str = "", **settings: Any) -> str:
    """An app with one async controller, whose `perform` is those lines, and with `hooks`."""
    body = each(scene.topic, *perform, asynchronous=True)
    return app(scene.bootstrap, scene.group, f"{'' if loop == 'uvloop' else WITHOUT}{hooks}\n{body}", **settings)


def stopped(server: Server, status: int) -> float:
    """Stop it; the seconds it took."""
    began = time.monotonic()
    assert server.stop() == status, str(server.heard)
    return time.monotonic() - began


def unfinished(server: Server) -> str:
    return " ".join(server.happened("server_stopped")[0]["unfinished"])


@LOOPS
def test_it_runs_on_that_loop(scene: Scene, loop: str) -> None:
    scene.send(0)
    perform = "print(type(asyncio.get_running_loop()).__module__.split('.')[0])"
    with serve(scene.folder, source(scene, perform, loop=loop)) as server:
        server.says(loop)
        stopped(server, 0)


@LOOPS
def test_what_runs_past_the_time_out_is_cancelled_and_cleans_up(scene: Scene, loop: str) -> None:
    """Its message is neither finished nor committed: the next start performs it."""
    scene.send(0, 1, 2)
    perform = (
        "print('begun', self.params)",
        "try:",
        "    if self.params == 1 and 'CALM' not in os.environ: await asyncio.sleep(600)",
        "except asyncio.CancelledError:",
        "    await asyncio.sleep(0.3)",
        "    print('cleaned up')",
        "    raise",
        "print('done', self.params)",
    )
    text = source(scene, *perform, loop=loop, shutdown_timeout=0.5)
    with serve(scene.folder, text) as server:
        server.says("begun 1")
        took = stopped(server, 2)

    print(f"{loop}: past a time-out of 0.5 s, cancelled and cleaned up in {took:.2f} s")
    assert server.heard.said == ["begun 0", "done 0", "begun 1", "cleaned up"]
    assert f"{scene.topic}/0/1" in unfinished(server)
    assert scene.committed == [1]

    with serve(scene.folder, text, environment={"CALM": "1"}) as server:
        server.says("done 2")
        stopped(server, 0)
    assert server.heard.said == ["begun 1", "done 1", "begun 2", "done 2"]


@LOOPS
def test_what_will_not_be_cancelled_is_left(scene: Scene, loop: str) -> None:
    """A bounded time to clean up, and not more. What it says then counts for nothing."""
    scene.send(0)
    perform = (
        "print('begun')",
        "while True:",
        "    try: await asyncio.sleep(600)",
        "    except asyncio.CancelledError: print('no')",
    )
    with serve(scene.folder, source(scene, *perform, loop=loop, shutdown_timeout=0.5)) as server:
        server.says("begun")
        took = stopped(server, 2)

    assert took < 6
    assert "no" in server.heard.said
    assert f"{scene.topic}/0/0" in unfinished(server)
    assert scene.committed == [None]


def test_what_calls_itself_finished_when_cancelled_is_not(scene: Scene) -> None:
    scene.send(0, 1)
    perform = (
        "print('begun', self.params)",
        "try: await asyncio.sleep(600)",
        "except asyncio.CancelledError: print('never mind')",
    )
    with serve(scene.folder, source(scene, *perform, shutdown_timeout=0.5)) as server:
        server.says("begun 0")
        stopped(server, 2)

    assert server.heard.said == ["begun 0", "never mind"]
    assert scene.committed == [None]


def test_what_is_raised_while_it_cleans_up_is_told(scene: Scene) -> None:
    """Nobody judges it any more, but nothing is swallowed."""
    scene.send(0)
    perform = ("print('begun')", "try: await asyncio.sleep(600)", "finally: 1 / 0")
    with serve(scene.folder, source(scene, *perform, shutdown_timeout=0.5)) as server:
        server.says("begun")
        stopped(server, 2)

    assert any("ZeroDivisionError" in line and f"Each at {scene.topic}/0/0" in line for line in server.heard.told)


def test_a_second_signal_cancels_too(scene: Scene) -> None:
    """And closes what was opened."""
    scene.send(0)
    perform = ("print('begun')", "try: await asyncio.sleep(600)", "finally: print('cleaned up')")
    hooks = "@app.on_stop\nasync def close():\n    print('closed')\n"
    with serve(scene.folder, source(scene, *perform, hooks=hooks)) as server:
        server.says("begun")
        server.signal(SIGINT)
        server.event("server_stopping")
        assert server.press(SIGTERM) == 2, str(server.heard)

    assert server.heard.said == ["begun", "cleaned up", "closed"]
    assert scene.committed == [None]


def test_clients_are_closed_after_what_was_cancelled(scene: Scene) -> None:
    """They are of use while performs clean up; and what they run on the loop themselves is not cancelled before."""
    scene.send(0)
    hooks = """
@app.on_start
async def connect():
    app.state.pump = asyncio.create_task(asyncio.sleep(600))

@app.on_stop
async def disconnect():
    print("closed", app.state.pump.done())
"""
    perform = (
        "print('begun')",
        "try: await asyncio.sleep(600)",
        "finally: print('cleaned up', self.app.state.pump.done())",
    )
    with serve(scene.folder, source(scene, *perform, hooks=hooks, shutdown_timeout=0.5)) as server:
        server.says("begun")
        stopped(server, 2)

    assert server.heard.said == ["begun", "cleaned up False", "closed False"]


@LOOPS
def test_user_code_that_cancels_itself_has_failed(scene: Scene, loop: str) -> None:
    """Its message is tried again; the one after it is not struck by it."""
    scene.send(0, 1)
    perform = (
        "print('try', self.message.attempt, 'of', self.params)",
        "if self.params == 0 and self.message.attempt < 3:",
        "    asyncio.current_task().cancel()",
        "    await asyncio.sleep(0)",
        "if self.params == 0: asyncio.current_task().cancel()",
        "print('done', self.params)",
    )
    with serve(scene.folder, source(scene, *perform, loop=loop, retry=Backoff(0.1, 0.1))) as server:
        server.says("done 1")
        stopped(server, 0)

    assert server.heard.said == [
        *("try 1 of 0", "try 2 of 0", "try 3 of 0", "done 0", "try 1 of 1", "done 1"),
    ]
    assert [one["kind"] for one in server.happened("failed")] == ["CancelledError", "CancelledError"]
    assert scene.committed == [2]


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────

FAILING = "@app.on_start\n{}def connect():\n    raise ConnectionError('nobody there')\n"


@pytest.mark.parametrize("kind", ["", "async "])
def test_a_start_hook_that_fails_ends_the_command_with_a_sentence(scene: Scene, kind: str) -> None:
    with serve(scene.folder, source(scene, "pass", hooks=FAILING.format(kind))) as server:
        assert server.ended() == 1, str(server.heard)

    last = server.heard.told[-1]
    assert last.startswith("karafka: the on_start hook connect raised ConnectionError: nobody there (app.py, line ")
    assert server.happened("server_stopped", status=1)
    assert not server.happened("server_started")


@pytest.mark.parametrize("kind", ["", "async "])
@pytest.mark.parametrize(("raised", "status"), [("SystemExit(7)", 7), ("KeyboardInterrupt", 130)])
def test_a_start_hook_may_end_the_process(scene: Scene, kind: str, raised: str, status: int) -> None:
    hooks = f"@app.on_start\n{kind}def connect():\n    raise {raised}\n@app.on_stop\ndef close(): print('closed')\n"
    with serve(scene.folder, source(scene, "pass", hooks=hooks)) as server:
        ended = server.ended()

    assert ended in {status, -status, -SIGINT} if raised == "KeyboardInterrupt" else ended == status, str(server.heard)
    assert server.heard.said == ["closed"]


def test_a_signal_while_a_start_hook_waits_is_a_stop(scene: Scene) -> None:
    hooks = """
@app.on_start
async def connect():
    print("waits")
    try:
        await asyncio.sleep(600)
    finally:
        print("cancelled")

@app.on_stop
def close():
    print("closed")
"""
    with serve(scene.folder, source(scene, "pass", hooks=hooks)) as server:
        server.says("waits")
        took = stopped(server, 0)

    assert took < 2
    assert server.heard.said == ["waits", "cancelled", "closed"]
    assert not server.happened("server_started")


def test_a_start_hook_that_blocks_does_not_hold_up_a_stop(scene: Scene) -> None:
    """It cannot be cancelled: it is left, by name."""
    hooks = "@app.on_start\ndef connect():\n    print('waits')\n    time.sleep(600)\n"
    with serve(scene.folder, source(scene, "pass", hooks=hooks)) as server:
        server.says("waits")
        took = stopped(server, 2)

    assert took < 5
    assert "on_start hook connect" in unfinished(server)


@pytest.mark.parametrize("line", ["time.sleep(600)", "await asyncio.sleep(600)"])
def test_a_stop_hook_that_does_not_end_is_left_by_name(scene: Scene, line: str) -> None:
    """What is left of the time-out, and no more; a second signal does not wait for it either."""
    scene.send(0)
    kind = "async " if "await" in line else ""
    hooks = f"@app.on_stop\n{kind}def close():\n    print('closing')\n    {line}\n"
    for timeout in (1.0, 60.0):
        with serve(scene.folder, source(scene, "print('done')", hooks=hooks, shutdown_timeout=timeout)) as server:
            if timeout == 1.0:
                server.says("done")
            else:
                server.event("assigned")
            server.signal(SIGTERM)
            server.says("closing")
            began = time.monotonic()
            status = server.ended(timeout=10) if timeout == 1.0 else server.press(SIGTERM)
            took = time.monotonic() - began

        assert status == 2, str(server.heard)
        assert took < 4
        assert "on_stop hook close" in unfinished(server)
        assert scene.committed == [1]


def test_a_stop_hook_may_ask_for_a_status(scene: Scene, tmp_path: Path) -> None:
    scene.send(0)
    hooks = "@app.on_stop\nasync def close():\n    raise SystemExit(9)\n"
    with serve(tmp_path, source(scene, "print('done')", hooks=hooks)) as server:
        server.says("done")
        assert server.stop() == 9, str(server.heard)
    assert scene.committed == [1]
