"""The gate takes the exact forms that exist, and nothing that resembles them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shells.gate import request, serve
from shells.gate.request import Caller, Fetch, GatePaths, Push, Register, caller_of, request_of
from state.errors import LxcGpuError
from state.model.documents import Fleet, Server, Signer, State
from state.model.keys import parse_key
from state.origin.gate_keys import gate_keys
from tests.unit.own_log import said_by

REPOSITORY = Path("/var/lib/lxc-gpu/state.git")
SERVER, ADMIN = Caller("server", "gpu17"), Caller("admin", "Alice")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICksGFWxceR+jU7ob6NmGGtrsHQ4yyZdCVrHd79h9vUW"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
ASKS_THE_GATE = """
from contextlib import redirect_stdout
from pathlib import Path
from shells.gate import request, serve
request.CONFIG = Path(sys.argv[2])
for asked in ("git-upload-pack 'state.git'", "register x\\n"):
    with redirect_stdout(None):
        serve.main(["server", "gpu17"], {"SSH_ORIGINAL_COMMAND": asked}, lambda *_: None)
    print(journal.recv(999).decode())
"""


def test_the_forms_that_exist() -> None:
    fetch = b"git-upload-pack '/var/lib/lxc-gpu/state.git'"
    assert request_of(fetch, SERVER, REPOSITORY) == Fetch()
    assert request_of(fetch, ADMIN, REPOSITORY) == Fetch()
    assert request_of(b"git-upload-pack 'state.git'", SERVER, REPOSITORY) == Fetch()
    push = b"git-receive-pack '/var/lib/lxc-gpu/state.git'"
    assert request_of(push, ADMIN, REPOSITORY) == Push()
    register = f"register lqchen {KEY}".encode()
    assert request_of(register, SERVER, REPOSITORY) == Register("lqchen", KEY)
    assert request_of(register + b" root@gpu17", SERVER, REPOSITORY) == Register("lqchen", KEY)


ATTACKS = [
    b"",
    b"sh",
    b"git-upload-pack",
    b"git-upload-pack /var/lib/lxc-gpu/state.git",
    b"git-upload-pack '/etc'",
    b"git-upload-pack '/var/lib/lxc-gpu/state.git/../web-clone'",
    b"git-upload-pack '/var/lib/lxc-gpu/state.git' ",
    b"git-upload-pack '/var/lib/lxc-gpu/state.git'\n",
    b"git-upload-pack '/var/lib/lxc-gpu/state.git'; id",
    b"git-upload-pack '/var/lib/lxc-gpu/state.git' && id",
    b"git-upload-pack '/var/lib/lxc-gpu/state.git'\x00",
    b"git-upload-pack --exec=id '/var/lib/lxc-gpu/state.git'",
    b"git-upload-pack '--help'",
    b"git upload-pack '/var/lib/lxc-gpu/state.git'",
    b"git-upload-archive '/var/lib/lxc-gpu/state.git'",
    b"git-receive-pack '/etc'",
    b"git-upload-pack '$(id)'",
    b"git-upload-pack '`id`'",
    b"git-upload-pack ''\\''/var/lib/lxc-gpu/state.git'",
    b"register",
    b"register lqchen",
    b"register lqchen ssh-ed25519",
    b"register LQChen " + KEY.encode(),
    b"register ../../etc " + KEY.encode(),
    b"register -rf " + KEY.encode(),
    b"register lqchen;id " + KEY.encode(),
    b"register lqchen\n" + KEY.encode(),
    b"register lqchen " + KEY.encode() + b"\nregister ann " + KEY.encode(),
    b"register lqchen " + KEY.encode() + b" $(id)",
    b"register lqchen ssh-ed25519 " + b"A" * 5000,
    b"register  lqchen " + KEY.encode(),
    b"register \xd9\xa3lqchen " + KEY.encode(),
    b"\xff\xfe\xfd",
    b"A" * 10_000_000,
]


@pytest.mark.parametrize("raw", ATTACKS, ids=range(len(ATTACKS)))
@pytest.mark.parametrize("caller", [SERVER, ADMIN], ids=["server", "admin"])
def test_anything_else_is_refused(raw: bytes, caller: Caller) -> None:
    with pytest.raises(LxcGpuError) as caught:
        request_of(raw, caller, REPOSITORY)
    assert caught.value.code == "gate-refused"


def test_a_server_pushes_nothing_and_a_sysadmin_registers_nobody() -> None:
    with pytest.raises(LxcGpuError):
        request_of(b"git-receive-pack '/var/lib/lxc-gpu/state.git'", SERVER, REPOSITORY)
    with pytest.raises(LxcGpuError):
        request_of(f"register lqchen {KEY}".encode(), ADMIN, REPOSITORY)


@pytest.mark.parametrize(
    "arguments", [[], ["server"], ["root", "x"], ["server", "-x"], ["server", "a b"], ["a"] * 3]
)
def test_a_forced_command_that_is_wrong_opens_nothing(arguments: list[str]) -> None:
    with pytest.raises(LxcGpuError):
        caller_of(arguments)


@pytest.fixture
def set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a web machine."""
    config = tmp_path / "web.toml"
    config.write_text(f'repository = "{REPOSITORY}"\nclone = "/c/web"\nsigning_key = "/k"\n')
    monkeypatch.setattr(request, "CONFIG", config)
    return config


