"""Writes the lock files: which Python packages are installed, each with its digests.

uv makes them from pyproject.toml (`setup/lock`). Standard library and `state` only: set-up scripts
use this before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tomllib
from pathlib import Path

from state import command
from state.errors import LxcGpuError
from state.files import read_text, write_file

CHECKOUT = Path(__file__).resolve().parents[2]
LOCKED = CHECKOUT / "setup" / "locked"
SERVERS = LOCKED / "servers.txt"
"""For programs of root: the project's dependencies."""
DEVELOPMENT = LOCKED / "development.txt"
"""For developers: the dependencies of the project, of the tests and of the build."""
EXACTLY = ("--require-hashes", "--only-binary=:all:", "--requirement")
"""Options of pip before a lock file: install nothing else, and build nothing, since a build fetches
packages that no file fixes."""
FIRST_PYTHON = "3.11"
"""The oldest Python that the files are for. Markers in them distinguish later ones."""
UV = CHECKOUT / ".venv" / "bin" / "uv"
HEADER = """\
# Made by setup/lock out of pyproject.toml. To have it anew: setup/lock, or setup/lock --upgrade.
# Made from: {digest}
"""


def requirements(lock: Path, pyproject: str) -> list[str]:
    """The requirements that a lock file has to cover, from the text of pyproject.toml."""
    project = tomllib.loads(pyproject)
    wanted = list(project["project"]["dependencies"])
    if lock == DEVELOPMENT:
        wanted += project["project"]["optional-dependencies"]["test"]
        wanted += project["build-system"]["requires"]
    return sorted(wanted)


def digest_of(wanted: list[str]) -> str:
    """A digest that tells whether a lock file was made from these requirements."""
    return hashlib.sha256("\n".join(wanted).encode()).hexdigest()


def made_from(text: str) -> str:
    """The digest in a lock file's header; empty if there is none."""
    found = re.search(r"^# Made from: ([0-9a-f]{64})$", text, re.MULTILINE)
    return found[1] if found else ""


def normal(name: str) -> str:
    """A package's name, normalised for comparison."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Names, normalised, and versions of the packages in a lock file."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE)
    return {normal(name): version for name, version in found}


def network_environment() -> dict[str, str]:
    """The environment that says how packages are reached: options of pip and uv, proxies,
    certificates."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "UV_", "SSL_CERT_")) or name.lower().endswith("_proxy")
    }


def make(lock: Path, *, upgrade: bool) -> None:
    """Make a lock file. Without `upgrade`, versions that still fit are kept."""
    wanted = requirements(lock, (CHECKOUT / "pyproject.toml").read_text())
    words = [
        "pip", "compile", "--quiet", "--universal", "--python-version", FIRST_PYTHON,
        "--generate-hashes", "--no-header", "--no-annotate",
        "--no-emit-index-url", "--no-emit-find-links",
    ]  # fmt: skip
    if lock == SERVERS:
        words += ["--constraint", str(DEVELOPMENT)]
    before = read_text(lock) or ""
    draft = lock.with_suffix(".new")
    try:
        draft.write_text("" if upgrade else before)
        words += ["--output-file", str(draft), "-"]
        command.run(
            [UV, *words],
            stdin="\n".join(wanted),
            env=network_environment(),
            cwd=CHECKOUT,
            timeout=600,
        )
        made = re.sub(r"^#.*\n", "", draft.read_text(), flags=re.MULTILINE)
    finally:
        draft.unlink(missing_ok=True)
    write_file(lock, HEADER.format(digest=digest_of(wanted)) + made, 0o644)
    _tell(lock, pins(before), pins(made))


def _tell(lock: Path, before: dict[str, str], after: dict[str, str]) -> None:
    print(f"{lock.relative_to(CHECKOUT)}: {len(after)} packages")
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            print(f"  {name}: {before.get(name, 'new')} -> {after.get(name, 'gone')}")


def main() -> int:
    """Make both lock files. The exit status."""
    parser = argparse.ArgumentParser(
        prog="setup/lock",
        description="Writes setup/locked/*.txt: which Python packages are installed on servers and "
        "for development, each with its digests. Commit them with pyproject.toml.",
    )
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions "
                        "that pyproject.toml allows, also of locked packages")  # fmt: skip
    options = parser.parse_args()
    try:
        for lock in (DEVELOPMENT, SERVERS):  # servers get the versions that are tested
            make(lock, upgrade=options.upgrade)
    except LxcGpuError as error:
        print(f"setup/lock: {error}", file=sys.stderr)
        if error.details:
            print(error.details, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
