"""The journal of the web page: one line an event, with stable codes to grep for.

`journalctl -t lxc-gpu-web | grep event=saved` shows who saved what, from where, as which revision;
the servers write the same form (`journalctl -t lxc-gpu`), and so does the gate.
"""

from __future__ import annotations

import logging
from enum import StrEnum


class Code(StrEnum):
    """What can happen, as `event=CODE`."""

    SERVING = "serving"
    """The page was started: `listen`."""
    INSECURE = "insecure"
    """Passwords can be read on the way, as configured: `what`."""
    SAVED = "saved"
    """Somebody saved keys: `user`, `source`, `keys` (how many), `revision`."""
    REFUSED = "refused"
    """Somebody's save came to nothing: `user` as typed, `source`, `code`, `details`."""
    NAMES_FOLLOWED = "names-followed"
    """Full names were changed to the directory's: `users`, `revision`."""
    GONE = "gone"
    """Somebody is gone from the directory since the last refresh: `user`, `why`."""
    BACK = "back"
    """Somebody who was gone from the directory is there again: `user`."""
    DISABLED = "disabled"
    """Somebody gone for long was disabled, as configured: `users`, `revision`."""
    NOT_DISABLED = "not-disabled"
    """Nobody was disabled, although configured: `users`, `why`."""
    DIRECTORY_REFRESHED = "directory-refreshed"
    """Everybody was looked up in the directory: `users`, `gone`, `seconds`."""
    DIRECTORY_FAILED = "directory-failed"
    """Looking everybody up came to nothing: `code`, `details`."""
    DIRECTORY_OFF = "directory-off"
    """Nobody is looked up: `why`."""
    NUDGE_FAILED = "nudge-failed"
    """A server could not be asked: `server`, `code`, `details`."""
    FETCH_FAILED = "fetch-failed"
    """The state repository could not be read: `message`, `details`."""
    CLONE_DAMAGED = "clone-damaged"
    """The page's clone of the state repository is damaged, and is made again: `details`."""
    HISTORY_FAILED = "history-failed"
    """The history could not be read: `code`, `details`."""
    BACKGROUND_FAILED = "background-failed"
    """What is done from time to time failed: `work`, `code`, `details`; told once an hour at most
    while it lasts. What nobody foresaw is `crashed`."""
    BACKGROUND_WORKS = "background-works"
    """It works again, after either of these: `work`, `failures` (how many times it failed)."""
    USE_FAILED = "use-failed"
    """What users use can't be kept on disk: `code`, `details`."""
    USE_DAMAGED = "use-damaged"
    """The database of it was damaged and put aside, a new one was begun: `path`, `aside`,
    `details`."""
    LOAD_SILENT = "load-silent"
    """A server's load doesn't come: `server`, `code`, `details`."""
    LOAD_HEARD = "load-heard"
    """A server's load comes again: `server`."""
    MAILED = "mailed"
    """The mail server, or the webhook, accepted a letter: `to`, `letter`, `subject`."""
    MAIL_REFUSED = "mail-refused"
    """The mail server refused a letter, which is tried again: `to`, `letter`, `subject`,
    `details`."""
    MAIL_GIVEN_UP = "mail-given-up"
    """Nobody accepted a letter for days: `to`, `letter`, `subject`."""
    WISHES = "wishes-saved"
    """Somebody said which mail they want: `user`, `stopped`, `source`."""
    FAULT = "fault"
    """A page could not be shown: `code`, `path`, `details`."""
    CRASHED = "crashed"
    """A mistake of ours; a traceback follows: `where`."""


def line(code: Code, /, **fields: object) -> str:
    """`event=CODE name=value ...`, values with blanks in quotes: always one line."""
    return " ".join([f"event={code}", *(f"{n}={_quoted(value)}" for n, value in fields.items())])


def info(log: logging.Logger, code: Code, /, **fields: object) -> None:
    """Write an event that is nobody's trouble."""
    log.info("%s", line(code, **fields))


def warning(log: logging.Logger, code: Code, /, **fields: object) -> None:
    """Write an event that somebody may have to look after."""
    log.warning("%s", line(code, **fields))


def crashed(log: logging.Logger, where: str, error: BaseException | None = None) -> None:
    """Write a mistake of ours, with its traceback: of `error`, or of what is being handled."""
    log.error("%s", line(Code.CRASHED, where=where), exc_info=error or True)


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and all(c.isprintable() and c not in " '\"=" for c in text)
    return text if plain else repr(text)
