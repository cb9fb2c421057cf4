"""In a process of its user's, a script, an asyncio program, a web application, a server ends in order with it."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from signal import SIGINT, SIGTERM
from typing import Any

import pytest

from tests.process.servers import Scene, Server, app, each, program, started

LOG = """
from karafka.instrumentation import LogListener, configure_logging

configure_logging("info", "json")
LogListener(app.events)

"""
# Says when it is at work, and takes a second.
WORK = ("print('begun', self.params)", "time.sleep(1)", "print('done', self.params)")


def embedding(scene: Scene, main: str, *perform: str, asynchronous: bool = False, **settings: Any) -> str:
    """A program with a controller whose `perform` is those lines, and then `main`."""
    body = each(scene.topic, *(perform or WORK), asynchronous=asynchronous)
    return f"{app(scene.bootstrap, scene.group, body, **settings)}{LOG}{main}"


def no_traceback(server: Server) -> None:
    assert not any("Traceback" in line or "was never" in line for line in server.heard.told), str(server.heard)


# ── a script ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_script_stops_it_by_a_handler_of_its_own(scene: Scene) -> None:
    scene.send(0, 1)
    main = """
from threading import Event

asked = Event()
signal.signal(signal.SIGTERM, lambda *_: asked.set())
server = Server(app)
server.start()
asked.wait()
print("stopped", server.stop())
"""
    with program(scene.folder, embedding(scene, main)) as server:
        server.says("begun 0")
        assert server.stop(SIGTERM) == 0, str(server.heard)

    assert server.heard.said == ["begun 0", "done 0", "stopped 0"]
    assert scene.committed == [1]
    no_traceback(server)


def test_a_thread_of_a_script_serves(scene: Scene) -> None:
    """`run` on a thread, which has no signals; the main thread goes its own way, and stops it."""
    scene.send(0)
    main = """
from threading import Thread

server = Server(app)
statuses = []
thread = Thread(target=lambda: statuses.append(server.run()))
thread.start()
while not Path("begun").exists():
    time.sleep(0.01)
print("stopped", server.stop())
thread.join()
print("ran", statuses)
"""
    perform = ("Path('begun').touch()", *WORK)
    with program(scene.folder, embedding(scene, main, *perform)) as server:
        assert server.ended() == 0, str(server.heard)

    assert server.heard.said == ["begun 0", "done 0", "stopped 0", "ran [0]"]
    assert scene.committed == [1]
    no_traceback(server)


def test_signals_are_the_scripts_own(scene: Scene) -> None:
    """Without a handler TERM ends the process as it does any: what was in hand comes again."""
    scene.send(0)
    main = "server = Server(app)\nserver.start()\nserver.join()\n"
    with program(scene.folder, embedding(scene, main)) as server:
        server.says("begun 0")
        assert server.stop(SIGTERM) == -SIGTERM, str(server.heard)

    assert scene.committed == [None]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_a_script_that_forgets_to_stop_it_still_ends(scene: Scene, *, asynchronous: bool) -> None:
    """Its threads do not keep the process, nor crash on its way out; what was in hand comes again."""
    scene.send(0)
    main = """
server = Server(app)
server.start()
while not Path("begun").exists():
    time.sleep(0.01)
print("over")
"""
    sleep = "await asyncio.sleep(600)" if asynchronous else "time.sleep(600)"
    source = embedding(scene, main, "Path('begun').touch()", sleep, asynchronous=asynchronous)
    for _ in range(3):
        (scene.folder / "begun").unlink(missing_ok=True)
        with program(scene.folder, source) as server:
            server.says("over")
            assert server.ended(timeout=10) == 0, str(server.heard)
        no_traceback(server)

    assert scene.committed == [None]


# ── asyncio ──────────────────────────────────────────────────────────────────────────────────────────────────────

# A loop that is never kept waiting: `beats` is told how long it was at most.
BEAT = """
async def beats(longest):
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.02)
        longest[0] = max(longest[0], time.monotonic() - before)

"""


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_beside_a_loop_it_is_stopped_by_cancelling(scene: Scene, *, asynchronous: bool) -> None:
    """What runs is finished and committed first, and the loop goes on meanwhile."""
    scene.send(0, 1)
    main = f"""{BEAT}
async def main():
    longest = [0.0]
    beating = asyncio.create_task(beats(longest))
    serving = asyncio.create_task(Server(app).serve())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        print("cancelled")
    beating.cancel()
    print("kept waiting" if longest[0] > 0.7 else "never kept waiting")

