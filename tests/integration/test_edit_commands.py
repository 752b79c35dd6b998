"""`lxc-gpu user|key|server|registration` and `check --against`, in a real clone, with the hook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from state.command import environment
from state.git.repository import Repository
from state.model.documents import Signer
from state.origin import bare
from state.trust.walk import walk
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import server_yaml
from tests.unit.state.workshop import make_key

ROOT = Path(__file__).parents[3]
RUN = f'exec env PYTHONPATH={ROOT} {sys.executable} -c "from shells.cli import main; main()"'


@dataclass(frozen=True)
class Desk:
    """A sysadmin's clone of a repository with the hook; a home with nothing but .gitconfig."""

    folder: Path

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    @property
    def origin(self) -> Repository:
        return Repository(self.folder / "state.git")

    def run(self, *words: object, stdin: str = "", cwd: Path | None = None) -> str:
        done = self.tried(*words, stdin=stdin, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tried(
        self, *words: object, stdin: str = "", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        script = "from shells.cli import main; main()"
        program = [sys.executable, "-c", script] if words[0] != "git" else ["git"]
        rest = [str(word) for word in (words[1:] if words[0] == "git" else words)]
        home = {"HOME": str(self.folder), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [*program, *rest],
            input=stdin,
            env={**environment(), **home},
            cwd=cwd or self.clone,
            capture_output=True,
            text=True,
            check=False,
        )

    def git(self, *words: str) -> str:
        return self.run("git", *words).strip()

    def write(self, path: str, text: str) -> None:
        (self.clone / path).parent.mkdir(parents=True, exist_ok=True)
        (self.clone / path).write_text(text)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    alice, iam = make_key(tmp_path / "alice"), make_key(tmp_path / "iam")
    signers = Signer(name="Alice", role="admin", key=alice), Signer(name="I", role="iam", key=iam)
    bare.init(tmp_path / "state.git", *signers, tmp_path / "iam")
    hook = tmp_path / "state.git/hooks/pre-receive"
    hook.write_text(hook.read_text().replace("exec lxc-gpu", RUN))
    (tmp_path / ".gitconfig").write_text(
        "[user]\n\tname = Alice Admin\n\temail = alice@example.org\n"
        "\tsigningKey = ~/alice.pub\n[gpg]\n\tformat = ssh\n[commit]\n\tgpgSign = true\n"
        "[alias]\n\tlast = log -1 --format=%an:%s\n"
    )
    made = Desk(tmp_path)
    made.run("git", "clone", "-q", "../state.git", made.clone, cwd=tmp_path / "state.git")
    return made


def test_users_and_keys(desk: Desk) -> None:
    said = desk.run("user", "add", "Lequn.Chen", "--name", "Lequn Chen")
    assert "new user lequn-chen (Lequn Chen): uid 20000, port 22000" in said
    assert (desk.clone / "users/lequn-chen.yaml").is_file()
    assert desk.git("last") == "Alice Admin:new user lequn-chen (Lequn Chen): uid 20000, port 22000"
    keys = f"{ed25519(1, 'laptop')}\n{ed25519(2, 'desk')}\n"
    desk.run("key", "add", "lequn-chen", "-", stdin=keys)
    desk.run("key", "remove", "lequn-chen", ed25519(2).fingerprint)
    desk.run("user", "disable", "lequn-chen")
    shown = json.loads(desk.run("user", "show", "LEQUN.CHEN", "--json"))
    assert (shown["status"], shown["uid"]) == ("has left", 20000)
    assert shown["keys"] == [f"{ed25519(1).fingerprint} ssh-ed25519 laptop"]
    desk.run("user", "enable", "lequn-chen")
    text = desk.run("user", "show", "lequn-chen", "--clone", desk.clone, cwd=desk.folder)
    assert "status:        here\n" in text
    assert "registrations: -" in text
    first = desk.origin.history(limit=99)[-1].revision
    signed = walk(desk.origin, first, desk.origin.tip()).commits
    assert [judged.signer.name for judged in signed] == ["Alice"] * 5


def test_nothing_to_change_and_what_can_not_be(desk: Desk) -> None:
    desk.run("user", "add", "ann", "--name", "Ann")
    again = desk.tried("user", "add", "ANN", "--name", "Ann")
    assert "The login ANN is that of ann, who is a user" in again.stderr
    assert "There is no user eve" in desk.tried("user", "show", "eve").stderr
    assert "has no key SHA256:x" in desk.tried("key", "remove", "ann", "SHA256:x").stderr
    assert "contains no public key" in desk.tried("key", "add", "ann", "-").stderr
    assert "private key" in desk.tried("key", "add", "ann", desk.folder / "alice").stderr
    desk.run("user", "disable", "ann")
    twice = desk.tried("user", "disable", "ann", "--json")
    assert json.loads(twice.stdout)["changed"] is False
    assert "Traceback" not in desk.tried("user", "add", "b", "--name", "a:b").stderr


def test_announcements(desk: Desk) -> None:
    desk.run("server", "add", "gpu17", stdin=server_yaml("gpu17", "172.16.2.17"))
    words = ("--text", "New: memory", "--from", "2026-12-01 08:00 +01:00", "--server", "gpu17")
    until = ("--until", "2026-12-01 12:30 +01:00")
    desk.run("announcement", "add", "ram", *words, *until, "--stop")
    assert (desk.clone / "announcements/ram.yaml").read_text() == (
        'text: "New: memory"\n'
        "servers:\n  - gpu17\n"
        "from: 2026-12-01 08:00 +01:00\n"
        "until: 2026-12-01 12:30 +01:00\n"
        "stop: true\n"
    )
    refused = desk.tried("announcement", "add", "ram", *words, "--until", "tomorrow")
    assert "announcements/ram.yaml: until: must be a moment with its offset" in refused.stderr
    assert (
        "the announcement's name `R`"
        in desk.tried("announcement", "add", "R", *words, *until).stderr
    )
    desk.run("announcement", "remove", "ram")
    none = desk.tried("announcement", "remove", "ram")
    assert "There is no announcement ram" in none.stderr


def test_servers_and_registrations(desk: Desk) -> None:
    text = server_yaml("gpu17", "172.16.2.17")
    assert "new server gpu17" in desk.run("server", "add", "gpu17", stdin=text)
    options = ["--address", "172.16.2.18", "--host-key", ed25519("h"), "--state-key", ed25519("s")]
    facts = json.loads(desk.run("server", "add", "gpu18", *options, "--json"))
    assert facts["message"] == "new server gpu18: address 172.16.2.18"
    assert (desk.clone / "servers/gpu17.yaml").read_text() == text
    wrong = desk.tried("server", "add", "gpu19", stdin="address: 1\n")
    assert "servers/gpu19.yaml: `host_key` is missing" in wrong.stderr
    assert "DNS name" in desk.tried("server", "add", "GPU", stdin=text).stderr
    desk.run("user", "add", "ann", "--name", "Ann")
    refused = desk.tried("registration", "add", "gpu17", "ann", "--host-key", ed25519("c"))
    assert "ann has no ssh key" in refused.stderr
    desk.run("key", "add", "ann", "-", stdin=str(ed25519("a")))
    desk.run("registration", "add", "gpu17", "ann", "--host-key", ed25519("c"))
    assert "registrations: gpu17" in desk.run("user", "show", "ann")
    desk.run("registration", "remove", "gpu17", "ann")
    none = desk.tried("registration", "remove", "gpu17", "ann")
    assert "On gpu17 are: nobody." in none.stderr


def test_the_work_tree_is_nobody_elses(desk: Desk) -> None:
    desk.write("README.md", "half a thought")
    done = desk.tried("user", "add", "ann", "--name", "Ann")
    assert "`git pull` brings it into your clone" in done.stderr
    assert not (desk.clone / "users/ann.yaml").exists()
    assert (desk.clone / "README.md").read_text() == "half a thought"
    assert desk.git("rev-parse", "origin/main") == desk.origin.tip()
    desk.git("checkout", "-q", "README.md")
    desk.git("pull", "-q", "--ff-only")
    desk.git("checkout", "-q", "-b", "idea")
    desk.run("user", "add", "eve", "--name", "Eve")
    assert not (desk.clone / "users/eve.yaml").exists()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", "Git doesn't know user.name and user.email"),
        ("[user]\nname = A\nemail = a@b\n", "Git doesn't know a signing key"),
        ("[user]\nname = A\nemail = a@b\nsigningKey = ~/alice\n", "a signing key"),
        ("[user]\nname = A\nemail = a@b\nsigningKey = ~/gone\n[gpg]\nformat = ssh\n", "be signed"),
    ],
)
def test_who_can_not_sign_is_told_how(desk: Desk, config: str, expected: str) -> None:
    (desk.folder / ".gitconfig").write_text(config)
    done = desk.tried("user", "add", "ann", "--name", "Ann")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert len(desk.origin.history()) == 1


