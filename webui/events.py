"""The web page's events in the journal: one line each, with stable codes to grep for.

`journalctl -t lxc-gpu-web | grep event=saved` shows who saved what, from where, as which revision.
The servers (`journalctl -t lxc-gpu`) and the gate write lines of the same form.
"""

from __future__ import annotations

import logging
from enum import StrEnum


class Code(StrEnum):
    """Everything that can happen, logged as `event=CODE` with the fields named here."""

    SERVING = "serving"
    """The page was started: `listen`."""
    INSECURE = "insecure"
    """Passwords cross the network unencrypted, as configured: `what`."""
    SAVED = "saved"
    """Somebody saved keys: `user`, `source`, `keys` (how many), `revision`."""
    REFUSED = "refused"
    """A save was refused: `user` as typed, `source`, `code`, `details`."""
    NAMES_FOLLOWED = "names-followed"
    """Full names were updated from the directory: `users`, `revision`."""
    GONE = "gone"
    """A user is gone from the directory since the last refresh: `user`, `why`."""
    BACK = "back"
    """A user who was gone from the directory is back: `user`."""
    DISABLED = "disabled"
    """Users who were gone for long were disabled, as configured: `users`, `revision`."""
    NOT_DISABLED = "not-disabled"
    """Nobody was disabled although it is configured: `users`, `why`."""
    DIRECTORY_REFRESHED = "directory-refreshed"
    """All users were looked up in the directory: `users`, `gone`, `seconds`."""
    DIRECTORY_FAILED = "directory-failed"
    """Looking the users up failed: `code`, `details`."""
    DIRECTORY_OFF = "directory-off"
    """Users aren't looked up in the directory: `why`."""
    NEWS_FAILED = "news-failed"
    """What a server lacks couldn't be put together, so it was told to fetch: `server`, `why`."""
    NUDGE_FAILED = "nudge-failed"
    """A server couldn't be nudged: `server`, `code`, `details`."""
    FETCH_FAILED = "fetch-failed"
    """The state repository couldn't be read: `message`, `details`."""
    CLONE_DAMAGED = "clone-damaged"
    """The page's clone of the state repository is damaged, and is made again: `details`."""
    HISTORY_FAILED = "history-failed"
    """The state's history couldn't be read: `code`, `details`."""
    BACKGROUND_FAILED = "background-failed"
    """Background work failed: `work`, `code`, `details`. While that lasts, it is logged at most
    once an hour. An unexpected error is `crashed`."""
    BACKGROUND_WORKS = "background-works"
    """Background work succeeds again: `work`, `failures` (how many times it failed)."""
    USE_FAILED = "use-failed"
    """The history of use can't be read or written: `code`, `details`."""
    USE_DAMAGED = "use-damaged"
    """The database of use was damaged. It was renamed, and a new one was begun: `path`, `aside`,
    `details`."""
    LOAD_SILENT = "load-silent"
    """A server became silent: `server`, `code`, `details`."""
    LOAD_HEARD = "load-heard"
    """A server is heard again: `server`."""
    MAILED = "mailed"
    """The mail server or the webhook accepted a letter: `to`, `letter`, `subject`."""
    MAIL_REFUSED = "mail-refused"
    """The mail server refused a letter. It is tried again: `to`, `letter`, `subject`, `details`."""
    MAIL_GIVEN_UP = "mail-given-up"
    """A letter wasn't accepted for days and is given up: `to`, `letter`, `subject`."""
    WISHES = "wishes-saved"
    """A user saved their mail preferences: `user`, `stopped`, `source`."""
    FAULT = "fault"
    """A page couldn't be shown: `code`, `path`, `details`."""
    CRASHED = "crashed"
    """An unexpected error, with a traceback: `where`."""


def line(code: Code, /, **fields: object) -> str:
    """`event=CODE name=value ...` in one line; values with blanks are in quotes."""
    return " ".join([f"event={code}", *(f"{n}={_quoted(value)}" for n, value in fields.items())])


def info(log: logging.Logger, code: Code, /, **fields: object) -> None:
    """Log an event that needs no attention."""
    log.info("%s", line(code, **fields))


def warning(log: logging.Logger, code: Code, /, **fields: object) -> None:
    """Log an event that may need a sysadmin's attention."""
    log.warning("%s", line(code, **fields))


def crashed(log: logging.Logger, where: str, error: BaseException | None = None) -> None:
    """Log an unexpected error with its traceback: `error`, or the exception being handled."""
    log.error("%s", line(Code.CRASHED, where=where), exc_info=error or True)


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and all(c.isprintable() and c not in " '\"=" for c in text)
    return text if plain else repr(text)
