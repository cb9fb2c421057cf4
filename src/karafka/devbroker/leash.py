"""A child that dies with its parent, even when the parent is killed with -9 and can say nothing.

Run as a script (`leash.py PARENT COMMAND…`): it asks the system for the signal, then becomes the command, so the
process id stays the same. A script of its own and not `preexec_fn`, which may deadlock beside other threads.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def spawn(command: Sequence[str], *, log: Path, environment: Mapping[str, str], keep: int) -> subprocess.Popen[bytes]:
    """Start `command` in a process group of its own, so that a Ctrl-C in the terminal reaches the parent alone.

    Not in a session: Linux shares the processor out among sessions first, and a busy one may get none for half a
    minute (seen with 6.18: a Kafka with 50 threads ready to run, beside the session that used it).
    What it prints is added to `log`; the file descriptor `keep` (a lock) stays open in it.
    On Linux it is killed when the *thread* that called this ends: call it from one that lasts as long as it
    should. Elsewhere nobody kills it, and the lock that it keeps says that it is still there.
    """
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - the command is ours
            [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            pass_fds=[keep],
            process_group=0,
        )


def become(parent: int, command: Sequence[str]) -> None:
    """Turn this process into `command`, killed when process `parent` is gone. Does not return."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked, so the signal will never come
            sys.exit("the parent is gone")
    os.execv(command[0], list(command))  # noqa: S606 - no shell is what we want


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
