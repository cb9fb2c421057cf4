"""All faults at once and in turn, under each protocol: nothing is lost, order is kept, each repeat has its fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.broker import Broker
from tests.chaos.members import PROTOCOLS, Protocol
from tests.chaos.messages import Order
from tests.chaos.run import Chaos, Settings

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(900)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whatever_comes_together_loses_nothing(broker: Broker, tmp_path: Path, protocol: Protocol) -> None:
    # No minutes but those it takes until each fault has come once.
    settings = Settings(seed=11, minutes=0, protocol=protocol)

    verdict = Chaos(settings, broker, tmp_path).run()

    print(verdict)
    assert verdict.sound, f"{verdict}\n{settings.command}"


@pytest.mark.parametrize("order", ["key", "none"])
def test_whatever_comes_together_loses_nothing_of_any_lane(broker: Broker, tmp_path: Path, order: Order) -> None:
    """But for what a member that is not ours does again: it knows nothing of what is finished above its offset."""
    settings = Settings(seed=12, minutes=0, order=order, protocol="cooperative")

    verdict = Chaos(settings, broker, tmp_path).run()

    print(verdict)
    assert verdict.sound, f"{verdict}\n{settings.command}"
