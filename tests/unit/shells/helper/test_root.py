"""The root helper's process, with a real connection as stdin and stdout."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from state.command import environment

ROOT = Path(__file__).parents[4]
BEGINS = """
import sys
sys.path.insert(0, sys.argv[1])
from shells.helper import root
sys.exit(root.main([]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others are asked for their key")
def test_who_asks_nothing_after_all_is_no_failure() -> None:
    """A mistyped verb: its program connects ahead, and ends."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        words = [sys.executable, "-c", BEGINS, str(ROOT)]
        done = subprocess.run(
            words,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment(),
        )
    assert (done.returncode, done.stderr) == (0, "")
