"""The machine below lxc-gpu: release, user namespaces, cgroups, AppArmor, LXC, GPU."""

from __future__ import annotations

import os
import platform
import pwd
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from reconciler.container.apparmor import (
    LOADED,
    PROFILE,
    Confinement,
    confinement,
    profile_for,
)
from reconciler.container.running import inits
from reconciler.doctor.server import (
    COMMAND_LIMIT,
    CheckedServer,
    as_nobody,
    output,
    text_of,
    unit_properties,
)
from reconciler.host import kernel_settings
from state import command
from state.wire.findings import Area, Finding
from state.words import plural

RELEASES = {"debian": 12.0, "ubuntu": 24.04}
"""The first supported release of each distribution, as setup/gpu-server has it."""
WANTED_CONTROLLERS = frozenset({"cpu", "memory", "pids"})
FEW_NAMESPACES = 1000
MOUNTS = Path("/proc/self/mounts")
KERNEL = Path("/proc/sys/kernel")

release_area, kernel_area, cgroups_area = Area("release"), Area("kernel"), Area("cgroups")
apparmor_area, lxc_area, gpu_area = Area("apparmor"), Area("lxc"), Area("gpu")
proc_area = Area("proc")


def release(_: object) -> Iterator[Finding]:
    """Whether lxc-gpu is tested on this distribution."""
    known = platform.freedesktop_os_release()
    name, version = known.get("ID", "?"), known.get("VERSION_ID", "0")
    words = f"{known.get('PRETTY_NAME', name)}, Linux {platform.release()}"
    first = RELEASES.get(name)
    if first is not None and float(version or 0) >= first:
        yield release_area.ok(words)
    else:
        yield release_area.note(
            f"{words}: not one that lxc-gpu is tested on.",
            "Supported: Debian 12 or newer, Ubuntu 24.04 or newer.",
        )


def user_namespaces(_: CheckedServer) -> Iterator[Finding]:
    """Whether an ordinary account can make a user namespace: each container is one."""
    tried = as_nobody("unshare", "--user", "true")
    if tried.ok:
        yield kernel_area.ok("ordinary accounts can make user namespaces")
    else:
        yield kernel_area.wrong(
            "No ordinary account can make a user namespace, so no container starts.",
            _why_no_namespace(
                text_of(KERNEL / "unprivileged_userns_clone"),
                text_of("/proc/sys/user/max_user_namespaces"),
            ),
        )
    most = text_of("/proc/sys/user/max_user_namespaces") or "0"
    if tried.ok and int(most) < FEW_NAMESPACES:
        yield kernel_area.note(
            f"At most {most} user namespaces can exist at once: too few for many containers.",
            "Raise it: sysctl -w user.max_user_namespaces=30000, and in /etc/sysctl.d/",
        )


def settings(_: CheckedServer) -> Iterator[Finding]:
    """Whether the kernel's settings suffice for programs in containers."""
    yield settings_of(kernel_settings.lacking())


def settings_of(lacking: Sequence[tuple[kernel_settings.Setting, int]]) -> Finding:
    """What it means that some kernel settings are too low. Pure."""
    if not lacking:
        return kernel_area.ok(
            "its settings (inotify, keys, maps, perf, aio) suffice for containers"
        )
    first = lacking[0][0].name
    return kernel_area.note(
        f"Programs in containers may want more: {kernel_settings.in_words(lacking)}.",
        f"{kernel_settings.FILE} says what each is for; setup/gpu-server writes it. If it is "
        f"there, another file overrides it: grep -r {first} /etc/sysctl.d /usr/lib/sysctl.d",
    )


def _why_no_namespace(clone: str | None, most: str | None) -> str:
    if clone == "0":
        return "sysctl -w kernel.unprivileged_userns_clone=1, and in a file in /etc/sysctl.d/"
    if most == "0":
        return "sysctl -w user.max_user_namespaces=30000, and in a file in /etc/sysctl.d/"
    return "Look at `journalctl -k` (AppArmor, seccomp), or is this machine itself a container?"


