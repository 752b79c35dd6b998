"""Whether anything may listen in a container yet, as the kernel counts its sockets (proc(5)).

It is looked at before anything is sent there: what is sent before somebody can answer, by ARP or
TCP, is sent again a whole second later. To list the sockets, as /proc/PID/net/tcp does, the kernel
goes through those of the whole machine, which takes hundreds of times as long as their number.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from reconciler.host.monitors import children

PROC = Path("/proc")
_SOME = re.compile(r"^TCP6?: inuse [1-9]", re.ASCII | re.MULTILINE)


def may_listen(monitor: str) -> bool:
    """Whether there is a TCP socket in the container of that lxc-start, by its process id.

    Not, if the container is just beginning: its init is in the server's own network then.
    """
    with suppress(OSError, IndexError):  # it hasn't begun, or has ended
        init = PROC / children(monitor)[0]
        if (init / "ns/net").readlink() == (PROC / "self/ns/net").readlink():
            return False
        for counts in ("sockstat", "sockstat6"):
            with suppress(FileNotFoundError):  # a kernel without IPv6 has only the first
                if _SOME.search((init / "net" / counts).read_text()):
                    return True
    return False
