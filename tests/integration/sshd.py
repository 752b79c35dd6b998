"""A real sshd on a loopback port, which lets root in for forced commands only."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from state.model.keys import parse_key
from tests.integration.slapd import free_port
from tests.patience import HANGS
from webui.servers.contact import Target

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
MISSING = (
    "needs sshd (apt-get install openssh-server)"
    if SSHD is None
    else "sshd needs root to take somebody's keys"
    if os.geteuid() != 0
    else ""
)


@contextmanager
def running(folder: Path, host_key: str, keys: str = "gate_keys", more: str = "") -> Iterator[int]:
    """sshd for root, with the forced commands in `folder / keys` and `more` settings; its port."""
    port = free_port()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "sshd_config").write_text(f"""
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
StrictModes no
UsePAM no
PermitRootLogin forced-commands-only
PasswordAuthentication no
AuthorizedKeysFile {folder / keys}
AcceptEnv GIT_PROTOCOL
ExposeAuthInfo yes
{more}
""")
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", folder / "sshd_config"])
    try:
        for _ in range(20 * HANGS):
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(HANGS)


@contextmanager
def answering(folder: Path, name: str = "gpu17", more: str = "") -> Iterator[Target]:
    """A server that answers each verb by the shell script `folder/answer`; the key is `nudge`.

    Its sshd has `more` settings.
    """
    host, nudge = ssh_key(folder / "host"), ssh_key(folder / "nudge")
    (folder / "gate_keys").write_text(f'restrict,command="sh {folder}/answer" {nudge}\n')
    with running(folder, host, more=more) as port:
        yield Target(name, "127.0.0.1", port, parse_key(host))


def ssh_key(path: Path) -> str:
    """Make an ed25519 key; its public line without a comment."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])
