"""What every job queue promises: what a server hands over is performed by a worker, all of it, as the server would."""

from __future__ import annotations

from time import monotonic, time

import pytest

from tests.brokers import until
from tests.jobs.conftest import Makes
from tests.jobs.yard import offsets

DEFINES = ["def", "async def"]

TELLS = """
from dataclasses import dataclass

@dataclass
class Video:
    id: int
    title: str

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController, Controller[Video]):
    DEFINE perform(self):
        message = self.message
        self.tell("done", params=[type(self.params).__name__, self.params.id, self.params.title],
                  key=repr(message.key), headers=repr(message.headers), raw=repr(message.raw),
                  place=[message.topic, message.partition, message.offset], timestamp=message.timestamp,
                  attempt=message.attempt, pid=os.getpid(), app=self.app.config.client_id)
"""


@pytest.mark.parametrize("define", DEFINES)
def test_a_job_is_the_message_as_it_came(yard: Makes, define: str) -> None:
    """Params of the declared type, key, headers, place, time: performed in another process than that which read it."""
    with yard(TELLS.replace("DEFINE", define)) as it:
        raw = '{"id": 7, "title": "Ä\\u0000 \\" ✓"}'
        it.send(raw, key=b"\xff\x00k", headers=[("a", b"\xfe"), ("b", None), ("ü", "text")])
        server, worker = it.server(), it.worker()
        (told,) = it.heard("done")
        it.handed_over(1)

        assert told["params"] == ["Video", 7, 'Ä\x00 " ✓']
        assert told["key"] == repr(b"\xff\x00k")
        assert told["headers"] == repr({"a": b"\xfe", "b": None, "ü": b"text"})
        assert told["raw"] == repr(raw.encode())
        assert told["place"] == [it.source, 0, 0]
        assert told["id"] == f"{it.group}/{it.source}/0/0"
        assert abs(told["timestamp"] - time()) < 60
        assert told["attempt"] == 1
        assert told["app"] == it.group
        assert server.process.pid != told["pid"]
        assert (server.stop(), worker.stop()) == (0, 0), str(worker.heard)


def test_an_offset_moves_once_the_queue_has_the_job(yard: Makes) -> None:
    """No worker is needed for that; one that comes later finds all of them, in any order."""
    with yard(TELLS.replace("DEFINE", "def"), partitions=2) as it:
        for partition in (0, 1):
            it.send(*({"id": at, "title": ""} for at in range(300)), partition=partition)
        server = it.server()
        it.handed_over(300, 300)
        assert server.stop() == 0
        it.worker()

        assert offsets(it.heard("done", 600)) == [(partition, at) for partition in (0, 1) for at in range(300)]


HOOKS = """
class UrgentWorker(ApplicationWorker):
    time_limit = 33.0

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    @before_enqueue
    def first(self):
        if self.message.offset == 1:
            raise Abort("on purpose")
        if self.message.offset == 2:
            self.worker = UrgentWorker
        if self.message.offset == 3:
            self.params["by"] = os.getpid()
        self.seen = True

    def perform(self):
        self.tell("done", params=self.params, pid=os.getpid(), seen=hasattr(self, "seen"))
"""


def test_hooks_run_in_the_server_alone(yard: Makes) -> None:
    """They drop messages, choose the worker, and what they change in params arrives; nothing else of theirs does."""
    with yard(HOOKS) as it:
        it.send(*({"at": at} for at in range(4)))
        server, worker = it.server(), it.worker()
        told = sorted(it.heard("done", 3), key=lambda one: one["params"]["at"])
        it.handed_over(4)

        assert [one["params"] for one in told] == [{"at": 0}, {"at": 2}, {"at": 3, "by": server.process.pid}]
        assert {one["seen"] for one in told} == {False}
        assert server.process.pid not in {one["pid"] for one in told}
        assert (server.stop(), worker.stop()) == (0, 0)
        assert len(it.told("done")) == 3


FAILS = """
class VideosWorker(ApplicationWorker):
    max_retries = 2

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    DEFINE perform(self):
        if self.params["fails"] >= self.message.attempt:
            self.told_before = True
            raise ValueError("because of " + str(self.params["at"]))
        self.tell("done", at=self.params["at"], attempt=self.message.attempt)

    DEFINE after_failure(self, error):
        say("after", self.params["at"], self.message.attempt, type(error).__name__, self.told_before)
"""


