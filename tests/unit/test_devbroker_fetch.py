"""The first fetch of Kafka's jars, from a small repository on this machine that can misbehave."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from karafka.devbroker import artifacts
from karafka.devbroker.artifacts import VERSION, Fetched
from karafka.errors import BrokerError, ConfigError

KAFKA = f"org/apache/kafka/kafka_2.13/{VERSION}/kafka_2.13-{VERSION}"
CORE = "org/apache/logging/log4j/log4j-core/9/log4j-core-9"
LOGGING = "org/apache/logging/log4j/log4j-slf4j-impl/9/log4j-slf4j-impl-9"
NEEDS_CORE = """<dependencies><dependency><groupId>org.apache.logging.log4j</groupId>
<artifactId>log4j-core</artifactId><version>9</version></dependency></dependencies>"""


class Repository:
    """A Maven repository of three jars in a folder, served over HTTP; `cut` breaks off a file in the middle."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cut, self.asked = folder, "", list[str]()
        for path, needs in ((KAFKA, NEEDS_CORE), (CORE, ""), (LOGGING, "")):
            group, artifact, version, _ = path.rsplit("/", 3)
            self.put(
                f"{path}.pom",
                f"<project><modelVersion>4.0.0</modelVersion><groupId>{group.replace('/', '.')}</groupId>"
                f"<artifactId>{artifact}</artifactId><version>{version}</version>{needs}</project>".encode(),
            )
            jar = io.BytesIO()
            with zipfile.ZipFile(jar, "w") as archive:
                archive.writestr("content", path * 1000)
            self.put(f"{path}.jar", jar.getvalue())

    def put(self, path: str, content: bytes) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


class Handler(SimpleHTTPRequestHandler):
    """Serves a `Repository`, and notes what is asked for."""

    def __init__(self, repository: Repository, *arguments: object) -> None:
        self.repository = repository
        super().__init__(*arguments, directory=str(repository.folder))  # type: ignore[arg-type] # socketserver's own

    def do_GET(self) -> None:
        self.repository.asked.append(self.path)
        super().do_GET()

    def copyfile(self, source: io.BufferedIOBase, outputfile: io.BufferedIOBase) -> None:  # type: ignore[override]
        content = source.read()
        cut = self.repository.cut and self.path.endswith(self.repository.cut)
        outputfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the standard library
        """Not in the tests' output."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """The only repository that `jgo` knows during the test; the cache is empty."""
    repository = Repository(tmp_path / "repository")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, repository)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        settings = tmp_path / "jgo.conf"
        settings.write_text(f"[repositories]\nlocal = http://127.0.0.1:{server.server_port}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield repository
        server.shutdown()
        thread.join()


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


JARS = [f"kafka_2.13-{VERSION}.jar", "log4j-core-9.jar", "log4j-slf4j-impl-9.jar"]


def test_the_class_path_is_fetched_once_with_a_logger_of_the_same_version(repository: Repository) -> None:
    """The second time asks nobody."""
    told: list[Fetched] = []
    assert names(artifacts.jars(told.append)) == JARS
    assert told[-1].jars == told[-1].wanted == 3
    assert told[-1].size > sum(path.stat().st_size for path in artifacts.jars())

    repository.asked.clear()
    assert names(artifacts.jars()) == JARS
    assert repository.asked == []


def test_what_an_interruption_left_is_neither_trusted_nor_lost(repository: Repository) -> None:
    """A jar that arrived whole is not fetched again; half a jar is never taken for a whole one."""

    def interrupt(fetched: Fetched) -> None:
        if fetched.jars == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artifacts.jars(interrupt)
    half = artifacts.cache() / "incoming" / f"{CORE}.jar"
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"half")

    repository.asked.clear()
    paths = artifacts.jars()
    assert all(zipfile.is_zipfile(path) for path in paths)
    assert f"/{KAFKA}.jar" not in repository.asked
    assert not half.exists()


def test_a_connection_that_breaks_is_told_and_mended_by_the_next_try(repository: Repository) -> None:
    repository.cut = "log4j-core-9.jar"
    with pytest.raises(BrokerError, match="the network failed"):
        artifacts.jars()

    repository.cut = ""
    assert names(artifacts.jars()) == JARS


def test_a_page_in_place_of_a_jar_is_refused(repository: Repository) -> None:
    """A hotel's login page comes with status 200."""
    repository.put(f"{CORE}.jar", b"<html>Please log in</html>")
    with pytest.raises(BrokerError, match=r"log4j-core-9\.jar arrived, but is not a jar"):
        artifacts.jars()


def test_a_file_that_vanished_from_the_cache_is_fetched_again(repository: Repository) -> None:
    artifacts.jars()[1].unlink()
    assert names(artifacts.jars()) == JARS
    assert all(path.exists() for path in artifacts.jars())


def test_a_repository_without_kafka_is_one_sentence(repository: Repository) -> None:
    (repository.folder / f"{KAFKA}.jar").unlink()
    with pytest.raises(BrokerError, match="could not be fetched"):
        artifacts.jars()


def test_a_cache_that_cannot_be_written_is_one_sentence(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="cannot be written"):
        artifacts.jars()
