"""Alerts that survive a restart: what was reported is on disk, with the letter that reports it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from state import files
from webui.outbox import alerts
from webui.outbox.alerts import AlertKind, Known, LookResult, ServerTrouble
from webui.outbox.letters import Letter

PAUSE = 600.0
"""Seconds from one letter to the next."""


@dataclass(frozen=True)
class AlertLetter:
    """The newest letter to sysadmins, kept with the troubles that it reports."""

    id: str
    at: float
    letter: Letter


class AlertStore:
    """What sysadmins were told. Not thread-safe."""

    def __init__(self, path: Path, public_url: str) -> None:
        self._path, self._public_url = path, public_url
        self._known: Known | None = None
        self.newest: AlertLetter | None = None
        """Handing it to the outbox twice does no harm: the id is the same."""

    def look(self, sight: LookResult, servers: Collection[str], now: float) -> None:
        """Take the result of a look into account. If there is news, `newest` is a new letter.

        OSError if it can't be written; then nothing has changed.
        """
        before = self._read() if self._known is None else self._known
        newest = self.newest
        quiet = newest is not None and 0 <= now - newest.at < PAUSE
        known, news = alerts.after(before, sight, servers, now, quiet=quiet)
        if news:
            said = alerts.letter(news, self._public_url)
            newest = AlertLetter(f"alert.{secrets.token_hex(8)}", now, said)
        if known.said != before.said or news:
            self._write(known, newest)
        self._known, self.newest = known, newest

    def said(self) -> Collection[ServerTrouble]:
        """The troubles that were reported and are not over."""
        if self._known is None:
            self._known = self._read()
        return self._known.said.keys()

    def _read(self) -> Known:
        """The file's content. If it is damaged, nothing counts as reported."""
        try:
            fields = json.loads(files.read_text(self._path) or "{}")
            said = {
                ServerTrouble(str(server), AlertKind(kind), str(place)): str(words)
                for server, kind, place, words in fields.get("said", [])
            }
            if newest := fields.get("newest"):
                letter = Letter(str(newest["subject"]), str(newest["text"]))
                self.newest = AlertLetter(str(newest["id"]), float(newest["at"]), letter)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Known()
        return Known(said)

    def _write(self, known: Known, newest: AlertLetter | None) -> None:
        said = [[t.server, t.kind, t.place, words] for t, words in sorted(known.said.items())]
        letter = None
        if newest is not None:
            letter = {"id": newest.id, "at": newest.at, **asdict(newest.letter)}
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_file(self._path, json.dumps({"said": said, "newest": letter}) + "\n", 0o600)