@pytest.mark.parametrize("define", DEFINES)
def test_a_job_that_fails_is_tried_again_and_given_up_in_the_end(yard: Makes, define: str) -> None:
    """After each failed try `after_failure` is called, on the controller that failed; what is given up can be found."""
    with yard(FAILS.replace("DEFINE", define)) as it:
        it.send({"at": 0, "fails": 1}, {"at": 1, "fails": 99}, {"at": 2, "fails": 0}, {"at": 3, "fails": 2})
        it.server()
        worker = it.worker()
        told = it.heard("done", 3)
        until(lambda: len(it.dead()) == 1, 30)

        assert sorted((one["at"], one["attempt"]) for one in told) == [(0, 2), (2, 1), (3, 3)]
        assert [one["offset"] for one in it.dead()] == [1]
        assert sorted(line for line in worker.heard.said if line.startswith("after")) == [
            "after 0 1 ValueError True",
            *(f"after 1 {attempt} ValueError True" for attempt in (1, 2, 3)),
            *(f"after 3 {attempt} ValueError True" for attempt in (1, 2)),
        ]


LONG = """
class VideosWorker(ApplicationWorker):
    time_limit = 1.0
    max_retries = 1

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    DEFINE perform(self):
        by = time.monotonic() + self.params["seconds"]
        while time.monotonic() < by:
            AWAIT
        self.tell("done", at=self.message.offset)

    def after_failure(self, error):
        say("after", self.message.offset, type(error).__name__)
"""


@pytest.mark.parametrize("define", DEFINES)
def test_a_job_that_takes_too_long_fails(yard: Makes, define: str) -> None:
    """It is interrupted, tried again and given up like any failure; others go on."""
    wait = "await asyncio.sleep(0.01)" if "async" in define else "time.sleep(0.01)"
    with yard(LONG.replace("DEFINE", define).replace("AWAIT", wait)) as it:
        it.send({"seconds": 600}, {"seconds": 0.1})
        it.server()
        worker = it.worker()
        until(lambda: len(it.dead()) == 1, 30)

        assert [one["offset"] for one in it.dead()] == [0]
        assert [one["at"] for one in it.told("done")] == [1]
        said = [line.split() for line in worker.heard.said if line.startswith("after")]
        assert [line[1] for line in said] == ["0", "0"], str(worker.heard)
        assert all("TimeLimit" in line[2] for line in said)


DECIDES = """
@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self):
        asked = self.params
        if asked == "discard":
            self.discard("on purpose")
        if asked == "bury":
            self.bury("on purpose")
        if asked == "retry" and self.message.attempt == 1:
            self.retry(0.1, "not yet")
        self.tell("done", asked=asked, attempt=self.message.attempt)

    def after_failure(self, error):
        say("after", type(error).__name__)
"""


def test_what_perform_decides_is_done(yard: Makes) -> None:
    """To be tried again, to be given up at once, to be finished as it is: no failures, so nobody is told of one."""
    with yard(DECIDES) as it:
        it.send('"discard"', '"bury"', '"retry"', '"go"')
        it.server()
        worker = it.worker()
        told = it.heard("done", 2)
        until(lambda: len(it.dead()) == 1, 30)

        assert sorted((one["asked"], one["attempt"]) for one in told) == [("go", 1), ("retry", 2)]
        assert [one["offset"] for one in it.dead()] == [1]
        assert not [line for line in worker.heard.said if line.startswith("after")], str(worker.heard)


BYTES = """
@app.topic({source}, backend=BACKEND, parser=RawParser(), interchanger=Binary())
class VideosController(ApplicationController):
    def perform(self):
        self.tell("done", params=repr(self.params), null=self.message.tombstone)

@app.topic(OTHER, backend=BACKEND, parser=RawParser(), dead_letter=DeadLetter({results}))
class OthersController(ApplicationController):
    def perform(self):
        self.tell("others", params=repr(self.params))
"""


def test_any_bytes_cross_by_an_interchanger(yard: Makes) -> None:
    """Without one it is told in words, and the message goes where the route says: it is never lost, nor changed."""
    with yard("from karafka.parsers import Raw as RawParser\nOTHER = {source} + '_other'\n" + BYTES) as it:
        it.stage.create(f"{it.source}_other")
        it.send(b"\xff\xfe\x00", None, b"text")
        it.stage.send(f"{it.source}_other", [b"text", b"\xff\xfe\x00"])
        server = it.server()
        it.worker()
        until(lambda: len(it.raw()) == 5, 30)

        told = sorted(one["params"] for one in it.told("done"))
        assert told == sorted([repr(b"\xff\xfe\x00"), repr(None), repr(b"text")])
        assert [one["params"] for one in it.told("others")] == [repr(b"text")]
        assert b"\xff\xfe\x00" in it.raw()
        server.event("failed", kind="InterchangeError")
        (failed,) = server.happened("failed", kind="InterchangeError")
        assert "interchanger=Binary()" in failed["error"]


GONE = """
class VideosWorker(ApplicationWorker):
    max_retries = 1000
    backoff = Backoff(0.2, 0.2)

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    def perform(self):
        self.tell("done", at=self.message.offset)

@app.topic(OTHER, backend=BACKEND)
class OthersController(ApplicationController):
    def perform(self):
        self.tell("others", at=self.message.offset)
"""


