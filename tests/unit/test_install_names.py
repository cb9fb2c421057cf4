"""What `karafka install` calls an app, and that an installed package has all that it writes."""

from __future__ import annotations

import tomllib
from glob import glob
from pathlib import Path

import pytest

import karafka
from karafka.cli.install import named, templates

PACKAGE = Path(karafka.__file__).parent


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("shop", "shop"),
        ("video_shop-2.0", "video_shop-2.0"),
        ("My Shop", "my-shop"),
        (".hidden", "hidden"),
        ("café (new)", "caf-new"),
        ("店", "app"),
        ("karafka", "karafka-app"),
        ("Karafka", "karafka-app"),
    ],
)
def test_an_app_is_named_after_its_folder(tmp_path: Path, folder: str, name: str) -> None:
    """By what brokers and packages alike take as a name; never as what it needs is called."""
    assert named(tmp_path / folder) == name


def test_the_root_of_all_has_a_name_too() -> None:
    assert named(Path("/")) == "app"


def test_a_built_package_has_the_templates() -> None:
    """Those whose names begin with a dot as well: patterns do not see them unless they say so."""
    patterns = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {name for pattern in patterns["karafka"] for name in glob(pattern, root_dir=PACKAGE, recursive=True)}
    there = {str(file.relative_to(PACKAGE)) for file in (PACKAGE / "cli" / "templates").rglob("*") if file.is_file()}

    assert there <= packed
    assert len(there) == sum(1 for kind in ("folders", "single") for _ in templates(kind))
