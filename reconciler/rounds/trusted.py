"""The last revision that was verified on this server: newer ones are judged from there.

`setup/gpu-server --trust REVISION` writes the first one; each round that takes a newer revision
moves it on. It has a file of its own, so that trust survives the loss of the view.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from reconciler.host import places
from state import files
from state.errors import LxcGpuError
from state.view import View

if TYPE_CHECKING:
    from state.git.repository import Repository

_FULL_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?", re.ASCII)


def trusted_revision(view: View | None) -> str | None:
    """The revision that was verified last; None if none ever was.

    A server that was set up before this file existed trusts the view that it is on.
    """
    text = (files.read_text(places.TRUSTED) or "").strip()
    if _FULL_ID.fullmatch(text):
        return text
    return view.revision if view is not None else None


def revision_in(view: str) -> str | None:
    """The revision of a view that another release may have written; None if it can't be read."""
    try:
        text = json.loads(view)["revision"]
    except (ValueError, KeyError, TypeError):
        return None
    return text if isinstance(text, str) and _FULL_ID.fullmatch(text) else None


def trust(revision: str) -> None:
    """Note that `revision` was verified. Written even if it stands there: then it is newer."""
    files.write_file(places.TRUSTED, f"{revision}\n")


def older_than_view() -> bool:
    """Whether the note is missing, or older than the published view.

    A newer one was written by a sysadmin who said where to begin: no round overwrites it.
    """
    try:
        return places.TRUSTED.stat().st_mtime_ns < places.VIEW.stat().st_mtime_ns
    except FileNotFoundError:
        return True


def verify(repository: Repository, tip: str, view: View | None) -> int:
    """Judge every commit from the trusted revision to `tip`; how many users they may disable.

    LxcGpuError names a commit whose author may not make it, or says that nothing is trusted yet.
    """
    known = trusted_revision(view)
    if known is None:
        raise _untrusted(repository, tip)
    if known == tip:
        return 0
    from state.trust.walk import walk

    return walk(repository, known, tip).allow_disable


def _untrusted(repository: Repository, tip: str) -> LxcGpuError:
    from state.trust.walk import signature_in_words

    return LxcGpuError(
        "state-untrusted",
        f"This server trusts no revision of the state yet. The newest is {tip}:"
        f" {signature_in_words(repository, tip)}.",
        "Compare that with your own clone (`git rev-parse origin/main`); if it is the same:"
        f" setup/gpu-server --trust {tip}",
    )
