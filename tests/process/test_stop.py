"""INT, TERM and QUIT end a server in order, whatever it is at; a second one, or a time-out, does not wait for work."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT, SIGQUIT, SIGTERM, Signals

import pytest

from karafka import Backoff
from tests.brokers import Running, new_group
from tests.process.servers import Scene, Server, app, each, program, serve


def stopped(server: Server, number: Signals = SIGTERM) -> float:
    """Stop it, in order; the seconds it took. Nothing of Python's may have leaked on the way."""
    began = time.monotonic()
    status = server.stop(number)
    took = time.monotonic() - began
    assert status == 0, str(server.heard)
    assert not any("Traceback" in line or "ignored" in line for line in server.heard.told), str(server.heard)
    return took


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGQUIT])
def test_an_idle_server_stops_within_a_second(scene: Scene, number: Signals) -> None:
    scene.send("one")
    with serve(scene.folder, scene.app("print('done')")) as server:
        server.says("done")
        took = stopped(server, number)

    print(f"{number.name}: stopped in {took:.2f} s")
    assert took < 1
    assert server.happened("server_stopping", reason=number.name)
    assert server.happened("server_stopped", status=0, unfinished=[])
    assert scene.committed == [1]


def test_what_runs_is_waited_for_and_committed(scene: Scene) -> None:
    scene.send("one", "two")
    with serve(scene.folder, scene.app("print('begun')", "time.sleep(2)", "print('done')")) as server:
        server.says("begun")
        stopped(server)

    assert server.heard.said == ["begun", "done"]
    assert scene.committed == [1]


def test_what_runs_in_the_event_loop_is_waited_for_and_committed(scene: Scene) -> None:
    scene.send("one", "two")
    source = scene.app("print('begun')", "await asyncio.sleep(2)", "print('done')", asynchronous=True)
    with serve(scene.folder, source) as server:
        server.says("begun")
        stopped(server)

    assert server.heard.said == ["begun", "done"]
    assert scene.committed == [1]


def test_work_past_the_time_out_is_named_and_the_status_is_2(scene: Scene) -> None:
    scene.send("one", "two")
    perform = ("print(self.message.offset)", "self.message.offset == 1 and time.sleep(600)")
    with serve(scene.folder, scene.app(*perform, shutdown_timeout=1.0)) as server:
        server.says("1")
        began = time.monotonic()
        status = server.stop()
        took = time.monotonic() - began

    print(f"past the time-out of 1 s: ended in {took:.2f} s")
    assert status == 2, str(server.heard)
    (told,) = server.happened("server_stopped")
    assert told["status"] == 2
    assert [f"{scene.topic}/0/1" in one for one in told["unfinished"]] == [True], told
    assert took < 4
    assert scene.committed == [1]


def test_work_in_the_event_loop_past_the_time_out_is_named_and_the_status_is_2(scene: Scene) -> None:
    scene.send("one")
    source = scene.app("print('begun')", "await asyncio.sleep(600)", asynchronous=True, shutdown_timeout=1.0)
    with serve(scene.folder, source) as server:
        server.says("begun")
        status = server.stop()

    assert status == 2, str(server.heard)
    (told,) = server.happened("server_stopped")
    assert [f"{scene.topic}/0/0" in one for one in told["unfinished"]] == [True], told
    assert scene.committed == [None]


@pytest.mark.parametrize("second", [SIGINT, SIGTERM])
def test_a_second_signal_does_not_wait(scene: Scene, second: Signals) -> None:
    """One at the heels of the first may be its echo, as a supervisor tells the process and its group: pressed again."""
    scene.send("one")
    with serve(scene.folder, scene.app("print('begun')", "time.sleep(600)")) as server:
        server.says("begun")
        server.signal(SIGINT)
        server.event("server_stopping")
        began = time.monotonic()
        status = server.press(second)
        took = time.monotonic() - began

    print(f"a second {second.name}: ended in {took:.2f} s")
    assert status == 2, str(server.heard)
    assert took < 2
    assert scene.committed == [None]


