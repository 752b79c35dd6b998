"""setup/release: makes the archive of a release, and the list of its digests."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from installation.lock import CHECKOUT

from publishing import archive, source, wheels
from state.errors import LxcGpuError
from state.files import write_file

DIST = CHECKOUT / "dist"


def main() -> int:
    """Make the archive; the exit status."""
    options = _options()
    try:
        made = publish(options.into, options.python or wheels.PYTHONS, draft=options.draft)
    except LxcGpuError as error:
        print(f"setup/release: {error}", file=sys.stderr)
        if error.details:
            print(error.details, file=sys.stderr)
        return 1
    print(f"{made} ({made.stat().st_size / 1e6:.0f} MB)\n{made.with_name(archive.SUMS)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="setup/release",
        description="Makes the archive of a release: the files of the last commit, and the Python "
        "packages that servers and the web machine need. docs/releasing.md says how to release.",
    )
    add = parser.add_argument
    add("--draft", action="store_true", help="take the files as they are, committed or not")
    add("--into", metavar="FOLDER", type=Path, default=DIST, help=f"default: {DIST}")
    add("--python", metavar="VERSION", action="append", help="with packages for this Python only; "
        f"repeatable; default: {', '.join(wheels.PYTHONS)}")  # fmt: skip
    return parser.parse_args()


def publish(into: Path, pythons: Sequence[str], *, draft: bool) -> Path:
    """Write the archive and its digest into the folder `into`; returns the archive."""
    released = source.as_they_are() if draft else source.committed()
    packages = wheels.collect(released, pythons)
    name = f"lxc-gpu-{released.version}{'-draft' if draft else ''}"
    contents = {f"wheels/{wheel}": content for wheel, content in packages.items()}
    content = archive.packed(name, {**released.contents, **contents}, released.epoch)
    file = f"{name}.tar.gz"
    into.mkdir(parents=True, exist_ok=True)
    write_file(into / file, content)
    write_file(into / archive.SUMS, archive.sums({file: (content, 0o644)}))
    return into / file
