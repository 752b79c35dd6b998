"""The state repository: a bare clone that is fetched, and read at a revision.

Control flow of a read: `ls-tree` names the blobs of a revision, `cat-file` gives those that weren't
read before, and `state.reading.load.build` makes a State of them: never a work tree, so nobody
sees half an update. `state.git.publish` commits edits to it.

Models and YAML are loaded when a state is first read: a round with nothing new needs neither.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from state.errors import LxcGpuError, Remedy
from state.files import read_text
from state.git.commits import MAIN, Commit, commit_of, log
from state.git.locks import LOCK_FILES
from state.git.plumbing import REMOTE_LIMIT, SSH, TOO_LONG, GitError, Plumbing, failure

if TYPE_CHECKING:
    from state.git.tree import TreeReader
    from state.model.documents import State
    from state.reading.load import Models

LOCK_LIMIT = 120.0
"""Seconds to wait for another fetch or commit on the same clone."""
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./^~-]{0,200}", re.ASCII)
_URL = re.compile(r"/|ssh://[A-Za-z0-9]|https://[A-Za-z0-9]|file:///|([\w.-]+@)?[\w.-]+:(?!:|//)")
_FULL = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?", re.ASCII)


class Repository:
    """A clone of the state repository, bare, with `origin` as its remote."""

    def __init__(self, path: Path, ssh_command: str = SSH) -> None:
        """Open the clone at `path`; `ssh_command` is what Git reaches the remote with."""
        self.path = path.absolute()
        self.git = Plumbing(self.path, ssh_command)
        self._last: tuple[str, State] | None = None

    @classmethod
    def clone(cls, url: str, path: Path, ssh_command: str = SSH, *, anew: bool = False) -> Self:
        """Clone the remote at `url` to `path`, or bring the clone that is there up to date.

        `anew` puts a fresh one in the place of one that is damaged; that one stays where it is
        until the fresh one is whole. An empty remote is fine. RemoteError says why there is no
        clone; then `path` is as it was.
        """
        if not _URL.match(url) or not url.isprintable():
            raise LxcGpuError(
                "bad-address",
                f"{url!r} isn't the address of a Git repository.",
                "Give an absolute path, ssh://..., https://... or user@host:path.",
            )
        repository = cls(path, ssh_command)
        path = repository.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if path.exists() and not anew:
                repository._remove_locks()
                if f"\n\turl = {url}\n" not in (read_text(path / "config") or ""):
                    repository.git.run("config", "remote.origin.url", url)
                repository._fetch_alone()
            else:
                repository._make(url)
        return repository

    def _make(self, url: str) -> None:
        """Make the clone, in the place of any that is there. The caller holds its lock."""
        import shutil  # only where a clone is made: of these two comes much else
        import tempfile

        path, prefix = self.path, f".{self.path.name}.clone-"
        for leftover in path.parent.glob(f"{prefix}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=prefix, dir=path.parent, ignore_cleanup_errors=True
        ) as folder:
            fresh = Repository(Path(folder) / "clone", self.git.ssh_command)
            fresh.git.run("init", "--quiet", "--bare", "--template=", "--initial-branch=main")
            fresh.git.run("config", "remote.origin.url", url)
            fresh._fetch_alone()
            if path.exists():
                path.rename(Path(folder) / "damaged")
            fresh.path.rename(path)

    def whole(self) -> bool:
        """Whether nothing of this clone is damaged: every object is read (git-fsck(1)).

        What can't be read within the limit isn't called damaged.
        """
        checked = self.git.ask(("fsck", "--no-progress", "--no-dangling"))
        if TOO_LONG in checked.errors:
            return True
        configured = self.git.ask(("config", "--get", "remote.origin.url"))
        bare = self.git.ask(("config", "--type=bool", "--get", "core.bare"))
        return (checked.status, configured.status, bare.output) == (0, 0, b"true\n")

    def fetch(self) -> str | None:
        """Fetch the remote's main; its tip, or None if the remote is empty.

        RemoteError if that can't be done; then everything stays as it was.
        """
        with self.alone():
            return self.fetch_alone()

    def fetch_alone(self) -> str | None:
        """Like `fetch`, for callers that hold `alone()` already."""
        return self.tip() if self._fetch_alone() else None

    def _fetch_alone(self) -> bool:
        """Whether the remote has anything."""
        words = ("fetch", "--quiet", "--no-tags", "origin", f"+{MAIN}:{MAIN}")
        answered = self.git.ask(words, limit=REMOTE_LIMIT)
        if answered.status == 0:
            return True
        if "couldn't find remote ref" not in answered.errors:
            raise failure(words, answered)
        if self._resolved(MAIN) is not None:
            raise LxcGpuError(
                "state-vanished",
                "The state repository has no branch `main` any more.",
                "Push it back from a clone; until then everything stays as it is.",
            )
        return False

    def tip(self) -> str:
        """The newest revision that was fetched. LxcGpuError if the repository is empty."""
        revision = self._resolved(MAIN)
        if revision is None:
            raise LxcGpuError(
                "state-empty",
                "The state repository is empty.",
                "`lxc-gpu init FOLDER` writes a first state to push there.",
            )
        return revision

    def tree_id(self, revision: str) -> str:
        """The id of the tree at `revision`: equal trees hold equal states."""
        return self._known(f"{_checked(revision)}^{{tree}}", revision)

    def holds(self, revision: str) -> bool:
        """Whether the commit `revision` is here."""
        return self._resolved(f"{_checked(revision)}^{{commit}}") is not None

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether `newer` contains `older`, or is it."""
        words = ("merge-base", "--is-ancestor", _checked(older), _checked(newer))
        answered = self.git.ask(words)
        if answered.status not in (0, 1):
            raise failure(words, answered)
        return answered.status == 0

    def read(self, revision: str) -> State:
        """The state at `revision`. StateInvalidError carries everything that is wrong there."""
        tree = self.tree_id(revision)
        if self._last is not None and self._last[0] == tree:
            return self._last[1]
        from state.reading.load import build

        blobs, problems = self.trees.blobs(tree)
        documents = self.trees.documents(blobs, problems)
        state = build(
            documents,
            lambda path: self.trees.content(blobs[path]),
            problems,
            lambda path, document: self.models.read(path, blobs[path], document),
        )
        self._last = (tree, state)
        return state

    def files(self, revision: str, paths: tuple[str, ...]) -> Mapping[str, bytes]:
        """The content of the files at `paths`, of those that exist at `revision`."""
        return self.trees.files(self.tree_id(revision), paths)

    def history(self, *paths: str, limit: int = 50) -> tuple[Commit, ...]:
        """The newest `limit` commits, of those that touched `paths` if any are given."""
        if self._resolved(MAIN) is None:
            return ()
        return tuple(
            map(commit_of, log(self.git, (f"--max-count={int(limit)}", MAIN, "--", *paths)))
        )

    @cached_property
    def trees(self) -> TreeReader:
        """The files of any revision, each parsed once."""
        from state.git.tree import TreeReader

        return TreeReader(self.git)

    @cached_property
    def models(self) -> Models:
        """The typed values of any file, each made once."""
        from state.reading.load import Models

        return Models()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who makes or changes this clone, among threads and programs."""
        with _alone(self.path):
            if not self.path.is_dir():
                raise self._no_clone("")
            self._remove_locks()
            yield

    def _remove_locks(self) -> None:
        """A killed Git leaves *.lock files; who is alone here knows that they are nobody's."""
        for pattern in LOCK_FILES:
            for leftover in self.path.glob(pattern):
                leftover.unlink(missing_ok=True)

    def _known(self, expression: str, revision: str) -> str:
        found = self._resolved(expression)
        if found is None:
            raise LxcGpuError("unknown-revision", f"There is no revision {revision} here.")
        return found

    def _resolved(self, expression: str) -> str | None:
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", expression)
        answered = self.git.ask(words)
        found = answered.output.decode("ascii", "replace").strip()
        if _FULL.fullmatch(found):
            return found
        if answered.errors and not (self.path / "objects").is_dir():
            raise self._no_clone(answered.errors)
        return None

    def _no_clone(self, details: str) -> GitError:
        return GitError(
            "no-clone",
            f"{self.path} isn't a Git repository.",
            "Clone the state repository there first.",
            details=details,
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of the clone at `path`. It is beside the clone, which may not be there."""
    deadline = time.monotonic() + LOCK_LIMIT
    with path.with_name(f".{path.name}.flock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _busy() from None
                time.sleep(0.01)
        yield


def _checked(revision: str) -> str:
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise LxcGpuError("bad-revision", f"{revision!r} isn't a revision.")
    return revision


def _busy() -> LxcGpuError:
    return LxcGpuError(
        "state-busy",
        "Somebody else is changing the state at the moment.",
        "Try again in a minute.",
        Remedy.WAIT,
    )
