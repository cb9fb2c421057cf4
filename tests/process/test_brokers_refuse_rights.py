"""A right that is refused is said once, with what to allow; once it is given all goes on, and nothing was lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.brokers import new_group, new_topic, until
from tests.process.servers import HEAD, Server, committed, each, send, serve
from tests.process.troubles import loud, tells, told
from tests.secured import Secured, Settings, joins, reads, sees, writes

pytestmark = pytest.mark.xdist_group("secured")

PROTOCOLS: Mapping[str, Settings] = {
    "classic": {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500},
    "kip848": {"group.protocol": "consumer"},
}
# Such a refusal is repeated with each heartbeat or refresh of the metadata, which comes each 5 s; commits sooner.
REPEATS = 6.0


class Guest:
    """A user with a topic and a group of its own, and an app that says each message it has performed."""

    def __init__(self, kafka: Secured, folder: Path, protocol: str = "classic") -> None:
        self.kafka, self.folder, self.protocol = kafka, folder, protocol
        self.user, self.group = kafka.user(), new_group()
        self.topic, self.other = new_topic(kafka.open), new_topic(kafka.open)
        self.reads, self.joins = reads(self.user, self.topic), joins(self.user, self.group)
        self.sent = 0

    def source(self, *bodies: str) -> str:
        settings = {**self.kafka.scram(self.user), **PROTOCOLS[self.protocol]}
        # Not `servers.app`: its sessions are the classic protocol's.
        head = f"{HEAD}app = App({self.group!r}, kafka={settings!r})\n\n"
        return head + "\n".join(bodies or [each(self.topic, "say('done', self.params)")])

    def send(self, count: int = 3) -> None:
        """Send so many messages, numbered on."""
        send(self.kafka.open, self.topic, range(self.sent, self.sent + count))
        self.sent += count

    def performed(self, server: Server) -> list[int]:
        return [int(line.split()[1]) for line in list(server.heard.said) if line.startswith("done ")]

    def finishes(self, server: Server) -> None:
        """All that was sent is performed in order, repeats apart, and committed; it stops with status 0."""
        server.until(lambda: set(self.performed(server)) == set(range(self.sent)), "all performed", timeout=60)
        until(lambda: committed(self.kafka.open, self.group, self.topic) == [self.sent])
        assert server.stop() == 0, str(server.heard)
        assert list(dict.fromkeys(self.performed(server))) == list(range(self.sent))


@pytest.fixture(params=list(PROTOCOLS))
def guest(secured: Secured, tmp_path: Path, request: pytest.FixtureRequest) -> Guest:
    return Guest(secured, tmp_path, request.param)


def test_a_topic_that_is_refused_at_the_start(guest: Guest) -> None:
    """It is there, so it is not said to be missing."""
    guest.kafka.allow(guest.joins)
    guest.send()
    with serve(guest.folder, guest.source()) as server:
        tells(server, f"'{guest.topic}'", "refuse", "READ", listening=REPEATS)
        assert not server.happened("topic_missing")
        guest.kafka.allow(guest.reads)
        guest.finishes(server)
        told(server, f"'{guest.topic}'", "refuse", "READ")


def test_a_topic_that_may_be_seen_and_not_read(guest: Guest) -> None:
    guest.kafka.allow(guest.joins, sees(guest.user, guest.topic))
    guest.send()
    with serve(guest.folder, guest.source()) as server:
        tells(server, f"'{guest.topic}'", "refuse", "READ", listening=REPEATS)
        guest.kafka.allow(guest.reads)
        guest.finishes(server)
        told(server, f"'{guest.topic}'", "refuse", "READ")


def test_a_topic_that_is_refused_holds_up_no_other(secured: Secured, tmp_path: Path) -> None:
    guest = Guest(secured, tmp_path)
    secured.allow(guest.joins, guest.reads)
    bodies = [each(guest.topic, "say('done', self.params)"), each(guest.other, "say('other', self.params)")]
    guest.send()
    send(secured.open, guest.other, [0])
    with serve(guest.folder, guest.source(*bodies)) as server:
        tells(server, f"'{guest.other}'", "refuse", "READ", listening=REPEATS)
        guest.send()
        secured.allow(reads(guest.user, guest.other))
        server.says("other 0")
        guest.finishes(server)


def test_a_group_that_is_refused_at_the_start(guest: Guest) -> None:
    guest.kafka.allow(guest.reads)
    guest.send()
    with serve(guest.folder, guest.source()) as server:
        tells(server, f"'{guest.group}'", "refuse", "READ", listening=REPEATS)
        guest.kafka.allow(guest.joins)
        guest.finishes(server)
        told(server, f"'{guest.group}'", "refuse", "READ")


@pytest.mark.parametrize("right", ["topic", "group"])
def test_a_right_that_is_withdrawn_and_given_back(guest: Guest, right: str) -> None:
    """The commits that are refused meanwhile are neither hammered nor told one by one."""
    name, taken = (guest.topic, guest.reads) if right == "topic" else (guest.group, guest.joins)
    guest.kafka.allow(guest.joins, guest.reads)
    guest.send()
    with serve(guest.folder, guest.source()) as server:
        server.says("done 2")
        guest.kafka.forbid(taken)
        guest.send()
        tells(server, f"'{name}'", "refuse", "READ", besides=("lost",), listening=REPEATS)
        guest.kafka.allow(taken)
        guest.send()
        guest.finishes(server)
        told(server, f"'{name}'", "refuse", "READ", besides=("lost",))


# ── dead letters ─────────────────────────────────────────────────────────────────────────────────────────────────

# The producer of dead letters learns of a topic that is missing after 30 s by default.
QUICKLY = {"topic.metadata.propagation.max.ms": 1000, "topic.metadata.refresh.interval.ms": 1000}


def failing(topic: str, grave: str) -> str:
    """A controller whose message 1 fails and goes to `grave` after its only try."""
    letter = f"DeadLetter({grave!r}, after=1, producer={QUICKLY!r})"
    lines = ("say('tried', self.params)", "if self.params == 1: raise ValueError('one')", "say('done', self.params)")
    options = f", dead_letter={letter}, retry=Backoff(0.5, 1))"
    return each(topic, *lines).replace(")", options, 1)


def buried(server: Server, guest: Guest, grave: str, make: Callable[[], object]) -> None:
    """Message 1 waits, tried once, until `make` has made its way free; `perform` is not run again meanwhile."""
    server.says("tried 1")
    besides = ("failed", "burial_failed", "producer_replaced")
    with pytest.raises(TimeoutError):
        server.until(lambda: "done 2" in server.heard.said, "a message passed over", timeout=8)
    assert len(loud(server, besides)) == 1, str(server.heard)
    assert len(server.happened("failed")) == 1, str(server.heard)
    # Without a right to what idempotence needs the client gives up, each one that is made anew: said once.
    assert len(server.happened("producer_replaced")) <= 1, str(server.heard)
    make()
    server.event("buried", grave=grave)
    server.says("done 2")
    until(lambda: committed(guest.kafka.open, guest.group, guest.topic) == [3])
    assert server.stop() == 0, str(server.heard)
    assert server.heard.said.count("tried 1") == 1, str(server.heard)


def test_a_dead_letter_topic_that_is_missing_is_told_at_the_start(secured: Secured, tmp_path: Path) -> None:
    """Before anything fails; what should go there then waits, and is not performed again for it."""
    guest = Guest(secured, tmp_path)
    grave = f"{guest.topic}-dead"
    secured.allow(guest.joins, guest.reads, writes(guest.user, grave))
    with serve(tmp_path, guest.source(failing(guest.topic, grave))) as server:
        tells(server, grave, "dead letter topic", "does not exist", listening=REPEATS)
        guest.send(3)
        buried(server, guest, grave, lambda: new_topic(secured.open, name=grave))


def test_a_dead_letter_topic_that_is_refused_is_told_at_the_start(secured: Secured, tmp_path: Path) -> None:
    guest = Guest(secured, tmp_path)
    grave = new_topic(secured.open)
    secured.allow(guest.joins, guest.reads)
    with serve(tmp_path, guest.source(failing(guest.topic, grave))) as server:
        tells(server, grave, "dead letter topic", "refuse", "WRITE", listening=REPEATS)
        guest.send(3)
        buried(server, guest, grave, lambda: secured.allow(writes(guest.user, grave)))


def test_dead_letter_topics_that_are_there_are_not_mentioned(secured: Secured, tmp_path: Path) -> None:
    guest = Guest(secured, tmp_path)
    grave = new_topic(secured.open)
    secured.allow(guest.joins, guest.reads, writes(guest.user, grave))
    guest.send(3)
    with serve(tmp_path, guest.source(failing(guest.topic, grave))) as server:
        server.says("done 2")
        assert not [line for line in loud(server, ("failed", "buried")) if grave in line], str(server.heard)
        assert server.stop() == 0, str(server.heard)


# ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_producer_that_is_refused_fails_and_is_of_use_again(
    secured: Secured, tmp_path: Path, *, elsewhere: bool
) -> None:
    """Without a right to write anywhere a producer ends for good: sends fail, none hangs, one is made anew."""
    guest = Guest(secured, tmp_path)
    secured.allow(guest.joins, guest.reads)
    if elsewhere:
        secured.allow(writes(guest.user, guest.topic))
    lines = ("say('tried', self.params)", f"app.producer.produce_sync({guest.other!r}, 1)", "say('done', self.params)")
    body = each(guest.topic, *lines).replace(")", ", retry=Backoff(0.5, 1))", 1)
    guest.send(1)
    with serve(tmp_path, guest.source(body)) as server:
        server.until(lambda: len(server.happened("failed")) > 1, "two failures, told one by one")
        assert all("authorization" in one["error"].lower() for one in server.happened("failed")), str(server.heard)
        assert "Exception in thread" not in str(server.heard)
        secured.allow(writes(guest.user, guest.other))
        server.says("done 0")
        assert server.stop() == 0, str(server.heard)
