"""`karafka server --group …` and `--topic …`: processes that each do a part, in the same groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import Running, new_group, new_topic
from tests.process.servers import HEAD, Scene, app, committed, karafka, run, send, serve
from tests.process.swarms import swarm

SHOP = """
app = App({group!r}, kafka={{"bootstrap.servers": {bootstrap!r}, "session.timeout.ms": 6000,
                             "heartbeat.interval.ms": 500{more}}})

class Orders(Controller):
    @classmethod
    def setup(cls, app): print("orders prepared")
    def perform(self): print("order", self.params)

class Clicks(Controller):
    @classmethod
    def setup(cls, app): print("clicks prepared")
    def perform(self): print("click", self.params)

app.routes.draw(topic({orders!r}, Orders), topic({clicks!r}, Clicks), group({far!r}, topic({orders!r}, Clicks)))
"""


class Shop:
    def __init__(self, bootstrap: str, folder: Path, more: str = "") -> None:
        self.bootstrap, self.folder = bootstrap, folder
        self.orders, self.clicks = new_topic(bootstrap, 2), new_topic(bootstrap, 2)
        self.group, self.far = new_group(), new_group()
        names = {"orders": self.orders, "clicks": self.clicks, "group": self.group, "far": self.far}
        (folder / "app.py").write_text(HEAD + SHOP.format(bootstrap=bootstrap, more=more, **names))

    def send(self) -> None:
        for topic in (self.orders, self.clicks):
            for partition in (0, 1):
                send(self.bootstrap, topic, [partition], partition)


@pytest.fixture
def shop(kafka: Running, tmp_path: Path) -> Shop:
    return Shop(kafka.bootstrap, tmp_path)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_two_processes_share_out_the_topics_of_a_group(kafka: Running, tmp_path: Path, protocol: str) -> None:
    """Each has the topics it asked for, all of their partitions, and prepares its own controllers alone."""
    more = ', "group.protocol": "consumer"' if protocol == "consumer" else ""
    shop = Shop(kafka.bootstrap, tmp_path, more)
    if protocol == "consumer":
        text = (tmp_path / "app.py").read_text()
        (tmp_path / "app.py").write_text(
            text.replace('"session.timeout.ms": 6000,', "").replace('"heartbeat.interval.ms": 500, ', "")
        )
    mine = ("server", "--log-format", "json", "--group", shop.group)
    with (
        karafka(shop.folder, *mine, "--topic", shop.orders) as first,
        karafka(shop.folder, *mine, "--exclude-topic", shop.orders) as second,
    ):
        first.assigned(2)
        second.assigned(2)
        shop.send()
        for partition in (0, 1):
            first.says(f"order {partition}")
            second.says(f"click {partition}")
        assert (first.stop(), second.stop()) == (0, 0), str(first.heard)

    assert sorted(set(first.heard.said)) == ["order 0", "order 1", "orders prepared"]
    assert sorted(set(second.heard.said)) == ["click 0", "click 1", "clicks prepared"]
    assert committed(shop.bootstrap, shop.group, shop.orders, 2) == [1, 1]
    assert committed(shop.bootstrap, shop.group, shop.clicks, 2) == [1, 1]
    assert committed(shop.bootstrap, shop.far, shop.orders, 2) == [None, None]


def test_a_group_alone(shop: Shop) -> None:
    shop.send()
    with karafka(shop.folder, "server", "--log-format", "json", "--exclude-group", shop.group) as server:
        server.says("click 0")
        server.says("click 1")
        started = server.event("server_started")
        assert server.stop() == 0, str(server.heard)

    assert started["groups"] == {shop.far: [shop.orders]}
    assert committed(shop.bootstrap, shop.group, shop.orders, 2) == [None, None]
    assert committed(shop.bootstrap, shop.far, shop.orders, 2) == [1, 1]


def test_several_processes_do_the_same_part(shop: Shop) -> None:
    """Each child of a supervisor is started as it was."""
    with swarm(shop.folder, (shop.folder / "app.py").read_text(), "--group", shop.far, processes=2) as server:
        server.runs()
        shop.send()
        server.says("click 0")
        server.says("click 1")
        assert server.stop() == 0, str(server.heard)

    assert not [line for line in server.heard.said if line.startswith("order")]
    assert committed(shop.bootstrap, shop.group, shop.orders, 2) == [None, None]


def test_with_an_embedded_broker(tmp_path: Path, shop: Shop) -> None:
    """Only the topics of that part are made on it."""
    with karafka(tmp_path, "server", "--embedded", "--log-format", "json", "--topic", shop.clicks) as server:
        assert server.event("server_started")["groups"] == {shop.group: [shop.clicks]}
        assert server.stop() == 0, str(server.heard)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--group", "nope"), "no group is named so"), (("--exclude-group", "group-*"), "leaves nothing over")],
)
def test_a_part_that_is_none_is_one_sentence(shop: Shop, arguments: tuple[str, ...], said: str) -> None:
    status, _, told = run(shop.folder, "server", *arguments)

    assert status == 1
    assert said in told
    assert len(told.splitlines()) == 1


def test_workers_are_told_by_hand(kafka: Running, tmp_path: Path) -> None:
    """`--concurrency` wins over the app's: so many wait for each other at once."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=3)
    body = (
        f"import threading\nall_here = threading.Barrier(3)\n@app.topic({scene.topic!r})\n"
        "class Each(Controller):\n    def perform(self):\n        all_here.wait(30)\n        print('here')\n"
    )
    for partition in range(3):
        scene.send("x", partition=partition)
    with serve(tmp_path, app(kafka.bootstrap, scene.group, body, concurrency=1), "--concurrency", "3") as server:
        server.until(lambda: server.heard.said.count("here") == 3, "all three at once")
        assert server.stop() == 0, str(server.heard)