asyncio.run(main())
"""
    work = tuple(line.replace("time.sleep", "await asyncio.sleep") for line in WORK) if asynchronous else WORK
    with program(scene.folder, embedding(scene, main, *work, asynchronous=asynchronous)) as server:
        server.says("begun 0")
        assert server.stop(SIGTERM) == 0, str(server.heard)

    assert server.heard.said == ["begun 0", "done 0", "cancelled", "never kept waiting"]
    assert server.happened("server_stopped", status=0, unfinished=[])
    assert scene.committed == [1]
    no_traceback(server)


def test_beside_a_loop_it_may_be_stopped_from_elsewhere(scene: Scene) -> None:
    """`serve` returns the status; signals are as they were all along."""
    scene.send(0)
    main = """
NUMBERS = signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN

async def main():
    before = [signal.getsignal(one) for one in NUMBERS]
    server = Server(app)
    serving = asyncio.create_task(server.serve())
    while not Path("begun").exists():
        await asyncio.sleep(0.01)
    assert [signal.getsignal(one) for one in NUMBERS] == before
    print("stopped", await asyncio.to_thread(server.stop))
    print("served", await serving)
    assert [signal.getsignal(one) for one in NUMBERS] == before

asyncio.run(main())
"""
    with program(scene.folder, embedding(scene, main, "Path('begun').touch()", *WORK)) as server:
        assert server.ended() == 0, str(server.heard)

    assert server.heard.said == ["begun 0", "done 0", "stopped 0", "served 0"]
    assert scene.committed == [1]
    no_traceback(server)


def test_beside_a_loop_it_ends_when_user_code_asks(scene: Scene) -> None:
    """The process is the user's: `serve` returns what was asked for."""
    scene.send(0)
    main = "async def main():\n    print('served', await Server(app).serve())\n\nasyncio.run(main())\n"
    with program(scene.folder, embedding(scene, main, "raise SystemExit(7)")) as server:
        assert server.ended() == 0, str(server.heard)

    assert server.heard.said == ["served 7"]


def test_beside_a_loop_work_past_the_time_out_is_named(scene: Scene) -> None:
    scene.send(0)
    main = """
async def main():
    server = Server(app)
    serving = asyncio.create_task(server.serve())
    while not Path("begun").exists():
        await asyncio.sleep(0.01)
    serving.cancel()
    try:
        await serving
    except asyncio.CancelledError:
        print("cancelled", server.join(0), server.overran)

asyncio.run(main())
"""
    source = embedding(scene, main, "Path('begun').touch()", "time.sleep(600)", shutdown_timeout=0.5)
    with program(scene.folder, source) as server:
        server.says("cancelled 2 True")
        assert server.ended(timeout=10) == 0, str(server.heard)

    (told,) = server.happened("server_stopped")
    assert f"{scene.topic}/0/0" in str(told["unfinished"])
    assert scene.committed == [None]
    no_traceback(server)


def test_ctrl_c_in_a_program_of_asyncio_stops_it_in_order(scene: Scene) -> None:
    """`asyncio.run` cancels what it runs, and tells the interrupt after that."""
    scene.send(0, 1)
    with program(scene.folder, embedding(scene, "asyncio.run(Server(app).serve())\n")) as server:
        server.says("begun 0")
        server.stop(SIGINT)

    assert server.heard.said == ["begun 0", "done 0"]
    assert server.happened("server_stopped", status=0)
    assert scene.committed == [1]


def test_a_sibling_that_fails_stops_it_in_order(scene: Scene) -> None:
    """In a task group the failure of one cancels the others; what runs is still finished."""
    scene.send(0)
    main = """
async def fail():
    while not Path("begun").exists():
        await asyncio.sleep(0.01)
    raise LookupError("a sibling")

async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(Server(app).serve())
        group.create_task(fail())

try:
    asyncio.run(main())
except* LookupError as errors:
    print("failed", errors.exceptions)
"""
    with program(scene.folder, embedding(scene, main, "Path('begun').touch()", *WORK)) as server:
        assert server.ended() == 0, str(server.heard)

    assert server.heard.said == ["begun 0", "done 0", "failed (LookupError('a sibling'),)"]
    assert scene.committed == [1]
    no_traceback(server)


