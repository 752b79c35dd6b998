"""A remote, a sysadmin's work tree and our clone, for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from state.command import run
from state.git.repository import Repository
from tests.unit.state.git.repositories import git, save
from tests.unit.state.state_files import files


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A remote, a sysadmin's clone with the fleet pushed, and our clone, made once."""
    base = tmp_path_factory.mktemp("made")
    remote, work = base / "remote.git", base / "work"
    run(["git", "init", "-q", "--bare", "--initial-branch=main", remote])
    run(["git", "init", "-q", "--initial-branch=main", work])
    git(work, "remote", "add", "origin", str(remote))
    save(work, files())
    Repository.clone(str(remote), base / "clone.git")
    return base


def copied(made: Path, name: str, tmp_path: Path) -> Path:
    """A copy of one of the repositories in `made`, with the remote of this test."""
    path = tmp_path / name
    shutil.copytree(made / name, path, symlinks=True)
    for config in (path / "config", path / ".git" / "config"):
        if config.is_file():
            config.write_text(config.read_text().replace(str(made), str(tmp_path)))
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty.git"
    run(["git", "init", "-q", "--bare", "--initial-branch=main", path])
    return path


@pytest.fixture
def remote(tmp_path: Path, made: Path) -> Path:
    return copied(made, "remote.git", tmp_path)


@pytest.fixture
def work(tmp_path: Path, made: Path, remote: Path) -> Path:
    return copied(made, "work", tmp_path)


@pytest.fixture
def clone(tmp_path: Path, made: Path, remote: Path) -> Repository:
    return Repository(copied(made, "clone.git", tmp_path))
