"""Killed with -9 while one message is stuck and all behind it are done: only what was not committed is done again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from time import monotonic

import pytest
from confluent_kafka import Consumer, TopicPartition

from karafka import Producer
from karafka.metadata import decode
from tests.brokers import Running
from tests.process.servers import Scene, app, serve

BODY = """
journal = os.open("journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@app.topic({topic!r}, order={order}, concurrency=8)
class Each(Controller):
    {define} perform(self):
        if self.params == 0:
            while not Path("open").exists():
                {sleep}
        os.write(journal, b"%d\\n" % self.params)
"""
COUNT = 50_000
# Seconds; what is done in so long may be done again.
INTERVAL = 0.5
# Seconds that a commit may take beside it, on a machine that is busy with other tests.
SLACK = 2.0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("order", ["key", None])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "loop"])
def test_what_is_finished_above_a_stuck_message_is_not_repeated(
    kafka: Running, tmp_path: Path, order: str | None, *, asynchronous: bool
) -> None:
    """A finished prefix alone would repeat all of it."""
    scene = Scene(kafka.bootstrap, tmp_path)
    source = stuck(scene, repr(order), asynchronous=asynchronous)
    with serve(tmp_path, source) as server:
        server.until(lambda: len(done(scene)) == COUNT - 1, "all but the first done", timeout=40)
        server.until(lambda: kept(scene) == (1, COUNT - 1), "what is done committed")
        server.kill()

    assert done_again(scene, source) == 0


@pytest.mark.timeout(180)
def test_killed_in_the_midst_of_it_one_interval_s_work_is_repeated(kafka: Running, tmp_path: Path) -> None:
    """Not what the stuck message holds up."""
    scene = Scene(kafka.bootstrap, tmp_path)
    source = stuck(scene, "'key'", asynchronous=False)
    seen: list[tuple[float, int]] = []

    def far() -> bool:
        seen.append((monotonic(), done(scene).total()))
        return seen[-1][1] > COUNT // 2 and seen[-1][0] - seen[0][0] > INTERVAL + SLACK

    with serve(tmp_path, source) as server:
        server.until(far, "half of them done", timeout=60)
        server.kill()
    so_far, finished = done(scene).total(), sum(kept(scene)[1::2])
    due = max(count for at, count in seen if at < seen[-1][0] - INTERVAL - SLACK)
    again = done_again(scene, source)

    print(f"{again} done again of the {so_far} that a commit without metadata would repeat")
    assert finished >= due
    assert again <= so_far - finished


def stuck(scene: Scene, order: str, *, asynchronous: bool) -> str:
    """An app whose first message waits until the file `open` is there; all that it reads is sent."""
    send_keyed(scene)
    body = BODY.format(
        topic=scene.topic,
        order=order,
        define="async def" if asynchronous else "def",
        sleep="await asyncio.sleep(0.01)" if asynchronous else "time.sleep(0.01)",
    )
    return app(scene.bootstrap, scene.group, body, commit_interval=INTERVAL, drain_timeout=1.0)


def done(scene: Scene) -> Counter[int]:
    """What was performed so far, and how often."""
    journal = scene.folder / "journal"
    return Counter(map(int, journal.read_text().splitlines())) if journal.exists() else Counter()


def done_again(scene: Scene, source: str) -> int:
    """How many were done more than once when, after another start, all is done."""
    (scene.folder / "open").touch()
    with serve(scene.folder, source) as server:
        server.until(lambda: done(scene)[0] > 0 and scene.committed == [COUNT], "the first done", timeout=60)
        assert server.stop() == 0, str(server.heard)
    return done(scene).total() - COUNT


def kept(scene: Scene) -> tuple[int, ...]:
    """What is kept as finished beside the committed offset: gaps and runs in turn."""
    reader = Consumer({"bootstrap.servers": scene.bootstrap, "group.id": scene.group, "log_level": 0})
    try:
        (answer,) = reader.committed([TopicPartition(scene.topic, 0)], 30)
    finally:
        reader.close()
    memo = decode(answer.metadata) if answer.offset == 0 else None
    return memo.above if memo is not None else ()


def send_keyed(scene: Scene) -> None:
    """Numbers from 0 up, of a thousand keys; the first has one of its own."""
    with Producer({"bootstrap.servers": scene.bootstrap}) as producer:
        producer.produce_many_sync(
            {"topic": scene.topic, "payload": number, "key": f"key-{number % 1_000}" if number else "stuck"}
            for number in range(COUNT)
        )
