"""Events as log lines: to read, or as JSON."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from karafka import events as told
from karafka.events import Event, Events
from karafka.instrumentation.log import (
    SAYINGS,
    JSONFormatter,
    LogListener,
    TextFormatter,
    configure_logging,
    event_name,
    logger,
)

KINDS = [
    one
    for one in vars(told).values()
    if isinstance(one, type) and issubclass(one, Event) and one not in {Event, told.ErrorOccurred}
]
VALUES: dict[str, Any] = {
    "starts": {("orders", 0): 5},
    "positions": {("orders", 0): 5},
    "offsets": {("orders", 0): 5},
    "groups": {"g": ("orders", "clicks")},
    "places": (("orders", 0), ("orders", 1)),
    "unfinished": ("orders/0/5 of group 'g'",),
    "key": b"\xff\x00k",
    "traceback": "Traceback …\n  line\nValueError: no\n",
    "error": "it went {wrong} %s \x1b[31m\u2028",
}


def made(kind: type[Event]) -> Event:
    """An event with something in each field."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        texts = {str: f"some {field.name}", int: 7, float: 1.5}
        values[field.name] = VALUES.get(field.name, texts.get(field.type))
    return kind(**values)


class Written:
    """What was written to stderr so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """What a test has written; logging is afterwards as it was."""
    root = logging.getLogger()
    handlers, level, mine = root.handlers[:], root.level, logger.level
    yield Written(capsys)
    root.handlers[:] = handlers
    root.setLevel(level)
    logger.setLevel(mine)


def log(form: Any, *events: Event) -> None:
    configure_logging("debug", form)
    bus = Events()
    LogListener(bus)
    for event in events:
        bus.tell(event)
    assert bus.failures == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_said_in_words(kind: type[Event], written: Written) -> None:
    """No event is without a line, and no line shows a Python object."""
    log("text", made(kind))

    text = written.getvalue()
    assert re.match(r"\d\d:\d\d:\d\d (DEBUG|INFO|WARNING|ERROR|CRITICAL) +\S", text)
    assert not re.search(r"<\w+ |\{'|\(\(|None", text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_one_line_of_json(kind: type[Event], written: Written) -> None:
    """Time, level, logger, message, and the event with its fields."""
    log("json", made(kind))

    line, end, rest = written.getvalue().partition("\n")
    assert (end, rest) == ("\n", "")
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])
    assert found["logger"] == "karafka"
    assert found["event"] == event_name(made(kind))
    assert set(kind.__struct_fields__) <= set(found)


def test_an_exception_of_others_is_in_its_line(written: Written) -> None:
    """Every line is JSON, whoever wrote it."""
    configure_logging("info", "json")
    try:
        int("no\nno")
    except ValueError:
        logging.getLogger("theirs").exception("it %s", "failed")

    found = json.loads(written.getvalue())
    assert (found["message"], found["level"]) == ("it failed", "ERROR")
    assert "ValueError: invalid literal" in found["exception"]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (told.ServerStopping(reason="SIGTERM", timeout=60.0), "stopping (SIGTERM): what runs may take up to 60 s"),
        (told.ServerStopping(reason="asked to", timeout=60.0), "stopping (asked to): what runs may take up to 60 s"),
        (told.ServerStopped(status=0, unfinished=()), "stopped, status 0"),
        (told.ServerStopped(status=2, unfinished=("a", "b")), "stopped, status 2, unfinished: a, b"),
        (told.Assigned(group="g", starts={}), "g: assigned nothing"),
        (told.Assigned(group="g", starts={("orders", 1): 7}), "g: assigned orders/1@7"),
        (
            told.Aborted(group="g", topic="orders", partition=1, offset=7, controller="C", reason=""),
            "g: orders/1/7 dropped by C",
        ),
        (
            told.Aborted(group="g", topic="orders", partition=1, offset=7, controller="C", reason="SIGNED twice"),
            "g: orders/1/7 dropped by C: SIGNED twice",
        ),
    ],
)
def test_what_a_person_reads(event: Event, words: str, written: Written) -> None:
    """Word by word."""
    log("text", event)

    assert written.getvalue().rstrip("\n").partition("   ")[2].strip() == words


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_colour_only_where_it_is_asked_for(colour: bool, level: int) -> None:  # noqa: FBT001
    """And INFO has none even there."""
    record = logging.LogRecord("karafka", level, "", 0, "words", None, None)

    line = TextFormatter(colour=colour).format(record)

    assert line.endswith("words\x1b[0m" if colour and level != logging.INFO else "words")
    assert ("\x1b" in line) == (colour and level != logging.INFO)


def test_no_colour_where_nobody_looks(written: Written) -> None:
    """A file is no terminal."""
    log("text", told.ClientTroubled(group="g", code="_X", error="away"))

    assert "\x1b" not in written.getvalue()


def test_what_nobody_would_see_is_not_listened_to(written: Written) -> None:
    """On hot paths an event is only made when someone does."""
    configure_logging("info", "text")
    bus = Events()
    LogListener(bus)

    assert not bus.wants(told.Received)
    assert not bus.wants(told.Performed)
    assert bus.wants(told.Failed)


def test_a_kind_of_a_user_s_own_below_one_of_ours_is_said_as_that(written: Written) -> None:
    """Listening to a kind hears those below; a line without a row of its own must not raise."""

    class Mine(told.TopicFound, frozen=True, kw_only=True):
        more: int = 1

    log("text", Mine(group="g", topic="orders"))

    assert "topic orders is there" in written.getvalue()


def test_names() -> None:
    """`ClientTroubled` as `client_troubled`."""
    assert event_name(told.ClientTroubled(group="g", code="_X", error="x")) == "client_troubled"
    assert set(SAYINGS) == set(KINDS)


def test_json_of_what_json_does_not_know() -> None:
    """As text: a log line is never an error."""
    record = logging.LogRecord("x", logging.INFO, "", 0, "m", None, None)
    record.karafka = {"a": object(), "b": {("t", 1): (b"\xff", None)}}

    assert json.loads(JSONFormatter().format(record))["b"] == {"t/1": ["\ufffd", None]}
