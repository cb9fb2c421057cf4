"""`karafka console`: Python with the app at hand, on a terminal and by a pipe, on real Kafka."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.brokers import Running, new_group, new_topic
from tests.process.servers import PYTHON, committed, send
from tests.process.terminals import Terminal, on_terminal

SHOP = """\
from dataclasses import dataclass
from karafka import App, Controller
from karafka.parsers import Text

app = App({group!r}, kafka={{"bootstrap.servers": {bootstrap!r}}})

@dataclass
class Video:
    id: int

@app.topic({videos!r})
class Videos(Controller[Video]):
    def perform(self): pass

@app.topic({notes!r}, parser=Text("latin-1"))
class Notes(Controller):
    def perform(self): pass

@app.on_start
async def connect():
    app.state.db = "connected"

@app.on_stop
def disconnect():
    print("disconnected", app.state.db)
"""


class Shop:
    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap, self.folder, self.group = bootstrap, folder, new_group()
        self.videos, self.notes = new_topic(bootstrap, 2), new_topic(bootstrap)
        self.write()

    def write(self, more: str = "") -> None:
        """app.py, with more at its end: of another length, so that nobody takes the old one for it."""
        names = {"group": self.group, "bootstrap": self.bootstrap, "videos": self.videos, "notes": self.notes}
        (self.folder / "app.py").write_text(SHOP.format(**names) + more)

    def piped(self, source: str, *arguments: str) -> tuple[int, str, str]:
        """`karafka console` with a program on its standard input: exit status, stdout, stderr."""
        command = [*PYTHON, "-m", "karafka", "console", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, input=source, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def shop(kafka: Running, tmp_path: Path) -> Shop:
    return Shop(kafka.bootstrap, tmp_path)


def test_what_is_sent_can_be_looked_at(shop: Shop) -> None:
    """By the parsers of their routes, each way; what cannot be read says so, in its line."""
    status, said, told = shop.piped(
        f"""
one = send({shop.videos!r}, Video(7), key="k", partition=0, headers={{"by": "hand"}})
send({shop.videos!r}, "no video", partition=1)
send({shop.notes!r}, ["not text"] and "schön".encode("latin-1"))
print(one.topic == {shop.videos!r}, one.offset)
first, second = peek({shop.videos!r})
print(first.payload, first.key, first.headers)
print(peek({shop.videos!r}, 1, partition=1))
print(peek({shop.notes!r})[0].payload)
"""
    )

    assert (status, told) == (0, "")
    lines = said.splitlines()
    assert lines[:2] == ["True 0", "Video(id=7) b'k' {'by': b'hand'}"]
    assert lines[2].split() == ["partition", "offset", "time", "key", "payload"]
    assert lines[3].split()[:2] == ["1", "0"]
    assert "unreadable: DecodeError: JSON is malformed" in lines[3]
    assert lines[4:] == ["schön"]


def test_looking_changes_nothing(shop: Shop) -> None:
    """The app's own group is where it was."""
    send(shop.bootstrap, shop.videos, [{"id": number} for number in range(5)])

    status, said, told = shop.piped(f"print([m.offset for m in peek({shop.videos!r}, partition=0, offset=2)])")

    assert (status, said, told) == (0, "[2, 3, 4]\n", "")
    assert committed(shop.bootstrap, shop.group, shop.videos, 2) == [None, None]


def test_a_topic_that_nobody_reads_is_shown_as_it_looks(shop: Shop) -> None:
    other = new_topic(shop.bootstrap)
    send(shop.bootstrap, other, [{"a": 1}, "text", b"\xff\xfe", None])

    _, said, _ = shop.piped(f"print([m.payload for m in peek({other!r})], peek({other!r}, 1)[0].tombstone)")

    assert said == "[{'a': 1}, 'text', b'\\xff\\xfe', None] True\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("peek('no-such-topic')", "karafka: topic 'no-such-topic': it is not there\n"),
        ("peek({topic!r}, offset=3)", "karafka: peek(offset=…) says where in a partition: name it too"),
        ("peek({topic!r}, partition=9)", "has no partition 9: it has 2, from 0\n"),
        ("send('no topic', 1)", "karafka: "),
    ],
)
def test_what_cannot_be_is_one_sentence(shop: Shop, source: str, said: str) -> None:
    status, _, told = shop.piped(source.format(topic=shop.videos))

    assert status == 1
    assert said in told
    assert len(told.splitlines()) == 1


