"""`karafka install`: an app to begin with, in folders or in one file; what is there already is left alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from shlex import quote

import click

from karafka.errors import ConfigError

# A template is the file that it makes, under a name that no tool takes for one, and with this for the app's name.
SUFFIX = ".tpl"
NAME = "example_app"

NEXT = """\
  pip install -e '.[dev]'               what it needs, in a virtual environment
  pytest                                its tests, on a broker of their own
  karafka server --embedded --reload    at work, and anew whenever a file is saved
README.md says where things are."""
NEXT_SINGLE = """\
  karafka server --embedded                  at work, with no broker at hand; it says its address
  KARAFKA_BROKERS=ADDRESS karafka console    in another terminal: send("videos_created", …)
  karafka flow                               what goes out for what comes in"""


@click.command()
@click.argument("path", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--single", is_flag=True, help="One file, app.py, instead of folders.")
def install(path: Path, *, single: bool) -> None:
    """Write an app to begin with into the folder PATH, the current one otherwise: it runs, and its tests pass.

    A file that is there already is left alone. The app is named after the folder.

    \b
    Examples:
      karafka install shop             a bigger app: controllers, responders, workers, parsers, config, tests
      karafka install --single shop    a small one: app.py
      karafka install                  into the current folder

    Exit status: 1 when a file cannot be written; 2 when PATH is a file.
    """
    name = named(path)
    made = 0
    for place, text in templates("single" if single else "folders"):
        file = path / place
        if write(file, text.replace(NAME, name)):
            made += 1
            click.echo(f"{click.style('made', fg='green')}        {file}")
        else:
            click.echo(f"{click.style('left alone', fg='yellow')}  {file}")
    click.echo(f"\n{name} is there{'' if made else ' already'}. What to do next:")
    if path.resolve() != Path.cwd():
        click.echo(f"  cd {quote(str(path))}")
    click.echo(NEXT_SINGLE if single else NEXT)


def templates(kind: str) -> Iterator[tuple[str, str]]:
    """The files of an app: where each belongs, and what stands in it."""
    yield from _within(files("karafka.cli") / "templates" / kind, "")


def _within(folder: Traversable, above: str) -> Iterator[tuple[str, str]]:
    # What stands in a folder before what stands in those below it.
    for one in sorted(folder.iterdir(), key=lambda one: (one.is_dir(), one.name)):
        if one.is_dir():
            yield from _within(one, f"{above}{one.name}/")
        elif one.name.endswith(SUFFIX):
            yield above + one.name.removesuffix(SUFFIX), one.read_text(encoding="utf-8")


def named(folder: Path) -> str:
    """The name of an app in `folder`: the folder's, of characters that brokers and packages alike take."""
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("._-")
    # A project that is called like what it needs could not be installed.
    return f"{name}-app".lstrip("-") if name in {"", "karafka"} else name


def write(file: Path, text: str) -> bool:
    """Make `file` of `text`; False for one that is there already, which is left alone. Raises `ConfigError`."""
    if file.exists():
        return False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as made:
            made.write(text)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.filename}: {error.strerror})") from None
    return True