def test_git_serves_the_state_repository_alone(set_up: Path) -> None:
    served: list[tuple[str, Path]] = []
    environ = {"SSH_ORIGINAL_COMMAND": "git-upload-pack 'state.git'", "GIT_DIR": "/etc"}
    status = serve.main(["server", "gpu17"], environ, lambda p, r, e: served.append((p, r)))
    assert (status, served) == (0, [("upload-pack", REPOSITORY)])
    assert request.gate_paths() == GatePaths(REPOSITORY, Path("/c/gate-clone"), Path("/k"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a log of its own")
def test_the_journal_says_who_asked_for_what(set_up: Path, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    fetched, refused = said_by(ASKS_THE_GATE, tmp_path / "dev", set_up).splitlines()
    assert fetched.endswith(": event=gate caller=gpu17 request=fetch")
    assert "event=gate-refused code=gate-refused request=b'register x\\n' details=" in refused


def test_gits_environment_holds_nothing_of_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda path, argv, env: seen.append((argv, env)))
    hostile = {"GIT_PROTOCOL": "version=2:x", "GIT_EXEC_PATH": "/tmp", "LD_PRELOAD": "x"}
    serve.serve_git("upload-pack", REPOSITORY, hostile)
    serve.serve_git("upload-pack", REPOSITORY, {"GIT_PROTOCOL": "version=2"})
    assert seen[0][0] == ["git", "upload-pack", str(REPOSITORY)]
    assert set(seen[0][1]) == {"PATH", "LC_ALL", "HOME"}
    assert seen[1][1]["GIT_PROTOCOL"] == "version=2"


def test_who_is_refused_reads_one_line(set_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(["server", "gpu17"], {"SSH_ORIGINAL_COMMAND": "sh -i"}) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert serve.main(["server", "gpu17"], {"SSH_ORIGINAL_COMMAND": "register x"}) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["refusal"]["code"] == "gate-refused"
    assert serve.main(["admin", "Alice"], {}) == 1
    assert "git clone" in capsys.readouterr().err


def test_a_mistake_of_ours_is_no_traceback(
    set_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    environ = {"SSH_ORIGINAL_COMMAND": "git-upload-pack 'state.git'"}
    assert serve.main(["server", "gpu17"], environ, broken) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_the_gate_opens_fast() -> None:
    loads = "import sys, shells.gate.serve; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    slow = {"pydantic", "git", "paramiko", "flask", "ruamel"}
    assert slow.isdisjoint(done.stdout.split())


def fleet(*signers: Signer) -> State:
    server = Server.model_validate(
        {"address": "172.16.2.17", "host_key": KEY, "state_key": f"{KEY} state@gpu17"}
    )
    return State(Fleet(format=1, signers=signers), servers={"gpu17": server})


def test_each_key_opens_one_thing() -> None:
    key = parse_key(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl x"
    )
    alice = Signer(name='Alice O\'Brien "$(id)"', role="admin", key=key)
    iam = Signer(name="IAM", role="iam", key=key)
    lines = [x for x in gate_keys(fleet(alice, iam), "GATE").splitlines() if x[0] != "#"]
    assert lines == [
        f'restrict,command="GATE admin Alice-O-Brien-id" {OTHER}',
        f'restrict,command="GATE server gpu17" {KEY}',
    ]


def test_names_in_any_script_get_a_plain_form() -> None:
    key = parse_key(KEY)
    text = gate_keys(fleet(Signer(name="李雷", role="admin", key=key)), "GATE")
    assert 'command="GATE admin admin"' in text