def test_what_a_program_raises_shows_its_own_lines(shop: Shop) -> None:
    status, said, told = shop.piped("def divide():\n    return 1 / 0\n\nprint('before')\ndivide()\n")

    assert (status, said) == (1, "before\n")
    assert told.splitlines()[1:3] == ['  File "<stdin>", line 5, in <module>', "    divide()"]
    assert told.splitlines()[3].startswith('  File "<stdin>", line 2, in divide')
    assert told.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "karafka" not in told


def test_a_program_may_say_its_status(shop: Shop) -> None:
    """What was sent and not waited for leaves before the end."""
    status, *_ = shop.piped(f"producer.produce_async({shop.videos!r}, Video(1))\nexit(7)")

    assert status == 7
    assert shop.piped(f"print(len(peek({shop.videos!r})))")[1] == "1\n"


def test_hooks_are_called_where_that_is_asked_for(shop: Shop) -> None:
    """Then `app.state` is what controllers find."""
    assert shop.piped("print(hasattr(app.state, 'db'))")[:2] == (0, "False\n")
    assert shop.piped("print(app.state.db)", "--start")[:2] == (0, "connected\ndisconnected connected\n")


def test_the_code_can_be_taken_up_anew(shop: Shop) -> None:
    """All modules of the app's, none of others; what is broken is told, and changes nothing."""
    source = """
import json, pathlib
import app as module
before, kept, file = app, json, pathlib.Path("app.py")
text = file.read_text()
pathlib.Path("prices.py").write_text("one = 1")
file.write_text(text + "import prices\\nadded = prices.one")
reload()
print(added, app is before, __import__("app") is module, json is kept)
now = app
pathlib.Path("prices.py").write_text("one = 1 / 0  # oh")
reload()
print(added, app is now, __import__("app").app is now)
pathlib.Path("prices.py").write_text("one = 2 + 20_000_000")
reload()
print(added, app is now, producer is app.producer)
"""

    status, said, told = shop.piped(source, "--start")

    assert status == 0, told
    assert said.splitlines() == [
        "Reloading...",
        "disconnected connected",
        "1 False False True",
        "Reloading...",
        "1 True True",
        "Reloading...",
        "disconnected connected",
        "20000002 False True",
        "disconnected connected",
    ]
    assert 'prices.py", line 1' in told
    assert told.splitlines()[-2:] == ["ZeroDivisionError: division by zero", "The app stays as it was."]


def shell(terminal: Terminal, prompt: str) -> None:
    """What a person does there: complete, look, make mistakes, end. No line of ours is shown."""
    at = terminal.shows(prompt, after=terminal.shows("Ctrl-D ends it."))
    terminal.type("app.config.clie\t")
    at = terminal.shows("app.config.client_id", after=at)
    terminal.type("\n")
    at = terminal.shows("'group-", after=at)
    terminal.type("routes()\n")
    at = terminal.shows("payload Video", after=at)
    terminal.type("1 / 0\n")
    at = terminal.shows("ZeroDivisionError", after=at)
    terminal.type("peek('no-such-topic')\n")
    at = terminal.shows("\nkarafka: topic 'no-such-topic': it is not there\n", after=at)
    assert "/karafka/" not in terminal.text
    terminal.type("exit()\n")


def test_a_shell_on_a_terminal_completes(shop: Shop) -> None:
    with on_terminal(shop.folder, "c", "--plain") as terminal:
        shell(terminal, ">>> ")
        assert terminal.ended() == 0


@pytest.mark.skipif(find_spec("IPython") is None, reason="IPython is not installed")
def test_ipython_where_it_is_installed(shop: Shop) -> None:
    environment = {"IPYTHONDIR": str(shop.folder / "ipython")}
    with on_terminal(shop.folder, "console", environment=environment) as terminal:
        shell(terminal, "In [1]: ")
        assert terminal.ended() == 0
