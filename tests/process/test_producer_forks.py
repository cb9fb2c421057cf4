"""After a fork each process sends by a client of its own: nothing hangs, nothing is sent twice, nothing is lost."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from http.client import HTTPException
from itertools import count
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import pytest

from karafka.devbroker import ports
from tests.brokers import Running
from tests.process.senders import Post
from tests.process.servers import Server


@pytest.fixture
def post(kafka: Running, tmp_path: Path) -> Post:
    return Post(kafka.bootstrap, tmp_path)


# ── os.fork ──────────────────────────────────────────────────────────────────────────────────────────────────────

# `fork(body)` runs `body` in a child, which then ends as scripts do: it must within 20 seconds, and with status 0.
FORK = """
def fork(body):
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        return
    deadline(20)
    body()
    sys.exit()

"""


def test_parent_and_child_send_on(post: Post) -> None:
    body = """
sender = producer()
sender.produce_sync(TOPIC, "before")
def child():
    say("child", sender.produce_sync(TOPIC, "child").offset)
    sender.produce_async(TOPIC, "child, at its end")
fork(child)
say("parent", sender.produce_sync(TOPIC, "after").offset)
sender.produce_async(TOPIC, "at its end")
"""
    ended = post.run(FORK + body)
    assert ended.said == ["child 1", "parent 3"]
    assert post.payloads() == ["before", "child", "child, at its end", "after", "at its end"]


def test_what_is_under_way_and_what_is_buffered_is_the_parents(post: Post) -> None:
    """In the child its handles fail at once, however they are waited for, and the buffer is empty."""
    body = """
sender = producer(linger_ms=60_000)
first, second, third = (sender.produce_async(TOPIC, f"under way {number}") for number in range(3))
sender.buffer(TOPIC, "buffered")

async def awaited():
    await third

def failure(wait):
    began = time.monotonic()
    try:
        wait()
    except ProducerClosedError as error:
        assert "fork" in str(error) and time.monotonic() - began < 0.5, error
        return "failed"

def child():
    say("buffered", sender.buffered)
    say(failure(first.wait), failure(first.result))
    say(failure(lambda: asyncio.run(awaited())))
    told = threading.Event()
    second.add_done_callback(lambda handle: (say("told", type(handle.error).__name__), told.set()))
    say(told.wait(1))
    say(len(sender.flush_async()), sender.flush(), sender.close())

fork(child)
say(first.done, sender.buffered, sender.close())
say([handle.wait().offset for handle in (first, second, third)])
"""
    ended = post.run(FORK + body)
    assert ended.said == [
        "buffered 0",
        "failed failed",
        "failed",
        "told ProducerClosedError",
        "True",
        "0 0 0",
        "False 1 0",
        "[0, 1, 2]",
    ]
    assert post.payloads() == ["under way 0", "under way 1", "under way 2", "buffered"]
    assert not ended.told


def test_a_fork_may_come_at_any_moment(post: Post) -> None:
    """Other threads send, wait, buffer, close and make producers while forks come: whatever locks they hold."""
    body = """
sender = producer(linger_ms=1)
sender.produce_sync(TOPIC, "first")
over = threading.Event()
counts = []

def sends(number, send):
    count = 0
    while not over.is_set():
        send(f"thread {number}, {count}")
        count += 1
    counts.append(f"thread {number} {count}")

def brief(payload):
    with producer() as one:
        one.produce_sync(TOPIC, payload)

def buffers(payload):
    sender.buffer(TOPIC, payload)
    sender.flush_sync()

ways = (
    lambda payload: sender.produce_sync(TOPIC, payload),
    lambda payload: [sender.produce_async(TOPIC, payload), time.sleep(0.0001)],
    lambda payload: asyncio.run(awaited(payload)),
    buffers,
    brief,
)

async def awaited(payload):
    await sender.produce_async(TOPIC, payload)

threads = [threading.Thread(target=sends, args=(number, way)) for number, way in enumerate(ways)]
for thread in threads:
    thread.start()

def child():
    sender.produce_sync(TOPIC, f"child {number}")
    sender.produce_async(TOPIC, f"child {number}, at its end")

for number in range(20):
    fork(child)
over.set()
for thread in threads:
    thread.join()
sender.close()
for count in counts:
    say(count)
"""
    ended = post.run(FORK + body)
    expected = {"first"}
    for number in range(20):
        expected |= {f"child {number}", f"child {number}, at its end"}
    for line in ended.said:
        name, _, count = line.rpartition(" ")
        expected |= {f"{name}, {number}" for number in range(int(count))}
    assert len(ended.said) == 5
    assert not ended.told
    assert Counter(post.payloads()) == Counter(expected)


def test_a_child_forks_again_and_the_first_send_may_be_its(post: Post) -> None:
    """A producer that has not sent yet makes its client where it first does, however deep."""
    body = """
sender = producer()

def grandchild():
    sender.produce_sync(TOPIC, "grandchild")

def child():
    sender.produce_sync(TOPIC, "child")
    fork(grandchild)
    sender.produce_sync(TOPIC, "child again")

fork(child)
sender.produce_sync(TOPIC, "parent")
"""
    post.run(FORK + body)
    assert post.payloads() == ["child", "grandchild", "child again", "parent"]


# ── multiprocessing ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_workers_of_a_pool_send(post: Post) -> None:
    body = """
import multiprocessing

