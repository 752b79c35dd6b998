"""Tells people who are logged in to their containers whose GPU their programs are on.

What is said has a fixed form, of names that we know. It is written to the container's terminals
from inside, by a child that is the container's root and nothing more: a file that only looks like
a terminal is one of the container's own. No program of the container is started for it, nothing
is read from it, and all of it has one time limit.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

from reconciler.children import inside
from reconciler.host import in_words
from reconciler.reservations.watching import Intrusion
from state.errors import LxcGpuError

PATIENCE = 5.0
"""Seconds for all containers together."""
MOMENT = 0.2
"""Seconds that each gets in any case, and being killed may take."""
MOST = 64
"""Terminals of one container; and so many entries more that are none."""
TERMINALS = "/dev/pts"
_PTS = range(136, 144)
"""Major numbers of pseudo-terminals (devices.txt of the kernel: UNIX98_PTY_SLAVE_MAJOR)."""


def words(server: str, found: Sequence[Intrusion], numbers: Mapping[str, int]) -> str:
    """What somebody reads whose programs are on others' GPUs; `numbers` are the GPUs' own. Pure
    but for the time zone."""
    lines = [f"{server}: a program of yours is on a GPU that somebody else has reserved."]
    for each in found:
        names = ", ".join(str(numbers.get(gpu, gpu)) for gpu in each.gpus)
        until = in_words.moment_in_zone(each.reservation.ends)
        lines.append(f"  GPU {names} is {each.reservation.user}'s until {until}.")
    lines.append("Nothing is stopped for that. Please end it, or agree with them.")
    lines.append(f"`ssh {server}-manage gpus` shows whose is what and what is free.")
    return "\n".join(lines)


def tell(words: Mapping[str, str]) -> tuple[str, ...]:
    """Have everybody who is logged in to these users' containers read these words.

    Who isn't logged in at a terminal, or takes no messages there (mesg(1)), reads nothing, and a
    container that doesn't run is left out. Whose containers had us wait until the time was over.
    """
    children, until = dict[str, inside.Begun](), time.monotonic() + PATIENCE
    for user, text in words.items():
        with suppress(LxcGpuError):
            children[user] = inside.begun(user, partial(_write, on_a_terminal(text)))
    return tuple(user for user, child in children.items() if _late(child, until))


def _late(child: inside.Begun, until: float) -> bool:
    """Wait for a child; whether it took longer, and was ended or left behind."""
    patience = max(MOMENT, until - time.monotonic())
    return child.wait(patience, leave=False, left_behind=MOMENT).status is None


def on_a_terminal(text: str) -> bytes:
    """The text as any terminal shows it, whatever is on it: printable letters alone. Pure."""
    lines = ("".join(c if " " <= c <= "~" else "?" for c in line) for line in text.splitlines())
    return ("\a\r\n" + "".join(f"{line}\r\n" for line in lines)).encode("ascii")


def takes_messages(status: os.stat_result) -> bool:
    """Whether this is a terminal whose owner takes them: its group may write, as for write(1) and
    wall(1). sshd has it so where there is a group `tty` (pty_setowner in its sshpty.c). Pure."""
    terminal = stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _PTS
    return terminal and bool(status.st_mode & stat.S_IWGRP)


def _write(raw: bytes, _: int) -> None:
    """In the container, as its root. A terminal that is held still (ctrl-S) is not waited for."""
    with os.scandir(TERMINALS) as entries:
        names = [each.name for each in islice(entries, 2 * MOST) if each.name.isdigit()]
    for name in names[:MOST]:
        try:
            terminal = os.open(
                f"{TERMINALS}/{name}",
                os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC,
            )
        except OSError:
            continue
        try:
            if takes_messages(os.fstat(terminal)):
                os.write(terminal, raw)
        except OSError:
            continue
        finally:
            os.close(terminal)
