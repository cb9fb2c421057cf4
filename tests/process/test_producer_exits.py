"""A process that just ends has delivered what it accepted, or says what it did not, and is not held up for long."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT

import pytest

from karafka.devbroker import Kafka, ports
from tests.brokers import Running
from tests.process.senders import Post

# How long the end of a process may wait for what is on its way, and what starting and ending take beside.
WAIT, BESIDE = 10.0, 5.0


@pytest.fixture
def post(kafka: Running, tmp_path: Path) -> Post:
    return Post(kafka.bootstrap, tmp_path)


@pytest.fixture
def nowhere(tmp_path: Path) -> Post:
    """What is sent there goes to an address where nobody answers."""
    return Post(f"{ports.HOST}:{ports.free()}", tmp_path, topic="nowhere")


# ── what was accepted is delivered ───────────────────────────────────────────────────────────────────────────────

MANY = 2_000
# Programs that send so many messages and end without a word to the producer.
ENDS = {
    "the script ends": """
sender = producer()
send(sender)
""",
    "made in a function": """
def work():
    send(producer())
work()
""",
    "dropped beside others": """
for _ in range(3):
    producer().buffered
send(producer())
time.sleep(0.1)
""",
    "dropped in a cycle": """
sender = producer()
sender.itself = sender
send(sender)
del sender
""",
    "in a thread": """
sender = producer()
threading.Thread(target=send, args=(sender,)).start()
""",
    "in a thread alone": """
threading.Thread(target=lambda: send(producer())).start()
""",
    "asyncio": """
async def main():
    send(producer())
asyncio.run(main())
""",
    "by an exit handler": """
import atexit
sender = producer()
atexit.register(send, sender)
""",
    "buffered": """
sender = producer()
for number in range(MANY):
    sender.buffer(TOPIC, str(number))
""",
    "by a variant": """
sender = producer()
send(sender.variant(linger_ms=500))
""",
    "lingering": """
send(producer(linger_ms=200_000))
""",
    "a small queue": """
send(producer(queue_buffering_max_messages=50))
""",
    "a listener": """
sender = producer()
heard = []
sender.events.on(Event, heard.append)
send(sender)
""",
}
# And those that end otherwise than well: with that status.
FAILS = {
    "sys.exit": (3, "send(producer())\nsys.exit(3)"),
    "an exception": (1, "send(producer())\nraise LookupError('the script')"),
    "ctrl-c": (-SIGINT, "send(producer())\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)"),
    "asyncio, ctrl-c": (
        -SIGINT,
        """
async def main():
    send(producer())
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(60)
asyncio.run(main())
""",
    ),
    "a handler of SIGTERM": (
        5,
        """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
send(producer())
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
""",
    ),
}
SEND = f"""
from karafka.events import Event

MANY = {MANY}

def send(sender):
    for number in range(MANY):
        sender.produce_async(TOPIC, str(number))

"""


def delivers(post: Post, body: str, status: int) -> None:
    ended = post.run(SEND + body, status)
    assert post.payloads() == [str(number) for number in range(MANY)], ended.told
    assert "karafka" not in ended.told
    assert "not delivered" not in ended.told
    assert ended.took < WAIT


@pytest.mark.parametrize("end", ENDS)
def test_what_was_accepted_is_delivered(post: Post, end: str) -> None:
    delivers(post, ENDS[end], 0)


@pytest.mark.parametrize("end", FAILS)
def test_what_was_accepted_is_delivered_however_it_ends(post: Post, end: str) -> None:
    status, body = FAILS[end]
    delivers(post, body, status)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "dropped"])
def test_callbacks_are_called_before_the_end(post: Post, *, kept: bool) -> None:
    body = f"""
def work():
    sender = producer(linger_ms=300)
    for number in range(100):
        sender.produce_async(TOPIC, str(number), label=number).add_done_callback(told)
    return sender

def told(handle):
    say(handle.label, handle.result().offset)

{"sender = " if kept else ""}work()
"""
    ended = post.run(body)
    assert ended.said == [f"{number} {number}" for number in range(100)]
    assert not ended.told


def test_a_daemon_that_sends_to_the_last_does_not_hold_up_the_end(post: Post) -> None:
    """It is cut off where it stands; what it was told before is true."""
    body = """
many = threading.Event()

def work():
    for number in range(1_000_000):
        say(sender.produce_sync(TOPIC, str(number)).offset)
        if number == 100:
            many.set()

sender = producer()
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
many.wait()
"""
    ended = post.run(body)
    offsets = [int(line) for line in ended.said]
    assert len(set(offsets)) == len(offsets) > 100
    assert set(offsets) <= set(post.messages())
    assert ended.took < WAIT


# ── what cannot be is told ───────────────────────────────────────────────────────────────────────────────────────


def lost(told: str) -> dict[str, int]:
    """How many messages to which topic are said to be lost."""
    said = re.findall(r"(\d+|a) (?:buffered )?messages? to '(\w+)'", told)
    found: dict[str, int] = {}
    for number, topic in said:
        found[topic] = found.get(topic, 0) + (1 if number == "a" else int(number))
    return found


SOME = """
sender, other = producer(), producer()
for number in range(500):
    sender.produce_async("videos", str(number))
for number in range(20):
    sender.produce_async("clicks", str(number))
    other.produce_async("clicks", str(number))
other.buffer("orders", "one")
other.buffer("orders", "two")
"""


def test_without_a_broker_the_end_is_bounded_and_says_what_is_lost(nowhere: Post) -> None:
    ended = nowhere.run(SOME)
    print(f"{ended.took:.1f} s\n{ended.told}")
    assert lost(ended.told) == {"videos": 500, "clicks": 40, "orders": 2}, ended.told
    assert WAIT - 1 < ended.took < WAIT + BESIDE
    assert "Traceback" not in ended.told


def test_what_is_handled_is_not_told_twice(nowhere: Post) -> None:
    """A failure that the program was told of is its own affair, and leaves nothing to wait for at the end."""
    body = """
