"""Unpacks a packed system, which anybody may have packed, into a folder of its own.

zstd and tar run in the user's id map, started as the user, behind a fence
(`reconciler.archives.fence`): owners, set-uid bits and file capabilities are unpacked correctly,
and an archive can do no more than the user can, and only in that folder. The disk is watched
meanwhile, so that an archive that unpacks without end can't fill it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import selectors
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from reconciler.archives.id_map import IdMapOwner
from reconciler.archives.pace import Pace
from reconciler.disk.free_space import free_space
from reconciler.host import in_words
from reconciler.mounts.tree import Tree
from reconciler.plan import Tell
from state import command
from state.errors import LxcGpuError, Remedy
from state.wire.messages import Progress

CHUNK = 1 << 20
"""Bytes that are passed on at a time; also the size of the pipes."""
MOST_SAID = 1 << 14
"""Bytes of each program's output that are kept, of its beginning and of its end: tar complains
about a full disk for every file."""
LOOK_EVERY = 0.1
"""Seconds between two looks at the disk."""
STALL = 300.0
"""Seconds without a byte after which the sender is given up."""
TOTAL = "Total bytes read"
_ABSENT, _HARD_LINK = "Not found in archive", "Cannot hard link"
NOT_THE_REASON = (
    "Exiting with failure", "Error is not recoverable", "Removing leading", "Broken pipe", TOTAL,
    _ABSENT,
)  # fmt: skip
"""Words of the programs that don't give the reason."""


@dataclass(frozen=True)
class PackedSystem:
    """Where a packed system (tar, zstd) comes from."""

    descriptor: int
    """A file or a pipe, at its beginning."""
    what: str
    """What it is, for messages: `the template debian-12`."""
    total: int | None = None
    """Bytes to come, where that is known."""


def extract(source: PackedSystem, tree: Tree, owner: IdMapOwner, tell: Tell) -> str:
    """Unpack all of `source` into the empty `tree`. Returns the SHA-256 of what was read.

    LxcGpuError if anything is wrong with it, if its end is missing, or if the disk gets too full.
    The caller removes what was unpacked until then.
    """
    pump = _run(source, tree, owner, tell, ())
    said, failed = pump.heard, any(pump.statuses)
    # lxc-usernsexec(1) ends with 0 when its program was killed, so the status is not enough
    if failed or not _ended(said):
        raise _bad_archive(source.what, pump, said, tree.slot)
    tell(Progress(f"unpacking {source.what}", 1.0))
    return pump.digest.hexdigest()


def extract_some(
    source: PackedSystem,
    tree: Tree,
    owner: IdMapOwner,
    tell: Tell,
    place: PurePosixPath,
    wanted: Collection[PurePosixPath],
) -> tuple[str, frozenset[PurePosixPath]]:
    """Unpack `wanted`, and the bare folders around them, into the folder `place` of `tree`.

    All paths are below `/`. Returns the SHA-256 of what was read, and which of `wanted` and of the
    folders are not in the archive. LxcGpuError as from `extract`. The system may be in use:
    whatever its owner puts in the way meanwhile, only that system can be written to.
    """
    around = {folder for path in wanted for folder in path.parents[:-1]}
    names = {f"./{path}": path for path in (*around, *wanted)}
    pump = _run(source, tree, owner, tell, (
        f"--directory=./{place}", "--no-wildcards", "--no-unquote",
        "--no-recursion", *sorted(f"./{path}" for path in around),
        "--recursion", *(f"./{path}" for path in wanted),
    ))  # fmt: skip
    said, (unzipped, untarred) = pump.heard, pump.statuses
    reasons, lines = _reasons(said), _missed(said["tar"])
    absent = frozenset(names[line] for line in lines if line in names)
    if _ended(said) and reasons and _HARD_LINK in reasons[0]:
        raise LxcGpuError(
            "unpack",
            f"{source.what[:1].upper()}{source.what[1:]} has a file under several names, of which "
            f"you asked for one alone: {reasons[0].removeprefix('tar: ')[:400]}",
            "Nothing was changed. Ask for the other name, too, or for the folder with both.",
        )
    understood = not reasons and len(lines) == len(absent) > 0
    if unzipped or (untarred and not understood) or not _ended(said):
        raise _bad_archive(source.what, pump, said, tree.slot)
    return pump.digest.hexdigest(), absent


