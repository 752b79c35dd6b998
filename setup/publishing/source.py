"""What of the checkout is released: the files of one commit, or, for a draft, as they are now."""

from __future__ import annotations

import datetime
import re
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from installation.lock import CHECKOUT

from publishing.archive import Contents
from state import command
from state.errors import LxcGpuError


@dataclass(frozen=True)
class Source:
    """The project as it is released."""

    contents: Contents
    epoch: int
    """When the commit was made, in seconds."""

    @property
    def version(self) -> str:
        """The version that pyproject.toml names."""
        return str(tomllib.loads(self.text("pyproject.toml"))["project"]["version"])

    def text(self, name: str) -> str:
        """The text of a file."""
        return self.contents[name][0].decode()

    def write(self, folder: Path) -> None:
        """Put the files into a folder, with the time of the commit."""
        for name, (content, mode) in self.contents.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(mode)


def committed() -> Source:
    """The files of the last commit; LxcGpuError if the checkout has others, or isn't ready."""
    if changed := _git("status", "--porcelain"):
        raise LxcGpuError(
            "release-changed",
            "Files were changed and not committed; an archive is made of a commit.",
            "Commit or undo them; or make a draft, which takes them as they are: "
            "setup/release --draft",
            details=changed,
        )
    source = _read("HEAD")
    _require_announced(source)
    return source


def as_they_are() -> Source:
    """The files of the checkout, committed or not, but those that Git ignores."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        _git("read-tree", "HEAD", env=index)
        _git("add", "--all", env=index)
        return _read(_git("write-tree", env=index))


def _require_announced(source: Source) -> None:
    heading = rf"^## \[{re.escape(source.version)}\] - (\d{{4}}-\d\d-\d\d)$"
    found = re.search(heading, source.text("CHANGELOG.md"), re.MULTILINE)
    if not found:
        today = datetime.datetime.now(datetime.UTC).date()
        raise LxcGpuError(
            "release-unannounced",
            f"CHANGELOG.md doesn't say what is in version {source.version}.",
            f"Move what is under [Unreleased] to a heading `## [{source.version}] - {today}`, "
            "and commit it: docs/releasing.md.",
        )


def _read(tree: str) -> Source:
    contents = {}
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "files.tar"
        _git("archive", "--format=tar", f"--output={packed}", tree)
        with tarfile.open(packed) as tar:
            for member in tar:
                if content := tar.extractfile(member) if member.isfile() else None:
                    mode = 0o755 if member.mode & 0o100 else 0o644
                    contents[member.name] = content.read(), mode
    return Source(contents, int(_git("log", "-1", "--format=%ct", "HEAD")))


def _git(*words: str, env: dict[str, str] | None = None) -> str:
    done = command.run(["git", "-C", CHECKOUT, *words], env=env, timeout=300)
    return done.stdout.strip()
