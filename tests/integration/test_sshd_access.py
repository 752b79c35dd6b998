"""The doctor judges Allow and Deny lists (`doctor/sshd/access.py`) as a real sshd does."""

from __future__ import annotations

import grp
import os
import subprocess
from pathlib import Path

import pytest

from reconciler.doctor.sshd.access import SshLogin, refusal
from tests.integration.sshd import MISSING, SSHD, running, ssh_key

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
HERE = "127.0.0.1"
LISTS = (
    "AllowUsers alice", "AllowUsers alice r??t", "AllowUsers !alice", "AllowUsers !alice *",
    "AllowUsers root@127.*", "AllowUsers root@!127.0.0.1,127.*", "AllowUsers *@127.0.0.0/8,!10.*",
    "AllowUsers *@!10.0.0.1", "AllowUsers alice,root", "AllowUsers [r]oot",
    "DenyUsers r*", "DenyUsers !alice", "DenyUsers root@10.0.0.0/8", "DenyUsers bob root@127.0.0.?",
    "AllowGroups x", "AllowGroups x ro*", "AllowGroups !x", "DenyGroups root\nAllowUsers root",
    "DenyGroups x\nAllowGroups root", "AllowUsers alice\nMatch User root\n AllowUsers *",
)  # fmt: skip


@pytest.mark.parametrize("lists", LISTS)
def test_it_judges_as_sshd_does(lists: str, tmp_path: Path) -> None:
    host, key = ssh_key(tmp_path / "host"), ssh_key(tmp_path / "key")
    (tmp_path / "gate_keys").write_text(f'restrict,command="true" {key}\n')
    with running(tmp_path, host, more=lists) as port:
        ssh: list[str | Path] = ["ssh", "-F", "none", "-i", tmp_path / "key", "-p", f"{port}"]
        ssh += ["-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={tmp_path}/known_hosts"]
        ssh.append(f"root@{HERE}")
        let_in = subprocess.run(ssh, capture_output=True, check=False).returncode == 0
        asked = f"user=root,host={HERE},addr={HERE},laddr={HERE},lport={port}"
        test: list[str | Path] = [str(SSHD), "-T", "-f", tmp_path / "sshd_config", "-C", asked]
        shown = subprocess.run(test, capture_output=True, text=True, check=True).stdout
    groups = frozenset(grp.getgrgid(gid).gr_name for gid in os.getgrouplist("root", 0))
    assert (refusal(shown, SshLogin("root", groups, HERE)) is None) == let_in
