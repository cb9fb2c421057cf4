"""Where running supervisors can be asked how their processes are: a Unix socket each, in a folder of the user's own.

Whoever connects is sent one JSON document, and nothing is asked of them: the folder lets in nobody else.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from karafka.errors import ConfigError

# How long a supervisor may take to answer: it asks its processes first.
PATIENCE = 5.0


def folder() -> Path:
    """`$XDG_RUNTIME_DIR/karafka`; where there is none, a folder of the user's own among the temporary ones."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "karafka"
    return Path(tempfile.gettempdir()) / f"karafka-{os.getuid()}"


@contextmanager
def opened() -> Iterator[socket.socket]:
    """A socket that answers for this process, until the end of the block. Raises `OSError`."""
    there = folder()
    there.mkdir(mode=0o700, exist_ok=True)
    _trust(there)
    for path in there.glob("*.sock"):
        _remove_if_dead(path)
    # Short: the whole path may have a hundred characters, and temporary folders may lie deep. Containers that share
    # one may each be process 1.
    path = there / f"{os.getpid()}-{token_hex(2)}.sock"
    draft = path.with_suffix(".new")
    with socket.socket(socket.AF_UNIX) as link:
        try:
            # It gets its name when somebody answers there, so that nobody takes it for one left behind.
            link.bind(str(draft))
            link.listen()
            link.setblocking(False)
            draft.rename(path)
            yield link
        finally:
            for one in (draft, path):
                one.unlink(missing_ok=True)


def _trust(there: Path) -> None:
    """Raises `PermissionError` for a folder that somebody else has made, or may put something into."""
    found = there.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{there} is not a folder of this user's alone")


def _remove_if_dead(path: Path) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def answers() -> Iterator[Mapping[str, Any]]:
    """What each running supervisor of this user says, in any order. Raises `ConfigError`."""
    there = folder()
    try:
        _trust(there)
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise ConfigError(f"{error}: remove it, or set XDG_RUNTIME_DIR, for the server and for this command") from None
    for path in there.glob("*.sock"):
        with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as link:
            link.settimeout(PATIENCE)
            link.connect(str(path))
            yield json.loads(b"".join(iter(lambda: link.recv(65_536), b"")))
