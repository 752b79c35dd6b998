"""How the lab's images are made. The text of this file is part of every image's key."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from installation import lock

from laboratory.directory import samba, slapd
from laboratory.images import package_lists
from laboratory.layout import CHECKOUT, LAPTOP_USER, SOURCE_INSIDE, WHEELS_INSIDE, own_release
from state.command import run

TEMPLATE_RELEASE = "bookworm"
"""Of the researchers' containers, whatever the hosts have."""
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
"""The version that a release has; others are taken to have that of this machine."""
LONG = 1800
"""Seconds that a download or installation may take."""

SETUP_SCRIPTS: Mapping[str, str] = {"gpu-server": "gpu-server", "web-server": "web-server"}
"""Images that are the base after `setup/SCRIPT --packages`."""

# A chroot in a mount and process namespace of its own: whatever happens to this program, mounts
# and daemons of the chroot end with it. Arguments: the root, pairs of what to bind where, --.
CHROOT = """
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
while [ "$1" != -- ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro "$root$2"
    shift 2
done
shift
exec chroot "$root" env -i LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root \\
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""


def own_sources() -> str:
    """Where this machine gets its packages from, as far as their lists were fetched."""
    form = "$(SITE) $(RELEASE) $(COMPONENT)"
    listing = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    return own_release() + "\n" + run(listing, env=package_lists.apt_environment()).stdout


def python_of(release: str) -> str:
    """The version of Python, e.g. 3.13, that Python packages are taken for."""
    return PYTHON.get(release, f"{sys.version_info.major}.{sys.version_info.minor}")


def base(template_image: Path, made: Path) -> None:
    """A bare server: a template's system, a little less masked."""
    made.mkdir()
    unpack = ["tar", "--zstd", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-p"]
    run([*unpack, "-C", str(made), "-xf", str(template_image)], timeout=LONG)
    seal(made)
    # strace: for tests that kill a program at a call; extrausers: another source of accounts
    install(made, ["kmod", "strace", "libnss-extrausers"])
    clean(made)
    # A server applies its sysctl settings; those that aren't its own network's would be this
    # machine's, as a host of the lab has no kernel of its own.
    (made / "etc/systemd/system/systemd-sysctl.service").unlink(missing_ok=True)
    (made / "etc/sysctl.d").mkdir(exist_ok=True)
    for defaults in (made / "usr/lib/sysctl.d").glob("*.conf"):
        (made / "etc/sysctl.d" / defaults.name).unlink(missing_ok=True)
        (made / "etc/sysctl.d" / defaults.name).symlink_to("/dev/null")
    # Nobody reads manuals in the lab, and every host gets a copy.
    for unread in ("doc", "man", "info", "locale"):
        run(["rm", "-rf", str(made / "usr/share" / unread)])


def template(release: str, made: Path) -> None:
    """A template of researchers' containers: a slim one, for tests make many systems of it."""
    words: list[str | Path] = [CHECKOUT / "setup/template", "--slim", "--release", release, made]
    run(words, env=package_lists.apt_environment(), timeout=LONG)


def wheels(python: str, made: Path) -> None:
    """Exactly the Python packages that servers have, for machines without a registry."""
    pip = [str(CHECKOUT / ".venv/bin/python"), "-m", "pip", "-q", "--disable-pip-version-check"]
    words = [*pip, "download", "--dest", str(made), "--python-version", python]
    words += [*lock.EXACTLY, str(lock.SERVERS)]
    run(words, env=lock.network_environment(), timeout=LONG)


def server(base_image: Path, made: Path, script: Path, wheelhouse: Path) -> None:
    """A server with the packages that its set-up script installs."""
    with_copy(base_image, made)
    binds = {CHECKOUT: SOURCE_INSIDE, wheelhouse: WHEELS_INSIDE}
    chroot(made, [f"{SOURCE_INSIDE}/setup/{script.name}", "--packages"], binds)
    clean(made)


def ldap(base_image: Path, made: Path) -> None:
    """A directory server with its people."""
    with_copy(base_image, made)
    chroot(made, ["debconf-set-selections"], stdin=slapd.debconf())
    install(made, ["slapd", "ldap-utils"])
    slapd.fill(made, chroot)
    clean(made)


def domain(base_image: Path, made: Path) -> None:
    """An Active Directory domain with its people: a folder for each of its controllers."""
    made.mkdir()
    first, *others = samba.CONTROLLERS
    with_copy(base_image, made / first)
    install(made / first, samba.PACKAGES)
    for name in others:
        run(["cp", "-a", "--reflink=auto", made / first, made / name], timeout=LONG)
    samba.provision(made / first, chroot)
    for name in others:
        samba.join(made / first, made / name)
    for name in samba.CONTROLLERS:
        samba.finish(made / name, chroot)
        clean(made / name)


def laptop(base_image: Path, made: Path) -> None:
    """A researcher's own computer."""
    with_copy(base_image, made)
    install(made, ["openssh-client", "git", "curl"])
    chroot(made, ["useradd", "--create-home", "--shell", "/bin/bash", LAPTOP_USER])
    clean(made)


ROLES: Mapping[str, Callable[[Path, Path], None]] = {
    "ldap": ldap,
    "domain": domain,
    "laptop": laptop,
}
"""Images that are the base after a function."""


def files_of(name: str) -> tuple[Path, ...]:
    """The files, besides this one, whose text makes the image `name`."""
    if name in SETUP_SCRIPTS:
        script = CHECKOUT / "setup" / SETUP_SCRIPTS[name]
        modules = sorted((CHECKOUT / "setup/installation").glob("*.py"))
        return (script, CHECKOUT / "setup/package-lists", *modules)
    if name in ("ldap", "domain"):
        return tuple(sorted(Path(slapd.__file__).parent.glob("*.py")))
    return ()


def with_copy(image: Path, made: Path) -> None:
    """Make `made` a copy of `image`, ready to have packages installed."""
    run(["cp", "-a", "--reflink=auto", image, made], timeout=LONG)
    seal(made)


def seal(root: Path) -> None:
    """Keep packages from starting their services in the system at `root`, until `clean`."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def install(root: Path, packages: Sequence[str]) -> None:
    """Install Debian packages into the system at `root`."""
    chroot(root, ["apt-get", "-q", "update"])
    chroot(root, ["apt-get", "-q", "-y", "--no-install-recommends", "install", *packages])


def clean(root: Path) -> None:
    """Remove what was needed for installing only."""
    chroot(root, ["apt-get", "clean"])
    (root / "usr/sbin/policy-rc.d").unlink()
    run(["find", root / "var/lib/apt/lists", "-mindepth", "1", "-delete"])
    run(["find", root / "var/cache/apt", "-name", "*.bin", "-delete"])
    run(["find", root / "etc/ssh", "-name", "ssh_host_*", "-delete"])


def chroot(
    root: Path,
    argv: Sequence[str | Path],
    binds: Mapping[Path, str] | None = None,
    stdin: str | None = None,
) -> None:
    """Run `argv` in the system at `root`, with this machine's network."""
    pairs = [word for source, target in (binds or {}).items() for word in (source, target)]
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    run(
        ["unshare", *namespaces, "--", "sh", "-euc", CHROOT, "sh", root, *pairs, "--", *argv],
        stdin=stdin,
        timeout=LONG,
    )