def _missed(said: str) -> list[str]:
    """The names that tar didn't find; it doubles backslashes."""
    lines = [line.removeprefix("tar: ") for line in said.splitlines() if line.endswith(_ABSENT)]
    return [line.removesuffix(f": {_ABSENT}").replace("\\\\", "\\") for line in lines]


def _ended(said: Mapping[str, str]) -> bool:
    """Whether tar came to the end of the archive, and to the end of its work."""
    return "Block of NULs" in said["end"] and TOTAL in said["tar"]


def _reasons(said: Mapping[str, str]) -> list[str]:
    """Why the programs failed, line by line."""
    lines = [line for name in ("zstd", "tar") for line in said[name].strip().splitlines()]
    return [line for line in lines if not any(word in line for word in NOT_THE_REASON)]


def _run(
    source: PackedSystem, tree: Tree, owner: IdMapOwner, tell: Tell, more: Sequence[str]
) -> _Pump:
    """Have zstd and tar, which gets `more` words, read all of the source."""
    folder = tree.slot
    zstd = owner.fenced(folder, ["zstd", "--decompress", "--stdout", "--quiet"], tree)
    unpack = [
        "tar", "--extract", "--file=-", "--numeric-owner", "--same-permissions",
        "--xattrs", "--xattrs-include=*", "--acls", "--anchored", "--exclude=./dev/*",
        "--exclude=dev/*",
        "--block-number",  # make it say, on stdout, how the archive ended,
        "--totals",  # and this, last of all on stderr, that it got to the end of its work
        *more,
    ]  # fmt: skip
    tar = owner.fenced(folder, unpack, tree)
    with (
        command.started(zstd, stdin=subprocess.PIPE, family=True) as unzip,
        command.started(tar, stdin=unzip.stdout or 0, family=True) as untar,
    ):
        pump = _Pump(source, folder, tell, unzip, untar)
        pump.run()
        pump.statuses = unzip.wait(), untar.wait()
    return pump


