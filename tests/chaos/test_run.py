"""A run does what its seed says, and would see what is lost."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from tests.chaos.__main__ import chaos
from tests.chaos.broker import Broker
from tests.chaos.faults import FAULTS
from tests.chaos.messages import KEYS, Fates
from tests.chaos.run import Chaos, Settings, plan

ACTING = {name for name, fault in FAULTS.items() if fault.act is not None}


def test_a_seed_is_a_plan() -> None:
    first, again, other = (list(islice(plan(Settings(seed=seed)), 20)) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_no_fault_comes_again_before_all_have_come() -> None:
    names = [one.fault.name for planned in islice(plan(Settings(seed=3)), 200) for one in planned]

    for start in range(0, len(names) - len(ACTING), len(ACTING)):
        assert set(names[start : start + len(ACTING)]) == ACTING


def test_only_what_is_asked_for_comes() -> None:
    rounds = list(islice(plan(Settings(seed=3, faults=("poison", "kill9", "stop"))), 50))

    assert {one.fault.name for planned in rounds for one in planned} == {"kill9", "stop"}


def test_the_command_that_is_told_is_the_run_again() -> None:
    settings = Settings(
        seed=3,
        faults=("stop", "slow"),
        rounds=2,
        protocol="consumer",
        variants=("fast", "batch"),
        order="key",
        rate=9,
    )
    options = settings.command.removeprefix("python -m tests.chaos ").split()

    with chaos.make_context("chaos", options) as context:
        assert Settings(**context.params) == settings


def test_a_message_is_what_its_seed_and_number_make_it() -> None:
    fates = Fates(seed=5, poison=0.01, failing=0.1, slow=0.002)
    all_ = [fates.of(partition, sequence) for partition in range(4) for sequence in range(10_000)]

    assert all_[:100] == [Fates(seed=5, poison=0.01, failing=0.1, slow=0.002).of(0, one) for one in range(100)]
    assert all_[:100] != [Fates(seed=6, poison=0.01, failing=0.1, slow=0.002).of(0, one) for one in range(100)]
    assert sum(one.poison for one in all_) == pytest.approx(400, rel=0.2)
    assert sum(one.fails > 0 for one in all_) == pytest.approx(4_000, rel=0.1)
    assert sum(one.takes > 0 for one in all_) == pytest.approx(80, rel=0.4)


def test_lanes_are_few_and_uneven_by_key_and_as_many_as_messages_without_order() -> None:
    by_key, none, partition = (Fates(seed=5, order=order) for order in ("key", "none", "partition"))
    lanes = Counter(by_key.lane(1, sequence) for sequence in range(10_000))

    assert len(lanes) == KEYS
    assert lanes[0] > 4 * lanes[KEYS - 1]
    assert by_key.key(1, 7) == b"key-%d" % by_key.lane(1, 7)
    assert len({none.lane(1, sequence) for sequence in range(100)}) == 100
    assert {partition.lane(1, sequence) for sequence in range(100)} == {0}
    assert none.key(1, 7) is partition.key(1, 7) is None


@pytest.mark.xdist_group("chaos")
@pytest.mark.timeout(600)
def test_what_a_server_forgets_is_lost(broker: Broker, tmp_path: Path) -> None:
    settings = Settings(seed=1, faults=("stop",), rounds=1, variants=("forgetful",))

    verdict = Chaos(settings, broker, tmp_path).run()

    assert verdict.findings["lost"], str(verdict)
    assert not verdict.sound
