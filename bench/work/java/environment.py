"""Where Java's Parallel Consumer lives: its jars, which come from Maven as Kafka's do, and the loop, compiled.

The Java is the one that Kafka runs on. It has no compiler, so Eclipse's comes with the jars.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.maven import MavenContext, PythonResolver

from bench.environments import FOLDER
from karafka.devbroker import artifacts

SOURCE = Path(__file__).with_name("ParallelConsumer.java")
# Its last release, which brings the client it asks for; a logger that says nothing.
JARS = ("io.confluent.parallelconsumer:parallel-consumer-core:0.5.3.3", "org.slf4j:slf4j-nop:2.0.13")
COMPILER = ("org.eclipse.jdt:ecj:3.44.0",)


def command() -> list[str]:
    """What runs the loop, but for its arguments; fetched and compiled at first use, and when any of it changes."""
    folder, java = FOLDER / "java", str(artifacts.java())
    classes, jars, stamp = folder / "classes", folder / "jars", folder / "stamp"
    wanted = "\n".join((*JARS, *COMPILER, SOURCE.read_text()))
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)  # the resolver takes half a jar for a whole one
        resolve(JARS, jars)
        resolve(COMPILER, folder / "compiler")
        compiler = [java, "-cp", class_path(folder / "compiler"), "org.eclipse.jdt.internal.compiler.batch.Main"]
        subprocess.run([*compiler, "-cp", class_path(jars), "-d", str(classes), str(SOURCE)], check=True)
        stamp.write_text(wanted)
    return [java, "-cp", os.pathsep.join([str(classes), class_path(jars)]), SOURCE.stem]


def resolve(coordinates: Sequence[str], folder: Path) -> None:
    """Fetch the jars of `coordinates`, and of what they need, into `folder`."""
    context = MavenContext(
        resolver=PythonResolver(),
        repo_cache=folder,
        local_repos=[],
        remote_repos=GlobalSettings.load().repositories or None,
        timeout=30,
    )
    asked, needed = context.resolver.resolve([context.create_dependency(one) for one in coordinates])
    for dependency in [*asked, *needed]:
        dependency.artifact.resolve()


def class_path(folder: Path) -> str:
    return os.pathsep.join(str(jar) for jar in sorted(folder.rglob("*.jar")))
