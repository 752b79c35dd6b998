"""The gate behind a real sshd: what a server's key and a sysadmin's key open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from state.edits.users import save_keys
from state.git.commits import Author
from state.git.publish import publish
from state.git.repository import Repository
from state.model.documents import Signer
from state.model.keys import parse_key
from state.origin import bare
from state.trust.walk import Judged, walk
from tests.integration import sshd
from tests.integration.sshd import ssh_key
from tests.integration.web import KEY

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(bool(sshd.MISSING), reason=sshd.MISSING)


@dataclass(frozen=True)
class Gate:
    folder: Path
    port: int
    repository: Path

    def command(self, key: str) -> list[str]:
        ssh = ["ssh", "-F", "none", "-p", str(self.port), "-i", str(self.folder / key)]
        ssh += ["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
        return [*ssh, "-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}"]

    def ask(self, key: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*self.command(key), "root@127.0.0.1", *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
        )

    def git(self, key: str, *words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "GIT_SSH_COMMAND": " ".join(self.command(key))}
        return subprocess.run(["git", *words], capture_output=True, text=True, timeout=30, env=env)

    @property
    def me(self) -> list[str]:
        """Who Alice is, and what she signs with, for her git."""
        settings = {"user.name": "Alice", "user.email": "alice@example.org", "gpg.format": "ssh"}
        settings |= {"user.signingKey": str(self.folder / "alice"), "commit.gpgSign": "true"}
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    @property
    def url(self) -> str:
        return f"ssh://root@127.0.0.1:{self.port}{self.repository}"


def write_gate_keys(folder: Path, repository: Path) -> None:
    """Render the gate's keys, for the program of this test."""
    from state.origin.gate_keys import gate_keys

    opened = Repository(repository)
    text = gate_keys(opened.read(opened.tip()), f"{sys.executable} {folder / 'gate.py'}")
    (folder / "gate_keys").write_text(text)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    keys = {name: ssh_key(tmp_path / name) for name in ("alice", "iam", "gpu17", "host", "other")}
    repository = tmp_path / "state.git"
    alice = Signer(name="Alice Smith", role="admin", key=parse_key(keys["alice"]))
    bare.init(repository, alice, Signer(name="IAM", role="iam", key=parse_key(keys["iam"])))
    judge(repository)
    (tmp_path / "web.toml").write_text(
        f'repository = "{repository}"\nclone = "{tmp_path}/web-clone"\n'
        f'signing_key = "{tmp_path}/iam"\n'
    )
    (tmp_path / "gate.py").write_text(
        f"import sys\nsys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from pathlib import Path\nfrom shells.gate import request, serve\n"
        f"request.CONFIG = Path({str(tmp_path / 'web.toml')!r})\n"
        "sys.exit(serve.main())\n"
    )
    write_gate_keys(tmp_path, repository)
    with sshd.running(tmp_path, keys["host"]) as port:
        yield Gate(tmp_path, port, repository)


def judge(repository: Path) -> None:
    """The repository's pre-receive hook, run from this checkout instead of an installed one."""
    hook = repository / "hooks/pre-receive"
    ours = (
        f"env PYTHONPATH={CHECKOUT} {sys.executable} -c"
        " 'import sys; from shells.cli import main; sys.exit(main())'"
    )
    hook.write_text(hook.read_text().replace("exec lxc-gpu", f"exec {ours}"))


def add_server(gate: Gate) -> None:
    """As a sysadmin does: clone, write servers/gpu17.yaml, push."""
    work = str(gate.folder / "work")
    assert gate.git("alice", "clone", "-q", gate.url, work).returncode == 0
    (gate.folder / "work/servers").mkdir(exist_ok=True)
    keys = {n: (gate.folder / f"{n}.pub").read_text() for n in ("host", "gpu17")}
    (gate.folder / "work/servers/gpu17.yaml").write_text(
        f"address: 172.16.2.17\nhost_key: {keys['host']}state_key: {keys['gpu17']}"
    )
    gate.git("alice", "-C", work, "add", ".")
    gate.git("alice", "-C", work, *gate.me, "commit", "-q", "-m", "Add gpu17")
    pushed = gate.git("alice", "-C", work, "push", "-q")
    assert pushed.returncode == 0, pushed.stderr
    write_gate_keys(gate.folder, gate.repository)


