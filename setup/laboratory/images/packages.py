"""Gets Debian packages for people's containers, which can't reach an archive from the lab."""

from __future__ import annotations

from pathlib import Path

from laboratory.images import package_lists, recipes
from laboratory.images.cache import Image, ensure, key_of
from laboratory.progress import ProgressLines
from state.command import run


def debs(progress: ProgressLines, name: str, packages: tuple[str, ...]) -> Path:
    """A folder with these packages as .deb files, in the cache, where it is called `name`.

    What they need and a slim template lacks has to be among them.
    """
    package_lists.fetch(progress)

    def download(made: Path) -> None:
        made.mkdir()
        words = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages]
        run(words, env=package_lists.apt_environment(), cwd=made, timeout=recipes.LONG)

    key = key_of(recipes.own_sources(), Path(__file__), " ".join(packages))
    return ensure(Image(f"packages-{name}", key, download), progress)
