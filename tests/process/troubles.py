"""What a server says loudly, and how often: a trouble is one sentence, however often the client meets it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

import pytest

from tests.process.servers import Server

LOUD = {"WARNING", "ERROR", "CRITICAL"}
# A client that is refused tries again 3 to 20 times a second, and says each 10 s that all brokers are down.
LISTENING = 12.0


def loud(server: Server, besides: Sequence[str] = ()) -> list[str]:
    """All that it said loudly so far, but for events of the names `besides`. What is no line of the log is loud."""
    found = []
    for line in list(server.heard.told):
        event = {}
        with suppress(json.JSONDecodeError):
            event = json.loads(line)
        if not event or (event["level"] in LOUD and event.get("event") not in besides):
            found.append(event.get("message", line))
    return found


def tells(server: Server, *words: str, besides: Sequence[str] = (), listening: float = LISTENING) -> None:
    """It says one sentence with those words, and for `listening` seconds nothing else."""
    server.until(lambda: bool(loud(server, besides)), f"a sentence with {words}")
    with pytest.raises(TimeoutError):
        server.until(lambda: len(loud(server, besides)) > 1, "a second sentence", timeout=listening)
    told(server, *words, besides=besides)


def told(server: Server, *words: str, besides: Sequence[str] = ()) -> None:
    """One sentence so far, with those words."""
    said = loud(server, besides)
    print("\n".join(said))
    assert len(said) == 1, str(server.heard)
    assert all(word in said[0] for word in words), f"{said[0]!r} lacks one of {words}"
