"""What tests of the clone share: a sysadmin's work on the remote."""

from __future__ import annotations

from pathlib import Path

from state.command import run
from state.git.commits import Author

ANN = Author("Ann Example", "ann@example.org")


def git(folder: Path, *words: str) -> str:
    identity = {f"GIT_{who}_{what}": "t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME",)}
    identity |= {"GIT_AUTHOR_EMAIL": "t@x", "GIT_COMMITTER_EMAIL": "t@x"}
    return run(["git", "-C", folder, *words], env=identity).stdout.strip()


def save(work: Path, changed: dict[str, bytes], message: str = "by hand") -> str:
    for path, content in changed.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(content)
    git(work, "add", "-A")
    git(work, "commit", "-qm", message)
    git(work, "push", "-q", "origin", "main")
    return git(work, "rev-parse", "HEAD")
