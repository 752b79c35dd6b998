"""Gets promtool, which checks metrics and alerts, from Debian's package of Prometheus."""

from __future__ import annotations

from pathlib import Path

from laboratory.images import package_lists, recipes
from laboratory.images.cache import Image, ensure, key_of
from laboratory.progress import ProgressLines
from state.command import run

PACKAGE = "prometheus"


def promtool(progress: ProgressLines) -> Path:
    """Where it is; kept in the cache."""
    package_lists.fetch(progress)
    key = key_of(recipes.own_sources(), Path(__file__))
    return ensure(Image("promtool", key, _download), progress) / "promtool"


def _download(made: Path) -> None:
    made.mkdir()
    # Unpacked and not installed: the package would start a daemon.
    download = ["apt-get", "-q", "download", PACKAGE]
    run(download, env=package_lists.apt_environment(), cwd=made, timeout=recipes.LONG)
    (archive,) = made.glob("*.deb")
    run(["dpkg-deb", "-x", archive, made / "unpacked"], timeout=recipes.LONG)
    (made / "unpacked/usr/bin/promtool").rename(made / "promtool")
    run(["rm", "-rf", archive, made / "unpacked"])
