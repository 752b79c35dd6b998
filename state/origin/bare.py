"""The state repository itself, on the web machine: made, and given its hooks.

`state-repository REPOSITORY --admin-name NAME --admin-key KEY --iam-key KEY --signing-key FILE`
makes it, with a first commit that names who may sign, signed by the web machine; no server takes
that commit for good before its sysadmin says so (`setup/gpu-server --trust`).
`state-repository REPOSITORY` renews hooks and settings. Both print whom the gate's sshd isn't to
punish, an address or a network a line.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from state import command
from state.errors import LxcGpuError
from state.git.commits import Author
from state.git.repository import Repository
from state.model.documents import Signer
from state.model.keys import PublicKey, parse_key
from state.origin import first_state, gate_file
from state.view import not_punished

GATE_KEYS = Path("/usr/local/lib/lxc-gpu/gate-keys")
"""What writes the gate's keys; its place is the same in every release."""
THEN = """\
# Written by setup/web-server: whom the gate lets in, after each push that may change it.
changed=
while read -r old new branch; do
    [ "$branch" = refs/heads/main ] || continue
    git diff --quiet "$old" "$new" -- fleet.yaml servers 2>/dev/null || changed=yes
done
[ -z "$changed" ] || exec %s
"""


def init(path: Path, admin: Signer, iam: Signer, signing_key: Path | None = None) -> str:
    """Make the bare repository `path`, with a first state by `admin`; returns its revision."""
    if path.exists():
        raise LxcGpuError("bare-exists", f"{path} exists already.", "It is left as it is.")
    author = Author(admin.name, "admin@users.invalid")
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        fresh, work = Path(folder) / path.name, Path(folder) / "work"
        revision = first_state.init(work, author, signers=(admin, iam), signing_key=signing_key)
        command.run(["git", "clone", "--quiet", "--bare", "--template=", work, fresh])
        command.run(["git", "-C", fresh, "remote", "remove", "origin"])
        first_state.init_bare(fresh)
        fresh.rename(path)
    return revision


def furnish(path: Path, gate_keys: Path, writer: Sequence[str] = (str(GATE_KEYS),)) -> None:
    """Give the repository its settings and hooks of this version, and the gate its keys.

    `writer` is the command that the hook runs to have them written again.
    """
    first_state.init_bare(path, THEN % shlex.join([*writer, str(path), str(gate_keys)]))
    gate_file.write(path, gate_keys)


def _key(text: str) -> PublicKey:
    try:
        return parse_key(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> int:
    """For setup/web-server, run as the account that owns the repository."""
    parser = argparse.ArgumentParser(prog="state-repository")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--admin-name")
    parser.add_argument("--admin-key", type=_key)
    parser.add_argument("--iam-key", type=_key)
    parser.add_argument("--signing-key", type=Path)
    options = parser.parse_args()
    path = options.repository.absolute()
    try:
        if not path.exists():
            admin = Signer(name=options.admin_name, role="admin", key=options.admin_key)
            iam = Signer(name="IAM", role="iam", key=options.iam_key)
            init(path, admin, iam, options.signing_key)
        furnish(path, path.with_name("gate_keys"))
        repository = Repository(path)
        state = repository.read(repository.tip())
        servers = (str(server.address) for server in state.servers.values())
        print("\n".join(not_punished(servers, map(str, state.fleet.lab_networks))))
    except LxcGpuError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
