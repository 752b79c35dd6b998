"""`lxc-gpu init`, `check`, `schema`, `version`, and the hook, with real Git."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from state.command import environment
from state.edits.users import add_key, save_keys
from state.errors import LxcGpuError
from state.git.commits import Author
from state.git.locks import abandoned, remove_abandoned
from state.git.publish import RefusedError, publish
from state.git.repository import Repository
from state.model.documents import Signer
from state.model.schema import FILES, schemas
from state.origin import bare
from state.origin.first_state import init, init_bare
from state.origin.hook import judge_push
from state.origin.limits import PushRefusedError
from state.reading.check import places
from state.reading.load import load
from state.trust.walk import signature_in_words
from tests.patience import eventually
from tests.unit.state.keyring import ed25519
from tests.unit.state.workshop import make_key

ROOT = Path(__file__).parents[2]
ME = Author("Root Admin", "root@example.org")


@pytest.fixture
def path_with_lxc_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hooks find `lxc-gpu`, run from this checkout."""
    script = tmp_path / "bin" / "lxc-gpu"
    script.parent.mkdir()
    code = "from shells.cli import main; main()"
    script.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -c '{code}' \"$@\"\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")


def lxc_gpu(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = "from shells.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env={**environment(), "PYTHONPATH": str(ROOT)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def git(folder: Path, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    name = ["-c", "user.name=t", "-c", "user.email=t@x"]
    done = subprocess.run(
        ["git", "-C", folder, *name, *words], capture_output=True, text=True, check=False
    )
    assert not ok or done.returncode == 0, done.stderr
    return done


def begun(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A bare repository with the hook, an admin's clone whose first state is pushed, the key."""
    origin, folder, key = tmp_path / "bare.git", tmp_path / "state", tmp_path / "key"
    signers = [Signer(name="Root", role="admin", key=make_key(key))]
    init_bare(origin)
    init(folder, ME, signers=signers, signing_key=key)
    settings = {"gpg.format": "ssh", "user.signingKey": str(key), "commit.gpgSign": "true"}
    for name, value in settings.items():
        git(folder, "config", name, value)
    git(folder, "remote", "add", "origin", str(origin))
    git(folder, "push", "origin", "main")
    return origin, folder, key


def test_a_first_state_is_valid_and_committed(tmp_path: Path) -> None:
    revision = init(tmp_path / "state", ME)
    folder = tmp_path / "state"
    assert git(folder, "rev-parse", "HEAD").stdout.strip() == revision
    assert git(folder, "status", "--porcelain").stdout == ""
    assert git(folder, "log", "-1", "--format=%an <%ae>").stdout.strip() == (
        "Root Admin <root@example.org>"
    )
    assert os.access(folder / "hooks" / "pre-receive", os.X_OK)
    for name in FILES:
        assert json.loads((folder / ".schema" / f"{name}.json").read_text())["properties"]
    editor = json.loads((folder / ".vscode" / "settings.json").read_text())
    assert editor["yaml.schemas"] == {f".schema/{n}.json": list(f) for n, f in FILES.items()}
    assert "ok: 0 users, 0 former users, 0 servers" in lxc_gpu("check", folder).stdout


@pytest.mark.parametrize("path", [".gitlab-ci.yml", ".gitea/workflows/check.yaml"])
def test_ci_for_forges_checks_the_merge(tmp_path: Path, path: str) -> None:
    init(tmp_path / "s", ME)
    text = (tmp_path / "s" / path).read_text()
    assert isinstance(YAML(typ="safe").load(text)["check" if "lab" in path else "jobs"], dict)
    assert "lxc-gpu check --against origin/main" in text
    assert text.count("://") == 0
    for forge in ("gitea", "github"):
        assert (tmp_path / f"s/.{forge}/workflows/check.yaml").is_file()


def test_options_take_the_place_of_defaults(tmp_path: Path) -> None:
    options = {
        "network": "10.80.0.0/16",
        "uids": "{first: 30000, last: 40000}",
        "subids": "{first: 3000000000}",
    }
    init(tmp_path / "s", ME, options)
    text = (tmp_path / "s" / "fleet.yaml").read_text()
    fleet = load({"fleet.yaml": text.encode()}).fleet
    assert (str(fleet.network), fleet.uids.first) == ("10.80.0.0/16", 30000)
    assert fleet.subids.first == 3_000_000_000
    assert "# network:" not in text
    with pytest.raises(LxcGpuError, match="must be an IPv4 network"):
        init(tmp_path / "t", ME, {"network": "10.80.0.1/16"})
    assert not (tmp_path / "t").exists()


def test_the_commented_defaults_are_the_defaults(tmp_path: Path) -> None:
    init(tmp_path / "s", ME)
    text = (tmp_path / "s" / "fleet.yaml").read_text()
    fields = ("uids", "ports", "forwards", "network")
    for field in fields:
        text = text.replace(f"# {field}:", f"{field}:")
    default = load({"fleet.yaml": b"format: 1"}).fleet
    new = load({"fleet.yaml": text.encode()}).fleet
    assert new.model_copy(update={"subids": default.subids}) == default


def test_a_new_fleets_subordinate_ids_are_nobodys_in_a_directory(tmp_path: Path) -> None:
    init(tmp_path / "s", ME)
    fleet = load({"fleet.yaml": (tmp_path / "s" / "fleet.yaml").read_bytes()}).fleet
    assert fleet.subids.first > 2_000_200_000, "sssd-ldap(5), ldap_idmap_range_max"
    assert places(fleet) > 8000


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(LxcGpuError, match="not an empty folder"):
        init(tmp_path, ME)
    with pytest.raises(LxcGpuError, match="not an empty folder"):
        init(tmp_path / "x", ME)
    with pytest.raises(LxcGpuError, match="not an empty folder"):
        init_bare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_every_field_is_in_a_schema() -> None:
    known = schemas()
    assert set(known) == set(FILES)
    assert set(known["user"]["required"]) == {"name", "login", "uid", "port", "subid"}
    assert known["user"]["additionalProperties"] is False
    assert known["user"]["properties"]["keys"]["items"]["type"] == "string"


@pytest.mark.usefixtures("path_with_lxc_gpu")
def test_the_hook_lets_valid_work_in_and_nothing_else(tmp_path: Path) -> None:
    origin, folder, key = begun(tmp_path)
    clone = Repository.clone(str(origin), tmp_path / "clone")
    publish(clone, save_keys("ann", "Ann", None, [ed25519(1)]), ME, key)
    assert "ok: 1 user, 0 former users" in lxc_gpu("check", origin).stdout

    git(folder, "pull", "-q", "--rebase", "origin", "main")
    text = (folder / "users" / "ann.yaml").read_text()
    (folder / "users" / "eve.yaml").write_text(text.replace("login: ann", "login: eve"))
    git(folder, "add", "users")
    git(folder, "commit", "-qm", "a twin")
    refused = git(folder, "push", "origin", "main", ok=False)
    assert refused.returncode == 1
    assert "users/eve.yaml:3: uid 20000 is also that of users/ann.yaml" in refused.stderr
    assert "users/eve.yaml:4: port 22000 is also" in refused.stderr
    assert "Traceback" not in refused.stderr
    git(folder, "push", "origin", "main:refs/heads/proposal")
    assert (
        "Push branches only" in git(folder, "push", "origin", "main:refs/tags/x", ok=False).stderr
    )

    git(folder, "reset", "-q", "--hard", "origin/main")
    git(folder, "-c", "commit.gpgSign=false", "commit", "-q", "--allow-empty", "-m", "no name")
    unsigned = git(folder, "push", "origin", "main", ok=False)
    assert unsigned.returncode == 1
    assert "'no name' by t: it is unsigned." in unsigned.stderr
    assert "git config gpg.format ssh" in unsigned.stderr

    git(folder, "reset", "-q", "--hard", "HEAD~2")
    git(folder, "commit", "-q", "--allow-empty", "-m", "rewritten")
    assert git(folder, "push", "--force", "origin", "main", ok=False).returncode == 1
    git(origin, "config", "receive.denyNonFastForwards", "false")
    git(origin, "config", "receive.denyDeletes", "false")
    assert "only goes forward" in git(folder, "push", "--force", "origin", "main", ok=False).stderr
    assert "can't be deleted" in git(folder, "push", "origin", ":main", ok=False).stderr
    assert clone.fetch() == clone.tip()
    assert "ann" in clone.read("main").users


@pytest.mark.usefixtures("path_with_lxc_gpu")
def test_a_refusal_reaches_who_commits(tmp_path: Path) -> None:
    origin, _, key = begun(tmp_path)
    clone = Repository.clone(str(origin), tmp_path / "clone")
    publish(clone, save_keys("ann", "Ann", None, [ed25519(1)]), ME, key)
    with pytest.raises(RefusedError, match="it is unsigned"):
        publish(clone, add_key("ann", ed25519(2)), ME)
    hook = origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'users/ann.yaml:1: no' >&2; exit 1\n")
    with pytest.raises(RefusedError, match=r"users/ann\.yaml:1: no"):
        publish(clone, add_key("ann", ed25519(2)), ME, key)
    init_bare(origin)
    assert publish(clone, add_key("ann", ed25519(2)), ME, key).changed


@pytest.mark.usefixtures("path_with_lxc_gpu")
def test_an_empty_repository_takes_only_a_first_state_that_its_admin_signed(tmp_path: Path) -> None:
    signers = [Signer(name="Root", role="admin", key=make_key(tmp_path / "key"))]
    make_key(tmp_path / "other")
    init_bare(tmp_path / "bare.git")
    for number, (key, why) in enumerate(((None, "it is unsigned"), ("other", "by a stranger"))):
        folder = tmp_path / f"s{number}"
        init(folder, ME, signers=signers, signing_key=tmp_path / key if key else None)
        done = git(folder, "push", str(tmp_path / "bare.git"), "main", ok=False)
        assert why in done.stderr
    folder = tmp_path / "s"
    init(folder, ME, signers=signers, signing_key=tmp_path / "key")
    git(folder, "push", str(tmp_path / "bare.git"), "main")


def test_the_web_machines_repository(tmp_path: Path) -> None:
    alice, iam = (make_key(tmp_path / name) for name in ("alice", "iam"))
    signers = (
        Signer(name="Alice Admin", role="admin", key=alice),
        Signer(name="IAM", role="iam", key=iam),
    )
    path = tmp_path / "state.git"
    revision = bare.init(path, *signers, tmp_path / "iam")
    bare.furnish(path, tmp_path / "gate_keys")
    assert Repository(path).read(revision).fleet.signers == signers
    assert signature_in_words(Repository(path), revision).endswith(f"IAM (iam), {iam.fingerprint}")
    assert "admin Alice-Admin" in (tmp_path / "gate_keys").read_text()
    listed = git(path, "ls-tree", "-r", "--name-only", "main").stdout.split()
    assert {"README.md", ".schema/user.json", ".vscode/settings.json"} <= set(listed)
    assert all(
        os.access(path / "hooks" / hook, os.X_OK) for hook in ("pre-receive", "post-receive")
    )


def test_odd_updates_are_refused(tmp_path: Path) -> None:
    init_bare(tmp_path / "bare")
    repository = Repository(tmp_path / "bare")
    with pytest.raises(PushRefusedError, match="an update"):
        judge_push(["nonsense"], repository)
    with pytest.raises(PushRefusedError, match="an update"):
        judge_push([f"{'0' * 40} --help{'0' * 34} refs/heads/main"], repository)
    judge_push([], repository)


def test_check_names_every_problem_and_fails(tmp_path: Path) -> None:
    init(tmp_path / "s", ME)
    (tmp_path / "s" / "users" / "Eve.yaml").write_text("x: 1\n")
    (tmp_path / "s" / "users" / "ann.yaml").write_text("name: Ann\nporrt: 1\n")
    done = lxc_gpu("check", cwd=tmp_path / "s")
    assert (done.returncode, done.stdout) == (1, "")
    assert "users/ann.yaml:2: unknown field `porrt` (did you mean `port`?)" in done.stderr
    assert "users/Eve.yaml: the name `Eve` must be" in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "s" / "users" / "Eve.yaml").unlink()
    (tmp_path / "s" / "users" / "eve.yaml").symlink_to("/etc/passwd")
    assert "is a link" in lxc_gpu("check", tmp_path / "s").stderr
    assert "no folder" in lxc_gpu("check", tmp_path / "nowhere").stderr
    assert "fleet.yaml: is missing" in lxc_gpu("check", tmp_path).stderr


def test_schema_and_version() -> None:
    assert json.loads(lxc_gpu("schema", "server").stdout)["title"] == "Server"
    assert set(json.loads(lxc_gpu("schema").stdout)) == set(FILES)
    wrong = lxc_gpu("schema", "nonsense")
    assert wrong.returncode == 1
    assert "The schemas are: fleet, server" in wrong.stderr
    assert lxc_gpu("version").stdout.startswith("lxc-gpu ")


def test_init_on_the_command_line(tmp_path: Path) -> None:
    done = lxc_gpu("init", tmp_path / "s", "--network", "10.9.0.0/16")
    assert len(done.stdout.strip()) == 40
    assert "README.md" in done.stderr
    again = lxc_gpu("init", tmp_path / "s")
    assert again.returncode == 1
    assert "not an empty folder" in again.stderr
    assert lxc_gpu("init", "--bare", tmp_path / "b.git").returncode == 0
    assert os.access(tmp_path / "b.git" / "hooks" / "pre-receive", os.X_OK)


def lock_file(origin: Path, name: str, age: float) -> Path:
    """A lock file as a Git leaves it that was killed so many seconds ago."""
    lock = origin / name
    lock.touch()
    os.utime(lock, (time.time() - age, time.time() - age))
    return lock


@pytest.mark.usefixtures("path_with_lxc_gpu")
def test_lock_files_of_a_git_that_is_gone_stop_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, folder, key = begun(tmp_path)
    names = ("refs/heads/main.lock", "packed-refs.lock", "HEAD.lock", "config.lock")
    locks = [lock_file(origin, name, 100) for name in names]
    assert abandoned(origin) == tuple(sorted(locks))
    git(folder, "commit", "-q", "--allow-empty", "-m", "on")
    assert "main.lock was removed: " in (git(folder, "push", "origin", "main").stderr)
    assert not any(lock.exists() for lock in locks)

    young = lock_file(origin, names[0], -1000)
    monkeypatch.setattr("state.git.publish.TRIES", 2)
    clone = Repository.clone(str(origin), tmp_path / "clone")
    with pytest.raises(LxcGpuError, match=f"left {young}; nothing") as caught:
        publish(clone, save_keys("ann", "Ann", None, [ed25519(1)]), ME, key)
    assert caught.value.code == "state-locked"
    init_bare(origin)
    assert young.exists()  # a Git may be at work
    lock_file(origin, names[0], 100)
    lock_file(origin, "config.lock", 100)
    init_bare(origin)  # what set-up does
    assert publish(clone, save_keys("ann", "Ann", None, [ed25519(1)]), ME, key).changed


def test_a_lock_file_that_a_git_may_hold_stays(tmp_path: Path) -> None:
    init_bare(tmp_path / "bare")
    words: list[str | Path] = ["git", "-C", tmp_path / "bare", "cat-file", "--batch"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as at_work:
        lock = lock_file(tmp_path / "bare", "packed-refs.lock", 0)
        later = time.time() + 1000
        eventually(lambda: abandoned(tmp_path / "bare", later) == ())
        assert remove_abandoned(tmp_path / "bare") == ()
        before_it_came = lock_file(tmp_path / "bare", "HEAD.lock", 500)
        assert abandoned(tmp_path / "bare", later) == (before_it_came,)
        assert at_work.stdin is not None
        at_work.stdin.close()
    assert abandoned(tmp_path / "bare", later) == (before_it_came, lock)


def pushed(folder: Path, branch: str = "main") -> subprocess.CompletedProcess[str]:
    return git(folder, "push", "origin", f"HEAD:refs/heads/{branch}", ok=False)


def written(folder: Path, said: bytes, text: bytes = b"x") -> None:
    """A commit of exactly these headers, on top of HEAD, in its place."""
    ids = git(folder, "rev-parse", "HEAD^{tree}", "HEAD").stdout.split()
    head = b"tree %b\nparent %b\n" % tuple(map(str.encode, ids))
    words: list[str | Path] = ["git", "-C", folder, "hash-object", "-t", "commit", "-w"]
    words += ["--stdin", "--literally"]
    content = head + said + b"\n\n" + text
    done = subprocess.run(words, input=content, capture_output=True, check=True)
    git(folder, "reset", "-q", "--soft", done.stdout.decode().strip())


ODD = {
    "a file of 80 MB": "has 80.0 MiB; the most is 1",
    "a message of a novel": "the most is 1",
    "a date that no calendar has": "its dates must be of the years 1970 to 9999",
    "a committer's date that no calendar has": "its dates must be of the years 1970 to 9999",
    "a zone that no calendar has": "its dates must be of the years 1970 to 9999",
    "another charset": "its texts must be UTF-8 (git config --unset i18n.commitEncoding)",
    "no text": "its texts must be UTF-8",
    "control characters in a name": "control characters stand in its texts",
    "control characters in a message": "control characters stand in its texts",
}
_GOOD = b"Eve <e@x> 1700000000 +0000"


def make_odd(folder: Path, what: str) -> None:
    """One commit that no state needs."""
    author = committer = _GOOD
    more, text = b"", b"x"
    match what:
        case "a file of 80 MB":
            with (folder / "film").open("wb") as file:
                file.truncate(80 << 20)  # packed, it is small
            git(folder, "add", "film")
            git(folder, "commit", "-qm", "x")
            return
        case "a message of a novel":
            text = b"x" * (2 << 20)
        case "a date that no calendar has":
            author = b"Eve <e@x> 999999999999 +0000"
        case "a committer's date that no calendar has":
            committer = b"Eve <e@x> 999999999999 +0000"
        case "a zone that no calendar has":
            author = b"Eve <e@x> 1700000000 +9959"
        case "another charset":
            more = b"\nencoding UTF-7"
        case "no text":
            author = b"\xff\xfe <e@x> 1700000000 +0000"
        case "control characters in a name":
            author = b"E\x1b[2Jve <e@x> 1700000000 +0000"
        case "control characters in a message":
            text = b"x\x1b]0;y\x07"
    written(folder, b"author " + author + b"\ncommitter " + committer + more, text)


@pytest.mark.usefixtures("path_with_lxc_gpu")
def test_what_no_state_needs_is_refused_on_every_branch(tmp_path: Path) -> None:
    origin, folder, _ = begun(tmp_path)
    before = git(origin, "count-objects").stdout
    for number, (what, why) in enumerate(ODD.items()):
        make_odd(folder, what)
        git(folder, "commit", "-q", "--allow-empty", "-m", "it hides below a good one")
        done = pushed(folder, ("review", "main")[number % 2])
        assert (done.returncode, why in done.stderr) == (1, True), (what, done.stderr)
        assert "Traceback" not in done.stderr
        git(folder, "reset", "-q", "--hard", "origin/main")
    assert git(origin, "count-objects").stdout == before  # nothing stays of what is refused
    assert not list((origin / "objects").glob("tmp_*"))
    git(origin, "config", "receive.maxInputSize", "1m")
    (folder / "noise").write_bytes(os.urandom(2 << 20))
    git(folder, "add", "noise")
    git(folder, "commit", "-qm", "too large to be looked at")
    assert "exceeds maximum allowed size" in pushed(folder, "review").stderr
    assert git(origin, "for-each-ref", "--format=%(refname)").stdout == "refs/heads/main\n"


@pytest.mark.usefixtures("path_with_lxc_gpu")
def test_branches_for_review_come_and_go_within_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, folder, _ = begun(tmp_path)
    git(folder, "commit", "-q", "--allow-empty", "-m", "please look at this")
    assert pushed(folder, "review").returncode == 0
    assert git(folder, "push", "origin", "--delete", "review").returncode == 0
    assert pushed(folder, "review").returncode == 0
    assert pushed(folder, "main").returncode == 0  # merged
    assert "100 letters at most" in pushed(folder, "x" * 100).stderr

    repository, zeros = Repository(origin), "0" * 40
    (folder / "noise").write_bytes(os.urandom(300_000))
    git(folder, "add", "noise")
    git(folder, "commit", "-qm", "a picture")
    assert pushed(folder, "picture").returncode == 0
    new = git(folder, "rev-parse", "HEAD").stdout.strip()
    other = [f"{zeros} {new} refs/heads/other"]
    judge_push(other, repository)
    monkeypatch.setattr("state.origin.limits.MOST_BESIDES_MAIN", 200_000)
    with pytest.raises(PushRefusedError, match="together"):
        judge_push(other, repository)
    git(folder, "push", "-q", "origin", "main")  # what main has costs branches nothing
    judge_push(other, repository)
    monkeypatch.setattr("state.origin.limits.LEAST_FREE", 1 << 62)
    with pytest.raises(PushRefusedError, match="nearly full"):
        judge_push(other, repository)
    monkeypatch.setattr("state.origin.limits.MOST_BRANCHES", 2)
    with pytest.raises(PushRefusedError, match="there are 2 branches") as caught:
        judge_push(other, repository)
    assert "git push origin --delete" in caught.value.hint
    judge_push([f"{new} {zeros} refs/heads/picture"], repository)


def test_a_branch_that_is_a_tag_is_refused(tmp_path: Path) -> None:
    origin = tmp_path / "bare"
    init_bare(origin)
    blob = git(origin, "hash-object", "-w", "--stdin").stdout.strip()
    git(origin, "tag", "-a", "-m", "x", "t", blob)
    tag = git(origin, "rev-parse", "t").stdout.strip()
    git(origin, "update-ref", "-d", "refs/tags/t")
    with pytest.raises(PushRefusedError, match="is a tag"):
        judge_push([f"{'0' * 40} {tag} refs/heads/x"], Repository(origin))
