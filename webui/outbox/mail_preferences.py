"""Which kinds of mail somebody doesn't want: the person's word, kept by the page alone.

Not in the state: it concerns no server, and what somebody wants to read is no history.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from threading import Lock

from state import files
from state.errors import LxcGpuError, Remedy
from state.wire.notices import NoticeKind
from webui.outbox.letters import KINDS


class MailPreferences:
    """Everybody's, in one file; for many threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()

    def stopped(self, user: str) -> frozenset[NoticeKind]:
        """The kinds that `user` doesn't want. LxcGpuError if that can't be read."""
        return self._read().get(user, frozenset())

    def stopped_or_all(self, user: str) -> frozenset[NoticeKind]:
        """The same; all that can be stopped where that can't be read."""
        try:
            return self.stopped(user)
        except LxcGpuError:
            return frozenset(KINDS)

    def check(self) -> None:
        """LxcGpuError if they can't be read."""
        self._read()

    def save(self, user: str, stopped: Collection[NoticeKind]) -> None:
        """`user` doesn't want these, and wants all others. LxcGpuError if that can't be kept."""
        with self._lock:
            chosen = {**self._read(), user: frozenset(stopped) & KINDS.keys()}
            lines = {u: sorted(kinds) for u, kinds in sorted(chosen.items()) if kinds}
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                files.write_file(self._path, json.dumps(lines, indent=0) + "\n", 0o600)
            except OSError as error:
                raise LxcGpuError(
                    "wishes-disk",
                    "The page can't keep what you wish at the moment: its disk doesn't take it.",
                    f"Sysadmin: is there room for {self._path}?",
                    Remedy.WAIT,
                    repr(error),
                ) from error

    def _read(self) -> Mapping[str, frozenset[NoticeKind]]:
        try:
            said = json.loads(files.read_text(self._path) or "{}")
            return {user: _kinds(kinds) for user, kinds in said.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise LxcGpuError(
                "wishes-damaged",
                "Which mail people don't want can't be read, so nobody is sent what they may have "
                "stopped.",
                f"Sysadmin: put {self._path} back from a backup, or move it away: then people get "
                "all kinds again.",
                details=repr(error),
            ) from error


def _kinds(said: object) -> frozenset[NoticeKind]:
    if not isinstance(said, list) or not all(isinstance(kind, str) for kind in said):
        raise TypeError("no list of kinds")
    return frozenset(map(NoticeKind, said))
