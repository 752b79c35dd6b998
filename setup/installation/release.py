"""Installs our code on a machine: releases side by side, one of them in use.

A release is a folder with our packages and the executables that start them. Once complete, it never
changes. Accounts, units, hooks and keys name executables in /usr/local/lib/lxc-gpu, never modules.
That folder is a link through /opt/lxc-gpu/release, so replacing this one link is the upgrade. An
executable uses the packages of its own release, so a running program keeps them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from installation.steps import CHECKOUT, ENVIRONMENT, PACKAGES_LINK, Steps
from reconciler.host.places import EXECUTABLES
from state import command
from state.files import exchange, settle, sync_folder

RELEASES = ENVIRONMENT / "releases"
RELEASE = ENVIRONMENT / "release"
"""The link to the release in use."""
NAME = "release-"
"""The prefix of names of complete releases."""
PACKAGES = ("state", "reconciler", "shells", "webui")
HOWTO = CHECKOUT / "docs" / "researchers"
"""The documents that the web page shows under "How to"."""
COMMAND = ENVIRONMENT / "bin" / "lxc-gpu"
_BEFORE = EXECUTABLES.with_name(f".{EXECUTABLES.name}.new")
"""The folder that version 0.1.0 used, until it is removed."""
LINKS = (EXECUTABLES, _BEFORE)
"""The links from outside of the environment into a release."""

Contents = dict[str, tuple[bytes, int]]
"""The files of a release by path: content and mode."""


def install(steps: Steps) -> None:
    """Install the code of this checkout, and put it in use.

    Even if this is interrupted, all executables belong to one release, the old or the new.
    """
    contents = _contents()
    if not _holds(RELEASE, contents):
        steps.say(f"install lxc-gpu from {CHECKOUT} into {RELEASES}")
        made = (folder for folder in RELEASES.glob(f"{NAME}*") if _holds(folder, contents))
        folder = next(made, None) or _make(contents)
        switch(steps, folder)
    _link_executables(steps)
    steps.link(COMMAND, RELEASE / "executables" / "lxc-gpu")
    steps.link(Path("/usr/local/bin/lxc-gpu"), COMMAND)


def switch(steps: Steps, folder: Path) -> None:
    """Put a complete release in use. `retire` keeps the one used until now."""
    for used in (RELEASE, folder):
        if used.exists():
            os.utime(used)
    steps.link(RELEASE, folder)


def _link_executables(steps: Steps) -> None:
    """Make the link in one step, also in place of a folder: version 0.1.0 had files in it."""
    target = RELEASE / "executables"
    if EXECUTABLES.is_symlink() or not EXECUTABLES.exists():
        steps.link(EXECUTABLES, target)
        return
    steps.say(f"link {EXECUTABLES} -> {target}")
    if _BEFORE.is_dir() and not _BEFORE.is_symlink():
        shutil.rmtree(_BEFORE)
    _BEFORE.unlink(missing_ok=True)
    _BEFORE.symlink_to(target)
    exchange(_BEFORE, EXECUTABLES)
    sync_folder(EXECUTABLES.parent)


def retire(steps: Steps) -> None:
    """Remove releases that nothing installed names any more. Call it once everything is replaced.

    The previous release is kept for programs that still run.
    """
    steps.remove(_BEFORE)
    whole = sorted(RELEASES.glob(f"{NAME}*"), key=lambda folder: folder.stat().st_mtime)
    for folder in {*RELEASES.iterdir()} - {RELEASE.resolve(), *whole[-2:]}:
        steps.remove(
            folder.rename(folder.with_name(f".gone-{folder.name}"))
        )  # no incomplete release
    # Version 0.1.0 was a package in the environment. A program that imports ours from there
    # gets the release in use.
    for name in PACKAGES:
        if not (PACKAGES_LINK / name).is_symlink():
            steps.remove(PACKAGES_LINK / name)
        steps.link(PACKAGES_LINK / name, RELEASE / name)
    for leftover in (*PACKAGES_LINK.glob("lxc_gpu-*.dist-info"), ENVIRONMENT / ".project"):
        steps.remove(leftover)


def _contents() -> Contents:
    """The files of this checkout's release."""
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    metadata = f"Metadata-Version: 2.1\nName: lxc-gpu\nVersion: {version}\n"
    contents: Contents = {"lxc_gpu.dist-info/METADATA": (metadata.encode(), 0o644)}
    for name in PACKAGES:
        for file in _files(CHECKOUT / name):
            contents[str(file.relative_to(CHECKOUT))] = (file.read_bytes(), 0o644)
    for file in HOWTO.glob("*.md"):
        contents[str(file.relative_to(CHECKOUT))] = (file.read_bytes(), 0o644)
    for file in (CHECKOUT / "setup" / "executables").iterdir():
        contents[f"executables/{file.name}"] = (file.read_bytes(), 0o755)
    return contents


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _holds(release: Path, contents: Contents) -> bool:
    """Whether a release consists of exactly these files."""
    folder = release.resolve()
    found = {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mode & 0o7777)
        for file in _files(folder)
    }
    return found == contents


def _make(contents: Contents) -> Path:
    """Make a new release and sync it to the disk. If this is killed, a folder with another name is
    left."""
    RELEASES.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{NAME}", dir=RELEASES))
    try:
        for name, (content, mode) in contents.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(mode)
        # Users' programs can't write here. Without this, each login would compile the code again.
        command.run(["/usr/bin/python3", "-I", "-m", "compileall", "-q", folder], timeout=300)
        folder.chmod(0o755)
        settle(folder)
        made = folder.rename(RELEASES / folder.name.removeprefix("."))
        sync_folder(RELEASES)
        return made
    except BaseException:
        shutil.rmtree(folder)
        raise
