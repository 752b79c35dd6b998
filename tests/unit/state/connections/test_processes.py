"""Processes of our own: found, and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from state.connections import processes
from state.connections.sshd import must_stand
from state.errors import LxcGpuError
from tests.patience import HANGS

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1; done"


def test_what_is_asked_in_vain_is_killed() -> None:
    with subprocess.Popen(["sh", "-c", STUBBORN], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        this = processes.everything()[child.pid]
        assert (this.parent, this.name) == (os.getpid(), "sh")
        processes.end([replace(this, started=this.started - 1)], [])
        assert child.poll() is None, "a number that was given again is another process"
        processes.end([this], [])
        assert child.wait(HANGS) < 0


def test_what_is_said_of_a_process() -> None:
    pid = os.getpid()
    assert processes.uid_of(pid) == os.getuid()
    assert processes.is_outside_containers(pid)
    assert processes.command_line_of(pid) == " ".join(sys.orig_argv)
    assert os.getppid() in {above.pid for above in processes.ancestors(pid, processes.everything())}


def test_what_no_sshd_started_is_asked_for_no_key(tmp_path: Path) -> None:
    must_stand(os.getpid(), tmp_path / "keys", {})


@pytest.mark.parametrize("named", ["", "/tmp/keys", "/tmp/sshauth.AAAAAAAAAAAAAAA"])
def test_a_key_that_nobody_knows_is_revoked(tmp_path: Path, named: str) -> None:
    """sshd's file is gone, or what is named is none of sshd's; its process is gone, too."""
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(999)"
    argv = ["setsid", "--fork", sys.executable, "-c", program]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        pid = int(started.stdout.readline())
    orphan = processes.everything()[pid]
    try:
        with pytest.raises(LxcGpuError, match="no longer opens"):
            must_stand(pid, tmp_path / "keys", {"SSH_CONNECTION": "", "SSH_USER_AUTH": named})
    finally:
        processes.end([orphan], [])
