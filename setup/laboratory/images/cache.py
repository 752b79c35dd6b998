"""The cache of images. Each is made once for its key, and shared by all labs of this machine.

A host is an overlay over its image, so five hosts are there in a second (plain copies took 10 to
25 s after a `down`: ext4 is slow to make files where many were just removed). An overlay can't
carry another overlay nor an id-mapped mount, which researchers' containers may want: their places
(layout.DISKS) are plain folders. dpkg renames folders, so the overlays have `redirect_dir`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from installation import lock

from laboratory.images import recipes, virtual_image
from laboratory.layout import CACHE, CHECKOUT, VIRTUAL, HostSpec, LabPaths
from laboratory.locks import locked
from laboratory.progress import ProgressLines
from state.command import run

UNUSED_FOR = 14 * 24 * 3600
"""Seconds after which an image that nobody used is removed."""
USERS = CACHE / "users"
"""Links to the folders of all hosts of all labs."""
SETUP = CHECKOUT / "setup"
KEY = "[0-9a-f]" * 12
"""The pattern of what `key_of` makes, since one image's name may begin with another's."""


@dataclass(frozen=True)
class Image:
    """Something in the cache: a folder or a file."""

    name: str
    key: str
    build: Callable[[Path], None]
    """Makes it, under a temporary name."""
    suffix: str = ""
    needs: tuple[Image, ...] = ()
    """What must be made before it."""

    @property
    def path(self) -> Path:
        """Its path once it is made. It never changes afterwards."""
        return CACHE / f"{self.name}-{self.key}{self.suffix}"


def key_of(*parts: str | bytes | Path) -> str:
    """A short hash of texts and of the contents of files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part
        content = content.encode() if isinstance(content, str) else content
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:12]


def ensure(image: Image, progress: ProgressLines) -> Path:
    """Make `image` unless it is there; returns where it is."""
    if not image.path.exists():
        waiting = f"wait for image {image.name}, which is being made already"
        with locked(CACHE / f"{image.name}.lock", lambda: progress.step(waiting)):
            if not image.path.exists():
                _make(image, progress)
    os.utime(image.path)
    return image.path


def claim(place: LabPaths, host_folder: Path) -> None:
    """Note that the host in `host_folder` uses the image that its link `image` leads to."""
    USERS.mkdir(parents=True, exist_ok=True)
    claimed = USERS / f"{place.id}-{host_folder.name}"
    claimed.unlink(missing_ok=True)
    claimed.symlink_to(host_folder)


def _in_use() -> set[Path]:
    """The images that hosts of any lab use."""
    images = set()
    for user in USERS.glob("*"):
        if user.is_dir():
            image = Path(os.path.realpath(user / "image"))
            images |= {image, image.parent}  # some images hold systems of several hosts
        else:
            user.unlink(missing_ok=True)
    return images


def _make(image: Image, progress: ProgressLines) -> None:
    """Under the lock, make the image beside its path, and move it there when it is complete."""
    in_use = _in_use()
    for old in CACHE.glob(f"{image.name}-{KEY}*"):
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
    """The images that a lab's hosts need, each asked for once, made in parallel.

    The pool needs a thread for each image and each host, as they wait for each other.
    """

    def __init__(self, progress: ProgressLines, pool: ThreadPoolExecutor) -> None:
        self._progress = progress
        self._pool = pool
        self._asked: dict[Path, Future[Path]] = {}
        self._lock = threading.Lock()
        self._sources = recipes.own_sources()

    def start(self, spec: HostSpec) -> None:
        """Begin to make the images that `spec` needs."""
        self._ask(self._role(spec))
        if spec.checkout:
            self._ask(self._wheels(spec.release))
        if spec.template:
            self._ask(self._template(recipes.TEMPLATE_RELEASE))

    def of(self, spec: HostSpec) -> Path:
        """The image that `spec` uses; waits until it is made."""
        return self._get(self._role(spec)) / spec.folder_in_image

    def wheels(self, spec: HostSpec) -> Path:
        """The folder of Python packages that the project depends on, for the Python of `spec`."""
        return self._get(self._wheels(spec.release))

    def template(self) -> Path:
        """The template of researchers' containers."""
        return self._get(self._template(recipes.TEMPLATE_RELEASE))

    def current(self, spec: HostSpec) -> Path:
        """Where the image of `spec` would be, made or not."""
        return self._role(spec).path / spec.folder_in_image

    def _get(self, image: Image) -> Path:
        return self._ask(image).result()

    def _ask(self, image: Image) -> Future[Path]:
        with self._lock:
            if image.path not in self._asked:
                self._asked[image.path] = self._pool.submit(self._ensure, image)
            return self._asked[image.path]

    def _ensure(self, image: Image) -> Path:
        if not image.path.exists():
            for need in image.needs:
                self._get(need)
        return ensure(image, self._progress)

    def _template(self, release: str) -> Image:
        key = key_of(self._sources, SETUP / "template")
        name = f"template-{release}"
        return Image(name, key, lambda made: recipes.template(release, made), suffix=".tar.zst")

    def _base(self, release: str) -> Image:
        system = self._template(release)
        return Image(
            f"base-{release}",
            key_of(system.key, Path(recipes.__file__)),
            lambda made: recipes.base(system.path, made),
            needs=(system,),
        )

    def _wheels(self, release: str) -> Image:
        python = recipes.python_of(release)
        key = key_of(lock.SERVERS, python)
        return Image(f"wheels-{python}", key, lambda made: recipes.wheels(python, made))

    def _role(self, spec: HostSpec) -> Image:
        return self._named(spec.image.partition("/")[0], spec.release)

    def _named(self, name: str, release: str) -> Image:
        called = f"{name}-{release}"
        if name.endswith(VIRTUAL):
            of = self._named(name.removesuffix(VIRTUAL), release)
            return Image(
                called,
                key_of(of.key, Path(virtual_image.__file__)),
                lambda made: virtual_image.virtual(of.path, made),
                needs=(of,),
            )
        files = recipes.files_of(name)
        base = self._base(release)
        if name in recipes.ROLES:
            recipe = recipes.ROLES[name]
            return Image(
                called,
                key_of(base.key, *files),
                lambda made: recipe(base.path, made),
                needs=(base,),
            )
        script = SETUP / recipes.SETUP_SCRIPTS[name]
        wheels = self._wheels(release)
        return Image(
            called,
            key_of(base.key, wheels.key, *files),
            lambda made: recipes.server(base.path, made, script, wheels.path),
            needs=(base, wheels),
        )
