"""A registration that came through the gate, as a commit. Loads Git: only when one comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from state.edits.users import register
from state.errors import LxcGpuError
from state.git.commits import Author, Committed
from state.git.healing import healing
from state.git.publish import Base, publish
from state.git.repository import Repository
from state.model.keys import PublicKey, parse_key

if TYPE_CHECKING:
    from shells.gate.request import GatePaths


def commit_registration(user: str, host_key: str, server: str, where: GatePaths) -> str:
    """Commit that `user` has a container with `host_key` on `server`; the revision that says so.

    The server is the author, the web page's key signs. A registration that stands already is
    no new commit.
    """
    edit = register(server, user, _host_key(host_key))
    author = Author(server, f"{server}@servers.invalid")
    url = str(where.repository)

    def commit() -> Committed:
        repository = Repository.clone(url, where.clone)  # which fetches
        tip = repository.tip()
        base = Base(tip, repository.read(tip))
        return publish(repository, edit, author, where.signing_key, base)

    return healing(url, where.clone, commit).revision


def _host_key(text: str) -> PublicKey:
    try:
        return parse_key(text)
    except ValueError as error:
        raise LxcGpuError(
            "gate-host-key", f"That isn't a usable ssh host key: {error}.", details=text[:200]
        ) from error