def test_what_is_configured_wrong_is_raised_where_it_is_awaited(scene: Scene) -> None:
    main = """
async def main():
    try:
        await Server(App("nothing", kafka={"bootstrap.servers": "localhost:9"})).serve()
    except ConfigError as error:
        print("no routes" if "no routes" in str(error) else error)

asyncio.run(main())
"""
    with program(scene.folder, embedding(scene, main)) as server:
        assert server.ended() == 0, str(server.heard)

    assert server.heard.said == ["no routes"]


# ── a web application ────────────────────────────────────────────────────────────────────────────────────────────

WEB = """
from contextlib import asynccontextmanager, suppress
from fastapi import FastAPI

@asynccontextmanager
async def lifespan(web):
    serving = asyncio.create_task(Server(app).serve())
    yield
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving
    print("the server has ended")

web = FastAPI(lifespan=lifespan)

@web.post("/orders/{number}")
async def order(number: int) -> int:
    delivery = await app.producer.produce_async(TOPIC, number)
    return delivery.offset
"""


class Web(Server):
    """uvicorn with the program's web application, on a port of its own choice."""

    def __init__(self, scene: Scene, source: str) -> None:
        (scene.folder / "program.py").write_text(source)
        command = [sys.executable, "-m", "uvicorn", "program:web", "--port", "0", "--no-access-log"]
        super().__init__(scene.folder, command, {})

    @property
    def address(self) -> str:
        """Where it listens, once it says so."""
        found: list[str] = []

        def told() -> bool:
            found.extend(re.findall(r"http://127\.0\.0\.1:\d+", "\n".join(self.heard.told)))
            return bool(found)

        self.until(told, "its address")
        return found[0]

    def order(self, number: int) -> int:
        """The offset of the order's message, confirmed. Raises `OSError` when it takes none any more."""
        request = urllib.request.Request(f"{self.address}/orders/{number}", method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            offset: int = json.load(answer)
            return offset


@contextmanager
def web(scene: Scene, *perform: str, asynchronous: bool = False) -> Iterator[Web]:
    source = embedding(scene, WEB.replace("TOPIC", repr(scene.topic)), *perform, asynchronous=asynchronous)
    with started(Web(scene, source)) as server:
        yield server


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_with_a_web_application_both_end_in_order(scene: Scene, *, asynchronous: bool) -> None:
    """TERM to uvicorn: what is performed is finished and committed before the process is gone."""
    work = tuple(line.replace("time.sleep", "await asyncio.sleep") for line in WORK) if asynchronous else WORK
    with web(scene, *work, asynchronous=asynchronous) as server:
        assert server.order(0) == 0
        assert server.order(1) == 1
        server.says("begun 0")
        status = server.stop(SIGTERM)

    assert status in {0, -SIGTERM}, str(server.heard)  # uvicorn's own: it tells the signal again once all has ended
    assert server.heard.said == ["begun 0", "done 0", "the server has ended"]
    assert any("Application shutdown complete" in line for line in server.heard.told)
    assert server.happened("server_stopped", status=0, unfinished=[])
    assert scene.committed == [1]
    no_traceback(server)


def test_with_a_web_application_no_order_is_lost(scene: Scene) -> None:
    """Orders come in by several connections while it is stopped and started: each that was confirmed is performed."""
    perform = ("say('performed', self.params)", "time.sleep(0.01)")
    confirmed: list[int] = []
    performed: list[str] = []
    for life in range(3):
        with web(scene, *perform) as server, ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(server.order, 100 * life + number) for number in range(100)]
            server.until(lambda: len(server.heard.said) >= 20, "twenty orders performed")
            server.stop(SIGTERM)
            for number, future in enumerate(asked):
                if future.exception() is None:
                    confirmed.append(100 * life + number)
            performed += [line for line in server.heard.said if line.startswith("performed")]
            no_traceback(server)

    with web(scene, *perform) as server:
        assert server.order(1_000) is not None
        server.says("performed 1000")
        server.stop(SIGTERM)
        performed += [line for line in server.heard.said if line.startswith("performed")]

    assert len(performed) == len(set(performed))
    assert {f"performed {number}" for number in confirmed} <= set(performed)


def test_a_web_application_answers_while_messages_are_performed(scene: Scene) -> None:
    """A `perform` that blocks keeps no request waiting: it is not on the web's loop."""
    perform = ("print('begun')", "while not Path('open').exists(): time.sleep(0.01)", "print('done')")
    with web(scene, *perform) as server:
        server.order(0)
        server.says("begun")
        assert server.order(1) == 1
        (scene.folder / "open").touch()
        server.says("done")
        server.stop(SIGTERM)

    no_traceback(server)
