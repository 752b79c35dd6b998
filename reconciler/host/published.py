"""Reads the view that the last round published, which everything on this server goes by."""

from __future__ import annotations

from functools import lru_cache

from reconciler.host import marker, places
from state import files
from state.errors import LxcGpuError
from state.view import Resident, View, from_json


def published_view() -> View | None:
    """The published view; None if there is none that can be read.

    It is read again only once another file is in its place: each one is new (`state.files`).
    """
    try:
        there = places.VIEW.stat()
    except FileNotFoundError:
        return None
    return _read(there.st_dev, there.st_ino, there.st_mtime_ns, there.st_ctime_ns)


@lru_cache(maxsize=1)
def _read(*_: int) -> View | None:
    try:
        text = files.read_text(places.VIEW)
        return None if text is None else from_json(text)
    except ValueError:
        return None  # cut off or of another version: it is rendered again from the repository


def current_view() -> View:
    """The published view; LxcGpuError if there is none."""
    view = published_view()
    if view is None:
        raise LxcGpuError(
            "no-view",
            "This server has not been set up from the state repository yet.",
            "Sysadmin: run `lxc-gpu reconcile` on it.",
        )
    return view


class CurrentView:
    """Says whether a revision is still the published one."""

    def __init__(self, revision: str) -> None:
        self._revision = revision

    def __call__(self) -> bool:
        """Whether no newer revision was published."""
        view = published_view()
        return view is not None and view.revision == self._revision


def resident_of(view: View, user: str) -> Resident:
    """The user as a resident of this server; LxcGpuError if not registered, or without a system."""
    if user in view.residents and marker.system_there(view, user):
        return view.residents[user]
    raise LxcGpuError(
        "not-registered",
        f"You have no container on {view.server} yet.",
        f"Make one, once: `ssh register@{view.server}-manage {user}`",
    )
