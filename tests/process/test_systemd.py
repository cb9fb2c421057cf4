"""Under systemd a server says when it is ready and when it stops, to the socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGTERM
from uuid import uuid4

import pytest

from tests.process.servers import DEADLINE, GATED, Scene, serve


class Manager:
    """What systemd's end of the socket hears. `NOTIFY_SOCKET` has `@` for the zero of an abstract name."""

    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)

    def hears(self, word: str, timeout: float = DEADLINE) -> None:
        """Wait for a message with that line. Raises `TimeoutError`."""
        self._socket.settimeout(timeout)
        while word not in self._socket.recv(4096).decode().splitlines():
            pass

    def all(self) -> list[str]:
        """The lines that came and were not waited for."""
        self._socket.settimeout(0)
        lines: list[str] = []
        while True:
            try:
                lines += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return lines

    def close(self) -> None:
        self._socket.close()


@contextmanager
def managed(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    try:
        yield manager
    finally:
        manager.close()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_ready_and_stopping_are_told(scene: Scene, kind: str) -> None:
    """STOPPING comes as the stop begins, while what runs is waited for."""
    scene.send(0)
    address = str(scene.folder / "notify") if kind == "path" else f"@karafka-{uuid4().hex}"
    with (
        managed(address) as manager,
        serve(scene.folder, scene.app(*GATED), environment=manager.environment) as server,
    ):
        manager.hears("READY=1")
        server.says("begun 0")
        assert "STOPPING=1" not in manager.all()
        server.signal(SIGTERM)
        manager.hears("STOPPING=1")
        (scene.folder / "open").touch()
        assert server.ended() == 0, str(server.heard)
        assert not {"READY=1", "STOPPING=1"} & set(manager.all())

    assert server.heard.said == ["begun 0", "done 0"]
    assert scene.committed == [1]


def test_it_is_not_ready_before_its_listeners_run(scene: Scene) -> None:
    """Not while the app is imported or set up."""
    setup = (
        "    @classmethod\n"
        "    def setup(cls, app):\n"
        "        print('setting up')\n"
        "        while not Path('open').exists(): time.sleep(0.01)\n\n"
    )
    source = scene.app("pass").replace("    def perform", f"{setup}    def perform")
    with (
        managed(str(scene.folder / "notify")) as manager,
        serve(scene.folder, source, environment=manager.environment) as server,
    ):
        server.says("setting up")
        assert manager.all() == []
        (scene.folder / "open").touch()
        manager.hears("READY=1")
        server.event("server_started")
        assert server.stop() == 0, str(server.heard)


def test_one_that_ends_by_itself_says_so(scene: Scene) -> None:
    scene.send(0)
    with (
        managed(str(scene.folder / "notify")) as manager,
        serve(scene.folder, scene.app("raise SystemExit(7)"), environment=manager.environment) as server,
    ):
        manager.hears("READY=1")
        manager.hears("STOPPING=1")
        assert server.ended() == 7, str(server.heard)


@pytest.mark.parametrize(
    "address", ["", "/nowhere/notify", "@nobody-listens-here", "notify", "vsock:2:1234", "/" + "x" * 300, "@"]
)
def test_a_socket_that_is_not_there_is_no_failure(scene: Scene, address: str) -> None:
    scene.send(0)
    with serve(scene.folder, scene.app("print('done')"), environment={"NOTIFY_SOCKET": address}) as server:
        server.says("done")
        assert server.stop() == 0, str(server.heard)

    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)
    assert scene.committed == [1]


def test_a_manager_that_does_not_read_holds_up_nothing(scene: Scene) -> None:
    """A datagram socket that is full makes its sender wait: this one does not."""
    scene.send(0)
    address = str(scene.folder / "notify")
    with managed(address) as manager, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others:
        others.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                others.sendto(b"X=1", address)
        with serve(scene.folder, scene.app("print('done')"), environment=manager.environment) as server:
            server.says("done")
            assert server.stop(timeout=5) == 0, str(server.heard)

    assert scene.committed == [1]


def test_a_manager_that_went_away_holds_up_nothing(scene: Scene) -> None:
    with managed(str(scene.folder / "notify")) as manager:
        environment = manager.environment
        with serve(scene.folder, scene.app("pass"), environment=environment) as server:
            manager.hears("READY=1")
            manager.close()
            Path(environment["NOTIFY_SOCKET"]).unlink()
            assert server.stop(timeout=5) == 0, str(server.heard)

    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)
