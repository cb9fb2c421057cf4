"""The smallest example works as its README says: what is sent is greeted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from karafka import Producer
from tests.brokers import Running

HELLO = Path(__file__).parents[2] / "examples" / "hello"


def test_hello_greets_whoever_is_sent(kafka: Running) -> None:
    with Producer({"bootstrap.servers": kafka.bootstrap}) as producer:
        producer.produce_sync("greetings", {"name": "world"})
    environment = {**os.environ, "KAFKA_BOOTSTRAP": kafka.bootstrap, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "karafka", "server"]
    with subprocess.Popen(command, cwd=HELLO, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == "hello, world\n"
        finally:
            server.terminate()
    assert server.returncode == 0