def cgroups(server: CheckedServer) -> Iterator[Finding]:
    """Whether control groups can limit containers, and keep memory for the server itself."""
    yield cgroups_of(text_of(MOUNTS) or "", text_of("/sys/fs/cgroup/cgroup.controllers") or "")
    limit = unit_properties("lxc-gpu.slice", "MemoryMax").get("MemoryMax", "infinity")
    if limit == "infinity":
        yield cgroups_area.note(
            "Nothing keeps memory free for the server itself: lxc-gpu.slice has no MemoryMax.",
            "Run `setup/gpu-server` again; it installs the slice.",
        )
    else:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        kept = max(0, total - int(limit)) / 2**30
        yield cgroups_area.ok(f"{kept:.1f} GiB of memory are kept for the server itself")


def cgroups_of(mounts: str, controllers: str) -> Finding:
    """What /proc/mounts says of control groups. Pure."""
    found = [line.split() for line in mounts.splitlines()]
    kinds = {fields[1]: fields[2] for fields in found if len(fields) > 3}
    if kinds.get("/sys/fs/cgroup") == "cgroup2":
        missing = sorted(WANTED_CONTROLLERS - set(controllers.split()))
        if missing:
            return cgroups_area.note(
                f"cgroup v2, without {', '.join(missing)}: containers are not held to limits.",
                "Remove cgroup_disable= from the kernel's command line.",
            )
        return cgroups_area.ok(f"cgroup v2: {' '.join(sorted(controllers.split()))}")
    if "cgroup2" in kinds.values():
        return cgroups_area.note(
            "cgroup v1 and v2 side by side: containers run, but can't limit their own programs. "
            "Docker, LXC, and Podman as root, refuse to work inside.",
            "Boot with systemd.unified_cgroup_hierarchy=1 to have v2 only.",
        )
    return cgroups_area.wrong(
        "There is no cgroup v2 at all: a container's systemd may not start.",
        "Boot with systemd.unified_cgroup_hierarchy=1.",
    )


def apparmor(server: CheckedServer) -> Iterator[Finding]:
    """Whether AppArmor confines containers, and doesn't keep them from starting."""
    profile = profile_for(server.view is None or server.view.nesting)
    confined = confinement(profile)
    restricts = text_of(KERNEL / "apparmor_restrict_unprivileged_userns") == "1"
    profiles = "" if confined is Confinement.OFF else text_of(LOADED) or ""
    yield apparmor_of(confined, restricts, profiles, profile)
    if server.view is not None and confined is Confinement.PROFILE:
        yield from otherwise_confined(profile, _labels(server.view.residents))


def _labels(users: Collection[str]) -> Mapping[str, str]:
    """The AppArmor labels of the containers that run (apparmor(7))."""
    found = {}
    for user, init in inits(users).items():
        with suppress(OSError):  # it has ended
            found[user] = Path(f"/proc/{init}/attr/current").read_text().strip()
    return found


def otherwise_confined(profile: str, labels: Mapping[str, str]) -> Iterator[Finding]:
    """The findings for containers that run under another profile, until a restart. Pure."""
    with_others = dict[str, list[str]]()
    for user, label in sorted(labels.items()):
        name = label.partition(" (")[0].partition("//&")[0]
        if name != profile:
            with_others.setdefault(name, []).append(user)
    for name, users in with_others.items():
        yield apparmor_area.note(
            f"Still under {name}, until a restart: {', '.join(users)}",
            f"They restart when it suits them; or `systemctl restart lxc-gpu@{users[0]}`.",
        )


