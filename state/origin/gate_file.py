"""Writes the gate's authorized_keys: `/usr/local/lib/lxc-gpu/gate-keys REPOSITORY FILE`.

The post-receive hook of the state repository runs it, and so does the set-up. So a server is let in
as soon as its file is pushed; when the file is removed, the server's connections end.
"""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import replace
from pathlib import Path

from state.connections import processes
from state.connections.keys import keys_in
from state.connections.sshd import connections, end
from state.errors import LxcGpuError
from state.files import write_file
from state.git.repository import Repository
from state.origin.gate_keys import gate_keys

GATE_ACCOUNT = "lxc-gpu"
"""The account that these keys open, on the web machine (setup/web/sshd.conf)."""


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


def end_revoked(file: Path) -> None:
    """End the connections to the gate whose key isn't in `file` any more.

    Not the one that this push came over: it ends with the push, and the gate refuses it the next.
    What runs over the others may be Git in the gate's place, so only the key tells.
    """
    if pwd.getpwuid(os.getuid()).pw_name != GATE_ACCOUNT:
        return
    keys, here = keys_in(file), processes.ancestors(os.getpid(), processes.everything())
    own = {process.pid for process in here}
    end(
        [
            each
            for each in connections({os.getuid(): GATE_ACCOUNT})
            if each.child.pid not in own and not replace(each.opened, running="").stands(keys)
        ]
    )


def main() -> int:
    """For the hook and the set-up."""
    try:
        repository, file = (Path(word) for word in sys.argv[1:])
        write(repository, file)
        end_revoked(file)
    except LxcGpuError as error:
        print(f"The gate's keys stay as they are. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
