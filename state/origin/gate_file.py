"""Writes the gate's authorized_keys: `/usr/local/lib/lxc-gpu/gate-keys REPOSITORY FILE`.

Run by the post-receive hook of the state repository, and at set-up, so that a pushed server file
is all that a server needs to be let in.
"""

from __future__ import annotations

import sys
from pathlib import Path

from state.errors import LxcGpuError
from state.files import write_file
from state.git.repository import Repository
from state.origin.gate_keys import gate_keys


def write(repository: Path, file: Path) -> bool:
    """Make `file` say what the newest state wants; whether it had to be changed.

    It is replaced in one go: sshd never reads half a file. LxcGpuError leaves it as it is.
    """
    opened = Repository(repository)
    text = gate_keys(opened.read(opened.tip()))
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    write_file(file, text)
    return True


def main() -> int:
    """For the hook and the set-up."""
    try:
        repository, file = (Path(word) for word in sys.argv[1:])
        write(repository, file)
    except LxcGpuError as error:
        print(f"The gate's keys stay as they are. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
