"""Ten lives end by -9 at any moment: nothing is lost, order is kept, and only uncommitted work is done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import Running
from tests.chaos.rounds import Chaos, Settings

ROUNDS = 10


@pytest.mark.parametrize(
    ("variant", "failing"),
    [("fast", False), ("fast", True), ("hook", True), ("async", True), ("batch", True)],
)
def test_killed_again_and_again_loses_nothing(kafka: Running, tmp_path: Path, variant: str, *, failing: bool) -> None:
    settings = Settings(bootstrap=kafka.bootstrap, rounds=ROUNDS, seed=10, variants=(variant,), failing=failing)

    verdict = Chaos(settings, tmp_path).run()

    print(verdict)
    assert verdict.sound, str(verdict)