def test_from_a_pushed_server_file_to_a_registration(gate: Gate) -> None:
    assert gate.ask("gpu17", "id").returncode == 255  # unknown yet: not let in at all
    add_server(gate)
    copy = str(gate.folder / "copy")
    assert gate.git("gpu17", "clone", "-q", gate.url, copy).returncode == 0

    refused = gate.ask("gpu17", "register", "lqchen", KEY)
    assert json.loads(refused.stdout)["refusal"]["code"] == "unknown-user"
    clone = Repository.clone(str(gate.repository), gate.folder / "clone")
    other = parse_key((gate.folder / "other.pub").read_text())
    saved = save_keys("LQChen", "Lequn Chen", None, [other])
    publish(clone, saved, Author("x", "x@y"), gate.folder / "iam")
    answer = json.loads(gate.ask("gpu17", "register", "lqchen", KEY).stdout)["answer"]
    assert answer["facts"]["user"] == "lqchen"
    again = json.loads(gate.ask("gpu17", "register", "lqchen", KEY).stdout)["answer"]
    assert again["facts"]["revision"] == answer["facts"]["revision"]
    clone.fetch()
    state = clone.read(clone.tip())
    assert str(state.registrations["gpu17"]["lqchen"].host_key) == KEY
    assert [c.name for c in clone.history(limit=1)] == ["gpu17"]
    signed = [j.signer.name for j in since_the_first(clone)]
    assert signed == ["Alice Smith", "IAM", "IAM"]


def test_a_damaged_clone_of_the_gate_heals(gate: Gate) -> None:
    add_server(gate)
    clone = Repository.clone(str(gate.repository), gate.folder / "clone")
    other = parse_key((gate.folder / "other.pub").read_text())
    publish(clone, save_keys("ann", "Ann", None, [other]), Author("x", "x@y"), gate.folder / "iam")
    assert "answer" in json.loads(gate.ask("gpu17", "register", "ann", KEY).stdout)
    for file in (gate.folder / "gate-clone/objects").rglob("*"):
        if file.is_file():
            file.chmod(0o644)
            file.write_bytes(b"")
    key = (gate.folder / "host.pub").read_text().strip()
    answer = json.loads(gate.ask("gpu17", "register", "ann", *key.split()[:2]).stdout)
    assert answer["answer"]["facts"]["user"] == "ann"


def since_the_first(clone: Repository) -> tuple[Judged, ...]:
    """What was committed since the first state, verified as every server does it."""
    first = clone.history(limit=100)[-1].revision
    return walk(clone, first, clone.tip()).commits


def test_a_server_pushes_nothing_and_nobody_rewinds(gate: Gate) -> None:
    add_server(gate)
    work = str(gate.folder / "work")
    gate.git("alice", "-C", work, *gate.me, "commit", "-q", "--allow-empty", "-m", "x")
    assert "and nothing else" in gate.git("gpu17", "-C", work, "push").stderr
    gate.git("alice", "-C", work, "reset", "-q", "--hard", "HEAD~2")
    gate.git("alice", "-C", work, *gate.me, "commit", "-q", "--allow-empty", "-m", "y")
    assert gate.git("alice", "-C", work, "push", "-f").returncode != 0


def test_a_state_that_breaks_the_rules_is_not_taken(gate: Gate) -> None:
    add_server(gate)
    work = str(gate.folder / "work")
    (gate.folder / "work/fleet.yaml").write_text("format: 1\nports: 7\n")
    gate.git("alice", "-C", work, *gate.me, "commit", "-qam", "Break it")
    pushed = gate.git("alice", "-C", work, "push")
    assert pushed.returncode != 0
    assert "fleet.yaml:2" in pushed.stderr


def test_an_unsigned_commit_is_not_taken(gate: Gate) -> None:
    add_server(gate)
    work = str(gate.folder / "work")
    unsigned = [*gate.me, "-c", "commit.gpgSign=false", "commit", "-q", "--allow-empty", "-m", "x"]
    gate.git("alice", "-C", work, *unsigned)
    pushed = gate.git("alice", "-C", work, "push")
    assert pushed.returncode != 0
    assert "'x' by Alice: it is unsigned" in pushed.stderr


@pytest.mark.parametrize("words", [(), ("id",), ("sh", "-c", "id"), ("git-upload-pack", "/etc")])
@pytest.mark.parametrize("key", ["alice", "gpu17"])
def test_no_key_opens_a_shell(gate: Gate, key: str, words: tuple[str, ...]) -> None:
    add_server(gate)
    answer = gate.ask(key, *words)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "and nothing else" in answer.stderr


def test_the_hook_lets_a_pushed_server_in(gate: Gate) -> None:
    writer = ("env", f"PYTHONPATH={CHECKOUT}", sys.executable, "-m", "state.origin.gate_file")
    bare.furnish(gate.repository, gate.folder / "rendered", writer)
    judge(gate.repository)
    before = (gate.folder / "rendered").read_text()
    assert "admin Alice-Smith" in before
    add_server(gate)
    assert "server gpu17" in (gate.folder / "rendered").read_text()
    bare.furnish(gate.repository, gate.folder / "rendered")
    hook = (gate.repository / "hooks/post-receive").read_text()
    assert f"exec /usr/local/lib/lxc-gpu/gate-keys {gate.repository} " in hook