def test_a_second_signal_names_what_it_did_not_wait_for(scene: Scene) -> None:
    scene.send("one")
    with serve(scene.folder, scene.app("print('begun')", "time.sleep(600)")) as server:
        server.says("begun")
        server.signal(SIGINT)
        server.event("server_stopping")
        assert server.press(SIGINT) == 2, str(server.heard)

    assert f"{scene.topic}/0/0" in str(server.happened("server_stopped")[0]["unfinished"])


def test_a_signal_and_its_echo_are_one_stop(scene: Scene) -> None:
    """Supervisors tell the process and its group: what runs is waited for, and neither signal may go astray."""
    scene.send("one")
    with serve(scene.folder, scene.app("print('begun')", "time.sleep(1)", "print('done')")) as server:
        server.says("begun")
        server.signal(SIGINT)
        server.signal(SIGTERM)
        assert server.ended(timeout=10) == 0, str(server.heard)

    assert server.heard.said == ["begun", "done"]
    assert scene.committed == [1]


@pytest.mark.parametrize(("raised", "status"), [("SystemExit(7)", 7), ("SystemExit", 0), ("KeyboardInterrupt", 130)])
def test_user_code_that_ends_the_process_finishes_nothing_past_its_message(
    scene: Scene, raised: str, status: int
) -> None:
    """And the next start performs that message again."""
    scene.send(0, 1, 2, 3)
    perform = ("print(self.params)", f"if self.params == 2 and 'CALM' not in os.environ: raise {raised}")
    with serve(scene.folder, scene.app(*perform)) as server:
        assert server.ended() == status, str(server.heard)
    assert server.heard.said == ["0", "1", "2"]
    assert scene.committed == [2]

    with serve(scene.folder, scene.app(*perform), environment={"CALM": "1"}) as server:
        server.says("3")
        stopped(server)
    assert server.heard.said == ["2", "3"]
    assert scene.committed == [4]


def test_a_partition_that_backs_off_does_not_hold_up_a_stop(scene: Scene) -> None:
    scene.send(0, 1)
    with serve(scene.folder, scene.app("self.params < 1 or 1 / 0", retry=Backoff(600, 600))) as server:
        server.event("failed", offset=1)
        began = time.monotonic()
        assert server.stop() == 0, str(server.heard)
        took = time.monotonic() - began

    assert took < 1
    assert scene.committed == [1]


def test_a_server_whose_topic_is_missing_says_so_once_and_stops(kafka: Running, tmp_path: Path) -> None:
    topic = f"missing-{new_group()}"
    with serve(tmp_path, app(kafka.bootstrap, new_group(), each(topic, "pass"))) as server:
        server.event("topic_missing", topic=topic)
        took = stopped(server)

    assert took < 1
    assert len(server.happened("topic_missing")) == 1


def test_a_server_whose_broker_is_away_says_so_and_stops(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: it refuses, and nobody else can have it
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with serve(tmp_path, app(address, new_group(), each("topic", "pass"))) as server:
            server.event("client_troubled")
            began = time.monotonic()
            status = server.stop()
            took = time.monotonic() - began

    print(f"broker away: stopped in {took:.2f} s")
    assert status == 0, str(server.heard)
    assert took < 6
    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)


def test_messages_in_hand_are_left_to_the_next_start(scene: Scene) -> None:
    """A stop with thousands received does not perform them: what is finished is committed, the rest comes again."""
    scene.send(*range(5_000))
    perform = (
        "if self.params in (200, 4_999): print(self.params)",
        "time.sleep(0 if 'QUICK' in os.environ else 0.002)",
    )
    with serve(scene.folder, scene.app(*perform)) as server:
        server.says("200")
        took = stopped(server)
    (position,) = scene.committed

    print(f"with thousands in hand: stopped in {took:.2f} s at {position}")
    assert took < 1
    assert position is not None
    assert 200 < position < 4_000

    with serve(scene.folder, scene.app(*perform), environment={"QUICK": "1"}) as server:
        (start,) = server.event("assigned")["starts"].values()
        server.says("4999")
        stopped(server)
    assert start == position
    assert scene.committed == [5_000]


