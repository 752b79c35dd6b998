"""Whether the login shell of a container's user runs a command.

sshd's banner says nothing about that. So the shell is started as a login would start it: inside, as
the user, with a time limit. Its output is hostile, and is shown to its owner only.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path, PurePosixPath

from reconciler.children import inside
from reconciler.children.inside import Ended
from reconciler.container.home_files import UID
from reconciler.systems import way_in
from state import command
from state.errors import LxcGpuError
from state.words import printable

PATIENCE = 3.0
"""Seconds that the start-up files may take; nothing is said about a slower shell."""
SOON = 1.0
"""Seconds that it may take to be inside."""
MARK = "lxc-gpu-took-a-command"
LARGEST = 1 << 20
"""Bytes of /etc/passwd."""
KNOWN = ("bash", "dash", "fish", "ksh", "mksh", "sh", "zsh")
"""Shells that take `-l -i -c`; any other one is only checked for being executable."""
NONE = ("nologin", "false", "true")
WAY = "way"
"""How the first line begins, which says what is on the way to the keys."""
_PARTS = re.compile(rf"{WAY}( [0-9]{{1,10}} [0-9]{{1,10}})+", re.ASCII)
_NO_LIST, _NO_ACCOUNT, _NOT_RUN = "no-list", "no-account", "not-run"


def why_not(user: str) -> tuple[str, ...]:
    """Why a login in the container that runs would fail, in words; empty if none is known."""
    with Look(user) as look:
        return look.why_not()


class Look:
    """The check, done while other work goes on: `begin`, then `why_not`. It ends with its block."""

    def __init__(self, user: str) -> None:
        self._user = user
        self._child: inside.Begun | None = None

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()

    def begin(self, monitor: str = "") -> None:
        """Start the shell; `monitor` as for `inside.started`."""
        self._forget()
        user = self._user
        with suppress(LxcGpuError):  # it has ended meanwhile
            self._child = inside.begun(user, lambda says: _act(user, says), monitor=monitor)

    def way_is_clear(self) -> bool:
        """Whether nothing keeps sshd from our keys, as it is seen inside. False: not known."""
        return self._child is not None and way_in.is_clear(parts_in(self._child.first_line(SOON)))

    def why_not(self) -> tuple[str, ...]:
        """What came of it; it begins now if it hasn't."""
        if self._child is None:
            self.begin()
        child, self._child = self._child, None
        return () if child is None else judged(self._user, child.wait(PATIENCE, leave=False))

    def _forget(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.wait(0)


def judged(user: str, ended: Ended) -> tuple[str, ...]:
    """Why a login would fail, from what the child said of the shell and what it printed. Pure."""
    said = ended.said.partition("\n")[2] if ended.said.startswith(f"{WAY} ") else ended.said
    shell, _, rest = said.partition("\n")
    name = printable(shell, "")[:100]
    failed, _, why = rest.partition("\n")[0].partition(" ")
    if shell == _NO_LIST:
        return ("There is no readable /etc/passwd in your container.",)
    if shell == _NO_ACCOUNT:
        return (f"There is no account {user} with the uid {UID} in your container.",)
    if not shell.startswith("/"):  # the child itself failed
        return ()
    if failed == _NOT_RUN:
        return (f"Your login shell, {name}, can't be run: {why[:100]}.",)
    if PurePosixPath(name).name in NONE:
        return (f"Your login shell is {name}, which lets nobody in.",)
    if ended.status in (None, 0) or MARK in rest:  # 0: another program may have taken its place
        return ()
    return (
        f"Your login shell, {name}, ends with status {ended.status} before it takes a command: "
        "a start-up file has it do so (~/.bashrc, ~/.profile, /etc/profile, ...).",
    )


def parts_in(line: str) -> list[tuple[int, int]]:
    """Owners and modes in the line that `_way` made; none in another one. Pure."""
    if not _PARTS.fullmatch(line):
        return []
    numbers = [int(word) for word in line.split(" ")[1:]]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _way(user: str) -> str:
    return " ".join([WAY, *(f"{uid} {mode}" for uid, mode in way_in.seen_inside(user))])


def account_in(text: str, user: str) -> tuple[int, str, str] | None:
    """The user's group, home and shell in a passwd(5); None if the line has another uid. Pure."""
    for line in text.splitlines():
        fields = line.split(":")
        if fields[0] == user and len(fields) == 7:
            _, _, uid, group, _, home, shell = fields
            if uid == str(UID) and group.isdecimal() and len(group) < 10:
                return int(group), home, shell or "/bin/sh"
            return None
    return None


def _act(user: str, says: int) -> None:
    """In the container, as its root: becomes the user's shell."""
    account = _account(user, says)
    if account is None:
        return
    group, home, shell = account
    os.setgroups([group])
    os.setresgid(group, group, group)
    os.setresuid(UID, UID, UID)
    os.write(says, f"{_way(user)}\n{shell}\n".encode("utf-8", "surrogateescape"))
    with suppress(OSError):
        os.chdir(home)
    try:
        _run(shell, user, home, says)
    except OSError as error:
        os.write(says, f"{_NOT_RUN} {error.strerror}\n".encode())


def _account(user: str, says: int) -> tuple[int, str, str] | None:
    try:
        with Path("/etc/passwd").open("rb") as file:
            found = account_in(file.read(LARGEST).decode("utf-8", "surrogateescape"), user)
    except OSError:
        os.write(says, f"{_NO_LIST}\n".encode())
        return None
    if found is None:
        os.write(says, f"{_NO_ACCOUNT}\n".encode())
    return found


def _run(shell: str, user: str, home: str, says: int) -> None:
    argv = (shell, "-l", "-i", "-c", f"echo {MARK}")
    if PurePosixPath(shell).name not in KNOWN:
        if not os.access(shell, os.X_OK):
            raise OSError(0, "it isn't there, or may not be run")
        os.write(says, f"{MARK}\n".encode())
        return
    os.dup2(says, 1)
    given = {"HOME": home, "USER": user, "LOGNAME": user, "SHELL": shell, "TERM": "dumb"}
    # start-up files that begin tmux or the like don't do so inside of one
    within = {"TMUX": "/dev/null,0,0", "STY": "0", "ZELLIJ": "0"}
    os.execve(shell, argv, {**command.environment(), **within, **given})  # noqa: S606
