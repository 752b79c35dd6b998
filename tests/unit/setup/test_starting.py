"""What runs before each start of a container, with a /var/lib and a /run of the test's own.

`attach`, which it starts, needs a server, and logger(1) a journal: stand-ins write that they ran.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts")
STARTING = Path(__file__).resolve().parents[3] / "setup/executables/starting"
RUNNING, PLACE = "/var/lib/lxc-gpu/running", "/run/lxc-gpu/systems/lqchen"
OF_RAW = f"echo 'lxc.rootfs.path = dir:{PLACE}' >/run/lxc-gpu/lqchen.config"
OF_SHIFTED = "echo 'lxc.rootfs.path = dir:/containers/lqchen' >/run/lxc-gpu/lqchen.config"
MOUNTED = f"mkdir -p {PLACE}; mount -t tmpfs -o uid=100000,mode=755 none {PLACE}"
NOT_NOTED = "logger -t lxc-gpu event=not-noted user=lqchen"


def _ran(folder: Path, before: str) -> tuple[list[str], list[str]]:
    """Run it after the commands of `before`. What else ran, and who is noted as running."""
    starting, ran = folder / "starting", folder / "ran"
    shutil.copy(STARTING, starting)
    for name in ("attach", "logger"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{ran}\n')
        (folder / name).chmod(0o755)
    script = f"""
        mount -t tmpfs none /var/lib; mount -t tmpfs none /run
        mkdir -p {RUNNING} /run/lxc-gpu
        {before}
        {starting} lqchen || true
        ls {RUNNING} || true"""
    path = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script],
        env=path, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return ran.read_text().splitlines() if ran.exists() else [], done.stdout.split()


@pytest.mark.parametrize(
    ("before", "ran"),
    [
        pytest.param(OF_SHIFTED, [], id="shifted"),
        pytest.param(f"{OF_RAW}; {MOUNTED}", [], id="mounted"),
        pytest.param(f"{OF_RAW}; mkdir -p {PLACE}", ["attach lqchen"], id="not mounted"),
        pytest.param(OF_RAW, ["attach lqchen"], id="no place"),
    ],
)
def test_it_mounts_what_is_not_mounted(tmp_path: Path, before: str, ran: list[str]) -> None:
    assert _ran(tmp_path, before) == (ran, ["lqchen"])
    (tmp_path / "ran").unlink(missing_ok=True)
    assert _ran(tmp_path, f"{before}; touch {RUNNING}/lqchen") == (ran, ["lqchen"])


@pytest.mark.parametrize(
    "hindrance",
    [
        pytest.param(f"rmdir {RUNNING}", id="missing"),
        pytest.param("mount -o remount,ro /var/lib", id="read-only"),
        pytest.param("mount -o remount,nr_inodes=4 /var/lib; touch /var/lib/full", id="full"),
    ],
)
def test_a_container_that_cannot_be_noted_starts_all_the_same(
    tmp_path: Path, hindrance: str
) -> None:
    before = f"{OF_RAW}; mkdir -p {PLACE}; {hindrance}"
    assert _ran(tmp_path, before) == ([NOT_NOTED, "attach lqchen"], [])


def test_who_is_noted_already_needs_no_room(tmp_path: Path) -> None:
    before = f"{OF_SHIFTED}; touch {RUNNING}/lqchen; mount -o remount,ro /var/lib"
    assert _ran(tmp_path, before) == ([], ["lqchen"])
