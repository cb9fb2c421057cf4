"""The first fetch of Apache Kafka's jars, through `jgo`. Imported only when there is something to fetch.

Only `jgo`'s resolver is asked, for the class path: its environments would look for a Java, or download one, to tell
modules from plain jars.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.maven import Artifact, MavenContext, PythonResolver
from requests import RequestException

from karafka.devbroker.artifacts import Fetched, Progress
from karafka.errors import BrokerError


class Fetch:
    """One fetch through `jgo`, by the process that holds the cache's lock.

    `jgo` takes any file that exists for a whole one, so it writes into `incoming`, emptied first, and a jar
    moves to `jars` once it is whole: whatever interrupts a fetch, what stands in `jars` is good.
    """

    def __init__(self, version: str, folder: Path, progress: Progress) -> None:
        self._version = version
        self._incoming, self._jars = folder / "incoming", folder / "jars"
        self._progress = progress
        self._fetched = Fetched()

    def run(self) -> list[Path]:
        """Fetch what is missing; the class path, in order. Raises `BrokerError`, or `OSError` from the disk."""
        shutil.rmtree(self._incoming, ignore_errors=True)
        try:
            paths = [self._take(artifact) for artifact in self._wanted()]
        except RequestException as error:
            raise BrokerError(
                f"Apache Kafka {self._version} is fetched once (about 45 MB), and the network failed "
                f"({reason(error)}): try again once there is one; HTTPS_PROXY names a proxy",
                retriable=True,
            ) from error
        except (RuntimeError, SyntaxError, AssertionError) as error:  # jgo's: absent, not XML, half a description
            raise BrokerError(
                f"Apache Kafka {self._version} could not be fetched ({error}): the repository, or a proxy before it, "
                "does not hold it; jgo's own settings can name another",
                retriable=True,
            ) from error
        shutil.rmtree(self._incoming, ignore_errors=True)
        return paths

    def _wanted(self) -> list[Artifact]:
        """The artifacts on the class path; reads their descriptions, about 75 small files."""
        remote = GlobalSettings.load().repositories
        context = MavenContext(
            resolver=PythonResolver(progress_callback=self._download),
            repo_cache=self._incoming,
            local_repos=[self._jars],
            remote_repos=remote or None,
            timeout=30,
        )
        asked, needed = context.resolver.resolve(
            [context.create_dependency(f"org.apache.kafka:kafka_2.13:{self._version}")]
        )
        artifacts = [dependency.artifact for dependency in [*asked, *needed]]
        core = next(artifact for artifact in artifacts if artifact.artifactId == "log4j-core")
        # Kafka's own distribution adds this: without it Kafka logs nothing, and no one learns why it died.
        logging = context.project(core.groupId, "log4j-slf4j-impl").at_version(core.version).artifact()
        self._tell(wanted=len(artifacts) + 1)
        return [*artifacts, logging]

    def _take(self, artifact: Artifact) -> Path:
        """The artifact's jar, whole, below `jars`."""
        path = artifact.resolve()
        if path.is_relative_to(self._incoming):
            if not zipfile.is_zipfile(path):
                raise RuntimeError(f"{path.name} arrived, but is not a jar")
            kept = self._jars / path.relative_to(self._incoming)
            kept.parent.mkdir(parents=True, exist_ok=True)
            path = path.replace(kept)
        self._tell(jars=self._fetched.jars + 1)
        return path

    @contextmanager
    def _download(self, name: str, size: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002 - jgo's signature
        """What `jgo` calls around a file: it yields the function that hears of each piece."""
        yield lambda piece: self._tell(size=self._fetched.size + piece)

    def _tell(self, **news: int) -> None:
        self._fetched = replace(self._fetched, **news)
        self._progress(self._fetched)


def reason(error: BaseException) -> str:
    """The bottom of a chain of errors, in a few words: `Connection refused`, not four classes of wrapping."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
