"""Programs that end with the process which started them, even where that is killed with -9.

Linux sends a process a signal of its choice at its parent's death, once it has asked for it. So a
program is started through this file, which asks and then becomes the program. (To ask in
`preexec_fn` would run Python between fork and exec, which is not safe once there are threads.)
Elsewhere than on Linux only the callers' own clean-up remains.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start(
    command: Sequence[str | Path],
    *,
    user: str = "",
    death_signal: signal.Signals = signal.SIGKILL,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    output: int | IO[bytes] | None = None,
    new_session: bool = False,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `command`, as `user` where one is named (only root may).

    What it says, errors too, goes to `output`. The life of the *thread* that calls is what counts:
    start nothing from one that ends before its program shall.
    """
    this_file = str(Path(__file__).resolve())
    guard = [sys.executable, "-I", "-S", this_file, str(os.getpid()), str(death_signal.value), user]
    return subprocess.Popen(
        [*guard, *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        cwd=cwd,
        env=env,
        start_new_session=new_session,
        pass_fds=pass_fds,
    )


def _become(parent: int, death_signal: int, user: str, command: list[str]) -> None:
    if user:
        _change_to(user)
    end_with(parent, death_signal)  # after the change of user, which would undo it; exec keeps it
    os.execvp(command[0], command)  # noqa: S606 - no shell is the point


def end_with(parent: int, death_signal: int) -> None:
    """Be sent this signal as soon as the parent, who started this process, ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        sys.exit("the parent ended before its program began")


def _change_to(user: str) -> None:
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
