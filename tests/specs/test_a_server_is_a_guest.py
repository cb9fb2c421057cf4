"""A server is a guest in its user's process: started and stopped again and again, on any thread, touching nothing."""

from __future__ import annotations

import faulthandler
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread

import pytest

from karafka import App, ConfigError, Controller, Server
from karafka.events import Assigned, ServerQuiet, ServerStarted, ServerStopped, ServerStopping
from karafka.lifecycle import Phase
from tests.brokers import until as until_true
from tests.specs.run import Notes, Stage, running, until

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP)


def noting(app: App, topic: str) -> Notes[int]:
    """Route `topic` to a controller that notes its payloads."""
    seen: Notes[int] = Notes()

    @app.topic(topic)
    class Note(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    return seen


def ours() -> list[str]:
    """The framework's threads in this process."""
    return [one.name for one in threading.enumerate() if one.name.startswith("karafka")]


def test_signals_are_not_touched(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen = noting(app, topic)
    before = {one: signal.getsignal(one) for one in HANDLED}
    stage.send(topic, ["1"])

    with running(app):
        until(lambda: len(seen) == 1)
        assert {one: signal.getsignal(one) for one in HANDLED} == before
    assert {one: signal.getsignal(one) for one in HANDLED} == before


def test_it_may_live_on_a_thread_of_the_users(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen = noting(app, topic)
    stage.send(topic, ["1"])
    ended: Notes[int] = Notes()

    def guest() -> None:
        server = Server(app)
        server.start()
        until_true(lambda: len(seen) == 1)
        ended.add(server.stop())

    thread = Thread(target=guest)
    thread.start()
    thread.join(60)

    assert ended.all() == [0]
    assert stage.committed(app.config.client_id, topic) == {0: 1}


def test_run_on_a_thread_ends_with_a_stop_from_another(stage: Stage) -> None:
    """Signals are the main thread's, so it is without."""
    app, topic = stage.app(), stage.topic()
    seen = noting(app, topic)
    stage.send(topic, ["1"])
    server = Server(app)
    before = {one: signal.getsignal(one) for one in HANDLED}

    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(server.run)
        until_true(lambda: len(seen) == 1 or ran.done())
        assert {one: signal.getsignal(one) for one in HANDLED} == before
        assert server.stop() == 0
        assert ran.result(10) == 0


def test_run_on_the_main_thread_ends_with_a_stop_from_another(stage: Stage) -> None:
    """And signals are handled as before."""
    app, topic = stage.app(), stage.topic()
    seen = noting(app, topic)
    stage.send(topic, ["1"])
    server = Server(app)
    before = {one: signal.getsignal(one) for one in HANDLED}

    def stop() -> None:
        until_true(lambda: len(seen) == 1)
        server.stop()

    Thread(target=stop, daemon=True).start()

    assert server.run() == 0
    assert {one: signal.getsignal(one) for one in HANDLED} == before


def test_a_stop_may_be_asked_for_by_many(stage: Stage) -> None:
    """By ten threads at once and again later: it is one stop, and all get its status."""
    app, topic = stage.app(), stage.topic()
    noting(app, topic)
    together = Barrier(10)

    with running(app) as watch:
        until(lambda: watch.told(ServerStarted))

        def stop(_number: int) -> int:
            together.wait(10)
            return watch.server.stop()

        with ThreadPoolExecutor(10) as pool:
            assert list(pool.map(stop, range(10))) == [0] * 10
        assert [watch.server.stop() for _ in range(10)] == [0] * 10
        assert watch.server.join(0) == 0

    assert len(watch.told(ServerStopping)) == len(watch.told(ServerStopped)) == 1


def test_it_takes_its_threads_with_it(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen = noting(app, topic)

    @app.topic(stage.topic(), concurrency=3)
    class Aside(Controller[int]):
        async def perform(self) -> None: ...

    stage.send(topic, ["1"])
    before = ours()
    with running(app):
        until(lambda: len(seen) == 1)
        assert ours() != before
    until_true(lambda: ours() == before)


def test_one_app_may_be_served_again_and_again(stage: Stage) -> None:
    """What each leaves the next goes on with; its producer sends in all of them."""
    app, topic, copies = stage.app(), stage.topic(), stage.topic()
    seen: Notes[int] = Notes()

    @app.topic(topic)
    class Copy(Controller[int]):
        def perform(self) -> None:
            app.producer.produce_sync(copies, self.params)
            seen.add(self.params)

    for life in range(3):
        stage.send(topic, [str(life)])
        with running(app):
            until(lambda: life in seen.all())  # noqa: B023 - asked at once

    assert seen.all() == [0, 1, 2]
    assert [one.value() for one in stage.read(copies, 3)] == [b"0", b"1", b"2"]
    assert stage.committed(app.config.client_id, topic) == {0: 3}


def test_several_may_follow_each_other(stage: Stage) -> None:
    for life in range(5):
        app, topic = stage.app(), stage.topic()
        seen = noting(app, topic)
        stage.send(topic, [str(life)])
        with running(app):
            until(lambda: seen.all() == [life])  # noqa: B023 - asked at once


def test_several_may_live_side_by_side(stage: Stage) -> None:
    """Each with its own app; one's stop is not the other's."""
    (one, first), (two, second) = [(stage.app(), stage.topic()) for _ in range(2)]
    of_one, of_two = noting(one, first), noting(two, second)

    with running(two):
        with running(one):
            stage.send(first, ["1"])
            until(lambda: of_one.all() == [1])
        stage.send(second, ["2"])
        until(lambda: of_two.all() == [2])
    assert of_one.all() == [1]


def test_what_was_never_started_stops_at_once(stage: Stage) -> None:
    app = stage.app()
    noting(app, stage.topic())
    before = ours()
    server = Server(app)

    assert server.stop() == 0
    assert server.join(0) == 0
    assert ours() == before


@pytest.mark.parametrize("way", ["start", "run"])
def test_the_fault_handler_of_the_process_is_not_touched(stage: Stage, tmp_path: Path, way: str) -> None:
    """Its timer is there once in a process: what the user set goes off, though a server looks out for lateness."""
    app = stage.app()
    noting(app, stage.topic())
    server = Server(app)
    with (tmp_path / "stacks").open("w+") as file, ThreadPoolExecutor(1) as pool:
        faulthandler.dump_traceback_later(2.0, file=file)
        try:
            if way == "start":
                server.start()
            else:
                pool.submit(server.run)
            until_true(lambda: (tmp_path / "stacks").stat().st_size > 0, timeout=10)
        finally:
            faulthandler.cancel_dump_traceback_later()
            assert server.stop() == 0


def test_it_may_be_quiet_from_the_beginning(stage: Stage) -> None:
    """Asked to before its start it performs nothing; what it was sent is left to the next."""
    app, topic = stage.app(), stage.topic()
    seen = noting(app, topic)
    stage.send(topic, ["1"])
    with running(app) as watch:
        until(lambda: len(seen) == 1)
    quiet = Server(app)
    quiet.quiet()
    quiet.start()
    stage.send(topic, ["2"])
    try:
        until(lambda: watch.told(ServerQuiet) and len(watch.told(Assigned)) == 2)
        assert quiet.phase is Phase.QUIET
        assert seen.all() == [1]
    finally:
        assert quiet.stop() == 0
    assert seen.all() == [1]


@pytest.mark.parametrize("when", ["while it runs", "after its end"])
def test_a_second_start_is_refused(stage: Stage, when: str) -> None:
    """One server is one life: its listeners would be there twice."""
    app = stage.app()
    noting(app, stage.topic())
    before = ours()
    server = Server(app)
    server.start()
    try:
        if when == "after its end":
            server.stop()
        with pytest.raises(ConfigError, match="life"):
            server.start()
    finally:
        assert server.stop() == 0
    until_true(lambda: ours() == before)
