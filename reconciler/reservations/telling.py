"""Tells users who are logged in to their containers that their programs are on others' GPUs.

The text has a fixed form and holds only names that we know. A child that is the container's root,
and nothing more, writes it to the terminals inside, so a file that only looks like a terminal is
one of the container's own. No program of the container is started, nothing is read from it, and
everything has one time limit.
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
"""Seconds that each container gets in any case, and that killing a child may take."""
MOST = 64
"""Terminals of one container, and other entries beside them, that are looked at."""
TERMINALS = "/dev/pts"
_PTS = range(136, 144)
"""Major numbers of pseudo-terminals (devices.txt of the kernel: UNIX98_PTY_SLAVE_MAJOR)."""


def words(server: str, found: Sequence[Intrusion], numbers: Mapping[str, int]) -> str:
    """The text for a user whose programs are on others' GPUs. Pure but for the time zone.

    `numbers`: the GPUs' indices by UUID.
    """
    lines = [f"{server}: a program of yours is on a GPU that somebody else has reserved."]
    for each in found:
        names = ", ".join(str(numbers.get(gpu, gpu)) for gpu in each.gpus)
        until = in_words.moment_in_zone(each.reservation.ends)
        lines.append(f"  GPU {names} is {each.reservation.user}'s until {until}.")
    lines.append("It is not stopped. Please end it, or agree with them.")
    lines.append(f"`ssh {server}-manage gpus` shows who has which GPU, and which are free.")
    return "\n".join(lines)


def tell(words: Mapping[str, str]) -> tuple[str, ...]:
    """Write a text to all terminals in these users' containers. Return the users whose containers
    were late.

    Terminals that take no messages (mesg(1)) are left out, and so are containers that don't run. A
    container is late if it made us wait until the time was over.
    """
    children, until = dict[str, inside.Begun](), time.monotonic() + PATIENCE
    for user, text in words.items():
        with suppress(LxcGpuError):
            children[user] = inside.begun(user, partial(_write, on_a_terminal(text)))
    return tuple(user for user, child in children.items() if _late(child, until))


def _late(child: inside.Begun, until: float) -> bool:
    """Wait for a child. Whether it took too long, so that it was ended or left behind."""
    patience = max(MOMENT, until - time.monotonic())
    return child.wait(patience, leave=False, left_behind=MOMENT).status is None


def on_a_terminal(text: str) -> bytes:
    """The text for any terminal, whatever is on its screen: printable letters only. Pure."""
    lines = ("".join(c if " " <= c <= "~" else "?" for c in line) for line in text.splitlines())
    return ("\a\r\n" + "".join(f"{line}\r\n" for line in lines)).encode("ascii")


def takes_messages(status: os.stat_result) -> bool:
    """Whether this is a terminal that takes messages: its group may write (write(1), wall(1)).
    Pure.

    sshd sets that where there is a group `tty` (pty_setowner in its sshpty.c).
    """
    terminal = stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _PTS
    return terminal and bool(status.st_mode & stat.S_IWGRP)


def _write(raw: bytes, _: int) -> None:
    """Write the text, in the container and as its root. A stopped terminal (ctrl-S) is skipped."""
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