sender = producer(message_timeout_ms=300)
try:
    sender.produce_sync("videos", "x")
except DeliveryError as error:
    say(type(error).__name__)
"""
    ended = nowhere.run(body)
    assert ended.said == ["DeliveryTimeoutError"]
    assert not ended.told
    assert ended.took < BESIDE


def test_a_producer_that_is_gone_is_waited_for_no_longer(nowhere: Post) -> None:
    body = """
def work():
    for number in range(7):
        producer().produce_async("videos", str(number))
    producer().buffer("orders", "one")
work()
"""
    ended = nowhere.run(body)
    assert lost(ended.told) == {"videos": 7, "orders": 1}, ended.told
    assert ended.took < WAIT + BESIDE
    assert "Traceback" not in ended.told


# ── a broker that stands still ───────────────────────────────────────────────────────────────────────────────────


# They share a Kafka that each may freeze.
STILL = pytest.mark.xdist_group("still")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A Kafka that a test may freeze: when it wakes it is as it was, and not fenced by its controller."""
    with Kafka(tmp_path_factory.mktemp("kafka"), settings={"broker.session.timeout.ms": "60000"}) as kafka:
        yield kafka


@pytest.fixture
def still(own: Kafka, tmp_path: Path) -> Post:
    return Post(own.bootstrap, tmp_path)


@contextmanager
def frozen(kafka: Kafka) -> Iterator[None]:
    kafka.freeze()
    try:
        yield
    finally:
        kafka.thaw()


# Says when it waits for a broker that is frozen by then.
WAITS = """
sender = producer()
say("sent", sender.produce_sync(TOPIC, "before").offset)
while not Path("frozen").exists():
    time.sleep(0.01)
before = sender.statistics().waiting

def watch():
    while sender.statistics().waiting == before:
        time.sleep(0.01)
    say("waits")

threading.Thread(target=watch).start()
try:
    {wait}
except KeyboardInterrupt:
    say("interrupted")
    raise
"""
WAYS = {
    "produce_sync": 'sender.produce_sync(TOPIC, "after")',
    "wait": 'sender.produce_async(TOPIC, "after").wait()',
    "produce_many_sync": 'sender.produce_many_sync({"topic": TOPIC, "payload": str(one)} for one in range(100))',
    "flush_sync": '[sender.buffer(TOPIC, "after"), sender.flush_sync()]',
    "flush": '[sender.produce_async(TOPIC, "after"), sender.flush()]',
}


@STILL
@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_interrupts_a_wait_for_a_broker_that_stands_still(own: Kafka, still: Post, way: str) -> None:
    """Pressed again it ends the wait of the end, too."""
    with still.program(WAITS.format(wait=WAYS[way])) as server:
        server.says("sent 0")
        with frozen(own):
            (still.folder / "frozen").touch()
            server.says("waits")
            began = time.monotonic()
            server.signal(SIGINT)
            server.says("interrupted", timeout=5)
            server.until(lambda: any("KeyboardInterrupt" in line for line in server.heard.told), "a traceback", 5)
            server.press(SIGINT)
            took = time.monotonic() - began
    assert took < 6, str(server.heard)


# The main thread is not woken by Ctrl-C: as where it comes the moment before the thread lies down. Others serve
# reports.
ELSEWHERE = """
for _ in range(3):
    threading.Thread(target=lambda: sender.produce_async(TOPIC, "before").wait(), daemon=True).start()
time.sleep(0.3)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
"""


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_that_does_not_wake_the_main_thread_interrupts_its_wait(nowhere: Post, way: str) -> None:
    waits = WAITS.format(wait=WAYS[way]).replace('say("sent", sender.produce_sync(TOPIC, "before").offset)', ELSEWHERE)
    assert ELSEWHERE in waits
    with nowhere.program(waits) as server:
        (nowhere.folder / "frozen").touch()
        server.says("waits")
        server.signal(SIGINT)
        server.says("interrupted", timeout=5)
        server.press(SIGINT)


@STILL
def test_ctrl_c_once_waits_for_what_is_on_its_way_and_no_longer_than_any_end(own: Kafka, still: Post) -> None:
    with still.program(WAITS.format(wait=WAYS["produce_sync"])) as server:
        server.says("sent 0")
        with frozen(own):
            (still.folder / "frozen").touch()
            server.says("waits")
            began = time.monotonic()
            server.signal(SIGINT)
            status = server.ended()
            took = time.monotonic() - began
    assert status == -SIGINT, str(server.heard)
    assert took < WAIT + BESIDE


@STILL
def test_a_broker_that_wakes_in_time_gets_what_is_on_its_way(own: Kafka, still: Post) -> None:
    """The end waits for it, and with the broker's first word is there."""
    body = """
sender = producer()
sender.produce_sync(TOPIC, "before")
say("sent")
while not Path("frozen").exists():
    time.sleep(0.01)
sender.produce_async(TOPIC, "after")
sender.buffer(TOPIC, "buffered")
say("ends")
"""
    with still.program(body) as server:
        server.says("sent")
        with frozen(own):
            (still.folder / "frozen").touch()
            server.says("ends")
            with pytest.raises(TimeoutError):
                server.ended(1)
        assert server.ended(WAIT) == 0, str(server.heard)
    assert not server.heard.told
    assert still.payloads() == ["before", "after", "buffered"]