def test_a_signal_while_it_starts_is_a_stop(scene: Scene) -> None:
    setup = "    @classmethod\n    def setup(cls, app):\n        os.kill(os.getpid(), signal.SIGTERM)\n\n"
    source = scene.app("pass").replace("    def perform", setup + "    def perform")
    with serve(scene.folder, source) as server:
        assert server.ended() == 0, str(server.heard)
    assert server.happened("server_stopped", status=0)


def test_an_interrupt_while_the_app_is_imported_shows_no_traceback(tmp_path: Path) -> None:
    with serve(tmp_path, "import time\nprint('importing')\ntime.sleep(600)\n") as server:
        server.says("importing")
        status = server.stop(SIGINT)

    assert status == 0, str(server.heard)
    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)


@pytest.mark.parametrize("status", [2, 3])
def test_what_was_printed_is_not_lost_when_user_code_ends_the_process(scene: Scene, status: int) -> None:
    """Whatever the status: one that the framework uses too is user code's own here."""
    scene.send("one")
    source = scene.app("print('last words')", f"raise SystemExit({status})")
    source += "\nimport atexit\natexit.register(print, 'at exit')\n"
    with serve(scene.folder, source, environment={"PYTHONUNBUFFERED": ""}) as server:
        assert server.ended() == status, str(server.heard)

    assert server.heard.said == ["last words", "at exit"]


LAST = """
import atexit, threading

class Last:
    def __del__(self):
        os.write(1, b"taken down\\n")

last = Last()
atexit.register(lambda: print("at exit", *(one.name.rsplit("-", 1)[0] for one in threading.enumerate())))
threading.Thread(target=lambda: (time.sleep(2), print("waited for"))).start()
"""


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of a cluster that says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_an_interpreter_whose_clients_wait_for_a_broker_is_left_as_it_is(mute: str, tmp_path: Path) -> None:
    """They would be at work while libc's exit takes OpenSSL from under them: a segmentation fault. What is to be done
    at its end is done.
    """
    with serve(tmp_path, app(mute, new_group(), each("videos", "pass")) + LAST) as server:
        server.event("server_started")
        assert server.stop() == 0, str(server.heard)

    assert server.heard.said[0] == "waited for"
    assert server.heard.said[1].startswith("at exit MainThread karafka-topics")
    assert len(server.heard.said) == 2


def test_an_interpreter_that_is_somebody_else_s_ends_after_its_clients(mute: str, tmp_path: Path) -> None:
    """Within bounds."""
    source = app(mute, new_group(), each("videos", "pass")) + LAST
    with program(tmp_path, source + "server = Server(app)\nserver.start()\nserver.stop()\n") as server:
        assert server.ended() == 0, str(server.heard)

    assert server.heard.said == ["waited for", "at exit MainThread", "taken down"]


def test_what_was_printed_before_a_time_out_is_not_lost(scene: Scene) -> None:
    scene.send("one")
    perform = ("print('begun')", "sys.stderr.write('{}\\n')", "time.sleep(600)")
    with serve(scene.folder, scene.app(*perform, shutdown_timeout=0.5), environment={"PYTHONUNBUFFERED": ""}) as server:
        server.until(lambda: {} in server.heard.events, "perform begun")
        assert server.stop() == 2, str(server.heard)

    assert server.heard.said == ["begun"]


@pytest.mark.parametrize("raised", ["SystemExit(7)", "KeyboardInterrupt"])
def test_user_code_may_end_the_process_from_a_task_of_its_own(scene: Scene, raised: str) -> None:
    """In the event loop too, and from a task that `perform` waits for: the process ends, it does not stand still."""
    scene.send("one")
    perform = ("async def ask():", f"    raise {raised}", "await asyncio.gather(ask())")
    with serve(scene.folder, scene.app(*perform, asynchronous=True)) as server:
        status = server.ended(timeout=10)

    assert status == (7 if "7" in raised else 130), str(server.heard)
    assert scene.committed == [None]
