"""File access below a folder that somebody else controls: a container's file system, a home.

A child does the work, and first becomes the owner for good. So a link, a pipe or a race below the
folder leads nowhere the owner couldn't go anyway. The second wall: folders are walked by descriptor
without following links, only regular files of a sane size are read, and a file is written under
another name and renamed into its place.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import stat
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from reconciler.children.forked import STDERR, Child, Deadline, Lines
from reconciler.plan import Tell
from state.errors import LxcGpuError, Remedy, os_error
from state.wire import messages

LARGEST_FILE = 1 << 20
"""Bytes; the files that we read there are smaller."""
PATIENCE = 30
"""Seconds that the child may take."""
GRACE = 5
"""Seconds more until it is killed and left behind: no alarm reaches one that waits for a disk."""
LEFT_BEHIND = 1.0
"""Seconds that being killed may take."""

Json = Any
_OPENAT2, _RESOLVE_IN_ROOT = 437, 0x10
_deadline: Deadline | None = None  # in a child: its own
_O_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class HostileError(LxcGpuError):
    """Something below the folder isn't what it has to be; nothing was followed or changed."""


class Shown(Protocol):
    """A folder that root opens, because its owners are to be seen as others than on the disk."""

    def opened_for(self, owner: int) -> int:
        """A descriptor (O_PATH) for a child that becomes `owner`. LxcGpuError if there is none."""


Folder = Path | Shown


def as_owner(folder: Folder, owner: int, work: Callable[[int], Json]) -> Json:
    """Call `work` with a descriptor of `folder`, in a child whose user and group are `owner`.

    Returns what `work` returns, which has to be JSON. LxcGpuErrors of `work` are raised here, too;
    its OSErrors as HostileError; with the code `no-folder` if there is no such folder.
    """
    return _in_child(folder, owner, lambda root, _: work(root))[0]


def as_owner_at_length(
    folder: Folder,
    owner: int,
    work: Callable[[int, Tell], Json],
    tell: Tell,
    lent: Collection[int] = (),
    *,
    first: Callable[[], None] = lambda: None,
) -> Json:
    """Call `work` as `as_owner` does, when it takes a while; its progress is told here.

    It has to call `still_at_it` more often than every PATIENCE seconds. It has no descriptors of
    ours but those that are `lent`. `first` is called in the child while it is still root.
    """

    def act(root: int, channel: socket.socket) -> Json:
        return work(root, lambda message: channel.sendall(messages.encode(message).encode()))

    return _in_child(folder, owner, act, tell, lent, first)[0]


def opened_as_owner(
    folder: Folder, owner: int, work: Callable[[int], tuple[int, Json]]
) -> tuple[int, Json]:
    """Call `work` as `as_owner` does: the descriptor that it opened (unix(7)), and its result."""

    def act(root: int, channel: socket.socket) -> Json:
        descriptor, result = work(root)
        socket.send_fds(channel, [b"{}\n"], [descriptor])
        return result

    result, descriptors = _in_child(folder, owner, act)
    (descriptor,) = descriptors
    return descriptor, result


def still_at_it(seconds: int) -> None:
    """Called by work in a child: it may take so many seconds more."""
    signal.alarm(seconds)
    if _deadline is not None:
        _deadline.be_in(seconds)


def _ignore(_: object) -> None:
    """For work that tells nothing."""


