"""Mail preferences: which kinds of mail each user has turned off.

They aren't in the state: they concern no server, and need no history.
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
    """All users' preferences in one file. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()

    def stopped(self, user: str) -> frozenset[NoticeKind]:
        """The kinds that `user` turned off. LxcGpuError if the file can't be read."""
        return self._read().get(user, frozenset())

    def stopped_or_all(self, user: str) -> frozenset[NoticeKind]:
        """The kinds that `user` turned off; all of them if the file can't be read."""
        try:
            return self.stopped(user)
        except LxcGpuError:
            return frozenset(KINDS)

    def check(self) -> None:
        """Raise LxcGpuError if the file can't be read."""
        self._read()

    def save(self, user: str, stopped: Collection[NoticeKind]) -> None:
        """Turn off the kinds `stopped` for `user`, and all others on. LxcGpuError if that fails."""
        with self._lock:
            chosen = {**self._read(), user: frozenset(stopped) & KINDS.keys()}
            lines = {u: sorted(kinds) for u, kinds in sorted(chosen.items()) if kinds}
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                files.write_file(self._path, json.dumps(lines, indent=0) + "\n", 0o600)
            except OSError as error:
                raise LxcGpuError(
                    "wishes-disk",
                    "The page can't save your choice at the moment: its disk doesn't take it.",
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
                "The file of mail preferences can't be read, so nobody is sent mail that they may "
                "have turned off.",
                f"Sysadmin: restore {self._path} from a backup, or move it away; then people get "
                "all kinds of mail again.",
                details=repr(error),
            ) from error


def _kinds(said: object) -> frozenset[NoticeKind]:
    if not isinstance(said, list) or not all(isinstance(kind, str) for kind in said):
        raise TypeError("not a list of kinds")
    return frozenset(map(NoticeKind, said))
