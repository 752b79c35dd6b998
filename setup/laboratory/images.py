"""The cache of images: each made once from what its key says, shared by all labs of this machine.

A host is an overlay over its image, so five hosts are there in a second (plain copies took 10 to
25 s after a `down`: ext4 is slow to make files where many were just removed). An overlay can't
carry another overlay nor an id-mapped mount, which researchers' containers may want: their places
(layout.DISKS) are plain folders. dpkg renames folders, so the overlays have `redirect_dir`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from laboratory import recipes
from laboratory.layout import CACHE, CHECKOUT, HostSpec, Places
from laboratory.locks import locked
from laboratory.progress import Progress
from state.command import run

UNUSED_FOR = 14 * 24 * 3600
"""Seconds after which an image that nobody used is removed."""
USERS = CACHE / "users"
"""Links to the folders of all hosts of all labs."""
SETUP = CHECKOUT / "setup"


@dataclass(frozen=True)
class Image:
    """Something in the cache: a folder or a file."""

    name: str
    key: str
    build: Callable[[Path], None]
    """Makes it, under a temporary name."""
    suffix: str = ""

    @property
    def path(self) -> Path:
        """Where it is once it is made; it never changes there."""
        return CACHE / f"{self.name}-{self.key}{self.suffix}"


def key_of(*parts: str | bytes | Path) -> str:
    """A short hash of texts and of the contents of files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part
        content = content.encode() if isinstance(content, str) else content
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:12]


def ensure(image: Image, progress: Progress) -> Path:
    """Make `image` unless it is there; returns where it is."""
    if not image.path.exists():
        with locked(CACHE / f"{image.name}.lock"):
            if not image.path.exists():
                _make(image, progress)
    os.utime(image.path)
    return image.path


def claim(place: Places, host_folder: Path) -> None:
    """Note that the host in `host_folder` stands on what its link `image` leads to."""
    USERS.mkdir(parents=True, exist_ok=True)
    claimed = USERS / f"{place.id}-{host_folder.name}"
    claimed.unlink(missing_ok=True)
    claimed.symlink_to(host_folder)


def _in_use() -> set[Path]:
    """The images that a host of any lab stands on."""
    return {Path(os.path.realpath(user / "image")) for user in USERS.glob("*") if user.is_dir()}


def _make(image: Image, progress: Progress) -> None:
    """Under the lock: make it beside its place, move it there when it is whole."""
    in_use = _in_use()
    for old in CACHE.glob(f"{image.name}-*"):
        unused = time.time() - old.stat().st_mtime > UNUSED_FOR and old not in in_use
        if unused or ".partial" in old.name:
            run(["rm", "-rf", "--one-file-system", old], timeout=300)
    with progress.step(f"make image {image.name}"):
        partial = Path(tempfile.mkdtemp(prefix=f"{image.name}-{image.key}.partial", dir=CACHE))
        made = partial / f"made{image.suffix}"
        try:
            image.build(made)
            made.rename(image.path)
        finally:
            run(["rm", "-rf", "--one-file-system", partial], timeout=300)


class Images:
    """The images that a lab's hosts need, each asked for once, made in parallel."""

    def __init__(self, progress: Progress, pool: ThreadPoolExecutor) -> None:
        self._progress = progress
        self._pool = pool
        self._asked: dict[str, Future[Path]] = {}
        common = (recipes.own_sources(), SETUP / "template", Path(recipes.__file__))
        self._base_key = key_of(*common)
        self._wheels_key = key_of(*recipes.wanted_packages(), recipes.python_version())

    def start(self, spec: HostSpec) -> None:
        """Begin to make whatever `spec` needs."""
        self._ask("base")
        if spec.checkout:
            self._ask("wheels")
        if spec.template:
            self._ask("template")

    def of(self, spec: HostSpec) -> Path:
        """The image that `spec` is a copy of; waits until it is made."""
        self.base()
        return ensure(self._role(spec.image), self._progress)

    def base(self) -> Path:
        """The image that all others start from."""
        return self._ask("base").result()

    def wheels(self) -> Path:
        """The folder of Python packages that the project depends on."""
        return self._ask("wheels").result()

    def template(self) -> Path:
        """The template of researchers' containers."""
        return self._ask("template").result()

    def current(self, spec: HostSpec) -> Path:
        """Where the image of `spec` would be, made or not."""
        return self._role(spec.image).path

    def _ask(self, name: str) -> Future[Path]:
        images = {
            "base": Image("base", self._base_key, recipes.base),
            "wheels": Image("wheels", self._wheels_key, recipes.wheels),
            "template": Image("template", self._base_key, recipes.template, suffix=".tar.zst"),
        }
        if name not in self._asked:
            self._asked[name] = self._pool.submit(ensure, images[name], self._progress)
        return self._asked[name]

    def _role(self, name: str) -> Image:
        if name not in recipes.SETUP_SCRIPTS:
            recipe = recipes.ROLES[name]
            return Image(
                name,
                key_of(self._base_key, *recipes.files_of(name)),
                lambda made: recipe(self.base(), made),
            )
        script = SETUP / recipes.SETUP_SCRIPTS[name]
        return Image(
            name,
            key_of(self._base_key, self._wheels_key, *recipes.files_of(name)),
            lambda made: recipes.server(self.base(), made, script, self.wheels()),
        )