def _in_child(
    folder: Folder,
    owner: int,
    act: Callable[[int, socket.socket], Json],
    tell: Tell = _ignore,
    lent: Collection[int] = (),
    first: Callable[[], None] = lambda: None,
) -> tuple[Json, list[int]]:
    """What `act` returned, and the descriptors that it sent."""
    ours, theirs = socket.socketpair()
    deadline, said = Deadline(PATIENCE), Lines(ours)
    with ours, contextlib.ExitStack() as received:
        with theirs:
            child = Child(
                lambda: _act(folder, owner, act, theirs, deadline, first),
                [STDERR, theirs.fileno(), *lent],
            )
        try:
            outcome = _outcome(said, tell, deadline)
            in_time = child.has_ended(GRACE)
        finally:  # left behind if it can't be killed
            for descriptor in said.descriptors:
                received.callback(os.close, descriptor)
            child.kill(LEFT_BEHIND)
            child.leave()
        if "result" in outcome:
            received.pop_all()  # they are the caller's
            return outcome["result"], said.descriptors
    if "error" in outcome:
        fields = outcome["error"]
        raise HostileError(**{**fields, "remedy": Remedy(fields.get("remedy", Remedy.PERSON))})
    late = not in_time or child.status == -signal.SIGALRM
    how = "was given up, because nothing moved any more" if late else "ended unexpectedly"
    raise HostileError("hostile-died", f"Work below {folder} {how}.", "Try again.",
                       Remedy.RETRY, f"status {child.status}")  # fmt: skip


def _outcome(said: Lines, tell: Tell, deadline: Deadline) -> Mapping[str, Json]:
    """The last message, the only one that isn't progress; nothing if the child was late."""
    last: Mapping[str, Json] = {}
    while (left := deadline.left() + GRACE) > 0:
        try:
            line = said.next(min(left, 1.0))  # its end may move, either way
        except OSError as error:
            raise os_error(error) from error
        if line == b"":
            return last
        message = json.loads(line or b"{}")
        if "progress" in message:
            tell(messages.Progress(**message["progress"]))
        elif message:
            last = message
    return {}


def _act(
    folder: Folder,
    owner: int,
    act: Callable[[int, socket.socket], Json],
    channel: socket.socket,
    deadline: Deadline,
    first: Callable[[], None],
) -> None:
    """In the child."""
    global _deadline
    outcome: dict[str, Json]
    try:
        _deadline = deadline
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        first()
        shown = None if isinstance(folder, Path) else folder.opened_for(owner)
        os.setgroups([])
        os.setresgid(owner, owner, owner)
        os.setresuid(owner, owner, owner)
        os.umask(0)  # every mode below is given in full
        outcome = {"result": act(_opened(folder, shown), channel)}
    except LxcGpuError as error:
        fields = ("code", "message", "hint", "remedy", "details")
        outcome = {"error": {name: str(getattr(error, name)) for name in fields}}
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
    with contextlib.suppress(BaseException):
        channel.sendall(json.dumps(outcome).encode() + b"\n")


def _opened(folder: Folder, shown: int | None) -> int:
    try:
        if shown is not None:
            return os.open(".", _O_FOLDER, dir_fd=shown)
        return os.open(str(folder), _O_FOLDER)
    except FileNotFoundError as error:
        raise LxcGpuError("no-folder", f"There is no {folder}.") from error


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


def is_file_inside(root: int, path: PurePosixPath) -> bool:
    """Whether `path` is a regular file, seen from `root` as the root folder: links lead there.

    (openat2(2), RESOLVE_IN_ROOT, Linux 5.6.) Nothing of the file is read.
    """
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_size_t(len(how))
    descriptor = libc.syscall(_OPENAT2, ctypes.c_int(root), os.fsencode(path), how, size)
    if descriptor < 0:
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def write_below(root: int, path: PurePosixPath, text: str, mode: int, folder_mode: int) -> None:
    """Replace the file `path` below `root`, a link in its place included; folders are made.

    One that is the same already stays: to wait for the disk takes longer than all the rest.
    """
    raw = text.encode("utf-8", "surrogateescape")
    with opened_folder(root, path.parent, make=folder_mode) as folder:
        if _is_so(folder, path.name, raw, mode):
            return
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
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def _is_so(folder: int, name: str, raw: bytes, mode: int) -> bool:
    """Whether it is a regular file of ours with this content and mode, and no other name."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as stream:
        there = os.fstat(descriptor)
        wanted = (stat.S_IFREG | mode, 1, os.geteuid(), os.getegid(), len(raw))
        found = (there.st_mode, there.st_nlink, there.st_uid, there.st_gid, there.st_size)
        return found == wanted and stream.read(len(raw) + 1) == raw
