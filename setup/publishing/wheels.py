"""The Python packages of a release: what the lock file names, and the project itself."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path

from installation import lock

from publishing.archive import Contents
from publishing.source import Source
from state import command

PYTHONS = ("3.11", "3.12", "3.13")
"""Of Debian 12, Ubuntu 24.04 and Debian 13."""
OLDEST_GLIBC, NEWEST_GLIBC = 5, 36
"""Second part of glibc's version. The newest is Debian 12's; a newer system runs what it runs."""
LONG = 1800
"""Seconds that a download may take."""
PIP = (str(lock.CHECKOUT / ".venv/bin/python"), "-P", "-m", "pip", "--disable-pip-version-check")


def collect(source: Source, pythons: Iterable[str]) -> Contents:
    """All wheels by their names."""
    with tempfile.TemporaryDirectory() as folder:
        wheels = Path(folder) / "wheels"
        for python in pythons:
            _download(source, python, wheels)
        _build(source, Path(folder) / "source", wheels)
        return {wheel.name: (wheel.read_bytes(), 0o644) for wheel in wheels.iterdir()}


def _download(source: Source, python: str, wheels: Path) -> None:
    """Whatever machine this is, the same wheels: those that run on the oldest system."""
    machine = platform.machine()
    versions = range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in versions]
    platforms += [f"{name}_{machine}" for name in ("manylinux2014", "linux")]
    words = ["download", "--quiet", "--dest", str(wheels), "--python-version", python]
    words += [f"--platform={name}" for name in platforms]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as locked:
        locked.write(source.text(str(lock.SERVERS.relative_to(lock.CHECKOUT))))
        locked.flush()
        _pip([*words, *lock.EXACTLY, locked.name])


def _build(source: Source, folder: Path, wheels: Path) -> None:
    """The project's own wheel. setuptools takes the files' time from SOURCE_DATE_EPOCH."""
    source.write(folder)
    words = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    _pip(
        [*words, "--wheel-dir", str(wheels), str(folder)],
        {"SOURCE_DATE_EPOCH": str(source.epoch), "PYTHONHASHSEED": "0"},
    )


def _pip(words: list[str], env: dict[str, str] | None = None) -> None:
    command.run([*PIP, *words], env={**lock.network_environment(), **(env or {})}, timeout=LONG)
