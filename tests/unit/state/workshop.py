"""Real keys and a real repository for tests: who commits what, signed by whom."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from state.command import environment
from state.git.repository import Repository
from state.model.keys import PublicKey, parse_key

IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Somebody"), ("EMAIL", "some@body"))
}


def make_key(path: Path, kind: str = "ed25519") -> PublicKey:
    """Make an ssh key pair at `path`."""
    words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(words, check=True)
    return parse_key(path.with_name(f"{path.name}.pub").read_text())


def signers_yaml(**signers: PublicKey) -> str:
    """The signers of fleet.yaml; those whose names begin with iam have that role."""
    lines = ["signers:"]
    for name, key in signers.items():
        role = "iam" if name.startswith("iam") else "admin"
        lines += [f"  - name: {name}", f"    role: {role}", f"    key: {key}"]
    return "\n".join(lines) + "\n"


@dataclass
class Workshop:
    """A work tree at `folder`, and keys made when they are first named."""

    folder: Path
    keys: dict[str, PublicKey] = field(default_factory=dict)

    @classmethod
    def open(cls, tmp_path: Path) -> Workshop:
        made = cls(tmp_path / "work")
        made.folder.mkdir()
        made.git("init", "-q", "-b", "main")
        return made

    @property
    def repository(self) -> Repository:
        return Repository(self.folder / ".git")

    def key(self, name: str, kind: str = "ed25519") -> PublicKey:
        if name not in self.keys:
            self.keys[name] = make_key(self.folder.with_name(f"key-{name}"), kind)
        return self.keys[name]

    def key_file(self, name: str) -> Path:
        self.key(name)
        return self.folder.with_name(f"key-{name}")

    def git(self, *words: str, ok: bool = True, **env: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *words],
            env={**environment(), **IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null", **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not ok or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def signing(self, name: str | None) -> list[str]:
        if name is None:
            return ["-c", "commit.gpgSign=false"]
        key = str(self.key_file(name))
        return ["-c", "gpg.format=ssh", "-c", f"user.signingKey={key}", "-c", "commit.gpgSign=true"]

    def write(self, changed: Mapping[str, str | bytes | None]) -> None:
        for path, content in changed.items():
            file = self.folder / path
            if content is None:
                file.unlink()
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(
        self,
        signer: str | None,
        changed: Mapping[str, str | bytes | None] | None = None,
        message: str = "Change",
        **env: str,
    ) -> str:
        self.write(changed or {})
        self.git("add", "-A")
        words = ["commit", "-q", "--allow-empty", "-m", message]
        self.git(*self.signing(signer), *words, ok=True, **env)
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def text(self, path: str) -> str:
        return (self.folder / path).read_text()

    def replaced(self, path: str, old: str, new: str) -> dict[str, str]:
        text = self.text(path)
        assert old in text
        return {path: text.replace(old, new)}
