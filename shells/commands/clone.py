"""Commits and pushes edits from a sysadmin's clone of the state repository.

A bare copy inside the clone's Git folder fetches, commits and pushes, as the web page does. The
clone's own branches and work tree are left alone, but a clean `main` is fast-forwarded afterwards.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from state.command import Finished, run
from state.edits.edit import Edit
from state.errors import LxcGpuError
from state.git.commits import Author, Committed
from state.git.healing import healing
from state.git.plumbing import SSH
from state.git.publish import publish
from state.git.repository import Repository
from state.model.documents import State
from state.trust.lineage import FULL_ID

T = TypeVar("T")
_PASSED_ON = ("SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL")


@dataclass(frozen=True)
class Clone:
    """A clone with the work tree `folder`."""

    folder: Path
    git_folder: Path

    @classmethod
    def open(cls, folder: Path) -> Clone:
        """The clone that contains `folder`. LxcGpuError if there is none."""
        asked = ("--path-format=absolute", "--show-toplevel", "--git-common-dir")
        shown = _git(folder, "rev-parse", *asked)
        lines = shown.stdout.splitlines()
        if not shown.ok or len(lines) != 2:
            raise LxcGpuError(
                "no-clone",
                f"{folder} is not in a clone of the state repository.",
                "Clone it, go there (or use --clone FOLDER), then type this again.",
                details=shown.stderr,
            )
        return cls(Path(lines[0]), Path(lines[1]))

    def setting(self, name: str) -> str:
        """A value of the user's Git configuration; empty if it isn't set."""
        return _git(self.folder, "config", "--get", name).stdout.strip()

    def revision(self, name: str) -> str:
        """The full id of the commit that `name` stands for in the clone."""
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        found = _git(self.folder, *words).stdout.strip()
        if not FULL_ID.fullmatch(found):
            raise LxcGpuError(
                "unknown-revision", f"There is no revision {name} in {self.folder}.", "git fetch"
            )
        return found

    def author(self) -> Author:
        """Name and address of the committer. LxcGpuError if Git doesn't know them."""
        name, email = self.setting("user.name"), self.setting("user.email")
        if not name or not email:
            raise _not_set("user.name and user.email", "git config --global user.name 'Your Name'")
        return Author(name, email)

    def newest(self) -> tuple[str, State]:
        """Fetch the newest revision, and read its state."""

        def read() -> tuple[str, State]:
            repository = self._copy()
            return repository.tip(), repository.read(repository.tip())

        return self._healing(read)

    def commit(self, edit: Edit) -> Committed:
        """Commit `edit`, signed with the committer's key, and push it."""
        author = self.author()
        with self._signing_key() as key:
            return self._healing(lambda: publish(self._copy(), edit, author, key))

    def follow(self, committed: Committed) -> bool:
        """Fast-forward a clean `main` in the work tree to what was pushed. Whether it was."""
        source = str(self._copy_folder)
        known = _git(
            self.folder, "fetch", "-q", source, "+refs/heads/main:refs/remotes/origin/main"
        )
        branch = _git(self.folder, "symbolic-ref", "-q", "HEAD").stdout.strip()
        dirty = _git(self.folder, "status", "--porcelain", "--untracked-files=no").stdout.strip()
        if not known.ok or branch != "refs/heads/main" or dirty:
            return False
        return _git(self.folder, "merge", "-q", "--ff-only", committed.revision).ok

    @property
    def _copy_folder(self) -> Path:
        return self.git_folder / "lxc-gpu" / "state.git"

    def _copy(self) -> Repository:
        """The bare copy, after fetching."""
        return Repository.clone(self._url, self._copy_folder, self._ssh)

    def _healing(self, work: Callable[[], T]) -> T:
        return healing(self._url, self._copy_folder, work, self._ssh)

    @property
    def _ssh(self) -> str:
        return os.environ.get("GIT_SSH_COMMAND") or self.setting("core.sshCommand") or SSH

    @property
    def _url(self) -> str:
        """The address to push to. LxcGpuError if there is none."""
        url = _git(self.folder, "remote", "get-url", "--push", "origin").stdout.strip()
        if not url:
            raise LxcGpuError(
                "no-origin",
                f"The clone {self.folder} has no remote `origin`.",
                "git remote add origin ssh://lxc-gpu@IAM-MACHINE/var/lib/lxc-gpu/state.git",
            )
        if ":" not in url and not url.startswith("/"):
            url = str((self.folder / url).resolve())
        return url

    @contextmanager
    def _signing_key(self) -> Iterator[Path]:
        """The file of the committer's signing key. It may be a public key whose private part an
        agent has."""
        key = _git(self.folder, "config", "--type=path", "--get", "user.signingKey").stdout.strip()
        if not key or self.setting("gpg.format") != "ssh":
            raise _not_set(
                "a signing key: every commit of the state is signed",
                "git config --global gpg.format ssh; git config --global user.signingKey"
                " ~/.ssh/id_ed25519.pub; an admin adds that key to the signers in fleet.yaml.",
            )
        literal = key.removeprefix("key::")
        if not literal.startswith(("ssh-", "ecdsa-", "sk-")):
            yield self.folder / key
            return
        with tempfile.NamedTemporaryFile("w", prefix="lxc-gpu-key-", suffix=".pub") as file:
            file.write(f"{literal}\n")
            file.flush()
            yield Path(file.name)


def _git(folder: Path, *words: str) -> Finished:
    """Run git with the committer's own configuration."""
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return run(["git", "-C", folder, *words], env=env, check=False)


def _not_set(what: str, hint: str) -> LxcGpuError:
    return LxcGpuError("git-identity", f"Git doesn't know {what}.", hint)
