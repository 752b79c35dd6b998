"""A container's file system as one compressed stream: tar, then zstd.

Everything runs as the user, in a child of the root helper. tar runs in the user's id map, so that
owners are those that the container sees, and that it can't read more than the container's root.
The container may run meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import queue
import resource
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO

from reconciler.archives.pace import Pace
from reconciler.children.hostile import still_at_it
from reconciler.disk.free_space import free_space
from reconciler.plan import Tell
from state import command
from state.errors import LxcGpuError, Remedy
from state.wire.messages import Progress

LEFT_OUT = tuple(f"./{folder}/*" for folder in ("dev", "proc", "run", "sys", "tmp"))
"""Content that a system makes anew when it boots; the folders themselves are packed."""
CHUNK = 1 << 20
"""Bytes that are passed on at a time, and that a pipe holds."""
STALL = 15 * 60
"""Seconds without a single byte after which the work is given up."""
SLOWEST_LOOK = 3600
"""Seconds that counting a container's files may take."""
MOST_MEMORY = 4 << 30
"""Bytes of memory for each program: tar remembers every hard link of a hostile container."""
MOST_THREADS = 4
"""Threads of zstd, as other people work on this server."""
NICENESS = 10
"""The priority, for the same reason (nice(1))."""
_CHANGED = ("file changed as we read it", "bytes; padding with zeros")
_VANISHED = "File removed before we read it"

WRITE_OUT = 16 << 20
"""Bytes of an archive after which the disk begins to write them."""

InMap = Callable[[Sequence[str]], list[str]]
"""A command in the user's id map: `reconciler.archives.id_map.mapped`."""
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Packed:
    """The result of packing."""

    packed: int
    """Bytes that were written."""
    unpacked: int
    """Bytes of the tar stream."""
    sha256: str
    changed: int
    """How many files were written to, or removed, while they were read."""
    example: str
    """One of them."""


def be_considerate() -> None:
    """Give way to everybody else's work, and limit memory. For a child only."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def _enough(_: int) -> None:
    """Any size is fine."""


def pack(
    tree: Path, in_map: InMap, sink: int, tell: Tell, enough: Callable[[int], None] = _enough
) -> Packed:
    """Write the packed `tree` to the descriptor `sink`.

    Its size on the disk is counted meanwhile; `enough` is called with that number of bytes, and
    may raise. LxcGpuError if it couldn't be packed completely; then what was written doesn't
    decompress to its end, so that nobody takes it for complete.
    """
    zstd = ["zstd", "--quiet", "--stdout", f"-T{min(MOST_THREADS, os.cpu_count() or 1)}"]
    with (
        command.started(in_map(_tar(tree)), stderr=PIPE, family=True) as packing,
        command.started(zstd, stdin=PIPE, stderr=PIPE) as squeezing,
    ):
        for stream in (packing.stdout, squeezing.stdin, squeezing.stdout):
            _widen(_pipe(stream))
        flow = _Flow(packing, squeezing)
        flow.start()
        size = _Size(tree, in_map)

        def look() -> None:
            tell(_progress(flow.moved, size.total))
            if size.total is not None:
                enough(size.total)

        try:
            size.start()
            sha256, packed = _store(squeezing, sink, look)
        except BaseException:
            squeezing.kill()
            with contextlib.suppress(ProcessLookupError):  # tar may have come to its end
                os.killpg(packing.pid, signal.SIGKILL)
            raise
        finally:
            flow.join()
        return _judged(flow, squeezing, packed, sha256)


def _tar(tree: Path) -> list[str]:
    return [
        "tar", "--create", "--file=-", f"--directory={tree}", "--format=posix", "--sparse",
        "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "--one-file-system",
        "--blocking-factor=128", "--totals", "--quoting-style=escape",
        "--warning=no-file-ignored", "--anchored",
        *(f"--exclude={pattern}" for pattern in LEFT_OUT), ".",
    ]  # fmt: skip


def _progress(moved: int, total: int | None) -> Progress:
    share = None if total is None else min(0.99, moved / (total or 1))
    return Progress("packing the container", share)


def _store(squeezing: Popen[bytes], sink: int, look: Callable[[], None]) -> tuple[str, int]:
    """Write what zstd gives until it ends; the sum and the number of the bytes."""
    source, packed, looking, begun = _pipe(squeezing.stdout), 0, Pace(), 0
    os.set_blocking(sink, True)
    with _Sum() as sha256:
        try:
            while chunk := os.read(source, CHUNK):
                still_at_it(STALL)
                if looking.due():
                    look()
                    if free_space(sink).size < 0:
                        raise OSError(errno.ENOSPC, "")  # before others on that disk feel it
                sha256.add(chunk)
                packed += len(chunk)
                left = memoryview(chunk)
                while left:
                    left = left[os.write(sink, left) :]
                if packed - begun >= WRITE_OUT:
                    _write_out(sink, begun, packed)
                    begun = packed
        except OSError as error:
            raise write_error(error) from error
    return sha256.value.hexdigest(), packed


def _write_out(sink: int, begin: int, end: int) -> None:
    """Have the kernel begin to write these bytes to the disk (sync_file_range(2)).

    Else fsync(2) would find all of an archive still to be written, when nothing else is left to do.
    """
    begin_now = 2  # SYNC_FILE_RANGE_WRITE
    where = (ctypes.c_int(sink), ctypes.c_int64(begin), ctypes.c_int64(end - begin))
    _libc.sync_file_range(*where, ctypes.c_uint(begin_now))  # a pipe has nothing to write out


class _Sum(threading.Thread):
    """Hashes bytes in a thread of its own, next to the reader and the writer."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.value = hashlib.sha256()
        self._chunks: queue.Queue[bytes] = queue.Queue(4)

    def __enter__(self) -> _Sum:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._chunks.put(b"")
        self.join()

    def add(self, chunk: bytes) -> None:
        """The next bytes; none is the end."""
        self._chunks.put(chunk)

    def run(self) -> None:
        """Until the end."""
        while chunk := self._chunks.get():
            self.value.update(chunk)