def test_who_may_not_is_told_why(desk: Desk) -> None:
    desk.git("config", "--global", "user.signingKey", str(desk.folder / "iam"))
    done = desk.tried("server", "add", "gpu17", stdin=server_yaml("gpu17", "172.16.2.17"))
    assert "signed by I, which may not change servers (new server gpu17" in done.stderr
    outside = desk.tried("user", "show", "x", cwd=Path("/"))
    assert "is not in a clone of the state repository" in outside.stderr


def propose(desk: Desk, branch: str, changed: dict[str, str], base: str = "origin/main") -> None:
    desk.git("checkout", "-q", "-b", branch, base)
    for path, text in changed.items():
        desk.write(path, text)
    desk.git("add", "-A")
    desk.git("commit", "-qm", f"propose {branch}")


USER = "name: {0}\nlogin: {0}\nuid: {1}\nport: {2}\nsubid: {3}\n"


def test_two_green_requests_collide_in_the_merge(desk: Desk) -> None:
    start = desk.git("rev-parse", "HEAD")
    propose(desk, "one", {"users/eve.yaml": USER.format("eve", 20000, 22000, 2001000000)})
    propose(desk, "two", {"users/zoe.yaml": USER.format("zoe", 20000, 22001, 2001262144)}, start)
    for branch in ("one", "two"):
        desk.git("checkout", "-q", branch)
        assert "- new user" in desk.run("check", "--against", "origin/main")
    desk.git("push", "-q", "origin", "one:main")
    done = desk.tried("check", "--against", "origin/main")
    assert done.returncode == 1
    assert done.stdout.startswith(
        "### 1 problem to correct\n\n- users/zoe.yaml:3: uid 20000 is also that of"
    )
    assert desk.run("check") == "ok: 1 user, 0 former users, 0 servers, 0 registrations\n"


