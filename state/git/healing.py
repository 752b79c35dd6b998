"""A clone is only a copy: one that is damaged is thrown away and made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from state.git.plumbing import SSH, GitError, RemoteError
from state.git.repository import Repository

T = TypeVar("T")


def healing(
    url: str,
    path: Path,
    work: Callable[[], T],
    ssh_command: str = SSH,
    tell: Callable[[GitError | OSError], None] = lambda damage: None,
) -> T:
    """What `work` comes to, with the clone of `url` at `path`, which `work` opens.

    When it fails because the clone is damaged, that is told, the clone is made again and the work
    is done once more. Whatever else it raises is raised.
    """
    before = _identity(path)
    try:
        return work()
    except (GitError, OSError) as error:
        if isinstance(error, RemoteError) and error.code != "state-missing":
            raise
        if _identity(path) == before:  # else somebody made it again meanwhile
            if before is None or Repository(path).whole():
                raise
            tell(error)
            Repository.clone(url, path, ssh_command, anew=True)
        return work()


def _identity(path: Path) -> int | None:
    """Which folder is there now."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
