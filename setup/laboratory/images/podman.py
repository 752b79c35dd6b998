"""Gets Podman from this machine's archive, for containers that can't reach it.

Its packages are unpacked, not installed: what a test runs needs no scripts of theirs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from laboratory.images import package_lists, recipes
from laboratory.images.cache import Image, ensure, key_of
from laboratory.progress import ProgressLines
from state.command import run

PACKAGES = (
    "podman", "conmon", "crun", "libyajl2", "libgpgme11", "libassuan0", "libsubid4", "libglib2.0-0",
    "golang-github-containers-common", "golang-github-containers-image", "busybox-static",
)  # fmt: skip
"""What Debian 12's slim system lacks of it. Busybox is what an image consists of."""


def podman(progress: ProgressLines) -> Path:
    """A tar archive of the files; in the cache."""
    package_lists.fetch(progress)
    key = key_of(recipes.own_sources(), Path(__file__))
    return ensure(Image("podman", key, _download), progress) / "files.tar"


def _download(made: Path) -> None:
    unpacked = made / "unpacked"
    unpacked.mkdir(parents=True)
    download = ["apt-get", "-q", "download", *PACKAGES]
    run(download, env=package_lists.apt_environment(), cwd=made, timeout=recipes.LONG)
    for archive in made.glob("*.deb"):
        run(["dpkg-deb", "-x", archive, unpacked])
        archive.unlink()
    shutil.rmtree(unpacked / "usr/share/doc")
    run(["tar", "-C", unpacked, "-cf", made / "files.tar", "."])
    shutil.rmtree(unpacked)
