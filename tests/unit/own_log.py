"""Programs that hear what they log themselves: in a /dev of their own, with a log of their own.

It needs root.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN_DEV = """
mount -t tmpfs none "$0"
touch "$0/null"
mount --bind /dev/null "$0/null"
mount --rbind "$0" /dev
exec "$@"
"""
HEARS = """
import socket, sys
sys.path.insert(0, sys.argv[1])
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
journal.bind("/dev/log")
"""


def said_by(program: str, folder: Path, *arguments: str | Path) -> str:
    """What a Python program of ours prints, which has `journal`: the socket that syslog(3) writes
    to, here /dev/log. It doesn't wait. What is in `folder` it doesn't see; the arguments are
    its sys.argv[2:].
    """
    words = ["unshare", "--mount", "sh", "-ec", OWN_DEV, str(folder), sys.executable, "-c"]
    words += [HEARS + program, *map(str, (ROOT, *arguments))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout
