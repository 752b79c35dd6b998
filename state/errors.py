"""Errors for people: what happened, what it means, what to type next.

Standard library only: the login shell shows these too.
"""

from __future__ import annotations

import sys
from enum import StrEnum


class Remedy(StrEnum):
    """What can help after an error."""

    RETRY = "retry"
    """Trying again at once may work."""
    WAIT = "wait"
    """Something is down or busy; trying later will work."""
    PERSON = "person"
    """It stays as it is until somebody changes something."""


class LxcGpuError(Exception):
    """An error that may be shown to anybody.

    code: stable, for `journalctl | grep`; message: what happened and what it means;
    hint: what to type or do next; details: for the journal only, never for a user's screen.
    """

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        remedy: Remedy = Remedy.PERSON,
        details: str = "",
    ) -> None:
        self.code, self.message, self.hint = code, message, hint
        self.remedy, self.details = remedy, details

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


def os_error(error: OSError) -> LxcGpuError:
    """What the kernel said, for people."""
    place = f"{error.filename}: " if error.filename else ""
    full = error.errno in (28, 122)  # ENOSPC, EDQUOT
    return LxcGpuError(
        "disk-full" if full else "system",
        f"{place}{error.strerror or error}.",
        "Free some space on that disk, then try again; rounds do so automatically." if full else "",
        Remedy.PERSON,
        repr(error),
    )


def no_package(name: str | None) -> LxcGpuError:
    """A Python package isn't where this Python looks. `name`: the package's, or its module's."""
    return LxcGpuError(
        "no-packages",
        f"The Python package {name} is missing in {sys.prefix}, for Python "
        f"{sys.version_info.major}.{sys.version_info.minor}.",
        "On a server of lxc-gpu, run `setup/gpu-server` again; on the web machine, "
        f"`setup/web-server`. Elsewhere, `{sys.executable} -m pip check` says what to install.",
    )


def mistake(error: Exception) -> LxcGpuError:
    """What nobody thought of; the details say where it was."""
    import traceback  # slow, and never needed where a shell begins

    details = "".join(traceback.format_exception(error))
    return LxcGpuError(
        "bug",
        f"A mistake in lxc-gpu: {type(error).__name__}.",
        "Please report it, with what `journalctl -t lxc-gpu` says.",
        Remedy.PERSON,
        details,
    )
