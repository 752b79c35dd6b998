"""What a push was told is saved stands on the disk: an ext4 image, as a power cut leaves it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from state.model.documents import Signer
from state.origin import bare
from tests.integration.test_scaffolding import git, path_with_lxc_gpu
from tests.unit.state.workshop import make_key

__all__ = ["path_with_lxc_gpu"]
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounts a disk image: needs root")


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[None]:
    """`image` as a disk of its own; mounting replays its journal."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, at], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)


def as_after_a_cut(image: Path) -> tuple[str, str]:
    """What `main` is, and what git-fsck(1) says, if the power went now."""
    cut = image.with_name("cut.img")
    subprocess.run(["cp", "--sparse=always", image, cut], check=True)
    with mounted(cut, image.with_name("after")):
        repository = image.with_name("after") / "state.git"
        checked = git(repository, "fsck", "--full", "--strict", ok=False)
        return git(repository, "rev-parse", "main").stdout.strip(), checked.stdout + checked.stderr


@pytest.mark.usefixtures("path_with_lxc_gpu")
def test_what_a_push_was_told_is_saved_survives_a_power_cut(tmp_path: Path) -> None:
    image, disk, work, key = (tmp_path / name for name in ("a.img", "disk", "work", "key"))
    subprocess.run(["truncate", "-s", "64M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    iam = Signer(name="IAM", role="iam", key=make_key(tmp_path / "iam"))
    with mounted(image, disk):
        path = disk / "state.git"
        bare.init(
            path, Signer(name="Alice", role="admin", key=make_key(key)), iam, tmp_path / "iam"
        )
        bare.furnish(path, tmp_path / "gate_keys", ["true"])
        git(tmp_path, "clone", "-q", str(path), str(work))
        begun = git(work, "rev-parse", "HEAD").stdout.strip()
        assert as_after_a_cut(image) == (begun, "")  # also what set-up said is made
        signed = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={key}"]
        for seconds in (0.1, 0.5, 2):
            (work / "README.md").write_text(f"{seconds}\n" * 3000)
            git(work, *signed, "commit", "-qaS", "-m", f"cut after {seconds} s")
            git(work, "push", "-q", "origin", "HEAD:main")
            time.sleep(seconds)
            pushed = git(work, "rev-parse", "HEAD").stdout.strip()
            assert as_after_a_cut(image) == (pushed, "")
    shutil.rmtree(work)
