"""What no waiting can help at the first start is one sentence with the way out, and status 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest

from tests.brokers import new_group, new_topic
from tests.process.servers import app, each, send, serve
from tests.process.troubles import told
from tests.secured import Secured, Settings, address

pytestmark = pytest.mark.xdist_group("secured")


class Mistake:
    """Settings that cannot work, and what the sentence about them must say."""

    def __init__(self, kafka: Callable[[Secured], Settings], *words: str) -> None:
        self.kafka, self.words = kafka, words


def nobody(kafka: Secured) -> Settings:
    return {**kafka.scram("nobody"), "sasl.password": "right"}


MISTAKES: Mapping[str, Mistake] = {
    "a wrong password, PLAIN": Mistake(lambda kafka: kafka.plain("wrong"), "'ada'", "sasl.username", "sasl.password"),
    "a user who is not there, SCRAM": Mistake(nobody, "'nobody'", "sasl.username", "sasl.password"),
    "a mechanism that is not enabled": Mistake(
        lambda kafka: kafka.scram("ada", "SCRAM-SHA-512"), "sasl.mechanism", "'SCRAM-SHA-512'", "PLAIN"
    ),
    "SASL at a door without": Mistake(
        lambda kafka: {**kafka.plain(), "bootstrap.servers": kafka.open}, "SASL", "security.protocol"
    ),
    "TLS at a door without": Mistake(
        lambda kafka: {**kafka.over_tls(kafka.authority), "bootstrap.servers": kafka.open}, "TLS", "security.protocol"
    ),
    "TLS at a door with SASL alone": Mistake(
        lambda kafka: {**kafka.plain(), "security.protocol": "sasl_ssl"}, "TLS", "security.protocol"
    ),
    "a certificate that is not trusted": Mistake(
        lambda kafka: kafka.over_tls(kafka.stranger), "certificate", "ssl.ca.location"
    ),
    "a certificate of another host": Mistake(
        lambda kafka: {**kafka.over_tls(kafka.authority), "bootstrap.servers": kafka.elsewhere},
        "certificate",
        "host name",
    ),
}


class Web(StreamRequestHandler):
    """Answers what is no request, as web servers do: at once."""

    def handle(self) -> None:
        self.request.recv(1)
        self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


@contextmanager
def web() -> Iterator[str]:
    """The address of a web server."""
    with ThreadingTCPServer((address(0).split(":")[0], 0), Web) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield address(server.server_address[1])
        server.shutdown()
        thread.join()


def refused(folder: Path, kafka: Settings, *words: str) -> None:
    """A server with those settings says one sentence and ends with status 1."""
    with serve(
        folder, app(str(kafka["bootstrap.servers"]), new_group(), each("videos", "pass"), kafka=kafka)
    ) as server:
        assert server.ended() == 1, str(server.heard)
        told(server, *words)
        assert "Traceback" not in str(server.heard)


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_what_waiting_cannot_help_ends_with_a_sentence(secured: Secured, tmp_path: Path, mistake: str) -> None:
    one = MISTAKES[mistake]

    refused(tmp_path, one.kafka(secured), *one.words)


def test_a_port_that_is_not_kafkas_ends_with_a_sentence(tmp_path: Path) -> None:
    with web() as site:
        refused(tmp_path, {"bootstrap.servers": site}, site, "not Kafka", "bootstrap.servers")


def test_a_mistake_is_said_once_for_all_groups(secured: Secured, tmp_path: Path) -> None:
    """The cluster refuses the process, not each of its groups."""
    body = each("videos", "pass") + 'app.routes.draw(group("others", topic("clicks", Each)))\n'
    with serve(tmp_path, app(secured.sasl, new_group(), body, kafka=secured.plain("wrong"))) as server:
        assert server.ended() == 1, str(server.heard)
        told(server, "'ada'", "sasl.password")


def test_one_wrong_address_beside_a_right_one_is_no_end(secured: Secured, tmp_path: Path) -> None:
    topic, group = new_topic(secured.open), new_group()
    send(secured.open, topic, [1])
    with ExitStack() as stack:
        # Which address is asked first is the client's choice.
        sites = [stack.enter_context(web()) for _ in range(4)]
        addresses = ",".join([*sites, secured.open])
        source = app(addresses, group, each(topic, "say('done', self.params)"))
        with serve(tmp_path, source) as server:
            server.says("done 1")
            send(secured.open, topic, [2])
            server.says("done 2")
            assert server.stop() == 0, str(server.heard)
