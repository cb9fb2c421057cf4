"""Kafka's own console producer and consumer, as processes: what `kafka-console-producer.sh` and its sister run."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from jgo.config import GlobalSettings
from jgo.maven import MavenContext, PythonResolver

from karafka.devbroker import artifacts
from karafka.devbroker.kafka import JVM

# What no key, payload or header of a test contains: between the parts of a line, and in the place of null.
FIELD, PAIR, NAME, NULL = "\x01", "\x02", "\x03", "\x04"
# How long one may take, on a machine that is busy.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as the console consumer shows it. `headers`: None where there are none."""

    partition: int
    offset: int
    headers: list[tuple[str, bytes | None]]
    key: bytes | None
    payload: bytes | None


@cache
def tools() -> Path:
    """The jar of both, fetched once as Kafka's own are, and kept beside them: what else it needs is among those."""
    folder = artifacts.cache()
    with artifacts.locked(folder / "lock"), TemporaryDirectory(dir=folder) as incoming:
        context = MavenContext(
            resolver=PythonResolver(),
            repo_cache=Path(incoming),
            local_repos=[folder / "jars"],
            remote_repos=GlobalSettings.load().repositories or None,
            timeout=30,
        )
        found = context.project("org.apache.kafka", "kafka-tools").at_version(artifacts.VERSION).artifact().resolve()
        if not found.is_relative_to(incoming):
            return found
        assert zipfile.is_zipfile(found), f"{found.name} arrived, but is not a jar"
        kept = folder / "jars" / found.relative_to(incoming)
        kept.parent.mkdir(parents=True, exist_ok=True)
        return found.replace(kept)


def java(main: str, *arguments: str, said: bytes = b"") -> bytes:
    """Run a Java program on Kafka's class path with `said` as its input; its output. It must end with status 0."""
    path = os.pathsep.join(map(str, [tools(), *artifacts.jars()]))
    done = subprocess.run(
        [str(artifacts.java()), *JVM, main, *arguments],
        env={**os.environ, "CLASSPATH": path},
        input=said,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def options(name: str, properties: Mapping[str, str]) -> list[str]:
    return [part for key, value in properties.items() for part in (name, f"{key}={value}")]


def consume(bootstrap: str, topic: str, count: int) -> list[Shown]:
    """The first `count` messages of a topic, by the console consumer."""
    shown = options(
        "--formatter-property",
        {
            **{f"print.{part}": "true" for part in ("partition", "offset", "headers", "key", "value")},
            "print.timestamp": "false",
            "key.separator": FIELD,
            "line.separator": f"{FIELD}\n",
            "headers.separator": PAIR,
            "null.literal": NULL,
        },
    )
    reads = ["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--max-messages", str(count)]
    output = java("org.apache.kafka.tools.consumer.ConsoleConsumer", *reads, *shown)
    lines = output.split(f"{FIELD}\n".encode())
    assert lines.pop() == b"", output
    return [_read(line) for line in lines]


def produce(bootstrap: str, topic: str, messages: Sequence[tuple[str | None, str | None]], headers: str = "") -> None:
    """Send keys with payloads by the console producer, all with `headers`, which are as it reads them."""
    read = options(
        "--reader-property",
        {
            "parse.key": "true",
            "parse.headers": str(bool(headers)).lower(),
            "key.separator": FIELD,
            "headers.delimiter": FIELD,
            "headers.separator": PAIR,
            "headers.key.separator": NAME,
            "null.marker": NULL,
        },
    )
    rows = [
        FIELD.join([*([headers] if headers else []), _or_null(key), _or_null(payload)]) for key, payload in messages
    ]
    said = "".join(f"{row}\n" for row in rows).encode()
    writes = ["--bootstrap-server", bootstrap, "--topic", topic]
    java("org.apache.kafka.tools.ConsoleProducer", *writes, *read, said=said)


def _or_null(text: str | None) -> str:
    return NULL if text is None else text


def _read(line: bytes) -> Shown:
    """A line as the console consumer writes it: `Partition:0`, `Offset:7`, headers, key, payload."""
    partition, offset, headers, key, payload = line.split(FIELD.encode())
    return Shown(
        int(partition.removeprefix(b"Partition:")),
        int(offset.removeprefix(b"Offset:")),
        [] if headers == b"NO_HEADERS" else [_header(one) for one in headers.split(PAIR.encode())],
        _part(key),
        _part(payload),
    )


def _header(pair: bytes) -> tuple[str, bytes | None]:
    name, _, value = pair.partition(b":")
    return name.decode(), _part(value)


def _part(shown: bytes) -> bytes | None:
    return None if shown == NULL.encode() else shown
