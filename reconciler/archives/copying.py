"""Copies files with cp(1), and stops when the disk has no space left beyond the reserve."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from reconciler.archives.extract import LOOK_EVERY, MOST_SAID, disk_full
from reconciler.archives.pace import Pace
from reconciler.disk.free_space import free_space
from reconciler.host import in_words
from reconciler.plan import Tell
from state import command
from state.errors import LxcGpuError
from state.wire.messages import Progress


def copy(argv: Sequence[str], folder: Path, what: str, tell: Tell, size: int | None = None) -> None:
    """Run `argv`, a cp(1) that copies `what`; `size` is in bytes, if it is known.

    LxcGpuError if it fails, or if the disk of `folder` gets too full. The caller removes what was
    copied until then.
    """
    with command.started(argv, family=True) as child:
        _watch(child, folder, what, tell, size)


def _watch(
    child: subprocess.Popen[bytes], folder: Path, what: str, tell: Tell, size: int | None
) -> None:
    assert child.stderr is not None  # noqa: S101
    os.set_blocking(child.stderr.fileno(), False)
    said, telling, begin = b"", Pace(), free_space(folder).size
    ended = False
    while not ended:
        ended = child.poll() is not None
        with suppress(BlockingIOError):
            while raw := os.read(child.stderr.fileno(), MOST_SAID):
                said += raw[: MOST_SAID - len(said)]
        free = free_space(folder)
        if free.size < 0 or free.files < 0:
            raise disk_full(what, folder)
        if telling.due():
            tell(_progress(what, begin - free.size, size))
        if not ended:
            time.sleep(LOOK_EVERY)
    if child.returncode != 0:
        words = said.decode("utf-8", "replace").strip()
        if "No space left" in words or "Disk quota" in words:
            raise disk_full(what, folder, words)
        raise LxcGpuError(
            "not-copied",
            f"{what[:1].upper()}{what[1:]} could not be copied: "
            f"{(words.splitlines() or ['?'])[0][:200]}",
            "Nothing was changed.",
            details=words,
        )


def _progress(what: str, copied: int, size: int | None) -> Progress:
    if size is None:
        return Progress(f"copying {what}")
    share = max(0.0, min(1.0, copied / max(1, size)))
    return Progress(f"copying {what}, {in_words.size(size)}", share)
