"""What every test may ask for: a broker, embedded or real. Names and topics on it: `tests.brokers`."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from karafka.devbroker import Embedded
from tests.brokers import Run, Running

RUN = pytest.StashKey[ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the run, once: with pytest-xdist the workers belong to the controller's."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background of a shell, which children would inherit: they are stopped by it here.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.stash[RUN] = ExitStack()
        config.stash[RUN].enter_context(Run.begun())


def pytest_unconfigure(config: pytest.Config) -> None:
    """End it, with its Kafka if one was started."""
    if RUN in config.stash:
        config.stash[RUN].close()


@pytest.fixture(scope="session")
def kafka() -> Running:
    """Real Kafka, one for the whole run: use topics and groups of your own, and do not stop it."""
    return Run.current().kafka()


@pytest.fixture(scope="session")
def embedded() -> Iterator[Embedded]:
    """librdkafka's mock cluster, in this process."""
    with Embedded() as broker:
        yield broker


@pytest.fixture
def uncollected() -> Iterator[None]:
    """For a test that interrupts itself at any moment: what is collected calls back, and Python swallows what a signal
    raises there.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()
