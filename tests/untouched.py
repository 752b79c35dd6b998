"""What is tested only when it changed: the lab's own tests, which make 18 labs to break them.

They passed before with the very same files, on this machine with this kernel, not long ago. Whoever
names their file runs them all the same, and `--all` does.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAB_TESTS = "tests/lab/test_lab.py"
FILES = (
    "setup/**/*",
    *("state/*.py", "state/model/*.py"),
    *("reconciler/__init__.py", "reconciler/host/*.py", "reconciler/container/*.py"),
    *(f"reconciler/disk/{name}.py" for name in ("__init__", "removal", "subvolumes")),
    *("tests/patience.py", "tests/lab/__init__.py", "tests/lab/conftest.py"),
    *("tests/lab/running.py", LAB_TESTS),
)
"""What the lab is made of, what its set-up scripts import, and its tests."""
ALWAYS = "test_every_host_has_booted_without_a_failed_unit"
"""The one of them that is about what is set up on the machines, which these files are not."""
PASSED = Path("/var/cache/lxc-gpu-lab/passed")
"""A file for each state of FILES whose tests passed; it lies with the images of the lab."""
BELIEVED_FOR = 14 * 24 * 3600
"""Seconds; what the machine itself installs changes, too."""


def digest(root: Path = ROOT) -> str:
    """Differs for any other contents or modes of FILES, and for another kernel."""
    found = hashlib.sha256(os.uname().release.encode())
    for path in _files(root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{path.relative_to(root)} {path.stat().st_mode:o} {content}\n".encode())
    return found.hexdigest()[:16]


def _files(root: Path) -> Iterator[Path]:
    found = {path for pattern in FILES for path in root.glob(pattern)}
    yield from sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def passed_before() -> bool:
    """Whether the lab's own tests passed with what is there now."""
    try:
        return time.time() - (PASSED / digest()).stat().st_mtime < BELIEVED_FOR
    except OSError:
        return False


def note_passed(before: str) -> None:
    """They passed, with files that had this digest when they began. Older notes go."""
    if before != digest():
        return  # somebody changed a file meanwhile: which one was tested?
    PASSED.mkdir(parents=True, exist_ok=True)
    for note in PASSED.iterdir():
        if time.time() - note.stat().st_mtime > BELIEVED_FOR:
            note.unlink(missing_ok=True)
    (PASSED / before).touch()
