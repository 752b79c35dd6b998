"""What a child that is forked, and becomes no other program, keeps of its parent's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
OWN_DEV = """
mount -t tmpfs none "$1"
touch "$1/null"
mount --bind /dev/null "$1/null"
mount --rbind "$1" /dev
exec "$2" -c "$3" "$4"
"""
LOGS_IN_A_CHILD = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
from reconciler.children.forked import STDERR, keep_only
from reconciler.host.journal import event
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/dev/log")
event("started", user="ann")
reader, writer = os.pipe()
if os.fork() == 0:
    keep_only([STDERR, writer])
    opened = [os.open("/proc/self/status", os.O_RDONLY) for _ in range(9)]
    event("stopped", user="ann")
    still = [os.readlink(f"/proc/self/fd/{each}").endswith("/status") for each in opened]
    os.write(writer, b"all" if all(still) else b"not all")
    os._exit(0)
os.close(writer)
said = os.read(reader, 9).decode()
heard = [b"event=" in journal.recv(200) for _ in range(2)]
print(said, heard)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a /dev of its own")
def test_to_log_closes_none_of_its_files(tmp_path: Path) -> None:
    """libc remembers the number of the descriptor that it logs to (syslog(3))."""
    words = ["unshare", "--mount", "sh", "-ec", OWN_DEV, "sh", tmp_path, sys.executable]
    done = subprocess.run(
        [*words, LOGS_IN_A_CHILD, str(ROOT)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("all [True, True]\n", "")