@dataclass
class _Pump:
    """Feeds the programs, collects their output, and watches the disk."""

    source: PackedSystem
    folder: Path
    tell: Tell
    unzip: subprocess.Popen[bytes]
    untar: subprocess.Popen[bytes]
    said: dict[str, bytes] = field(default_factory=dict)
    passed: int = 0
    statuses: tuple[int, int] = (0, 0)
    """The exit statuses of zstd and tar, once they have ended."""
    _chunk: memoryview = field(default_factory=lambda: memoryview(b""))
    _telling: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256()
        self._last_byte = time.monotonic()
        self._selector = selectors.PollSelector()  # epoll(7) takes no regular files

    @property
    def heard(self) -> dict[str, str]:
        """The output of each program."""
        return {name: raw.decode("utf-8", "replace") for name, raw in self.said.items()}

    def run(self) -> None:
        """Work until both programs have ended. LxcGpuError as from `extract`."""
        feed, between = self.unzip.stdin, self.unzip.stdout
        assert feed is not None and between is not None  # noqa: S101, PT018
        for pipe in (feed, between):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)
        between.close()  # tar's now: zstd has to notice when tar ends
        os.set_blocking(feed.fileno(), False)
        heard = {"zstd": self.unzip.stderr, "tar": self.untar.stderr, "end": self.untar.stdout}
        for name, stream in heard.items():
            assert stream is not None  # noqa: S101
            self.said[name] = b""
            self._selector.register(stream, selectors.EVENT_READ, name)
        self._selector.register(self.source.descriptor, selectors.EVENT_READ, "source")
        looking, talking = Pace(LOOK_EVERY), len(heard)
        while talking:
            for key, _ in self._selector.select(LOOK_EVERY):
                if key.data == "source":
                    self._read()
                elif key.data == "feed":
                    self._write()
                elif not self._hear(key.data, key.fd):
                    self._selector.unregister(key.fileobj)
                    talking -= 1
            if looking.due():
                self._look()

    def _read(self) -> None:
        """Read the next bytes from the source, and write them next."""
        try:
            raw = os.read(self.source.descriptor, CHUNK)
        except BlockingIOError:
            return
        self._last_byte = time.monotonic()
        self._selector.unregister(self.source.descriptor)
        feed = self.unzip.stdin
        assert feed is not None  # noqa: S101
        if raw:
            self.digest.update(raw)
            self.passed += len(raw)
            self._chunk = memoryview(raw)
            self._selector.register(feed, selectors.EVENT_WRITE, "feed")
        else:
            feed.close()

    def _write(self) -> None:
        feed = self.unzip.stdin
        assert feed is not None  # noqa: S101
        try:
            self._chunk = self._chunk[os.write(feed.fileno(), self._chunk) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it ended early: what it says is the reason
            self._selector.unregister(feed)
            return
        if not self._chunk:
            self._selector.unregister(feed)
            self._last_byte = time.monotonic()
            self._selector.register(self.source.descriptor, selectors.EVENT_READ, "source")

    def _hear(self, name: str, descriptor: int) -> bool:
        """Keep the beginning and the end of the output. False when it ends."""
        raw = os.read(descriptor, CHUNK)
        known = self.said[name] + raw
        self.said[name] = known[:MOST_SAID] + known[MOST_SAID:][-MOST_SAID:]
        return bool(raw)

    def _look(self) -> None:
        """Check the disk and the clock. LxcGpuError if the work has to stop."""
        left = free_space(self.folder)
        if left.size < 0 or left.files < 0:
            raise disk_full(self.source.what, self.folder)
        if not self._chunk and not self._closed and time.monotonic() - self._last_byte > STALL:
            raise LxcGpuError(
                "stalled",
                f"For {STALL:.0f} s nothing more of {self.source.what} came.",
                "Nothing was changed. Try again; look at the machine that sends.",
                Remedy.RETRY,
            )
        if self._telling.due():
            self.tell(self._progress())

    @property
    def _closed(self) -> bool:
        return self.unzip.stdin is None or self.unzip.stdin.closed

    def _progress(self) -> Progress:
        if self.source.total:
            share = min(1.0, self.passed / self.source.total)
            return Progress(f"unpacking {self.source.what}", share)
        return Progress(f"unpacking {self.source.what}: {in_words.size(self.passed)} so far")


def disk_full(what: str, folder: Path, details: str = "") -> LxcGpuError:
    """The error for what doesn't fit on the disk."""
    return LxcGpuError(
        "disk-full",
        f"No space for {what}: the disk of {folder.parent.parent} is full (a reserve stays free "
        "for the others).",
        "Nothing was kept of it. Sysadmin: free some space.",
        Remedy.PERSON,
        details,
    )


def _bad_archive(what: str, pump: _Pump, said: Mapping[str, str], folder: Path) -> LxcGpuError:
    """What went wrong, from what the programs said."""
    passed, (unzipped, _) = pump.passed, pump.statuses
    details = "\n".join(f"{name}: {text}" for name, text in said.items())
    if any(word in said["tar"] for word in ("No space left", "Disk quota", "Wrote only")):
        return disk_full(what, folder, details)
    garbled = "does not look like a tar" in said["tar"] or "Skipping to next" in said["tar"]
    if (
        any(word in said["zstd"] for word in ("premature", "unexpected end"))
        or (not garbled and "Unexpected EOF" in said["tar"])
        or (not garbled and not unzipped and "End of File" in said["end"])
    ):
        return LxcGpuError(
            "cut-off",
            f"Of {what} only the beginning came: it ends in the middle."
            if passed
            else f"Nothing of {what} came.",
            "Nothing was changed. Make or send it again.",
            details=details,
        )
    first = (_reasons(said) or said["tar"].splitlines() or ["tar gave no reason"])[0]
    first = first if len(first) < 200 else f"{first[:80]}...{first[-100:]}"
    return LxcGpuError(
        "unpack", f"{what[:1].upper()}{what[1:]} could not be unpacked: {first}",
        "Nothing was changed.", details=details,
    )  # fmt: skip
