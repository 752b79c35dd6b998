"""File access below a folder that somebody else controls: a container's file system, a home.

The work is done by a child that first becomes the owner for good, so that a link, a pipe or a race
below the folder leads nowhere the owner couldn't go anyway. The second wall: folders are walked by
descriptor without following links, only regular files of a sane size are read, and a file is
written anew and renamed into its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from state.errors import LxcGpuError

LARGEST_FILE = 1 << 20
"""Bytes; no file that we have business with is larger."""
PATIENCE = 30
"""Seconds that the child may take."""

Json = Any
_O_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class HostileError(LxcGpuError):
    """Something below the folder isn't what it has to be; nothing was followed or changed."""


def as_owner(folder: Path, owner: int, work: Callable[[int], Json]) -> Json:
    """Call `work` with a descriptor of `folder`, in a child whose user and group are `owner`.

    Returns what `work` returns, which has to be JSON. LxcGpuErrors of `work` are raised here, too;
    OSErrors as HostileError.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(folder, owner, work, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if not answer:
        raise HostileError(
            "hostile-died", f"Work below {folder} ended unexpectedly.", details=f"status {status}"
        )
    outcome: Mapping[str, Json] = json.loads(answer)
    if "error" in outcome:
        raise HostileError(**outcome["error"])
    return outcome["result"]


def _child(folder: Path, owner: int, work: Callable[[int], Json], writer: int) -> NoReturn:
    outcome: dict[str, Json]
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        os.setgroups([])
        os.setresgid(owner, owner, owner)
        os.setresuid(owner, owner, owner)
        os.umask(0)  # every mode below is given in full
        descriptor = os.open(folder, _O_FOLDER)
        outcome = {"result": work(descriptor)}
    except LxcGpuError as error:
        outcome = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        outcome = {
            "error": {
                "code": "hostile",
                "message": f"Below {folder}: {where}{error.strerror}.",
                "hint": "Links and special files are not followed there: put a plain file or "
                "folder in its place.",
            }
        }
    except BaseException as error:  # the child must never return into the caller
        outcome = {"error": {"code": "bug", "message": f"Below {folder}: {error!r}"}}
    with contextlib.suppress(BaseException), os.fdopen(writer, "wb") as stream:
        stream.write(json.dumps(outcome).encode())
    os._exit(0)


@contextlib.contextmanager
def opened_folder(root: int, path: PurePosixPath, *, make: int | None = None) -> Iterator[int]:
    """A descriptor of the folder `path` below `root`, no link followed on the way.

    With `make`, missing folders are made with that mode.
    """
    descriptor = os.dup(root)
    try:
        for part in path.parts:
            if make is not None:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, make, dir_fd=descriptor)
            following = os.open(part, _O_FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = following
        yield descriptor
    finally:
        os.close(descriptor)


def read_below(root: int, path: PurePosixPath) -> str | None:
    """The text of the regular file `path` below `root`; None if it isn't there."""
    try:
        with opened_folder(root, path.parent) as folder:
            descriptor = os.open(
                path.name,
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                dir_fd=folder,
            )
    except FileNotFoundError:
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise HostileError("hostile", f"{path} is not a regular file.", "Remove it.")
    with os.fdopen(descriptor, "rb") as stream:
        if status.st_size > LARGEST_FILE:
            raise HostileError(
                "hostile", f"{path} is larger than {LARGEST_FILE} bytes.", "Remove it."
            )
        return stream.read(LARGEST_FILE).decode("utf-8", "surrogateescape")


def write_below(root: int, path: PurePosixPath, text: str, mode: int, folder_mode: int) -> None:
    """Replace the file `path` below `root`, a link in its place included; folders are made."""
    with opened_folder(root, path.parent, make=folder_mode) as folder:
        temporary = f".{path.name}.lxc-gpu-new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        descriptor = os.open(
            temporary,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            mode,
            dir_fd=folder,
        )
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(text.encode("utf-8", "surrogateescape"))
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