def test_a_job_whose_route_has_gone_waits_until_it_is_back(yard: Makes) -> None:
    """A worker of an older release must not throw away what a newer server hands over; others go on."""
    head = "OTHER = {source} + '_other'\n"
    with yard(head + GONE) as it:
        it.stage.create(f"{it.source}_other")
        it.send({})
        server = it.server()
        it.handed_over(1)
        it.write(head + GONE.replace("@app.topic({source}, backend=BACKEND)", ""))
        worker = it.worker()
        it.stage.send(f"{it.source}_other", ["{}"])
        it.heard("others")
        it.refused(worker)
        assert worker.stop() == 0
        it.write(head + GONE)
        it.worker()

        assert [one["at"] for one in it.heard("done")] == [0]
        assert server.stop() == 0


@pytest.mark.parametrize("version", [1, 99])
def test_jobs_of_other_versions(yard: Makes, version: int) -> None:
    """One of the first version is performed as ever. One of a later one is not taken for something else: it waits."""
    with yard(TELLS.replace("DEFINE", "def")) as it:
        job = {
            "v": version,
            "group": it.group,
            "route": it.source,
            "worker": "app:VideosWorker",
            "topic": it.source,
            "partition": 3,
            "offset": 17,
            "timestamp": [1, 1_700_000_000_000],
            "params": '{"id": 1, "title": "one"}',
            "nobody": "knows this one",
        }
        worker = it.worker()
        it.queue.put(it.group, job)
        if version == 1:
            (told,) = it.heard("done")
            assert told["place"] == [it.source, 3, 17]
            assert told["timestamp"] == 1_700_000_000.0
        else:
            it.refused(worker, "99")
            assert it.told() == []


HOOKED = """
@app.on_start
def begin():
    app.state.opened = "opened"
    say("on_start")

@app.on_stop
def end():
    say("on_stop")

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    @classmethod
    def setup(cls, app):
        cls.ready = True

    DEFINE perform(self):
        self.tell("done", state=self.app.state.opened, ready=self.ready)
"""


@pytest.mark.parametrize("define", DEFINES)
def test_a_worker_begins_and_ends_as_a_server_does(yard: Makes, define: str) -> None:
    """The app's hooks are called, its controllers set up."""
    with yard(HOOKED.replace("DEFINE", define)) as it:
        it.send({})
        it.server()
        worker = it.worker()
        (told,) = it.heard("done")

        assert (told["state"], told["ready"]) == ("opened", True)
        assert worker.stop() == 0, str(worker.heard)
        assert {"on_start", "on_stop"} <= set(worker.heard.said)


SLOW = """
@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController):
    DEFINE perform(self):
        say("begun", self.message.offset)
        AWAIT
        self.tell("done", at=self.message.offset)
"""


def slow(define: str, seconds: float) -> str:
    wait = f"await asyncio.sleep({seconds})" if "async" in define else f"time.sleep({seconds})"
    return SLOW.replace("DEFINE", define).replace("AWAIT", wait)


@pytest.mark.parametrize("define", DEFINES)
def test_jobs_of_one_partition_are_performed_side_by_side(yard: Makes, define: str) -> None:
    with yard(slow(define, 1.0)) as it:
        it.send(*[{}] * 20)
        it.server()
        it.handed_over(20)
        began = monotonic()
        it.worker("--concurrency", "10")
        it.heard("done", 20)

        assert monotonic() - began < 15  # 20 by one; the start of the worker is in it


@pytest.mark.parametrize("define", DEFINES)
def test_a_stop_finishes_what_runs(yard: Makes, define: str) -> None:
    """What had not begun is left to the next one."""
    with yard(slow(define, 1.5)) as it:
        it.send(*[{}] * 6)
        it.server()
        it.handed_over(6)
        worker = it.worker("--concurrency", "2")
        worker.until(lambda: len(worker.heard.said) >= 2, "two have begun")
        assert worker.stop() == 0, str(worker.heard)
        begun = {int(line.split()[1]) for line in worker.heard.said if line.startswith("begun")}

        assert {one["at"] for one in it.told("done")} == begun
        it.worker("--concurrency", "6")
        it.heard("done", 6, timeout=30 + it.queue.returns)
        assert sorted({one["at"] for one in it.told("done")}) == list(range(6))


def test_a_job_in_hand_of_a_worker_that_is_killed_is_performed_by_another(yard: Makes) -> None:
    with yard(slow("def", 2.0)) as it:
        it.send({})
        it.server()
        first = it.worker()
        first.says("begun 0")
        first.kill()
        assert it.told() == []
        it.worker()

        assert it.heard("done", timeout=30 + it.queue.returns)