def apparmor_of(
    confined: Confinement, restricts: bool, profiles: str, profile: str = PROFILE
) -> Finding:
    """What AppArmor means for containers here. Pure."""
    if confined is Confinement.OFF:
        return apparmor_area.ok("not in use; user namespaces confine the containers")
    if restricts and "lxc-start" not in profiles and "lxc-usernsexec" not in profiles:
        return apparmor_area.wrong(
            "It keeps programs without a profile from using user namespaces, and LXC has none.",
            "apt-get install --reinstall apparmor lxc; or: "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    if confined is Confinement.NONE:
        return apparmor_area.wrong(
            f"Its profile {profile} is not loaded: only user namespaces confine the containers.",
            f"apparmor_parser --replace /etc/apparmor.d/{profile}; if that is missing, run "
            "setup/gpu-server again. A container that runs is confined from its next start on.",
        )
    return apparmor_area.ok(f"containers are started under {profile}, besides user namespaces")


def programs(_: CheckedServer) -> Iterator[Finding]:
    """Whether the account `iam`, which reports the load, sees everybody's programs (proc(5))."""
    try:
        pwd.getpwnam("iam")
    except KeyError:
        return  # `sshd.in_effect` reports a missing account
    drop = ["setpriv", "--reuid=iam", "--regid=iam", "--init-groups", "--"]
    seen = command.run([*drop, "test", "-r", "/proc/1/stat"], check=False, timeout=COMMAND_LIMIT)
    if seen.ok:
        yield proc_area.ok("the monitor sees whose programs run")
    else:
        yield proc_area.wrong(
            "/proc is mounted with hidepid=: the monitor can't see whose programs run.",
            "mount -o remount,hidepid=0 /proc, and take hidepid= out of /etc/fstab; the monitor "
            "sees them at its next look.",
        )


def id_mapping(_: CheckedServer) -> Iterator[Finding]:
    """Whether newuidmap and newgidmap have the privilege to map ids."""
    good = []
    for name in ("newuidmap", "newgidmap"):
        path = Path("/usr/bin") / name
        if not path.exists():
            yield lxc_area.wrong(f"{path} is missing.", "apt-get install uidmap")
        elif not may_map(path):
            yield lxc_area.wrong(
                f"{path} is neither set-uid root nor has capabilities, so no container starts.",
                "apt-get install --reinstall uidmap",
            )
        else:
            good.append(name)
    if good:
        yield lxc_area.ok(f"{' and '.join(good)} can map ids")


def may_map(path: Path) -> bool:
    """Whether the file is set-uid root, or has file capabilities."""
    status = path.stat()
    if status.st_mode & stat.S_ISUID and status.st_uid == 0:
        return True
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def lxc(_: CheckedServer) -> Iterator[Finding]:
    """Whether LXC is installed, and new enough."""
    version = output("lxc-start", "--version").strip()
    if not version:
        yield lxc_area.wrong("lxc-start does not run.", "apt-get install --reinstall lxc")
    elif int(version.split(".")[0]) < 5:
        yield lxc_area.note(f"LXC {version} is older than what lxc-gpu is tested with (5).")
    else:
        yield lxc_area.ok(f"LXC {version}")


def gpu(_: CheckedServer) -> Iterator[Finding]:
    """Whether there is a GPU that containers could see."""
    nodes = sorted(node.name for node in Path("/dev").glob("nvidia*") if node.is_char_device())
    driver = text_of("/proc/driver/nvidia/version")
    yield gpu_of(nodes, driver, Path("/sys/module/nouveau").exists())


def gpu_of(nodes: list[str], driver: str | None, nouveau: bool) -> Finding:
    """What containers see of the GPUs. Pure."""
    if nouveau and not driver:
        return gpu_area.note(
            "The driver nouveau has the GPU: CUDA doesn't work with it.",
            "Blacklist nouveau, install NVIDIA's driver, reboot.",
        )
    if driver and not nodes:
        return gpu_area.note(
            "NVIDIA's driver is loaded, but /dev has no device files of it.",
            "nvidia-modprobe -u -c=0; nvidia-persistenced makes them at each boot.",
        )
    if not nodes:
        return gpu_area.note("No NVIDIA driver here: containers run, but see no GPU.")
    version = next((w for w in (driver or "").split() if w[0].isdigit() and "." in w), "unknown")
    cards = sum(name.removeprefix("nvidia").isdigit() for name in nodes)
    return gpu_area.ok(f"{plural(cards, 'GPU')}, NVIDIA driver {version}")


def clock(_: object) -> Iterator[Finding]:
    """Whether something keeps this machine's clock right."""
    shown = output("timedatectl", "show", "--property=NTPSynchronized,CanNTP,NTP")
    area = Area("clock")
    if "NTPSynchronized=yes" in shown:
        yield area.ok("synchronised")
    else:
        yield area.note(
            'Not synchronised: signatures and "applied n seconds ago" go by the clock.',
            "apt-get install systemd-timesyncd, or chrony; then `timedatectl`.",
        )