sender = producer()
sender.produce_sync(TOPIC, "parent")

def work(number):
    delivery = sender.produce_sync(TOPIC, f"sync {number}")
    sender.produce_async(TOPIC, f"async {number}")
    return delivery.offset

pool = multiprocessing.get_context("fork").Pool(2)
offsets = pool.map(work, range(50), chunksize=1)
say(len(set(offsets)))
pool.close()
pool.join()
sender.produce_sync(TOPIC, "parent again")
"""
    ended = post.run(body)
    assert ended.said == ["50"]
    expected = {"parent", "parent again", *(f"{way} {number}" for number in range(50) for way in ("sync", "async"))}
    assert Counter(post.payloads()) == Counter(expected)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_what_a_child_of_multiprocessing_accepted_is_delivered_before_it_ends(post: Post, method: str) -> None:
    """It ends by `os._exit`, and what is registered with `atexit` is not called; what was sent is sent all the same."""
    body = f"""
import multiprocessing

sender = producer(linger_ms=500)

def work():
    for number in range(100):
        sender.produce_async(TOPIC, f"async {{number}}")
    sender.buffer(TOPIC, "buffered")

def buffers():
    sender.buffer(TOPIC, "only buffered")

if __name__ == "__main__":
    sender.produce_sync(TOPIC, "parent")
    for body in work, buffers:
        child = multiprocessing.get_context({method!r}).Process(target=body)
        child.start()
        child.join()
        say(child.exitcode)
"""
    ended = post.run(body)
    assert ended.said == ["0", "0"]
    assert post.payloads() == ["parent", *(f"async {number}" for number in range(100)), "buffered", "only buffered"]


# ── servers that fork ────────────────────────────────────────────────────────────────────────────────────────────


def test_gunicorn_with_the_application_loaded_before_it_forks(post: Post) -> None:
    """Each request that was answered is on the topic once, though a stop came in the midst of them."""
    post.write(
        """
sender = producer()
sender.produce_sync(TOPIC, "parent")

def application(environ, start_response):
    number = environ["PATH_INFO"].strip("/")
    sender.produce_sync(TOPIC, f"sync {number}")
    sender.produce_async(TOPIC, f"async {number}")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
""",
        "web.py",
    )
    address = f"{ports.HOST}:{ports.free()}"
    asked = count()
    answered: dict[int, str] = {}

    def ask() -> None:
        with suppress(OSError, HTTPException):  # the stop
            while True:
                number = next(asked)
                with urlopen(f"http://{address}/{number}", timeout=20) as answer:
                    answered[number] = answer.read().decode()

    options = ("--preload", "--workers", "2", "--bind", address, "--graceful-timeout", "20")
    with post.python("-m", "gunicorn", *options, "web:application") as server:
        server.until(lambda: sum("Booting worker" in line for line in server.heard.told) == 2, "two workers")
        threads = [Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        server.until(lambda: len(answered) >= 200 and len(set(answered.values())) == 2, "answers of both workers")
        began = time.monotonic()
        status = server.stop()
        took = time.monotonic() - began
        for thread in threads:
            thread.join()

    assert status == 0, str(server.heard)
    assert took < 9
    assert not any("not delivered" in line or "Traceback" in line for line in server.heard.told), str(server.heard)
    found = Counter(post.payloads())
    assert set(found.values()) == {1}
    wanted = {"parent", *(f"{way} {number}" for number in answered for way in ("sync", "async"))}
    assert wanted <= set(found)
    possible = {"parent", *(f"{way} {number}" for number in range(next(asked)) for way in ("sync", "async"))}
    assert set(found) <= possible


def done(server: Server) -> list[str]:
    return [line for line in server.heard.said if line.startswith("sent")]


def test_celery_with_processes_forked_ahead(post: Post) -> None:
    """As with other connections, what is on its way at the end of a worker is seen to at `worker_process_shutdown`."""
    tasks = f"""
from celery import Celery, signals

folder = {str(post.folder / "queue")!r}
os.makedirs(folder, exist_ok=True)
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {{f"{{name}}_folder{{way}}": folder for name, way in FOLDERS}}
app.conf.task_ignore_result = True
sender = producer()

@app.task(name="send")
def send(number):
    sender.produce_sync(TOPIC, f"sync {{number}}")
    sender.produce_async(TOPIC, f"async {{number}}")
    say("sent", number, "by", os.getpid())

@signals.worker_process_shutdown.connect
def close(**_):
    sender.close()
"""
    head = "FOLDERS = ('data', '_in'), ('data', '_out'), ('control', '')\n"
    post.write(head + tasks + 'sender.produce_sync(TOPIC, "parent")\n', "tasks.py")
    post.run(head + tasks + "for number in range(100):\n    send.delay(number)\n")
    options = ("--pool", "prefork", "--concurrency", "2", "--without-gossip", "--without-mingle")
    # It warns whoever is root.
    with post.python("-W", "default", "-m", "celery", "-A", "tasks", "worker", *options) as server:
        server.until(lambda: len(done(server)) == 100, "all tasks done")
        began = time.monotonic()
        status = server.stop()
        took = time.monotonic() - began

    assert status == 0, str(server.heard)
    assert took < 10
    expected = {"parent", *(f"{way} {number}" for number in range(100) for way in ("sync", "async"))}
    assert Counter(post.payloads()) == Counter(expected)
    assert len({line.split()[-1] for line in done(server)}) == 2
