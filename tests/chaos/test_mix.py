"""All faults at once and in turn, under each protocol: nothing is lost, order is kept, each repeat has its fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.broker import Broker
from tests.chaos.members import PROTOCOLS, Protocol
from tests.chaos.run import Chaos, Settings

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(900)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whatever_comes_together_loses_nothing(broker: Broker, tmp_path: Path, protocol: Protocol) -> None:
    # No minutes but those it takes until each fault has come once.
    settings = Settings(seed=11, minutes=0, protocol=protocol)

    verdict = Chaos(settings, broker, tmp_path).run()

    print(verdict)
    assert verdict.sound, f"{verdict}\n{settings.command}"
