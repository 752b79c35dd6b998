"""The whole web page on this machine: a real Git repository, slapd, and servers that are dead."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from flask import Flask

from state.wire.server_load import ServerLoad
from tests.integration import slapd
from tests.integration.active_directory import Domain
from tests.integration.sshd import ssh_key
from tests.unit.state.keyring import ed25519
from webui.application import assemble, build
from webui.config import DirectoryConfig, UsageConfig, WebConfig
from webui.serve import listen
from webui.services import Services

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICksGFWxceR+jU7ob6NmGGtrsHQ4yyZdCVrHd79h9vUW"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
PEOPLE = "\n".join(
    [
        slapd.person("LQChen", "Lequn Chen", "right horse", extra="employeeType: lab"),
        slapd.person("ann", "Ann Lee", "ann's own", extra="employeeType: lab"),
        slapd.person("Lequn.Dot", "Lequn Dot", "dot-secret", extra="employeeType: lab"),
        slapd.person("jane doe", "Jane Doe", "doe's own", extra="employeeType: lab"),
        slapd.person("müller", "Max Müller", "max's own", extra="employeeType: lab"),
        slapd.person("guest", "Guest Visitor", "guest-secret", extra="employeeType: guest"),
    ]
)


@dataclass(frozen=True)
class Web:
    app: Flask
    parts: Services
    repository: Path
    folder: Path

    def git(self, *words: str) -> str:
        shown = subprocess.run(
            ["git", "-C", self.repository, *words], capture_output=True, text=True, check=True
        )
        return shown.stdout

    def hear(self, load: ServerLoad, seconds: float = 0) -> None:
        """`load` as if its server had told it all the time since so many seconds ago."""
        now = time.time()
        for ago in range(int(seconds), -1, -15):  # as seldom as without a gap
            self.parts.history.note(load.server, load, now - ago)
        self.parts.latest.post(load.server, load)
        self.parts.history.flush()


def made_key(seed: int) -> str:
    """A public key; one for each `seed`."""
    return str(ed25519(("key", seed), f"key{seed}"))


def make_repository(folder: Path, signing: str, servers: dict[str, tuple[str, int]]) -> Path:
    """A bare state repository with a fleet and these servers: name to address and ssh port.

    The key `folder/admin` is an admin's.
    """
    admin = ssh_key(folder / "admin")
    bare, work = folder / "state.git", folder / "work"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", bare], check=True)
    subprocess.run(["git", "init", "-q", "-b", "main", work], check=True)
    (work / "fleet.yaml").write_text(
        f"format: 1\nsigners:\n  - name: IAM\n    role: iam\n    key: {signing}\n"
        f"  - name: Alice\n    role: admin\n    key: {admin}\n"
    )
    (work / "servers").mkdir()
    for name, (address, port) in servers.items():
        text = f"address: {address}\nssh_port: {port}\n"
        keys = [ssh_key(folder / f"{name}-{each}") for each in ("host", "state")]
        text += f"host_key: {keys[0]}\nstate_key: {keys[1]}\n"
        (work / "servers" / f"{name}.yaml").write_text(text)
    push(work, "Begin the fleet")
    return bare


def push(work: Path, message: str) -> str:
    """Commit what changed in `work` as a sysadmin, and push it; the revision.

    The bare repository is beside `work`.
    """
    git = ["git", "-C", str(work), "-c", "user.name=Alice", "-c", "user.email=alice@example.org"]
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True)
    subprocess.run([*git, "push", "-q", "../state.git", "main"], check=True)
    shown = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return shown.stdout.strip()


def make_web(
    folder: Path, directory: slapd.Slapd | Domain, servers: dict[str, tuple[str, int]]
) -> Web:
    """The page, not started: `app` answers a test client."""
    folder.mkdir(parents=True, exist_ok=True)
    signing = ssh_key(folder / "signing")
    ssh_key(folder / "nudge")
    repository = make_repository(folder, signing, servers)
    config = WebConfig.model_validate(
        {
            "public_url": "http://iam.mylab.com",
            "organisation": "Example Lab",
            "repository": str(repository),
            "clone": folder / "clone",
            "signing_key": folder / "signing",
            "nudge_key": folder / "nudge",
            "fetch_seconds": 0.01,
            "directory": {
                "servers": [directory.plain],
                "base": slapd.BASE,
                "allow": "(employeeType=lab)",
                "ca_file": directory.certificates.ca,
                "bind_dn": slapd.SERVICE_DN,
                "bind_password_file": directory.service_password,
            },
        }
    )
    parts = assemble(config)
    return Web(build(config, parts), parts, repository, folder)


def with_directory(web: Web, directory: DirectoryConfig) -> Web:
    """The same page, where people log in by another directory."""
    config = web.parts.config.model_copy(update={"directory": directory})
    parts = assemble(config)
    return replace(web, app=build(config, parts), parts=parts)


def with_groups(web: Web, groups: dict[str, str]) -> Web:
    """The same page, whose past weeks are added up by these groups, too."""
    config = web.parts.config.model_copy(update={"usage": UsageConfig(groups=groups)})
    parts = assemble(config)
    return replace(web, app=build(config, parts), parts=parts)


@contextmanager
def served(web: Web) -> Iterator[str]:
    """The page on a loopback port, by the server that serves it for real."""
    server = listen(web.app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        server.close()
        server.task_dispatcher.shutdown()