class _Size(threading.Thread):
    """Counts what a tree takes of the disk, as du(1) does, while it is packed.

    Counted first, it would be one more walk that everybody waits for; so tar finds warm what du
    has looked at.
    """

    def __init__(self, tree: Path, in_map: InMap) -> None:
        super().__init__(daemon=True)
        self._argv = in_map(
            ["env", f"--chdir={tree}", "du", "--summarize", "--block-size=1", "--one-file-system",
             *(f"--exclude={pattern}" for pattern in LEFT_OUT), "."]
        )  # fmt: skip
        self.total: int | None = None

    def run(self) -> None:
        """To its end. What can't be counted isn't known: tar says what is wrong."""
        with contextlib.suppress(command.CommandError):
            done = command.run(self._argv, timeout=SLOWEST_LOOK, check=False)  # files come and go
            size = done.stdout.split("\t")[0]
            self.total = int(size) if size.isdigit() else None


def write_error(error: OSError) -> LxcGpuError:
    """Why nothing more could be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LxcGpuError(
            "snapshot-disk-full",
            "The disk of the snapshots became full, or your quota there: nothing was kept.",
            "Remove a snapshot (`snapshot --list`, `snapshot --remove NAME`), tidy up the "
            "container, or ask your sysadmin.",
        )
    if error.errno in (errno.EPIPE, errno.ECONNRESET):
        return LxcGpuError(
            "reader-gone", "The reader of the archive has gone; it is not complete.",
            "Try again.", Remedy.RETRY,
        )  # fmt: skip
    return LxcGpuError("snapshot-write", f"The archive could not be written: {error.strerror}.",
                       "Nothing was kept. Ask your sysadmin.")  # fmt: skip


def _widen(pipe: int) -> None:
    """Let the pipe hold more than 64 KiB: fewer changes from one program to the next (pipe(7))."""
    with contextlib.suppress(OSError):  # the user has many pipes already
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)


def _pipe(stream: IO[bytes] | None) -> int:
    assert stream is not None  # noqa: S101
    return stream.fileno()


@dataclass
class _Said:
    """What tar says, by kind: a hostile container makes it say a lot."""

    changed: int = 0
    example: str = ""
    totals: str = ""
    """That it wrote all: `lxc-usernsexec` ends with 0 even if tar was killed."""
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=5))

    def listen(self, stream: IO[bytes]) -> None:
        """Read to the end."""
        while line := stream.readline(1 << 16):
            text = line.decode("utf-8", "replace").strip().removeprefix("tar: ")
            if text.endswith((*_CHANGED, _VANISHED)):
                self.changed += 1
                self.example = self.example or text.removeprefix(".").rpartition(": ")[0]
            elif text.startswith("Total bytes written"):
                self.totals = text
            elif not text.startswith("Exiting with failure"):
                self.errors.append(text)


class _Flow(threading.Thread):
    """Moves tar's output to zstd without copying it (splice(2)), and counts it."""

    def __init__(self, packing: Popen[bytes], squeezing: Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self._packing, self._squeezing = packing, squeezing
        self.moved = 0
        self.whole = False
        self.said = _Said()

    def run(self) -> None:
        """Work until tar ends. zstd may finish only if tar did."""
        assert self._squeezing.stdin is not None  # noqa: S101
        try:
            self._move()
        finally:  # else who reads what zstd writes would wait forever
            if not self.whole:
                self._squeezing.kill()
            self._squeezing.stdin.close()

    def _move(self) -> None:
        assert self._packing.stderr is not None  # noqa: S101
        listening = threading.Thread(
            target=self.said.listen, args=[self._packing.stderr], daemon=True
        )
        listening.start()
        source, sink = _pipe(self._packing.stdout), _pipe(self._squeezing.stdin)
        try:
            while count := os.splice(source, sink, CHUNK):
                self.moved += count
        except OSError:  # zstd has ended: `_store` or zstd itself says why
            pass
        else:
            listening.join()
            self.whole = self._packing.wait() in (0, 1) and bool(self.said.totals)


def _judged(flow: _Flow, squeezing: Popen[bytes], packed: int, sha256: str) -> Packed:
    said = flow.said
    if not flow.whole or squeezing.wait() != 0:
        zstd = b"" if squeezing.stderr is None else squeezing.stderr.read(CHUNK)
        words = [*said.errors, zstd.decode("utf-8", "replace").strip()]
        last = next((word for word in words if word), "tar was ended")
        raise LxcGpuError(
            "snapshot-pack",
            f"The container could not be packed: {last}",
            "Nothing was kept. If that is about a file of yours, mend or remove it; else ask your "
            "sysadmin.",
            details="\n".join(words),
        )
    return Packed(packed, flow.moved, sha256, said.changed, said.example)
