"""Engines of containers for a researcher's system that has no way to the archive: an apt source.

The packages are kept with the lab's images, which the virtual machine sees; packed anew by zstd,
because an emulated machine takes minutes for xz. Beside them is a newer runc than the release's,
from Debian's unstable, with the C library that it was made for.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from laboratory.images import cache, package_lists
from laboratory.layout import CACHE
from laboratory.progress import ProgressLines

from state.command import run

DOCKER = ("docker.io", "busybox-static")
OTHERS = ("docker-compose", "podman", "buildah", "crun", "slirp4netns", "uidmap", "lxc",
          "dbus-user-session", "containernetworking-plugins")  # fmt: skip
RUNC = ("runc", "libc6", "libseccomp2")
NEWER = "/opt/newer-runc"
"""Where the newer runc has to lie: its interpreter and libraries are named by path."""
INTERPRETER = "ld-linux-x86-64.so.2"
LIBRARIES = (INTERPRETER, "libc.so.6", "libseccomp.so.2")
APT = """
Dir::State::Lists "{folder}/lists";
Dir::State::status "{status}";
Dir::Cache "{folder}/cache";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "-";
APT::Sandbox::User "root";
"""


def archive(template: Path) -> Path:
    """The folder with what this template lacks: `docker`, `others` and `newer-runc`."""

    def make(made: Path) -> None:
        made.mkdir()
        with TemporaryDirectory(prefix="lxc-gpu-engines") as folder:
            work = Path(folder)
            status = work / "status"
            status.write_bytes(_member(template, "./var/lib/dpkg/status"))
            _packages(made / "docker", DOCKER, work, status)
            _packages(made / "others", (*DOCKER, *OTHERS), work, status)
            _newer_runc(made / "newer-runc", work, status)

    key = cache.key_of(template.name, Path(__file__))
    return cache.ensure(cache.Image("engines", key, make), ProgressLines())


def _member(archive: Path, name: str) -> bytes:
    words = ["tar", "--zstd", "--extract", "--to-stdout", f"--file={archive}", name]
    return run(words, timeout=300).stdout.encode()


def _packages(made: Path, names: Sequence[str], work: Path, status: Path) -> None:
    """A flat source for apt (sources.list(5)) with what these need."""
    fetched = work / made.name
    (fetched / "partial").mkdir(parents=True)
    made.mkdir()
    options = [f"Dir::State::status={status}", f"Dir::Cache::archives={fetched}",
               "Debug::NoLocking=1"]  # fmt: skip
    words = ["apt-get", "-q", "-y", "--no-install-recommends", "--download-only"]
    words += [f"--option={option}" for option in options]
    run([*words, "install", *names], env=package_lists.apt_environment(), timeout=900)
    index = [_packed_anew(package, made, work) for package in sorted(fetched.glob("*.deb"))]
    (made / "Packages").write_text("\n".join(index))


def _packed_anew(package: Path, made: Path, work: Path) -> str:
    """The package's paragraph of the index."""
    tree, new = work / "tree", made / package.name.replace("%", "")
    run(["dpkg-deb", "--raw-extract", package, tree])
    run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z9", "--build", tree, new], timeout=300)
    shutil.rmtree(tree)
    fields = run(["dpkg-deb", "--field", new]).stdout.strip()
    digest = sha256(new.read_bytes()).hexdigest()
    return f"{fields}\nFilename: ./{new.name}\nSize: {new.stat().st_size}\nSHA256: {digest}\n"


def _newer_runc(made: Path, work: Path, status: Path) -> None:
    (work / "lists").mkdir()
    (work / "sources.list").write_text(f"deb {_mirror()} sid main\n")
    (work / "apt.conf").write_text(APT.format(folder=work, status=status))
    environment = {**package_lists.apt_environment(), "APT_CONFIG": str(work / "apt.conf")}
    run(["apt-get", "-qq", "update"], env=environment, timeout=900)
    root = work / "unstable"
    for package in _downloaded(RUNC, work, environment):
        run(["dpkg-deb", "--extract", package, root])
    made.mkdir()
    libraries = root / "usr/lib/x86_64-linux-gnu"
    for name in LIBRARIES:
        shutil.copy(libraries / name, made / name)
    program = made / "runc"
    shutil.copy(root / "usr/sbin/runc", program)
    (tool,) = _downloaded(["patchelf"], work, package_lists.apt_environment())
    run(["dpkg-deb", "--extract", tool, work / "tool"])
    run([work / "tool/usr/bin/patchelf", "--set-interpreter", f"{NEWER}/{INTERPRETER}",
         "--force-rpath", "--set-rpath", NEWER, program])  # fmt: skip


def _mirror() -> str:
    """Where this machine gets its own packages."""
    own = platform.freedesktop_os_release()["VERSION_CODENAME"]
    words = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"]
    listed = run(words, env=package_lists.apt_environment()).stdout.splitlines()
    return next(site for site, release in map(str.split, listed) if release == own)


def _downloaded(
    names: Sequence[str], work: Path, environment: Mapping[str, str]
) -> tuple[Path, ...]:
    folder = work / names[0]
    folder.mkdir()
    run(["apt-get", "-qq", "download", *names], env=environment, cwd=folder, timeout=900)
    return tuple(folder.glob("*.deb"))


def seen_by_the_machine(folder: Path) -> str:
    """Where the virtual machine sees a folder of the cache."""
    return f"/run/lab/images/{folder.relative_to(CACHE)}"