def test_a_request_in_markdown(desk: Desk) -> None:
    desk.run("user", "add", "ann", "--name", "Ann")
    user = (desk.clone / "users/ann.yaml").read_text()
    propose(desk, "people", {"users/ann.yaml": user.replace("name: Ann", 'name: "A*<b>` @all"')})
    text = desk.run("check", "--against", "origin/main")
    assert text == (
        "### Users\n\n- ann: name Ann -> A\\*\\<b>� \\@all\n\n"
        "Committing this to `main` needs the role **iam**.\n"
        "A fast-forward is possible: "
        "every commit is signed by somebody with the right to make it.\n"
    )
    desk.git("config", "commit.gpgSign", "false")
    propose(desk, "more", {"servers/gpu17.yaml": server_yaml("gpu17", "1.2.3.4"), "NOTES": "x"})
    text = desk.run("check", "--against", "origin/main")
    assert "### Servers\n\n- new server gpu17: address 1.2.3.4\n" in text
    assert "Other files: `NOTES`.\n\nCommitting this to `main` needs the role **admin**." in text
    assert "A fast-forward is not possible: " in text
    assert "it is unsigned" in text
    facts = json.loads(desk.run("check", "--against", "origin/main", "--json"))
    assert (facts["role"], facts["problems"]) == ("admin", [])
    desk.git("checkout", "-q", "main")
    assert desk.run("check", "--against", "origin/main") == "Nothing changes.\n"
    assert "There is no revision nonsense" in desk.tried("check", "--against", "nonsense").stderr


def test_conflicts_and_the_last_admin(desk: Desk) -> None:
    fleet = (desk.clone / "fleet.yaml").read_text()
    propose(desk, "loner", {"fleet.yaml": fleet.replace("role: admin", "role: iam")})
    done = desk.tried("check", "--against", "origin/main")
    assert done.returncode == 1
    assert "may not leave the fleet without an admin" in done.stdout
    propose(desk, "a", {"fleet.yaml": fleet + "nameservers: [1.1.1.1]\n"}, "origin/main")
    desk.git("push", "-q", "origin", "a:main")
    propose(desk, "b", {"fleet.yaml": fleet + "nameservers: [8.8.8.8]\n"}, "main")
    done = desk.tried("check", "--against", "origin/main")
    assert (done.returncode, "fleet.yaml: was changed on both sides" in done.stdout) == (1, True)
    desk.git("checkout", "-q", "--orphan", "stranger")
    desk.git("commit", "-qm", "x")
    assert "no history in common" in desk.tried("check", "--against", "origin/main").stderr


def test_init_lets_its_author_sign(desk: Desk) -> None:
    folder = desk.folder / "fresh"
    done = desk.tried("init", folder)
    assert "Alice Admin may sign, with the key SHA256:" in done.stderr
    bare_folder = desk.folder / "fresh.git"
    desk.run("init", "--bare", bare_folder)
    hook = bare_folder / "hooks/pre-receive"
    hook.write_text(hook.read_text().replace("exec lxc-gpu", RUN))
    desk.run("git", "push", "-q", bare_folder, "main", cwd=folder)
    assert Repository(bare_folder).read("main").fleet.signers[0].name == "Alice Admin"
    (desk.folder / ".gitconfig").write_text("")
    assert "Nobody may sign yet" in desk.tried("init", desk.folder / "other").stderr
    assert os.access(desk.folder / "other/fleet.yaml", os.R_OK)
