"""Tests of one group run on one worker: some share a broker that only one may kill."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("groups")
def test_groups_are_kept_together(request: pytest.FixtureRequest) -> None:
    """Under `pytest -n`: each test's name carries its group, by which the tests are shared out."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@groups"), "run with --dist loadgroup, and a pytest that xdist knows"
