"""The cache of images: each made once from what its key says, shared by all labs of this machine.

Hosts get plain copies of an image. An overlay over the image would be made faster, but is no
place for what runs in the hosts: overlayfs can't be the upper layer of another overlay, has no
id-mapped mounts of itself, and refuses to rename folders of its lower layer, which containers
inside the hosts, and dpkg, do. `cp --reflink=auto` is free where the file system can share.
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
from laboratory.layout import CACHE, CHECKOUT, HostSpec
from laboratory.locks import locked
from laboratory.progress import Progress
from state.command import run

UNUSED_FOR = 14 * 24 * 3600
"""Seconds after which an image that nobody used is removed."""
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


def _make(image: Image, progress: Progress) -> None:
    """Under the lock: make it beside its place, move it there when it is whole."""
    for old in CACHE.glob(f"{image.name}-*"):
        unused = time.time() - old.stat().st_mtime > UNUSED_FOR
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
