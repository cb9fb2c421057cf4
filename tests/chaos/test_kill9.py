"""Lives end by -9 at any moment: nothing is lost, order is kept, and only uncommitted work is done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.broker import Broker
from tests.chaos.messages import Order
from tests.chaos.run import Chaos, Settings

ROUNDS = 6

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("variant", "order", "faults"),
    [
        ("fast", "partition", ("kill9",)),
        ("hook", "partition", ("kill9", "failures")),
        ("async", "partition", ("kill9", "failures")),
        ("batch", "partition", ("kill9", "failures")),
        ("fast", "key", ("kill9", "failures")),
        ("async", "key", ("kill9", "failures", "poison", "slow")),
        ("batch", "key", ("kill9", "failures")),
        ("hook", "none", ("kill9", "failures", "poison", "slow")),
        ("async", "none", ("kill9", "failures")),
    ],
)
def test_killed_again_and_again_loses_nothing(
    broker: Broker, tmp_path: Path, variant: str, order: Order, faults: tuple[str, ...]
) -> None:
    settings = Settings(seed=10, faults=faults, rounds=ROUNDS, variants=(variant,), order=order)

    verdict = Chaos(settings, broker, tmp_path).run()

    print(verdict)
    assert verdict.sound, str(verdict)
